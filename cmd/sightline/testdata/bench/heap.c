// A program with 100 MB on its heap, which it writes to all the time. For each line of input it says for how
// long, at most, it stood still since the line before, in microseconds.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { size = 100 * 1000 * 1000, block = 1000 };
static char *blocks[size / block];
static atomic_long longest;

static long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static void *works(void *arg) {
	long last = now();
	for (unsigned long i = 0;; i++) {
		blocks[i * 7919 % (size / block)][i % block]++;
		if (i % 64 == 0) usleep(100); /* leaves the machine to others */
		long at = now();
		if (at - last > longest) longest = at - last;
		last = at;
	}
	return arg;
}

int main(void) {
	for (int i = 0; i < size / block; i++) {
		blocks[i] = malloc(block);
		for (int k = 0; k < block; k++) blocks[i][k] = i + k;
	}
	pthread_t t;
	pthread_create(&t, 0, works, 0);
	puts("ready");
	for (;;) {
		fflush(stdout);
		int c;
		while ((c = getchar()) != '\n')
			if (c == EOF) return 0;
		printf("%ld\n", (long)longest);
		longest = 0;
	}
}
