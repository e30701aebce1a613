// Package process tells of live processes what a person asks of them: which there are, what each uses
// of the machine over an interval, what its threads wait for, and what it has open. It is ps, top and
// lsof as data.
//
// Everything is read from /proc, from sockets' diagnosis over netlink, and from a Go program's own
// counters in its memory; nothing is stopped, nothing is written, and an ordinary user gets all of it
// for processes of their own. What may not be read is not zero but not known (Process.Known), and each
// list says in words what it may not see (Unseen).
//
// A process may end, and its number be another's, between any two reads. An ID is a number together
// with the time of the start, and what was read of a process is thrown away unless the same process was
// there before and after.
//
// The package does not know captures, profiles or editors, and words are others' to make. Fields of /proc
// that github.com/prometheus/procfs has are read by it, but for stat, status, io, cgroup and fdinfo: these are read
// of every process and every descriptor of the machine, and there it takes from two to twenty times as
// long as the kernel does.
package process
