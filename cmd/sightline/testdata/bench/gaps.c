// Looks at the clock, as gaps does, at the end of DEPTH calls with 1 KiB of stack each, for MS milliseconds. It keeps no
// frame pointers when it is built so. Prints the time on the clock, the sum of the gaps, and the CPU time of
// its own, in nanoseconds.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long long now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long begin, length, sum;

static void look(void) {
  long long last = now(CLOCK_MONOTONIC);
  while (last - begin < length) {
    long long t = now(CLOCK_MONOTONIC);
    if (t - last > 1000)
      sum += t - last;
    last = t;
  }
}

static __attribute__((noinline)) int deep(int depth) {
  volatile char room[1000];
  memset((char *)room, depth, sizeof room);
  if (depth == 0)
    look();
  else
    deep(depth - 1);
  return room[depth];
}

int main(int argc, char **argv) {
  if (argc < 3)
    return 2;
  length = atoll(argv[1]) * 1000000;
  begin = now(CLOCK_MONOTONIC);
  int x = deep(atoi(argv[2]));
  printf("took %lld %lld %lld\n", now(CLOCK_MONOTONIC) - begin, sum, now(CLOCK_PROCESS_CPUTIME_ID));
  return x == -1;
}
