package bpf

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// With Options.User samples are of that user's tasks alone: of those that run with another user's rights in
// whatever way there are none.
func TestUser(t *testing.T) {
	needRoot(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root to become others")
	}
	const user = 61233
	types := kernelLayout().cred != 0
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err == nil && !types {
		t.Error("the kernel has BTF, and yet it is not known where credentials are")
	}
	for _, test := range []struct {
		name             string
		real, eff, saved int
		gid, egid        int
		sampled          bool
	}{
		{"the user", user, user, user, user, user, true},
		{"root", 0, 0, 0, 0, 0, false},
		{"another", user + 1, user + 1, user + 1, user, user, false},
		{"set-user-ID", user, 0, 0, user, user, !types},
		{"set-user-ID that has dropped it", user, user, 0, user, user, !types},
		{"another's set-user-ID", 0, user, user, user, user, false},
		{"set-group-ID", user, user, user, user, 0, !types},
	} {
		t.Run(test.name, func(t *testing.T) {
			own := uint32(user)
			s := newSampler(t, Options{RingBytes: 1 << 20, User: &own, HideKernel: true})
			ended := make(chan error)
			go func() {
				runtime.LockOSThread() // for good: the thread is nobody's any more
				ended <- func() error {
					fd := openClock(t, 0, -1, uint64(200*time.Microsecond))
					if err := s.Attach(fd); err != nil {
						return err
					}
					// On this thread alone, unlike package syscall.
					if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(test.gid), uintptr(test.egid), uintptr(test.egid)); errno != 0 {
						return errno
					}
					if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(test.real), uintptr(test.eff), uintptr(test.saved)); errno != 0 {
						return errno
					}
					control(t, fd, unix.PERF_EVENT_IOC_ENABLE)
					spin(20 * time.Millisecond)
					control(t, fd, unix.PERF_EVENT_IOC_DISABLE)
					return nil
				}()
			}()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			all := drain(t, s)
			if (len(all) > 0) != test.sampled {
				t.Errorf("%d samples", len(all))
			}
			for _, x := range all {
				if len(x.Kernel) > 1 || len(x.Kernel) == 1 && x.Kernel[0] != 0 {
					t.Fatalf("addresses of the kernel: %x", x.Kernel)
				}
			}
		})
	}
}

// A Reader of the ring alone has the same samples, and outlives the program's process.
func TestOpenReader(t *testing.T) {
	needRoot(t)
	p, err := Load(Options{RingBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r, err := OpenReader(p.RingFD())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd := openClock(t, 0, -1, uint64(200*time.Microsecond))
	if err := p.Attach(fd); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	control(t, fd, unix.PERF_EVENT_IOC_ENABLE)
	spin(20 * time.Millisecond)
	control(t, fd, unix.PERF_EVENT_IOC_DISABLE)
	r.SetDeadline(time.Unix(1, 0))
	var x Sample
	if err := r.ReadInto(&x); err != nil || int(x.PID) != os.Getpid() {
		t.Errorf("%+v %v", x, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if err := r.ReadInto(&x); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := OpenReader(0); err == nil {
		t.Error("standard input is taken for a ring")
	}
}

func FuzzFileCapabilities(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if permitted, known := parseFileCapabilities(b); !known && permitted != 0 || known && len(b) < 12 {
			t.Fatalf("%x: %#x, %t", b, permitted, known)
		}
	})
}
