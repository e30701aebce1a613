//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR MIT

// Programs on the functions of an allocator: of every so many bytes that are allocated one allocation is
// taken down with its stack, and told of again when it is freed.
//
// They run in the thread that allocates and may be preempted, so that what they put together lies in no map
// of a CPU but in one of several rooms, of which a run takes one that is free. Like sampler.bpf.c they name no structure of the kernel but those of include/uapi. Linux 5.15 for
// bpf_get_attach_cookie; on_function needs 6.13.
#include "stacks.bpf.h"

// Words of struct pt_regs that have the result and the first arguments of a function.
#if defined(__TARGET_ARCH_x86)
#define RESULT 10    // ax
#define ARGUMENT1 14 // di
#define ARGUMENT2 13 // si
#define ARGUMENT3 12 // dx
#elif defined(__TARGET_ARCH_arm64)
#define RESULT 0
#define ARGUMENT1 0
#define ARGUMENT2 1
#define ARGUMENT3 2
#endif

#define MAX_DEPTH 127
#define MAX_COPY  (16 * 1024)

// The cookie of a function, as the reader makes it: words of the registers that have its arguments, one
// more than their number so that 0 is none, and flags.
#define SIZE_WORD(cookie)     ((cookie) & 0xff)         // how many bytes are asked for
#define COUNT_WORD(cookie)    (((cookie) >> 8) & 0xff)  // times this
#define FREED_WORD(cookie)    (((cookie) >> 16) & 0xff) // what is freed
#define RESULT_WORD(cookie)   (((cookie) >> 24) & 0xff) // where the result is put; else it is returned

// Events.
#define ALLOCATED 1 // a record of the form of samples follows
#define FREED     2

struct allocation_event {
	__u32 event;
	__u32 reserved;
	__u64 id;   // of an allocation, from 1
	__u64 size; // bytes that were asked for
	__u64 time; // CLOCK_MONOTONIC, ns
};

struct record {
	struct allocation_event event;
	struct sample_header head;
	__u64 addresses[MAX_DEPTH + 1]; // what is copied begins behind those that there are
	__u64 registers[REGISTERS];
	__u8 stack[MAX_COPY + PAGE]; // a page more than is ever written, which the verifier wants
};

// Set before loading.
volatile const __u64 pid_ns_dev = 0; // as in sampler.bpf.c
volatile const __u64 pid_ns_ino = 0;
volatile const __u64 period = 512 * 1024; // bytes from one that is taken down to the next; 1: all are
volatile const __u64 copy = 0;            // bytes of the stack that are copied; 0 where all code keeps frame pointers
volatile const __u32 logarithms[257] = {}; // log2(1 + i/256) × 65536

// An allocation that a thread is about to make.
struct pending {
	__u64 id;
	__u64 sp;     // of the function that makes it
	__u64 time;   // when it was called
	__u64 result; // address of its result; 0: it is returned
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32); // the thread's id
	__type(value, struct pending);
} pending SEC(".maps");

// Allocations that were taken down and are not freed: ids by address. The process is one.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u64);
} live SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20); // bytes; set before loading
} allocations SEC(".maps");

// Where records are put together.
struct room {
	__u64 taken;
	struct record record;
};

#define ROOMS 256

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ROOMS);
	__type(key, __u32);
	__type(value, struct room);
} rooms SEC(".maps");

// What a CPU counts.
struct counts {
	__s64 left;  // bytes to the next allocation that is taken down
	__u64 calls; // of count_call
	__u64 missed; // allocations that found no room in the ring
	__u64 full;   // that found none in live: their end is not seen
	__u64 taken;
	__u64 unfreed; // ends that found no room in the ring
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counts);
} counted SEC(".maps");

// The context of a program on a function: struct pt_regs, as so many words.
struct registers {
	__u64 words[REGISTERS];
};

// The verifier allows whole registers only, by constant numbers, hence volatile.
#define WORD(regs, i) (*(volatile __u64 *)&(regs)->words[i])

// argument is that of a word of a cookie: 0 where there is none. All are read, or else the compiler would
// choose between their addresses.
static __always_inline __u64 argument(struct registers *regs, __u64 at)
{
	__u64 first = WORD(regs, ARGUMENT1), second = WORD(regs, ARGUMENT2), third = WORD(regs, ARGUMENT3);
	return at == ARGUMENT1 + 1 ? first : at == ARGUMENT2 + 1 ? second : at == ARGUMENT3 + 1 ? third : 0;
}

