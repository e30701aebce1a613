// A program whose stacks cannot be walked by frame pointers: the compiler uses that register for other
// things, and so does libc, which calls back. It ends on its own.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define KEEP __attribute__((noinline, noclone))

static volatile uint64_t sink;

static double used(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

KEEP int compare(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;
	return (x > y) - (x < y);
}

KEEP void sorted(int n)
{
	static __thread int v[4096];
	uint32_t x = n;
	for (int i = 0; i < 4096; i++)
		v[i] = x = x * 1664525 + 1013904223;
	qsort(v, 4096, sizeof(*v), compare);
	sink += v[n & 4095];
}

KEEP void formatted(int n)
{
	char text[200];
	for (int i = 0; i < 500; i++)
		sink += snprintf(text, sizeof(text), "%d %s %g", i, "text", i * 1.5 + n);
}

// deep has a stack of depth times 100 bytes and more.
KEEP void deep(int depth, int n)
{
	volatile char pad[100];
	pad[depth % 100] = n;
	if (depth > 0)
		deep(depth - 1, n + 1);
	else
		sorted(n);
	sink += pad[n % 100];
}

KEEP void handler(int signal)
{
	for (int i = 0; i < 200000; i++)
		sink += i;
	sink += signal;
}

KEEP void work(double seconds, int depth)
{
	int n = 0;
	for (double end = used() + seconds; used() < end; n++) {
		if (depth)
			deep(depth, n);
		else
			sorted(n);
		formatted(n);
	}
	sink += n;
}

static void *worker(void *seconds)
{
	work(*(double *)seconds, 0);
	return 0;
}

// bare SECONDS [DEPTH]
int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1;
	int depth = argc > 2 ? atoi(argv[2]) : 0;
	pthread_t thread;
	signal(SIGALRM, handler);
	struct itimerval often = {{0, 20000}, {0, 20000}};
	setitimer(ITIMER_REAL, &often, 0);
	pthread_create(&thread, 0, worker, &seconds);
	work(seconds, depth);
	pthread_join(thread, 0);
	sink++;
	return 0;
}
