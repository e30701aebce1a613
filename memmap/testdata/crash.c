// A program that has one of each region that a core file can lack, says where, and waits, or with an argument
// aborts.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

char data[5000] = {1};
static volatile int there;

static void *worker(void *unused) {
	char local[64];
	char *mine = malloc(2000);
	memset(mine, 1, 2000);
	printf("stack %lx\narena %lx\n", (unsigned long)local, (unsigned long)mine);
	there = 1;
	pause();
	return unused;
}

int main(int argc, char **argv) {
	char *text[50];
	for (int i = 0; i < 50; i++) {
		text[i] = malloc(100);
		sprintf(text[i], "needle-%d in a block", i);
	}
	char *large = malloc(1 << 20);
	memset(large, 1, 1 << 20);
	int fd = open(argv[0], O_RDONLY);
	char *file = mmap(0, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
	char *shared = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	shared[0] = 1;
	printf("code %lx\ndata %lx\nheap %lx\nlarge %lx\nfile %lx\nshared %lx\n", (unsigned long)main, (unsigned long)data, (unsigned long)text[0],
	       (unsigned long)large, (unsigned long)file, (unsigned long)shared);
	pthread_t t;
	pthread_create(&t, 0, worker, 0);
	while (!there) usleep(1000);
	puts("ready");
	fflush(stdout);
	if (argc > 1) abort();
	getchar();
	return file[0] == 'x';
}
