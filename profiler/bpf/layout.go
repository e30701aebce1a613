package bpf

import (
	"sync"

	"github.com/cilium/ebpf/btf"
)

// A layout is where the kernel keeps what programs read of a task, in bytes. 0: not known.
type layout struct {
	// fsBase is where task_struct has the FS base of a thread that does not run, and on amd64 also that
	// which was set last of the one that runs (do_arch_prctl_64 and set_new_tls,
	// arch/x86/kernel/process_64.c).
	fsBase uint32
	// cred is where task_struct has the pointer to the credentials that count for what the task does, and
	// ids where uid, gid, suid, sgid, euid and egid are in them, one behind the other.
	cred, ids uint32
}

// kernelLayout is that of this kernel; zero where it has no BTF or is for another processor.
//
// To find it takes some tens of milliseconds, once for a process.
var kernelLayout = sync.OnceValue(func() (l layout) {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return layout{}
	}
	var task, cred *btf.Struct
	if spec.TypeByName("task_struct", &task) != nil {
		return layout{}
	}
	thread, at := member(task, "thread")
	if of, ok := btf.UnderlyingType(thread).(*btf.Struct); ok {
		base, more := member(of, "fsbase")
		if size, err := btf.Sizeof(base); base != nil && err == nil && size == 8 {
			l.fsBase = at + more
		}
	}
	pointer, at := member(task, "cred")
	if _, ok := btf.UnderlyingType(pointer).(*btf.Pointer); !ok || spec.TypeByName("cred", &cred) != nil {
		return l
	}
	_, first := member(cred, "uid")
	for i, name := range []string{"uid", "gid", "suid", "sgid", "euid", "egid"} {
		id, at := member(cred, name)
		if size, err := btf.Sizeof(id); id == nil || err != nil || size != 4 || at != first+uint32(4*i) {
			return l
		}
	}
	l.cred, l.ids = at, first
	return l
})

// member is the type of a member and its offset in bytes; nil where there is none.
func member(s *btf.Struct, name string) (btf.Type, uint32) {
	for _, m := range s.Members {
		if m.Name == name {
			return m.Type, m.Offset.Bytes()
		}
	}
	return nil, 0
}
