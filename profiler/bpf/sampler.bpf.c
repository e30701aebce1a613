//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR MIT

// A perf_event program that puts each sample of the events it is attached to into a BPF ring
// buffer: when, who, where, and the kernel's and the user's stack of addresses.
//
// It names no structure of the kernel but the stable ones of include/uapi, so one object runs on
// every kernel since 5.8 (the ring buffer), with or without BTF, and no vmlinux.h is needed.
#include "stacks.bpf.h"

// The context of a perf_event program, struct bpf_perf_event_data of
// include/uapi/linux/bpf_perf_event.h.
struct event_context {
	__u64 registers[REGISTERS];
	__u64 sample_period;
	__u64 addr;
};

// MAX_DEPTH bounds each of the two stacks of addresses.
#define MAX_DEPTH 1024

// Flags of a sample.
#define OUTSIDE    1 // the task has no number in the reader's PID namespace
#define KERNEL_CUT 2 // the kernel stack has as many addresses as were asked for
#define USER_CUT   4 // the user stack likewise

// MAX_COPY bounds the bytes of the user's stack that a sample has.
#define MAX_COPY (64 * 1024)

struct scratch {
	struct sample_header head;
	__u64 addresses[2 * MAX_DEPTH]; // what is copied begins behind those that there are
	__u64 registers[REGISTERS];
	__u8 stack[2 * MAX_COPY + PAGE]; // a page more than is ever written, which the verifier wants
	__u32 copied; // of copy_user
	__u32 same;   // of same_frames
	__u64 same_at;
};

// Where a thread of a program of Go and C has its stacks: the goroutine's, on which Go runs, and that of
// the thread, on which C and the scheduler run (g0). Whichever it is not on has its stack pointer saved
// in its g (runtime/asm_amd64.s: asmcgocall, cgocallback, systemstack). Offsets in bytes.
struct go_stacks {
	__s64 tls;     // of the pointer to the present g, from the thread's FS base
	__u32 fs_base; // of thread.fsbase in the kernel's task_struct; 0: nothing of this is known
	__u32 m;       // of g.m
	__u32 curg;    // of m.curg
	__u32 sp;      // of g.sched.sp
};

// Of g.stack.lo, g.stack.hi and m.g0: "known to runtime/cgo", or to its assembly (runtime/runtime2.go).
#define G_STACK_LO 0
#define G_STACK_HI 8
#define M_G0       0

// How the stacks of a process are copied.
struct copy_rule {
	__u64 start; // user addresses of code that keeps frame pointers, up to end: no copy is needed there
	__u64 end;
	__u64 bytes; // how much, at most MAX_COPY; 0: nothing
	struct go_stacks go;
};

// MAX_PAST bounds the frames of a thread's stack that are compared with what they were.
#define MAX_PAST 64

// A return address, and where on the stack it is.
struct past_frame {
	__u64 at;
	__u64 value;
};

// The stack of a thread as the reader has walked it last, outermost frame first, or the outermost part of it.
// As long as a frame and all behind it are as they were, what they have led to is known and is not copied again:
// of most stacks that is nearly everything.
struct past {
	__u32 id; // not 0
	__u32 count;
	struct past_frame frames[MAX_PAST];
};

// Set before loading.
volatile const __u64 depth = 127;     // addresses of each stack, at most MAX_DEPTH
volatile const __u64 wake_at = 1;     // bytes in the ring from which on each sample wakes the reader
volatile const __u64 pid_ns_dev = 0;  // the reader's PID namespace as the kernel's dev_t and inode
volatile const __u64 pid_ns_ino = 0;  // 0: the initial namespace, where every task has a number
volatile const __u64 task_registers = 0; // whether the kernel has bpf_task_pt_regs (5.15, with BTF)

volatile const __u64 copies = 0;         // whether stacks are copied at all
// For those that copy_rules has nothing of, without start and end.
volatile const struct copy_rule copy_default = {};

// Processes, by their number in the reader's PID namespace. The reader fills it in as it sees what
// they have mapped; the oldest are dropped where there are more.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct copy_rule);
} copy_rules SEC(".maps");

