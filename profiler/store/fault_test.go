package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Faults are made where bbolt cannot tell them from real ones: in the system calls of the thread that
// works on the store. A seccomp filter of that thread hands them to a goroutine of the test, which has
// each go on or fail (seccomp_unotify(2)). Layouts and numbers are of linux/seccomp.h.
const (
	seccompSetModeFilter  = 1
	filterNewListener     = 1 << 3
	retUserNotif          = 0x7fc00000
	retAllow              = 0x7fff0000
	ioctlNotifReceive     = 0xc0502100
	ioctlNotifSend        = 0xc0182101
	notifContinue         = 1
	notifWaitMilliseconds = 50
)

type notification struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type notifAnswer struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// The calls by which a store changes its file.
var faultyCalls = []int{unix.SYS_PWRITE64, unix.SYS_FDATASYNC, unix.SYS_FSYNC, unix.SYS_FTRUNCATE, unix.SYS_RENAMEAT, unix.SYS_LINKAT}

// A fault is what the nth of the calls meets.
type fault struct {
	nth    int           // from 1; 0: none does
	errno  syscall.Errno // what it fails with
	short  bool          // a write first writes half
	sticky bool          // all later ones fail as well, as on a disk that is full
}

// withFaults runs f with a fault in the calls of its thread, and says how many calls there were and
// how many met the fault. ok is false where the kernel has no such filter for us.
func withFaults(t *testing.T, fault fault, f func()) (calls, hit int, ok bool) {
	t.Helper()
	listener := make(chan int)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked, so that the thread, with its filter, ends with the goroutine. The Go runtime
		// makes no thread out of a locked one.
		runtime.LockOSThread()
		fd, err := filterThread()
		if err != nil {
			t.Logf("no faults can be made: %v", err)
			listener <- -1
			return
		}
		listener <- fd
		f()
	}()
	fd := <-listener
	if fd < 0 {
		return 0, 0, false
	}
	defer unix.Close(fd)
	var ended atomic.Bool
	go func() { <-done; ended.Store(true) }()
	shortened := false
	for !ended.Load() {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, notifWaitMilliseconds); n == 0 || err != nil || poll[0].Revents&unix.POLLIN == 0 {
			continue
		}
		var n notification
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlNotifReceive, uintptr(unsafe.Pointer(&n))); errno != 0 {
			continue // a signal took the call back
		}
		a := notifAnswer{id: n.id, flags: notifContinue}
		calls++
		is := calls == fault.nth || fault.sticky && fault.nth > 0 && calls > fault.nth || shortened
		if is {
			size := int(n.args[2])
			if fault.short && !shortened && int(n.nr) == unix.SYS_PWRITE64 && size > 1 {
				// The thread waits with its buffer, which is in this process.
				half := unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&n.args[1]))), size/2)
				written, err := unix.Pwrite(int(n.args[0]), half, int64(n.args[3]))
				if err != nil {
					t.Errorf("the half of a write: %v", err)
				}
				a = notifAnswer{id: n.id, value: int64(written)}
				shortened = true
			} else {
				a = notifAnswer{id: n.id, errno: -int32(fault.errno)}
				shortened = false
				hit++
			}
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), ioctlNotifSend, uintptr(unsafe.Pointer(&a))); errno != 0 {
			calls-- // a signal took it back; it comes again
			if is && a.errno != 0 {
				hit--
			}
		}
	}
	return calls, hit, true
}

// filterThread has the kernel hand the calls of this thread to whoever reads the descriptor.
func filterThread() (listener int, err error) {
	load := unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS} // the number, at offset 0
	program := []unix.SockFilter{load}
	for i, nr := range faultyCalls {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(faultyCalls) - i), K: uint32(nr)})
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: retUserNotif})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, seccompSetModeFilter, filterNewListener, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(program)
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

var theFaults = []struct {
	name string
	fault
}{
	{"no space", fault{errno: syscall.ENOSPC}},
	{"short write, then no space", fault{errno: syscall.ENOSPC, short: true}},
	{"no space for good", fault{errno: syscall.ENOSPC, sticky: true}},
	{"input/output error", fault{errno: syscall.EIO}},
	{"input/output error for good", fault{errno: syscall.EIO, sticky: true}},
}

