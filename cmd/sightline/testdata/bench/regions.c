// A program with 10,000 mappings that waits for its input to end.
#include <stdio.h>
#include <sys/mman.h>

int main(void) {
	for (int i = 0; i < 5000; i++) {
		char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED) return 1;
		p[0] = p[4096] = 1;
		mprotect(p + 4096, 4096, PROT_READ);
	}
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF) ;
	return 0;
}
