// Package bpf records samples with a BPF program: the kernel calls it at each overflow of the perf
// events it is attached to, and it puts time, task, CPU and both stacks into a ring buffer.
//
// Against the ring of the perf event itself this gives one ring for the whole machine instead of
// one per CPU, stacks cut to their length, kernel frames where perf_event_paranoid would hide them,
// and a kernel that calls the reader only when there is much to read. It needs CAP_BPF and
// CAP_PERFMON, or root, and Linux 5.8.
//
// It does not know what is sampled, nor what the addresses mean: opening perf events, following
// mappings and names is the recorder's. The C sources beside the Go files are compiled by
// "go generate"; the objects are committed, and building needs no compiler for them.
package bpf
