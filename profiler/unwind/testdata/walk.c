// Stacks of all kinds, for a test that stops the program in stop() and walks. Built without frame
// pointers.
#define _GNU_SOURCE
#include <alloca.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone, noipa))

static void *trace[8192];
volatile int sink;
static volatile int sinkOnly; // stop() does not stop

#define HALT() syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), SIGSTOP)

// What glibc finds, by libgcc's unwinder; then the program stops for the test.
NOINLINE void stop(void) {
  if (sinkOnly) {
    sink++;
    return;
  }
  int n = backtrace(trace, 8192);
  char line[32];
  for (int i = 0; i < n; i++) {
    int len = snprintf(line, sizeof line, "%lx\n", (unsigned long)trace[i]);
    if (write(1, line, len) != len) abort();
  }
  if (write(1, "stop\n", 5) != 5) abort();
  HALT();
  sink++;
}

NOINLINE int leaf(int x) { stop(); return x + sink; }
NOINLINE int middle(int x) { return leaf(x + 1) * 3 + sink; }
NOINLINE int plain(int x) { return middle(x * 2) - sink; }

NOINLINE int dynamic(int n) {
  char *p = alloca(n);
  memset(p, n, n);
  int v = leaf(n);
  return v + p[n / 2];
}

// Registers that callees must keep, all in use, and a stack that is realigned.
NOINLINE int realigned(int n) {
  char big[64] __attribute__((aligned(64)));
  char *p = alloca(n * 3);
  memset(big, n, sizeof big);
  memset(p, n, n);
  sink += (int)((uintptr_t)big & 63);
  int v = dynamic(n);
  return v + big[n & 63] + p[1];
}

NOINLINE int deep(int n) {
  if (n == 0) return leaf(0);
  return deep(n - 1) + sink;
}

NOINLINE int tailed(int x) { return leaf(x + 7) + 1; }
NOINLINE int tail(int x) { return tailed(x + 1); }

static int compare(const void *a, const void *b) {
  static int calls;
  if (++calls == 20) leaf(1);
  return *(const int *)a - *(const int *)b;
}
NOINLINE int sorted(int n) {
  int *v = malloc(n * sizeof *v);
  for (int i = 0; i < n; i++) v[i] = (i * 7919) % 1009;
  qsort(v, n, sizeof *v, compare);
  int r = v[n / 2];
  free(v);
  return r;
}

static void handler(int s) { sink += leaf(s); }
NOINLINE int interrupted(int x) {
  raise(SIGUSR1);
  return x + sink;
}
NOINLINE int onSignal(int altstack) {
  struct sigaction a = {0};
  a.sa_handler = handler;
  if (altstack) {
    stack_t s = {0};
    s.ss_size = 1 << 16;
    s.ss_sp = malloc(s.ss_size);
    sigaltstack(&s, 0);
    a.sa_flags = SA_ONSTACK;
  }
  sigaction(SIGUSR1, &a, 0);
  return interrupted(3) + sink;
}

NOINLINE __attribute__((noreturn)) void ending(int x) {
  leaf(x);
  _exit(0);
}
NOINLINE void beforeEnding(int x) { ending(x + 1); } // a call that is its function's last instruction

static void *threadMain(void *p) {
  plain((int)(intptr_t)p);
  return 0;
}

// A call through a pointer that leads nowhere: the handler stops.
NOINLINE int nowhere(int x) {
  struct sigaction a = {0};
  a.sa_handler = handler;
  sigaction(SIGSEGV, &a, 0);
  int (*volatile f)(int) = (int (*)(int))(intptr_t)sink;
  return f(x) + 1;
}

// Code without call-frame information, with and without a frame pointer.
int withFP(int (*f)(int), int x);
int withoutFP(int (*f)(int), int x);
__asm__(".pushsection .text\n"
        ".globl withFP, withoutFP\n"
        ".type withFP, @function\n"
        "withFP: push %rbp\n mov %rsp, %rbp\n sub $48, %rsp\n mov %rdi, %rax\n mov %esi, %edi\n call *%rax\n leave\n ret\n"
        ".size withFP, .-withFP\n"
        ".type withoutFP, @function\n"
        "withoutFP: sub $24, %rsp\n mov %rdi, %rax\n mov %esi, %edi\n call *%rax\n add $24, %rsp\n ret\n"
        ".size withoutFP, .-withoutFP\n"
        ".popsection\n");
NOINLINE int bare(int x) { return withFP(plain, x) + 1; }
NOINLINE int barer(int x) { return withoutFP(plain, x) + 1; }

// Library code to step through: dynamic linking, formatted text, searching, sorting.
NOINLINE int steps(int n) {
  char text[256];
  int r = 0;
  for (int i = 0; i < n; i++) {
    snprintf(text, sizeof text, "%d %s %g %lx", i, "text", i * 1.5, (long)i << 20);
    r += (int)strtod(text, 0) + (int)strlen(text) + (strchr(text, 't') != 0);
    r += sorted(16);
    r += tail(i);
    r += realigned(40 + i);
  }
  return r;
}
static void quiet(int s) { sink += s; }

int main(int argc, char **argv) {
  const char *c = argc > 1 ? argv[1] : "";
  backtrace(trace, 4); // loads libgcc before anything is walked
  int r = 0;
  if (!strcmp(c, "plain")) r = plain(1);
  if (!strcmp(c, "alloca")) r = dynamic(100);
  if (!strcmp(c, "realigned")) r = realigned(33);
  if (!strcmp(c, "deep")) r = deep(argc > 2 ? atoi(argv[2]) : 100);
  if (!strcmp(c, "tail")) r = tail(1);
  if (!strcmp(c, "qsort")) r = sorted(64);
  if (!strcmp(c, "signal")) r = onSignal(0);
  if (!strcmp(c, "altstack")) r = onSignal(1);
  if (!strcmp(c, "noreturn")) beforeEnding(1);
  if (!strcmp(c, "nowhere")) r = nowhere(1);
  if (!strcmp(c, "bare")) r = bare(1);
  if (!strcmp(c, "barer")) r = barer(1);
  if (!strcmp(c, "thread")) {
    pthread_t t;
    pthread_create(&t, 0, threadMain, 0);
    pthread_join(t, 0);
  }
  if (!strcmp(c, "steps")) {
    sinkOnly = 1;
    HALT();
    r = steps(2);
    HALT();
  }
  if (!strcmp(c, "sigsteps")) {
    signal(SIGUSR1, quiet);
    HALT();
    r = raise(SIGUSR1);
    HALT();
  }
  if (!strcmp(c, "spin")) { // for sampling
    sinkOnly = 1;
    if (write(1, "stop\n", 5) != 5) abort();
    for (unsigned i = 0;; i++) r += steps(1) + sorted(256) + (int)i;
  }
  return r == 12345;
}