// Whatever call fails, and however: the error is told, the store is whole, and what was finished is as
// it was.
func TestFaults(t *testing.T) {
	kept, recorded, other := churned(1), churned(2), churned(3)
	for _, f := range theFaults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			step := 1
			if testing.Short() {
				step = 7
			}
			for n := 1; ; n += step {
				path := filepath.Join(dir, fmt.Sprint(n), "captures.db")
				s, err := Open(path, Options{})
				if err != nil {
					t.Fatal(err)
				}
				first := must[Meta](t)(s.Put(kept))
				var failed []error    // of what was tried
				var stored []ID       // without an error
				var removed, begun ID // with or without one
				try := func(err error) bool {
					if err != nil {
						failed = append(failed, err)
					}
					return err == nil
				}
				fault := f.fault
				fault.nth = n
				calls, hit, ok := withFaults(t, fault, func() {
					w, err := s.Begin(prefix(recorded, 10))
					if try(err) {
						begun = w.ID()
						try(w.Flush(prefix(recorded, 100)))
						try(w.Flush(prefix(recorded, 300)))
						if m, err := w.Finish(recorded); try(err) {
							stored = append(stored, m.ID)
						}
					}
					m, err := s.Put(other)
					if try(err) {
						removed = m.ID
						try(s.Remove(m.ID))
					}
					try(s.SetNote(first.ID, "a note"))
					try(s.Compact())
				})
				if !ok {
					t.Skip("this kernel has no seccomp filter that asks us, or lets us have none")
				}
				if err := s.Check(); err != nil {
					t.Fatalf("call %d of %d: %v", n, calls, err)
				}
				again, err := Open(path, Options{})
				if err != nil {
					t.Fatalf("call %d of %d: %v", n, calls, err)
				}
				if d := diff(kept, must[*profile.Capture](t)(again.Load(first.ID))); d != "" {
					t.Fatalf("call %d of %d: what was finished before differs: %s", n, calls, d)
				}
				for _, id := range stored {
					if d := diff(recorded, must[*profile.Capture](t)(again.Load(id))); d != "" {
						t.Fatalf("call %d of %d: capture %s was stored and differs: %s", n, calls, id, d)
					}
				}
				for _, m := range must[[]Meta](t)(again.List()) {
					if m.ID != first.ID && m.ID != begun && m.ID != removed && !slices.Contains(stored, m.ID) && len(failed) == 0 {
						t.Errorf("call %d of %d: capture %s came from nowhere", n, calls, m.ID)
					}
				}
				if hit == 0 {
					t.Logf("%d calls, each of which met the fault once", n-1)
					if len(failed) > 0 {
						t.Errorf("without a fault: %v", failed)
					}
					if n < 20 {
						t.Errorf("the store made only %d calls", calls)
					}
					return
				}
				if len(failed) == 0 {
					t.Errorf("call %d of %d failed and nobody was told", n, calls)
				}
				for _, err := range failed {
					if !strings.Contains(err.Error(), path) || f.errno == syscall.ENOSPC && !errors.Is(err, ErrFull) && !errors.Is(err, ErrNoCapture) {
						t.Errorf("call %d of %d: the error %q", n, calls, err)
					}
				}
				// Once there is space again, all goes on.
				if !fault.sticky {
					continue
				}
				if _, err := again.Put(other); err != nil {
					t.Errorf("call %d of %d: after the fault: %v", n, calls, err)
				}
			}
		})
	}
}

// A migration that meets a fault says so and leaves the store whole, as it was or as it is to be; the
// next one comes to its end.
func TestFaultsOfMigration(t *testing.T) {
	for _, f := range theFaults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for n := 1; ; n++ {
				path, before := older(t, "version-1-first.db")
				fault := f.fault
				fault.nth = n
				var err error
				calls, hit, ok := withFaults(t, fault, func() { _, err = Open(path, Options{}) })
				if !ok {
					t.Skip("this kernel has no seccomp filter that asks us, or lets us have none")
				}
				if (err == nil) != (hit == 0) || err != nil && (!strings.Contains(err.Error(), path) || f.errno == syscall.ENOSPC && !errors.Is(err, ErrFull)) {
					t.Errorf("call %d of %d: %d met the fault, and the error is %v", n, calls, hit, err)
				}
				s, err := Open(path, Options{})
				if err != nil {
					t.Fatalf("call %d of %d: %v", n, calls, err)
				}
				hasAll(t, s)
				kept := backups(t, path)
				if len(kept) != 1 || !bytes.Equal(before, must[[]byte](t)(os.ReadFile(kept[0]))) {
					t.Errorf("call %d of %d: backups are %v, or not what the file was", n, calls, kept)
				}
				if t.Failed() || hit == 0 {
					if n < 8 {
						t.Errorf("a migration made only %d calls", calls)
					}
					return
				}
			}
		})
	}
}

// Making room that fails costs nobody anything: what was to be stored is stored, or its error told, what
// is pinned stays, and the next one makes the room.
func TestFaultsOfPruning(t *testing.T) {
	for _, f := range theFaults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for n := 1; ; n++ {
				s := must[*Store](t)(Open(filepath.Join(dir, fmt.Sprint(n), "captures.db"), Options{Budget: -1}))
				pinned := must[Meta](t)(s.Put(churned(1)))
				if err := s.Pin(pinned.ID, true); err != nil {
					t.Fatal(err)
				}
				for seed := range uint64(3) {
					must[Meta](t)(s.Put(churned(10 + seed)))
				}
				s.opts.Budget = 1
				fault := f.fault
				fault.nth = n
				var last Meta
				var err error
				calls, hit, ok := withFaults(t, fault, func() { last, err = s.Put(churned(2)) })
				if !ok {
					t.Skip("this kernel has no seccomp filter that asks us, or lets us have none")
				}
				if hit == 0 && (err != nil || len(last.Pruned) != 3) {
					t.Errorf("without a fault %v were pruned, %v", last.Pruned, err)
				}
				if err := s.Check(); err != nil {
					t.Fatalf("call %d of %d: %v", n, calls, err)
				}
				want := map[ID]uint64{pinned.ID: 1}
				if err == nil {
					want[last.ID] = 2
				}
				for id, seed := range want {
					if d := diff(churned(seed), must[*profile.Capture](t)(s.Load(id))); d != "" {
						t.Errorf("call %d of %d: capture %s: %s", n, calls, id, d)
					}
				}
				must[Meta](t)(s.Put(churned(3)))
				if list := must[[]Meta](t)(s.List()); len(list) != 2 {
					t.Errorf("call %d of %d: %d captures are left", n, calls, len(list))
				}
				if t.Failed() || hit == 0 {
					if n < 6 {
						t.Errorf("storing and pruning made only %d calls", calls)
					}
					return
				}
			}
		})
	}
}
