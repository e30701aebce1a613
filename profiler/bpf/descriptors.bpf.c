//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR MIT

// A program at the end of every system call that tells, of some processes, which descriptors were
// opened and closed, and by which user stack.
//
// It is a raw tracepoint, so it needs neither kprobes nor BTF; Linux 5.8 for the ring buffer.
#include "stacks.bpf.h"

// Words of the kernel's struct pt_regs, which begins with those of user space.
#if defined(__TARGET_ARCH_x86)
#define ARG0   14 // di
#define ARG1   13 // si
#define ARG3   7  // r10
#define NUMBER 15 // orig_ax
#else
#define ARG0   34 // orig_x0: x0 has what the call returns
#define ARG1   1
#define ARG3   3
#define NUMBER 35 // syscallno, 32 bits
#endif

#define MAX_DEPTH 127
#define MAX_CALLS 512

// MAX_COPY bounds the bytes of the user's stack that an event has.
#define MAX_COPY (16 * 1024)

// What a system call does with descriptors, as the reader fills it in.
#define CALL_NONE   0
#define CALL_RETURN 1 // returns one
#define CALL_PAIR0  2 // writes two to where its first argument points
#define CALL_PAIR3  3 // to where its fourth argument points
#define CALL_FCNTL  4 // returns one where its second argument is a kind of F_DUPFD
#define CALL_CLOSE  5 // closes its first argument
#define CALL_RANGE  6 // closes from its first to its second argument

// Events.
#define OPENED 1
#define CLOSED 2 // fds are the first and the last

// What precedes a record of the form of samples: sample_header and addresses.
struct descriptor_event {
	__u32 event;
	__u32 call; // the system call's number
	__s32 fds[2]; // -1: there is no second
};

struct record {
	struct descriptor_event event;
	struct sample_header head;
	__u64 addresses[MAX_DEPTH]; // what is copied begins behind those that there are
	__u64 registers[REGISTERS];
	__u8 stack[MAX_COPY + PAGE]; // a page more than is ever written, which the verifier wants
};

// Set before loading.
volatile const __u64 pid_ns_dev = 0; // as in sampler.bpf.c
volatile const __u64 pid_ns_ino = 0;

// Processes that are watched, by their number in the reader's PID namespace, and how many bytes of their
// stacks are copied: 0 where all code keeps frame pointers.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} watched SEC(".maps");

// What each system call does, by number.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_CALLS);
	__type(key, __u32);
	__type(value, __u32);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20); // bytes; set before loading
} events SEC(".maps");

// A record is put together here: nothing else runs this program on the CPU meanwhile, because the
// kernel calls programs of tracepoints with preemption off.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct record);
} room SEC(".maps");

// Events that found no room in the ring.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} missed SEC(".maps");

static __always_inline __u64 word(const __u64 *regs, int i)
{
	__u64 value = 0;
	bpf_probe_read_kernel(&value, sizeof(value), regs + i);
	return value;
}

// copy_stack puts the user's registers and the top of the stack behind depth addresses, as that of
// sampler.bpf.c does, and sets stack_bytes, which is 0 before.
static __always_inline void copy_stack(struct record *r, const __u64 *regs, __u64 depth, __u64 bytes)
{
	if (depth > MAX_DEPTH)
		return;
	if (bytes > MAX_COPY)
		bytes = MAX_COPY;
	__u64 *registers = &r->addresses[depth];
	if (bpf_probe_read_kernel(registers, REGISTERS * sizeof(__u64), regs))
		return;
	copy_pages((__u8 *)(registers + REGISTERS), r->head.sp, bytes, MAX_COPY, &r->head.stack_bytes);
}

SEC("raw_tracepoint/sys_exit")
int on_call(struct bpf_raw_tracepoint_args *ctx)
{
	const __u64 *regs = (const __u64 *)ctx->args[0];
	long ret = ctx->args[1];
	__u32 zero = 0, number = word(regs, NUMBER);
	// The cheapest question first: most calls have nothing to do with descriptors.
	const __u32 *call = bpf_map_lookup_elem(&calls, &number);
	if (!call || *call == CALL_NONE || ret < 0)
		return 0;

	__u32 pid, tid;
	if (whose(pid_ns_dev, pid_ns_ino, &pid, &tid))
		return 0;
	const __u32 *copy = bpf_map_lookup_elem(&watched, &pid);
	if (!copy || !IS_64(word(regs, MODE)))
		return 0;

	struct record *r = bpf_map_lookup_elem(&room, &zero);
	if (!r)
		return 0;
	r->event.event = OPENED;
	r->event.call = number;
	r->event.fds[0] = ret;
	r->event.fds[1] = -1;
	switch (*call) {
	case CALL_RETURN:
		break;
	case CALL_PAIR0:
	case CALL_PAIR3:
		if (bpf_probe_read_user(r->event.fds, sizeof(r->event.fds), (const void *)word(regs, *call == CALL_PAIR0 ? ARG0 : ARG3)))
			return 0;
		break;
	case CALL_FCNTL: {
		__u32 command = word(regs, ARG1);
		if (command != 0 && command != 1030) // F_DUPFD, F_DUPFD_CLOEXEC
			return 0;
		break;
	}
	case CALL_CLOSE:
		r->event.event = CLOSED;
		r->event.fds[0] = r->event.fds[1] = (__s32)word(regs, ARG0);
		break;
	case CALL_RANGE: {
		__u32 last = word(regs, ARG1);
		r->event.event = CLOSED;
		r->event.fds[0] = (__s32)word(regs, ARG0);
		r->event.fds[1] = last > 0x7fffffff ? 0x7fffffff : (__s32)last;
		break;
	}
	default:
		return 0;
	}

	r->head.time = bpf_ktime_get_ns();
	r->head.period = 0;
	r->head.pid = pid;
	r->head.tid = tid;
	r->head.cpu = bpf_get_smp_processor_id();
	r->head.flags = 0;
	r->head.kernel_depth = 0;
	r->head.user_depth = 0;
	r->head.stack_bytes = 0;
	r->head.other_bytes = 0;
	r->head.other = 0;
	r->head.past = r->head.same = 0;
	r->head.sp = r->head.fp = r->head.link = 0;
	__u64 size = sizeof(r->event) + sizeof(r->head);
	if (r->event.event == OPENED) {
		long bytes = bpf_get_stack(ctx, r->addresses, sizeof(r->addresses), BPF_F_USER_STACK);
		__u64 depth = bytes > 0 ? (__u64)bytes / sizeof(__u64) : 0;
		if (depth > MAX_DEPTH)
			depth = MAX_DEPTH;
		r->head.user_depth = depth;
		size += depth * sizeof(__u64);
		r->head.sp = word(regs, SP);
		r->head.fp = word(regs, FP);
#ifdef LINK
		r->head.link = word(regs, LINK);
#endif
		bpf_probe_read_user(r->head.top, sizeof(r->head.top), (const void *)r->head.sp);
		if (*copy) {
			copy_stack(r, regs, depth, *copy);
			__u64 copied = *(volatile __u32 *)&r->head.stack_bytes;
			if (copied > MAX_COPY)
				copied = MAX_COPY;
			// Else the compiler makes one comparison of the two, which the verifier does not follow.
			asm volatile("" : "+r"(copied));
			if (copied)
				size += REGISTERS * sizeof(__u64) + copied;
		}
	} else {
		__builtin_memset(r->head.top, 0, sizeof(r->head.top));
	}
	if (bpf_ringbuf_output(&events, r, size, 0)) {
		__u64 *n = bpf_map_lookup_elem(&missed, &zero);
		if (n)
			*n += 1;
	}
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