// By thread, in the reader's PID namespace. The reader fills it in; the oldest are dropped where there are more.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct past);
} pasts SEC(".maps");

// Samples go here.
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20); // bytes; set before loading
} ring SEC(".maps");

// A sample is put together here, because it is larger than the stack and its size is not known
// before. The kernel runs one perf_event program at a time on a CPU (bpf_prog_active in
// bpf_overflow_handler, kernel/events/core.c), so nobody else writes to its element. It is not a
// per-CPU map, whose values may not exceed 32 KiB (PCPU_MIN_UNIT_SIZE, include/linux/percpu.h).
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); // one for each CPU; set before loading
	__type(key, __u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

// Samples that found no room in the ring.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

// addresses_of turns what bpf_get_stack returned into a number of addresses. Where there is no such
// stack, kernels up to "bpf: Adjust BPF stack helper functions to accommodate skip > 0" answer
// -EFAULT and later ones 0 (__bpf_get_stack, kernel/bpf/stackmap.c); neither is a fault.
static __always_inline __u64 addresses_of(long bytes)
{
	if (bytes <= 0)
		return 0;
	__u64 n = (__u64)bytes / sizeof(__u64);
	return n > MAX_DEPTH ? MAX_DEPTH : n;
}

// user_registers fills in what the walk by frame pointers did not see of the innermost function.
static __always_inline void user_registers(struct event_context *ctx, struct sample_header *h, int in_kernel, __u64 user)
{
	__u64 sp = 0, fp = 0, link = 0;
	if (!in_kernel) {
		sp = *(volatile __u64 *)&ctx->registers[SP];
		fp = *(volatile __u64 *)&ctx->registers[FP];
#ifdef LINK
		link = *(volatile __u64 *)&ctx->registers[LINK];
#endif
	} else if (user && task_registers) {
		// The verifier prunes this where task_registers is 0, and then need not know the helpers.
		// The kernel's struct pt_regs begins with the same words as the user's.
		const __u64 *saved = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
		bpf_probe_read_kernel(&sp, sizeof(sp), saved + SP);
		bpf_probe_read_kernel(&fp, sizeof(fp), saved + FP);
#ifdef LINK
		bpf_probe_read_kernel(&link, sizeof(link), saved + LINK);
#endif
	}
	h->sp = sp;
	h->fp = fp;
	h->link = link;
	// What cannot be read becomes 0 (bpf_probe_read_user_common, kernel/trace/bpf_trace.c), as
	// does what is at address 0.
	bpf_probe_read_user(h->top, sizeof(h->top), (const void *)sp);
}

// rule_of is how stacks of a process are copied, whose code is at an address; bytes is 0 where they are not.
static __always_inline void rule_of(__u32 pid, __u64 ip, __u64 *bytes, struct go_stacks *go)
{
	const struct copy_rule *rule = bpf_map_lookup_elem(&copy_rules, &pid);
	*bytes = 0;
	if (!rule) {
		*bytes = copy_default.bytes;
		go->tls = copy_default.go.tls;
		go->fs_base = copy_default.go.fs_base;
		go->m = copy_default.go.m;
		go->curg = copy_default.go.curg;
		go->sp = copy_default.go.sp;
	} else if (ip < rule->start || ip >= rule->end) {
		*bytes = rule->bytes;
		*go = rule->go;
	}
	if (*bytes > MAX_COPY)
		*bytes = MAX_COPY;
}

// copy_user copies from a user's address on to so many bytes behind the first address of a CPU's scratch, as
// much as can be read of bytes, and says how much that was.
//
// It is a function of its own, which is verified once, whatever calls it.
__attribute__((noinline)) __u32 copy_user(__u32 cpu, __u64 at, __u64 from, __u64 bytes)
{
	struct scratch *s = bpf_map_lookup_elem(&scratch, &cpu);
	if (!s || at > sizeof(s->addresses) + sizeof(s->registers) + MAX_COPY)
		return 0;
	volatile __u32 *copied = &s->copied;
	copy_pages((__u8 *)s->addresses + at, from, bytes, MAX_COPY, copied);
	return *copied;
}

// same_frames is how many bytes of the present thread's stack, from sp on, lead to a frame that is as it was,
// with all behind it: up to and with its return address. It sets past and same of the header, and is 0 where
// there is none.
//
// A word may be as it was because nobody has written there since, although the frame is gone: the reader
// takes the past for true only where its walk comes to the very place of a return address.
__attribute__((noinline)) __u64 same_frames(__u32 cpu, __u64 sp)
{
	struct scratch *s = bpf_map_lookup_elem(&scratch, &cpu);
	if (!s)
		return 0;
	__u32 tid = s->head.tid;
	const volatile struct past *p = bpf_map_lookup_elem(&pasts, &tid);
	if (!p)
		return 0;
	volatile __u32 *same = &s->same; // in memory, as in copy_pages
	volatile __u64 *last = &s->same_at;
	*same = 0;
	__u32 id = p->id, count = p->count;
	for (__u32 i = 0; i < MAX_PAST; i++) {
		if (i >= count)
			break;
		__u64 at = p->frames[i].at, value = 0;
		if (at < sp || bpf_probe_read_user(&value, sizeof(value), (const void *)at) || value != p->frames[i].value)
			break;
		*same = i + 1;
		*last = at;
	}
	// The map may have given the place to another thread meanwhile.
	if (!*same || p->id != id)
		return 0;
	s->head.past = id;
	s->head.same = *same;
	return *last + sizeof(__u64) - sp;
}

#if defined(__TARGET_ARCH_x86)
static __always_inline __u64 user_word(__u64 addr)
{
	__u64 v = 0;
	bpf_probe_read_user(&v, sizeof(v), (const void *)addr); // 0 where it cannot be read
	return v;
}

// other_stack finds the stack that the thread has left for the one that it is on: it is at the address
// returned, 0 where there is none, and has room bytes. bytes is cut to what the present one has.
//
// What is found is only copied, and the walk takes of it what a frame pointer leads to: a thread that has
// other things in these places costs a few bytes.
static __always_inline __u64 other_stack(const struct go_stacks *go, __u64 sp, __u64 *bytes, __u64 *room)
{
	__u64 base = 0;
	if (!go->fs_base || bpf_probe_read_kernel(&base, sizeof(base), (const void *)(bpf_get_current_task() + go->fs_base)))
		return 0;
	__u64 g = user_word(base + go->tls);
	__u64 m = g ? user_word(g + go->m) : 0;
	if (!m)
		return 0;
	__u64 g0 = user_word(m + M_G0);
	__u64 other = g0;
	if (g == g0) {
		other = user_word(m + go->curg);
	} else {
		__u64 low = user_word(g + G_STACK_LO), high = user_word(g + G_STACK_HI);
		if (sp >= low && sp < high && *bytes > high - sp)
			*bytes = high - sp;
	}
	if (!other)
		return 0;
	__u64 at = user_word(other + go->sp);
	__u64 high = user_word(other + G_STACK_HI);
	// Of g0 the runtime may not know where it ends, where a thread of C calls Go.
	if (other != g0 && (at >= high || at < user_word(other + G_STACK_LO)))
		return 0;
	if (other != g0 && *room > high - at)
		*room = high - at;
	return at;
}
#endif

// copy_stacks puts the user's registers and the stack from sp on behind depth addresses, and what there is
// of the other stack behind that; it sets stack_bytes and other_bytes, which are 0 before.
static __always_inline void copy_stacks(struct event_context *ctx, struct scratch *s, int in_kernel, __u64 kernel, __u64 depth)
{
	if (depth > 2 * MAX_DEPTH || kernel > MAX_DEPTH)
		return;
	// Where there are kernel frames, the first address of the user is where its code goes on.
	__u64 ip = in_kernel ? s->addresses[kernel] : *(volatile __u64 *)&ctx->registers[IP];
	__u64 bytes;
	struct go_stacks go = {};
	rule_of(s->head.pid, ip, &bytes, &go);
	if (!bytes)
		return;
	__u64 *registers = &s->addresses[depth];
	if (!in_kernel) {
		if (!IS_64(*(volatile __u64 *)&ctx->registers[MODE]))
			return;
#pragma unroll
		for (int i = 0; i < REGISTERS; i++)
			registers[i] = *(volatile __u64 *)&ctx->registers[i];
	} else if (task_registers) {
		const void *saved = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());
		if (bpf_probe_read_kernel(registers, REGISTERS * sizeof(__u64), saved))
			return;
		if (!IS_64(registers[MODE]))
			return;
	} else {
		return;
	}
	__u64 room = bytes;
#if defined(__TARGET_ARCH_x86)
	s->head.other = task_registers ? other_stack(&go, s->head.sp, &bytes, &room) : 0;
#endif
	__u64 same = same_frames(s->head.cpu, s->head.sp);
	if (same && same < bytes)
		bytes = same;
	__u64 at = (depth + REGISTERS) * sizeof(__u64);
	__u32 copied = copy_user(s->head.cpu, at, s->head.sp, bytes);
	if (copied > MAX_COPY)
		return;
	s->head.stack_bytes = copied;
	if (copied && s->head.other)
		s->head.other_bytes = copy_user(s->head.cpu, at + copied, s->head.other, room);
}