// log2_of is log2(x) × 65536, for x that is not 0.
static __always_inline __u64 log2_of(__u32 x)
{
	__u32 top = 31;
	if (!(x & 0xffff0000)) { top -= 16; x <<= 16; }
	if (!(x & 0xff000000)) { top -= 8; x <<= 8; }
	if (!(x & 0xf0000000)) { top -= 4; x <<= 4; }
	if (!(x & 0xc0000000)) { top -= 2; x <<= 2; }
	if (!(x & 0x80000000)) { top -= 1; x <<= 1; }
	__u32 low = (x >> 7) & 0xffff; // between two of the table
	__u32 i = (x >> 23) & 0xff;
	__u64 a = logarithms[i], b = logarithms[i + 1];
	return ((__u64)top << 16) + a + (((b - a) * low) >> 16);
}

// distance is how many bytes it is to the next allocation that is taken down: exponential, so that
// each byte has the same chance whatever was allocated before.
static __always_inline __s64 distance(void)
{
	__u32 r = bpf_get_prandom_u32();
	if (!r)
		r = 1;
	__u64 e = (32 << 16) - log2_of(r); // -log2(u) × 65536
	return (__s64)(((e * 45426) >> 16) * period >> 16) + 1; // × ln 2
}

// copy_stack is as in descriptors.bpf.c.
static __always_inline void copy_stack(struct record *r, struct registers *regs, __u64 depth)
{
	if (depth > MAX_DEPTH)
		return;
	__u64 bytes = copy;
	if (bytes > MAX_COPY)
		bytes = MAX_COPY;
	__u64 *registers = &r->addresses[depth];
	if (bpf_probe_read_kernel(registers, REGISTERS * sizeof(__u64), regs))
		return;
	copy_pages((__u8 *)(registers + REGISTERS), r->head.sp, bytes, MAX_COPY, &r->head.stack_bytes);
}

// take_room finds a free room, beginning with that of the CPU: another is needed only where a run was
// preempted in the midst of it.
static __always_inline struct room *take_room(void)
{
	__u32 first = bpf_get_smp_processor_id() * 4;
	for (int i = 0; i < 4; i++) {
		__u32 at = (first + i) % ROOMS;
		struct room *r = bpf_map_lookup_elem(&rooms, &at);
		if (r && !__sync_lock_test_and_set(&r->taken, 1))
			return r;
	}
	return 0;
}

static __always_inline void tell_freed(struct counts *c, __u64 id)
{
	struct allocation_event e = { .event = FREED, .id = id, .time = bpf_ktime_get_ns() };
	if (bpf_ringbuf_output(&allocations, &e, sizeof(e), 0))
		__sync_fetch_and_add(&c->unfreed, 1);
}

// freed is what follows from the address of something that is freed.
static __always_inline void freed(__u64 address)
{
	__u64 *id = address ? bpf_map_lookup_elem(&live, &address) : 0;
	if (!id)
		return;
	__u64 was = *id;
	__u32 zero = 0;
	struct counts *c = bpf_map_lookup_elem(&counted, &zero);
	if (!c)
		return;
	// Two threads cannot free the same; one that finds it gone was here by chance.
	if (!bpf_map_delete_elem(&live, &address))
		tell_freed(c, was);
}

