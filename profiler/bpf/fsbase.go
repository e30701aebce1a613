package bpf

import (
	"sync"

	"github.com/cilium/ebpf/btf"
)

// fsBase is where the kernel's task_struct keeps the FS base of a thread that does not run, and on amd64
// also that which was set last of the one that runs (do_arch_prctl_64 and set_new_tls,
// arch/x86/kernel/process_64.c). It is 0 where the kernel has no BTF or is for another processor.
//
// To find it takes some tens of milliseconds, once for a process.
var fsBase = sync.OnceValue(func() uint32 {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return 0
	}
	var task *btf.Struct
	if spec.TypeByName("task_struct", &task) != nil {
		return 0
	}
	thread, at := member(task, "thread")
	of, ok := btf.UnderlyingType(thread).(*btf.Struct)
	if !ok {
		return 0
	}
	base, more := member(of, "fsbase")
	if size, err := btf.Sizeof(base); base == nil || err != nil || size != 8 {
		return 0
	}
	return at + more
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
