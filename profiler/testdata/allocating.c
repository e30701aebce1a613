// Allocates in known functions, so much that each can be told by its sum. With "wait" it begins when it
// is sent a byte, and then goes on until it is ended; with "pairs" it says how many nanoseconds a malloc and
// its free take, for each byte that it is sent.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void *kept[20000];
static int n;

__attribute__((noinline)) void keeps(void) { for (int i = 0; i < 1000; i++) kept[n++] = malloc(1000); }
__attribute__((noinline)) void churns(void) { for (int i = 0; i < 2000; i++) { char *volatile p = malloc(500); p[0] = 1; free(p); } }
__attribute__((noinline)) void grows(void) { char *p = 0; for (int i = 1; i <= 64; i *= 2) p = realloc(p, 1000 * i); kept[n++] = p; }
__attribute__((noinline)) void zeroes(void) { for (int i = 0; i < 100; i++) kept[n++] = calloc(10, 100); }
__attribute__((noinline)) void aligns(void) { for (int i = 0; i < 50; i++) { if (!posix_memalign(&kept[n], 64, 2048)) n++; } }
__attribute__((noinline)) void fails(void) { void *volatile p = malloc((1ULL << 47) - 4096); if (p) abort(); }
__attribute__((noinline)) void large(void) { for (int i = 0; i < 200; i++) { char *volatile p = malloc(1 << 20); p[0] = 1; free(p); } }
__attribute__((noinline)) void releases(void) { for (int i = 0; i < 500; i++) free(kept[i]); }

__attribute__((noinline)) static void all(void)
{
	keeps();
	churns();
	grows();
	zeroes();
	aligns();
	fails();
	large();
}

int main(int argc, char **argv)
{
	char c;
	setvbuf(stdout, 0, _IONBF, 0);
	if (argc > 1 && !strcmp(argv[1], "wait")) {
		puts("ready");
		if (read(0, &c, 1) != 1) return 1;
		all();
		puts("done");
		if (read(0, &c, 1) == 1) { releases(); puts("released"); }
		for (;;) pause();
	}
	if (argc > 1 && !strcmp(argv[1], "pairs")) while (read(0, &c, 1) == 1) {
		struct timespec from, to;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
		for (int i = 0; i < 100000; i++) { char *volatile p = malloc(64); p[0] = 1; free(p); }
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
		printf("%.1f\n", ((to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec)) / 100000);
	}
	if (argc > 1 && !strcmp(argv[1], "busy")) for (;;) churns();
	all();
	releases();
	return 0;
}
