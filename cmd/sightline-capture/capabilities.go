package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A set is one of capabilities: bit n is capability n of linux/capability.h.
type set uint64

func setOf(capabilities ...int) (s set) {
	for _, c := range capabilities {
		s |= 1 << c
	}
	return s
}

// confine gives up what is never needed, whatever this process was started with: anything that it could
// pass on at exec, core dumps, being looked at by its caller, and all capabilities but those that are
// permitted by its file. None of them is effective, but within with.
func confine() error {
	if unix.Geteuid() != unix.Getuid() || unix.Getegid() != unix.Getgid() {
		return fmt.Errorf("it is set-user-ID or set-group-ID, which it is not made for; sudo sightline doctor --fix gives it capabilities instead")
	}
	unix.Umask(0o077)
	none := unix.Rlimit{}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"set no_new_privs", func() error { return onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0) }},
		{"clear the ambient capabilities", func() error {
			return onAllThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0)
		}},
		{"forbid core dumps", func() error { return unix.Setrlimit(unix.RLIMIT_CORE, &none) }},
		{"keep its memory to itself", func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }},
		{"change to /", func() error { return unix.Chdir("/") }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return keep(setOf(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_PTRACE, unix.CAP_SYSLOG, unix.CAP_DAC_READ_SEARCH))
}

// onAllThreads makes a system call on each thread, which have privileges of their own. Those that
// are started later have those of the thread that starts them.
func onAllThreads(call, a, b, c uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(call, a, b, c, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// keep gives up all capabilities but these, for good; those that are kept are not effective.
func keep(these set) error {
	permitted, err := permitted()
	if err != nil {
		return err
	}
	header, data := capabilityData(0, permitted&these)
	err = onAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&data)
	if err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	return nil
}

// permitted are the capabilities that the calling thread may have.
func permitted() (set, error) {
	header, data := capabilityData(0, 0)
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("ask for its capabilities: %w", err)
	}
	return set(data[0].Permitted) | set(data[1].Permitted)<<32, nil
}

func capabilityData(effective, permitted set) (unix.CapUserHeader, [2]unix.CapUserData) {
	return unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, [2]unix.CapUserData{
		{Effective: uint32(effective), Permitted: uint32(permitted)},
		{Effective: uint32(effective >> 32), Permitted: uint32(permitted >> 32)},
	}
}

// with makes capabilities effective while do runs, on the thread that runs it: those of them that are
// permitted. Without the others do has the kernel's refusal.
func with(these set, do func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	have, err := permitted()
	if err != nil {
		return err
	}
	header, data := capabilityData(have&these, have)
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("make capabilities effective: %w", err)
	}
	defer func() {
		header, data := capabilityData(0, have)
		if unix.Capset(&header, &data[0]) != nil {
			os.Exit(1) // the thread would go on with them
		}
	}()
	return do()
}

// A caller is a thread that has no capabilities at all and so only the rights of who started this
// program: what the kernel permits it, it permits them. (Its user and groups are theirs from the start.)
type caller chan func()

// newCaller starts the thread. keep must not be called any more: it could not give it anything.
func newCaller() (caller, error) {
	c := make(caller)
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and no UnlockOSThread: nothing else is ever to run here
		header, data := capabilityData(0, 0)
		err := unix.Capset(&header, &data[0])
		started <- err
		if err != nil {
			return
		}
		for do := range c {
			do()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("give up all capabilities on one thread: %w", err)
	}
	return c, nil
}

// do runs a function on the thread.
func (c caller) do(what func() error) (err error) {
	done := make(chan struct{})
	c <- func() {
		defer close(done)
		err = what()
	}
	<-done
	return err
}
