// A program that does something again and again, in a thread of its own, with 64 MB and 300 mappings beside it:
// "compute" only computes, "faults" touches fresh memory, "mmap" maps and unmaps. It answers each line of its
// input with how often it has done so.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static atomic_ulong done;
static const char *what;

static char *map(size_t n) {
	return mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void *work(void *unused) {
	volatile unsigned long x = 1;
	char *fresh = map(1 << 20);
	for (;;) {
		if (!strcmp(what, "compute")) {
			for (int i = 0; i < 1000; i++) x = x * 6364136223846793005UL + 1442695040888963407UL;
		} else if (!strcmp(what, "faults")) {
			for (int i = 0; i < 1 << 20; i += 4096) fresh[i] = 1;
			madvise(fresh, 1 << 20, MADV_DONTNEED);
		} else {
			char *p = map(16384);
			p[0] = 1;
			munmap(p, 16384);
		}
		done++;
	}
	return unused;
}

int main(int argc, char **argv) {
	what = argc > 1 ? argv[1] : "compute";
	char *big = map(64 << 20);
	memset(big, 1, 64 << 20);
	for (int i = 0; i < 300; i++) mprotect(big + i * 8192, 4096, PROT_READ);
	pthread_t t;
	pthread_create(&t, 0, work, 0);
	puts("ready");
	fflush(stdout);
	char line[64];
	while (fgets(line, sizeof line, stdin)) {
		printf("%lu\n", atomic_load(&done));
		fflush(stdout);
	}
	return 0;
}
