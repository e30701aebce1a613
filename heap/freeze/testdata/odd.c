// Program odd is in a state that makes holding it hard: odd asleep waits for a child that shares its memory,
// and cannot be stopped meanwhile; odd seccomp dies of any clone; odd exec becomes itself again and again.
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static char marker[32] = "sightline\1\2\3";

static void ready(void) {
  printf("READY %d %p 0x0\n", getpid(), (void *)marker);
  fflush(stdout);
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  if (!strcmp(argv[1], "asleep")) {
    ready();
    if (vfork() == 0) {
      prctl(PR_SET_PDEATHSIG, 9);
      for (;;) pause();
    }
  }
  if (!strcmp(argv[1], "seccomp")) {
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog p = {sizeof f / sizeof *f, f};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p)) return 1;
  }
  if (!strcmp(argv[1], "exec")) {
    if (argc < 3) ready();
    usleep(2000);
    execl("/proc/self/exe", argv[0], argv[1], "again", (char *)0);
  }
  ready();
  for (;;) pause();
}
