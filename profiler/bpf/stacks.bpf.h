// SPDX-License-Identifier: GPL-2.0-only OR MIT

// What the programs that give stacks to user space have in common: the form of a sample, whose it is,
// and the copy of a user's registers and stack. It names no structure of the kernel but the stable ones of
// include/uapi.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// The user's registers as so many words, with which the kernel's own struct pt_regs begins too: the amd64 and
// the arm64 object are compiled on one machine, which has only its own <asm/ptrace.h>.
#if defined(__TARGET_ARCH_x86)
#define REGISTERS 21 // struct pt_regs, arch/x86/include/uapi/asm/ptrace.h
#define MODE      17 // its cs
#define MODE_MASK 3  // 0 in the kernel
#define IN_KERNEL(mode) ((mode & MODE_MASK) == 0)
#define FP        4
#define IP        16
#define SP        19
// Segment of 64-bit code: __USER_CS, arch/x86/include/asm/segment.h.
#define IS_64(mode) (mode == 0x33)
#elif defined(__TARGET_ARCH_arm64)
#define REGISTERS 34 // struct user_pt_regs, arch/arm64/include/uapi/asm/ptrace.h
#define MODE      33  // its pstate
#define MODE_MASK 0xf // PSR_MODE_MASK without PSR_MODE32_BIT; 0 in user space
#define IN_KERNEL(mode) ((mode & MODE_MASK) != 0)
#define FP        29
#define LINK      30
#define SP        31
#define IP        32
#define IS_64(mode) ((mode & 0x10) == 0) // PSR_MODE32_BIT
#else
#error "give the number of words in this architecture's bpf_user_pt_regs_t"
#endif

// TOP is how many words of the user's stack are copied from its end: enough to find the return
// address of a function that has no frame, or is just making one.
#define TOP 4

// A user's stack is read by pages, because it may end in the next one.
#define PAGE 4096

// What precedes a sample's addresses in the ring: kernel_depth of the kernel, leaf first, and then
// user_depth of the user, leaf first. Where stack_bytes is not 0, there follow all REGISTERS of the
// user, and so many bytes from sp on; then other_bytes from other on, of the other one of a thread's two
// stacks in a program of Go and C.
struct sample_header {
	__u64 time;   // CLOCK_MONOTONIC, ns
	__u64 period; // of the event, in the event's unit: ns for cpu-clock
	__u32 pid;
	__u32 tid;
	__u16 cpu;
	__u16 flags;
	__u16 kernel_depth;
	__u16 user_depth;
	__u64 sp;   // the user's registers where its code was interrupted or called the kernel; 0 if
	__u64 fp;   // they are not known
	__u64 link; // 0 on amd64, which has no such register
	__u64 top[TOP]; // words at sp, ascending; 0 where they could not be read
	__u32 stack_bytes;
	__u32 other_bytes;
	__u64 other; // 0 where other_bytes is
	__u32 past;  // struct past of sampler.bpf.c: its id, and how many of its frames are
	__u32 same;  // as they were; the stack is copied up to the innermost of these. 0: none
};

// whose tells the present task's numbers in the reader's PID namespace, which is the kernel's dev_t and inode;
// inode 0 is the initial one, where every task has a number. It is not 0 where the task has none: the helper
// knows only the tasks that live in this very namespace, not those of its children.
static __always_inline long whose(__u64 dev, __u64 ino, __u32 *pid, __u32 *tid)
{
	if (ino == 0) {
		__u64 task = bpf_get_current_pid_tgid();
		*pid = task >> 32;
		*tid = task;
		return 0;
	}
	struct bpf_pidns_info task = {};
	long failed = bpf_get_ns_current_pid_tgid(dev, ino, &task, sizeof(task));
	*pid = task.tgid;
	*tid = task.pid;
	return failed;
}

// copy_pages copies bytes from a user's address on, page by page, as many as can be read and at most most,
// which is a constant. At to there is room for a page more than that, which is never written but which the
// verifier wants.
//
// How far it came is kept in memory: the verifier takes what it reads there for any number, so that all turns
// of the loop look alike to it, and all ways out. Without that, loading took seconds.
static __always_inline void copy_pages(__u8 *to, __u64 from, __u64 bytes, const __u64 most, volatile __u32 *copied)
{
	*copied = 0;
	for (__u64 i = 0; i <= most / PAGE; i++) {
		__u64 done = *copied;
		if (done >= bytes || done > most)
			break;
		__u64 piece = PAGE - ((from + done) & (PAGE - 1));
		if (piece > bytes - done)
			piece = bytes - done;
		if (piece > PAGE)
			break;
		if (bpf_probe_read_user(to + done, piece, (const void *)(from + done)))
			break;
		*copied = done + piece;
	}
}
