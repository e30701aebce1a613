// Program calls waits in every system call that a stop could interrupt, and computes in every register that
// a stop could spoil, and says when anything of it comes out as it would not have alone.
//
// calls [SLEEPERS] [trap] [ignoretrap] [deep] [alone]: how many threads only sleep, whether one raises SIGTRAP for a handler,
// whether the main thread has used all of the stack that it was given at its start. With alone it has one
// thread, which only computes.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_long done[16];
static atomic_long bad;
static const char *names[16];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void wrong(const char *what, long result, int err, double took) {
  bad++;
  printf("BAD %s: %ld, errno %d (%s), %.6f s\n", what, result, err, strerror(err), took);
  fflush(stdout);
}

// Each waits 20 ms, and says BAD where it ended early or with an error that it did not expect.
#define WAITER(n, name, call, want, wanterr)                                      \
  static void *name(void *arg) {                                                  \
    names[n] = #name;                                                             \
    for (;;) {                                                                    \
      double began = now();                                                       \
      errno = 0;                                                                  \
      long r = (call);                                                            \
      int e = errno;                                                              \
      double took = now() - began;                                                \
      if (r != (want) || ((want) < 0 && e != (wanterr)) || took < 0.0199)         \
        wrong(#name, r, e, took);                                                 \
      done[n]++;                                                                  \
    }                                                                             \
    return arg;                                                                   \
  }

static const struct timespec span = {0, 20 * 1000 * 1000};
static struct timespec left;
static int word, never[2];
static sem_t nobody;

static long in20(int (*wait)(sem_t *, const struct timespec *), sem_t *s) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  t.tv_nsec += 20 * 1000 * 1000 + 200 * 1000;
  if (t.tv_nsec >= 1000000000) t.tv_nsec -= 1000000000, t.tv_sec++;
  return wait(s, &t);
}
static long select20(void) {
  struct timeval t = {0, 20 * 1000};
  fd_set s;
  FD_ZERO(&s);
  FD_SET(never[0], &s);
  return select(never[0] + 1, &s, 0, 0, &t);
}
static long poll20(void) {
  struct pollfd p = {never[0], POLLIN, 0};
  return poll(&p, 1, 20);
}

WAITER(0, sleeps, nanosleep(&span, &left), 0, 0)
WAITER(1, polls, poll20(), 0, 0)
WAITER(2, selects, select20(), 0, 0)
WAITER(3, futexes, syscall(SYS_futex, &word, FUTEX_WAIT, 0, &span, 0, 0), -1, ETIMEDOUT)
WAITER(4, semaphores, in20(sem_timedwait, &nobody), -1, ETIMEDOUT)

static int pipes[2];
static void *writes(void *arg) {
  for (unsigned char c = 0;; c++) {
    nanosleep(&span, 0);
    if (write(pipes[1], &c, 1) != 1) wrong("write", 0, errno, 0);
  }
  return arg;
}
static void *reads(void *arg) {
  names[5] = "reads";
  for (unsigned char want = 0;; want++) {
    unsigned char c = 0;
    errno = 0;
    long n = read(pipes[0], &c, 1);
    if (n != 1 || c != want) wrong("read", n, errno, 0), want = c;
    done[5]++;
  }
  return arg;
}

// Values live in vector registers all the time, and must come out the same each time.
static double until = 1e30;
static void *computes(void *arg) {
  names[6] = "computes";
  static double first = 0;
  while (now() < until) {
    double a = 1, b = 2, c = 3, d = 5, e = 7, f = 11, g = 13, h = 17;
    for (int i = 0; i < 200000; i++) {
      a = a * 0.999 + b * 0.001, b = b * 0.998 + c * 0.002, c = c * 0.997 + d * 0.003, d = d * 0.996 + e * 0.004;
      e = e * 0.995 + f * 0.005, f = f * 0.994 + g * 0.006, g = g * 0.993 + h * 0.007, h = h * 0.992 + a * 0.008;
    }
    double sum = a + b + c + d + e + f + g + h;
    if (first == 0) first = sum;
    if (sum != first) wrong("computation", 0, 0, sum - first);
    done[6]++;
  }
  return arg;
}

static atomic_long traps;
static void trapped(int s) { traps++; }
static void *raises(void *arg) {
  names[7] = "traps";
  for (long n = 1;; n++) {
    __asm__ volatile("int3");
    if (traps != n) wrong("SIGTRAP", traps, 0, 0);
    done[7]++;
    nanosleep(&(struct timespec){0, 1000 * 1000}, 0);
  }
  return arg;
}

static void *dozes(void *arg) {
  for (;;) pause();
  return arg;
}

__attribute__((noinline)) static void deep(void) {
  volatile char b[400 << 10];
  for (size_t i = 0; i < sizeof b; i += 512) b[i] = 1;
}

int main(int argc, char **argv) {
  int sleepers = argc > 1 ? atoi(argv[1]) : 0;
  sem_init(&nobody, 0, 0);
  if (pipe(never) || pipe(pipes)) return 1;
  void *(*all[])(void *) = {sleeps, polls, selects, futexes, semaphores, reads, writes, computes};
  pthread_t t;
  if (argc > 2 && !strcmp(argv[2], "alone")) { // computes only, in one thread, that is never in a system call for long
    printf("READY %d\n", getpid());
    for (;;) {
      until = now() + 0.05;
      computes(0);
      printf("ROUND %ld computes=%ld\n", (long)bad, (long)done[6]);
      fflush(stdout);
    }
  }
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) pthread_create(&t, 0, all[i], 0);
  for (int i = 2; i < argc; i++) {
    if (!strcmp(argv[i], "trap")) {
      struct sigaction s = {.sa_handler = trapped};
      sigaction(SIGTRAP, &s, 0);
      pthread_create(&t, 0, raises, 0);
    }
    if (!strcmp(argv[i], "ignoretrap")) signal(SIGTRAP, SIG_IGN);
    if (!strcmp(argv[i], "deep")) deep();
  }
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 << 10);
  for (int i = 0; i < sleepers; i++) pthread_create(&t, &small, dozes, 0);
  printf("READY %d\n", getpid());
  for (;;) {
    fflush(stdout);
    usleep(50 * 1000);
    // One line: how often each came round, and how many children there are that nobody waited for.
    printf("ROUND %ld", (long)bad);
    for (int i = 0; i < 16; i++)
      if (names[i]) printf(" %s=%ld", names[i], (long)done[i]);
    errno = 0;
    siginfo_t info;
    int r = waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | WNOHANG);
    printf(" children=%s\n", r < 0 && errno == ECHILD ? "none" : "some");
  }
}
