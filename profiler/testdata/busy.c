// A program that spends its time in known functions, in ways that are hard to follow. The tests
// compile it with frame pointers and look for its functions in what was recorded.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone))

static volatile uint64_t sink;

static double used(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

// FRAME has a leaf function set up a frame; without, its caller would be missing from its stacks.
#define FRAME __asm__ volatile("" : : "r"(__builtin_frame_address(0)))

// chain takes the same time for the same n wherever the compiler puts it: each step waits for the
// one before.
#define CHAIN(n) do { uint64_t x = n; for (int i = 0; i < n; i++) x = x * 6364136223846793005u + 1; sink += x; } while (0)

KEEP void hot(int n)  { FRAME; CHAIN(n); }
KEEP void cold(int n) { FRAME; CHAIN(n); }
KEEP void outer(int n) { hot(4 * n); cold(n); sink++; }

// split burns seconds of this thread's time, four fifths in hot and one fifth in cold.
KEEP void split(double seconds)
{
	for (double end = used() + seconds; used() < end;)
		outer(20000);
	sink++;
}

KEEP void first(double seconds)  { for (double end = used() + seconds; used() < end;) hot(100000); sink++; }
KEEP void second(double seconds) { for (double end = used() + seconds; used() < end;) hot(100000); sink++; }

static void *worker(void *seconds) { prctl(PR_SET_NAME, "worker"); split(*(double *)seconds); return 0; }

static void *execs(void *self)
{
	first(0.15);
	execl(self, self, "second", "0.15", (char *)0);
	return 0;
}

static void call(const char *library)
{
	void *h = dlopen(library, RTLD_NOW);
	if (!h) { fprintf(stderr, "%s\n", dlerror()); exit(1); }
	void (*plug)(double) = (void (*)(double))dlsym(h, "plug");
	printf("%p\n", (void *)plug);
	fflush(stdout);
	plug(0.2);
	dlclose(h);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "split";
	double seconds = argc > 2 ? atof(argv[2]) : 0.3;
	if (!strcmp(mode, "split")) {
		split(seconds);
	} else if (!strcmp(mode, "second")) {
		second(seconds);
	} else if (!strcmp(mode, "nothing")) {
	} else if (!strcmp(mode, "threads")) {
		pthread_t t[4];
		for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, worker, &seconds);
		for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
	} else if (!strcmp(mode, "forks")) { // children that live 20 ms, with children of their own
		for (int i = 0; i < 10; i++) {
			if (!fork()) {
				if (!fork()) { second(0.02); _exit(0); }
				first(0.02);
				wait(0);
				_exit(0);
			}
			wait(0);
		}
	} else if (!strcmp(mode, "execs")) { // first here, then second in a new program of the same process
		first(seconds);
		execl(argv[3], argv[3], "second", argv[2], (char *)0);
	} else if (!strcmp(mode, "threadexec")) { // a thread that is not the first one calls exec, others run
		pthread_t t, u;
		pthread_create(&u, 0, worker, &(double){30});
		pthread_create(&t, 0, execs, argv[0]);
		pthread_join(u, 0);
	} else if (!strcmp(mode, "plugins")) { // the second library takes the addresses of the first
		call(argv[2]);
		call(argv[3]);
	} else if (!strcmp(mode, "unlink")) { // gone before it does anything
		unlink(argv[0]);
		split(seconds);
	} else if (!strcmp(mode, "jit")) { // code without a file: mapped writable, then made executable
#ifdef __x86_64__
		uint8_t loop[] = { // mov rcx, 100000000; dec rcx; jnz; ret
			0x48, 0xc7, 0xc1, 0x00, 0xe1, 0xf5, 0x05, 0x48, 0xff, 0xc9, 0x75, 0xfb, 0xc3 };
		void *p = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memcpy(p, loop, sizeof loop);
		mprotect(p, 4096, PROT_READ | PROT_EXEC);
		for (double end = used() + seconds; used() < end;) ((void (*)(void))p)();
#endif
	} else if (!strcmp(mode, "wait")) { // until it is told to end, some in the kernel
		for (;;) { split(0.01); usleep(1000); }
	} else if (!strcmp(mode, "stubborn")) {
		sigset_t all;
		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, 0);
		for (;;) { split(0.01); usleep(1000); }
	}
	return argc > 3 && !strcmp(argv[3], "fail") ? 3 : 0;
}
