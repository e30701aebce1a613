package sourcemap

import "strings"

// isEntry tells functions that nothing calls: the root of every whole stack is one of them, and a
// stack with another root has lost its outermost callers. name is as its table spells it, without
// arguments or a symbol version.
//
// The list is what stacks end with that were sampled by frame pointers in programs of Go 1.20 to
// 1.26, with and without cgo, while they collected garbage, grew stacks, handled signals, started
// and ended threads, and called Go from C. A function in the middle of other stacks is listed where
// whole stacks also begin with it, as runtime.mcall. Signal handlers and runtime.systemstack are not
// listed: their callers are found through them.
func isEntry(name string) bool {
	name = strings.TrimSuffix(name, ".abi0") // Go's assembly functions in symbol tables
	return entries[name] || strings.HasPrefix(name, "_rt0_")
}

var entries = map[string]bool{
	// Go. Each is marked TOPFRAME in its assembly source, or clears the frame pointer because its
	// caller's stack goes on living on another thread, except mstart0.
	"runtime.goexit":    true, // what each goroutine returns to
	"runtime.mstart":    true, // a thread of the runtime, on the scheduler's stack
	"runtime.mstart0":   true, // such a thread as it ends: it has come back by a jump, without a caller
	"runtime.mcall":     true, // the scheduler after a goroutine has parked; since Go 1.25
	"runtime.morestack": true, // growing a goroutine's stack, on the scheduler's stack
	"runtime.rt0_go":    true, // the start of the process, before there are goroutines

	// C, and what starts like it. The frame pointer of the caller of main is not one, so by frame
	// pointers main's caller is the root, and of a thread its first function's.
	"_start":                 true,
	"_dl_start":              true, // the dynamic linker
	"_dl_start_user":         true,
	"__libc_start_main":      true,
	"__libc_start_main_impl": true,
	startCallMain:            true, // glibc since 2.34
	"generic_start_main":     true, // glibc before, on some processors
	"libc_start_main_stage2": true, // musl
	"start_thread":           true, // glibc's threads
	"clone":                  true,
	"__clone":                true,
	"clone3":                 true,
	"__clone3":               true,
	"__clone_internal":       true,
	"thread_start":           true,

	// The kernel's own threads.
	"ret_from_fork":     true,
	"ret_from_fork_asm": true,
}

// startCallMain is the function of glibc that calls main. It is static, so stripped libraries have
// no name for it: see callsMain.
const startCallMain = "__libc_start_call_main"
