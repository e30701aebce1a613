// A program that makes one of each region and says where, then does what it is told on standard input:
// "grow" to take memory, "map" to map some, "end" to end.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

char bss[3 << 20];
char data[5000] = {1};
const char constant[5000] = {2};
static volatile int spin, asleep;

static void say(const char *name, const void *at) { printf("%s %lx\n", name, (unsigned long)at); }

static void *worker(void *arg) {
	char local[64];
	pthread_setname_np(pthread_self(), (long)arg ? "spinner" : "sleeper");
	say((long)arg ? "spinner" : "sleeper", local);
	char *mine = malloc(2000);
	memset(mine, 1, 2000);
	if (!(long)arg) say("arena", mine);
	fflush(stdout);
	if ((long)arg) { spin = 1; for (;;) ; }
	asleep = 1;
	pause();
	return mine;
}

static void *anonymous(size_t n, int protection, int flags) {
	char *p = mmap(0, n, protection, flags | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) { perror("mmap"); exit(1); }
	if (protection & PROT_WRITE) p[0] = 1;
	return p;
}

int main(int argc, char **argv) {
	int local;
	bss[1 << 20] = 1;
	say("code", main);
	say("data", data);
	say("constant", constant);
	say("bss", bss + (1 << 20));
	say("libc", (void *)pause);
	say("main-stack", &local);
	char *text = malloc(1000);
	strcpy(text, "ASCII needle-4711 in the heap");
	const char *wide = "wide needle-4712 in the heap";
	for (int i = 0; wide[i]; i++) { text[500 + 2 * i] = wide[i]; text[501 + 2 * i] = 0; }
	say("heap", text);
	char *between[40];
	for (int i = 0; i < 40; i++) between[i] = malloc(5000);
	for (int i = 0; i < 40; i += 2) free(between[i]);
	char *large = malloc(1 << 20);
	memset(large, 1, 1 << 20);
	say("large", large);
	say("private", anonymous(1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE));
	// What is mapped behind keeps neighbours apart that would become one.
	say("reserved", anonymous(1ul << 41, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE));
	say("shared", anonymous(1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED));
	char *locked = anonymous(1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	if (mlock(locked, 4096) == 0) say("locked", locked);
	int fd = memfd_create("a memfd", 0);
	if (ftruncate(fd, 8192)) return 1;
	char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	m[0] = 1;
	say("memfd", m);
	int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
	char *v = shmat(id, 0, 0);
	v[0] = 1;
	shmctl(id, IPC_RMID, 0);
	say("sysv", v);
	for (int i = 1; i < argc; i++) {
		int f = open(argv[i], O_RDONLY);
		volatile char *p = mmap(0, 4096, PROT_READ, MAP_PRIVATE, f, 0);
		char c = p[0];
		(void)c;
		char name[16];
		sprintf(name, "file%d", i);
		say(name, (void *)p);
		if (i == 2) unlink(argv[i]);
	}
	fflush(stdout);
	pthread_t t;
	pthread_create(&t, 0, worker, (void *)1);
	while (!spin) usleep(1000);
	pthread_create(&t, 0, worker, (void *)0);
	while (!asleep) usleep(1000);
	usleep(10000); // until it sleeps
	printf("ready\n");
	fflush(stdout);
	char line[16];
	while (fgets(line, sizeof line, stdin) && strcmp(line, "end\n")) {
		if (!strcmp(line, "grow\n")) { char *p = malloc(100 << 10); memset(p, 1, 100 << 10); for (int i = 0; i < 20; i++) { p = malloc(100 << 10); memset(p, 1, 100 << 10); } }
		if (!strcmp(line, "map\n")) say("mapped", memset(anonymous(4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE), 1, 4 << 20));
		if (!strcmp(line, "leave\n")) pthread_exit(0);
		printf("done\n");
		fflush(stdout);
	}
	return 0;
}
