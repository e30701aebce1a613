package bpf

import (
	"encoding/binary"
	"errors"
	"os"
	"reflect"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What this process opens and closes is told, with the stack of who did it.
func TestDescriptorsTellOpensAndCloses(t *testing.T) {
	needRoot(t)
	d, err := NewDescriptors()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Watch(uint32(os.Getpid()), 4096); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tid := uint32(unix.Gettid())
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var pair [2]int
	if err := unix.Pipe2(pair[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil { // which opens nothing
		t.Fatal(err)
	}
	for _, x := range []int{fd, pair[0], pair[1], sockets[0], sockets[1], copied} {
		unix.Close(x)
	}
	type event struct {
		opened      bool
		first, last int32
	}
	want := []event{
		{true, int32(fd), -1}, {true, int32(pair[0]), int32(pair[1])}, {true, int32(sockets[0]), int32(sockets[1])}, {true, int32(copied), -1},
		{false, int32(fd), int32(fd)}, {false, int32(pair[0]), int32(pair[0])}, {false, int32(pair[1]), int32(pair[1])},
		{false, int32(sockets[0]), int32(sockets[0])}, {false, int32(sockets[1]), int32(sockets[1])}, {false, int32(copied), int32(copied)},
	}
	d.SetDeadline(time.Now().Add(time.Minute))
	var x DescriptorEvent
	for i := 0; i < len(want); {
		if err := d.ReadInto(&x); err != nil {
			t.Fatalf("after %d events: %v", i, err)
		}
		if x.Sample.PID != uint32(os.Getpid()) {
			t.Fatalf("process %d is told of", x.Sample.PID)
		}
		if x.Sample.TID != tid { // the runtime's own
			continue
		}
		if got := (event{x.Opened, x.First, x.Last}); got != want[i] {
			t.Errorf("event %d is %+v, want %+v", i, got, want[i])
		}
		if x.Opened && (len(x.Sample.User) < 2 || x.Sample.SP == 0 || len(x.Sample.Stack) == 0 || len(x.Sample.Registers) == 0) {
			t.Errorf("event %d has the stack %x, sp %x, %d bytes", i, x.Sample.User, x.Sample.SP, len(x.Sample.Stack))
		}
		if x.Opened {
			f, _ := runtime.CallersFrames([]uintptr{uintptr(x.Sample.User[0])}).Next()
			if f.Function == "" {
				t.Errorf("event %d was in no function of this program: %x", i, x.Sample.User)
			}
		}
		i++
	}
	if err := d.Forget(uint32(os.Getpid())); err != nil {
		t.Error(err)
	}
	if n := d.Lost(); n != 0 {
		t.Errorf("%d events were lost", n)
	}
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Error(err)
	}
	if err := d.ReadInto(&x); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := d.Watch(1, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Watch after Close: %v", err)
	}
}

func descriptorRecord(event, call uint32, first, last int32, sample []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, event)
	b = binary.LittleEndian.AppendUint32(b, call)
	b = binary.LittleEndian.AppendUint32(b, uint32(first))
	b = binary.LittleEndian.AppendUint32(b, uint32(last))
	return append(b, sample...)
}

func FuzzDescriptor(f *testing.F) {
	empty := make([]byte, headerSize)
	f.Add(descriptorRecord(eventOpened, 257, 3, -1, empty))
	f.Add(descriptorRecord(eventClosed, 3, 3, 7, empty))
	f.Add(descriptorRecord(9, 3, 3, 7, empty))
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var x DescriptorEvent
		if err := decodeDescriptor(raw, &x); err != nil {
			if !reflect.DeepEqual(x, DescriptorEvent{}) {
				t.Errorf("%v, and yet %+v", err, x)
			}
			return
		}
		event := uint32(eventClosed)
		if x.Opened {
			event = eventOpened
		}
		if got := descriptorRecord(event, x.Call, x.First, x.Last, raw[descriptorBytes:]); string(got) != string(raw) {
			t.Errorf("%x became %+v", raw, x)
		}
	})
}