SEC("perf_event")
int on_sample(struct event_context *ctx)
{
	__u32 zero = 0;
	__u32 cpu = bpf_get_smp_processor_id();
	struct scratch *s = bpf_map_lookup_elem(&scratch, &cpu);
	if (!s)
		return 0;

	s->head.time = bpf_ktime_get_ns();
	s->head.period = ctx->sample_period;
	s->head.cpu = cpu;
	__u16 flags = 0;

	__u32 pid, tid;
	if (whose(pid_ns_dev, pid_ns_ino, &pid, &tid))
		flags |= OUTSIDE;
	s->head.pid = pid;
	s->head.tid = tid;

	__u64 limit = depth;
	if (limit > MAX_DEPTH)
		limit = MAX_DEPTH;
	// Where user code was interrupted there is no kernel stack, but asking for it would take a sixth
	// of the program's time. The verifier allows whole registers only, hence volatile.
	__u64 kernel = 0;
	__u64 mode = *(volatile __u64 *)&ctx->registers[MODE];
	if (IN_KERNEL(mode))
		kernel = addresses_of(bpf_get_stack(ctx, s->addresses, limit * sizeof(__u64), 0));
	__u64 user = addresses_of(bpf_get_stack(ctx, &s->addresses[kernel], limit * sizeof(__u64), BPF_F_USER_STACK));
	if (kernel >= limit)
		flags |= KERNEL_CUT;
	if (user >= limit)
		flags |= USER_CUT;
	s->head.flags = flags;
	s->head.kernel_depth = kernel;
	s->head.user_depth = user;
	user_registers(ctx, &s->head, IN_KERNEL(mode), user);
	__u64 size = sizeof(s->head) + (kernel + user) * sizeof(__u64);
	s->head.stack_bytes = 0;
	s->head.other_bytes = 0;
	s->head.other = 0;
	s->head.past = 0;
	s->head.same = 0;
	if (copies && s->head.sp && (user || !IN_KERNEL(mode))) {
		copy_stacks(ctx, s, IN_KERNEL(mode), kernel, kernel + user);
		__u64 copied = *(volatile __u32 *)&s->head.stack_bytes;
		__u64 others = *(volatile __u32 *)&s->head.other_bytes;
		if (copied > MAX_COPY)
			copied = MAX_COPY;
		if (others > MAX_COPY)
			others = MAX_COPY;
		// Else the compiler makes one comparison of several, which the verifier does not follow.
		asm volatile("" : "+r"(copied), "+r"(others));
		if (copied)
			size += REGISTERS * sizeof(__u64) + copied + others;
	}

	// A wakeup is an interrupt and a switch to the reader, which reads on a timer anyway, so it is
	// woken only where waiting for the timer could fill the ring.
	__u64 wake = BPF_RB_NO_WAKEUP;
	if (bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= wake_at)
		wake = BPF_RB_FORCE_WAKEUP;
	if (bpf_ringbuf_output(&ring, s, size, wake)) {
		__u64 *n = bpf_map_lookup_elem(&lost, &zero);
		if (n)
			*n += 1;
	}
	return 0; // nothing for the event's own ring
}

char _license[] SEC("license") = "Dual MIT/GPL";