// called is the beginning of a function. It says whether the end is of interest.
static __always_inline int called(struct registers *regs, __u64 cookie)
{
	if (FREED_WORD(cookie))
		freed(argument(regs, FREED_WORD(cookie)));
	if (!SIZE_WORD(cookie))
		return 0;
	__u32 zero = 0;
	struct counts *c = bpf_map_lookup_elem(&counted, &zero);
	if (!c)
		return 0;
	__u64 size = argument(regs, SIZE_WORD(cookie));
	if (COUNT_WORD(cookie))
		size *= argument(regs, COUNT_WORD(cookie));
	if (!size || size >> 47)
		return 0;
	if (period > 1) {
		c->left -= size;
		if (c->left > 0)
			return 0;
		c->left = distance();
	}
	__u32 tid = bpf_get_current_pid_tgid();
	__u64 sp = WORD(regs, SP);
	struct pending *before = bpf_map_lookup_elem(&pending, &tid);
	// One allocation within another is not taken down twice, as calloc's in malloc, or realloc's that jumps
	// there. What is deeper in the stack than this, or long ago, did not come to its end.
	__u64 now = bpf_ktime_get_ns();
	if (before && before->sp >= sp && now - before->time < 1000000000)
		return 0;
	struct room *room = take_room();
	if (!room) {
		__sync_fetch_and_add(&c->missed, 1);
		return 0;
	}
	struct record *r = &room->record;
	// Ids differ on all CPUs, and are never 0.
	__u64 id = __sync_fetch_and_add(&c->taken, 1) * 4096 + (bpf_get_smp_processor_id() & 4095) + 1;
	r->event.event = ALLOCATED;
	r->event.reserved = 0;
	r->event.id = id;
	r->event.size = size;
	r->event.time = now;
	if (whose(pid_ns_dev, pid_ns_ino, &r->head.pid, &r->head.tid)) {
		__sync_lock_test_and_set(&room->taken, 0);
		return 0;
	}
	r->head.time = r->event.time;
	r->head.period = 0;
	r->head.cpu = bpf_get_smp_processor_id();
	r->head.flags = 0;
	r->head.kernel_depth = 0;
	r->head.stack_bytes = 0;
	r->head.other_bytes = 0;
	r->head.other = 0;
	r->head.past = 0;
	r->head.same = 0;
	r->head.sp = sp;
	r->head.fp = WORD(regs, FP);
#ifdef LINK
	r->head.link = WORD(regs, LINK);
#else
	r->head.link = 0;
#endif
	long bytes = bpf_get_stack(regs, r->addresses, MAX_DEPTH * sizeof(__u64), BPF_F_USER_STACK);
	__u64 depth = bytes > 0 ? (__u64)bytes / sizeof(__u64) : 0;
	if (depth > MAX_DEPTH)
		depth = MAX_DEPTH;
	r->head.user_depth = depth;
	bpf_probe_read_user(r->head.top, sizeof(r->head.top), (const void *)sp);
	__u64 length = sizeof(r->event) + sizeof(r->head) + depth * sizeof(__u64);
	if (copy) {
		copy_stack(r, regs, depth);
		__u64 copied = *(volatile __u32 *)&r->head.stack_bytes;
		if (copied > MAX_COPY)
			copied = MAX_COPY;
		// As in sampler.bpf.c, for the verifier.
		asm volatile("" : "+r"(copied));
		if (copied)
			length += REGISTERS * sizeof(__u64) + copied;
	}
	long told = bpf_ringbuf_output(&allocations, r, length, 0);
	__sync_lock_test_and_set(&room->taken, 0);
	if (told) {
		__sync_fetch_and_add(&c->missed, 1);
		return 0;
	}

	struct pending p = { .id = id, .sp = sp, .time = now, .result = argument(regs, RESULT_WORD(cookie)) };
	if (bpf_map_update_elem(&pending, &tid, &p, BPF_ANY))
		return 0;
	return 1;
}

// returned is the end of a function.
static __always_inline void returned(struct registers *regs)
{
	__u32 zero = 0, tid = bpf_get_current_pid_tgid();
	struct pending *p = bpf_map_lookup_elem(&pending, &tid);
	if (!p)
		return;
	// A function that was called by this one returns with a stack pointer that is not above this one's. The
	// return address is popped, so that the pointer is above that of the call by the time this one does.
	if (WORD(regs, SP) < p->sp)
		return;
	__u64 id = p->id, at = p->result, address = 0;
	bpf_map_delete_elem(&pending, &tid);
	struct counts *c = bpf_map_lookup_elem(&counted, &zero);
	if (!c)
		return;
	if (!at)
		address = WORD(regs, RESULT);
	else if (bpf_probe_read_user(&address, sizeof(address), (const void *)at))
		address = 0;
	if (!address) { // it failed
		tell_freed(c, id);
		return;
	}
	if (bpf_map_update_elem(&live, &address, &id, BPF_ANY))
		__sync_fetch_and_add(&c->full, 1);
}

// One program for a function's beginning and end, which is not run where the beginning says so.
extern _Bool bpf_session_is_return(void) __ksym __weak;

SEC("uprobe.session")
int on_function(struct registers *ctx)
{
	if (bpf_session_is_return()) {
		returned(ctx);
		return 0;
	}
	return !called(ctx, bpf_get_attach_cookie(ctx));
}

SEC("uprobe")
int on_call(struct registers *ctx)
{
	called(ctx, bpf_get_attach_cookie(ctx));
	return 0;
}

SEC("uretprobe")
int on_return(struct registers *ctx)
{
	returned(ctx);
	return 0;
}

// count_call counts, for a forecast of what the others would cost.
SEC("uprobe")
int count_call(void *ctx)
{
	(void)ctx;
	__u32 zero = 0;
	struct counts *c = bpf_map_lookup_elem(&counted, &zero);
	if (c)
		c->calls += 1;
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
