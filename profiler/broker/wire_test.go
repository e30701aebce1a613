package broker

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
)

var requests = []Request{
	{Op: Hello, Version: Version, RingBytes: 1 << 20, Depth: 127, Copies: true, Want: all, Copy: bpf.CopyRule{Bytes: bpf.MaxCopyBytes}},
	{Op: Hello},
	{Op: Open, Task: 1, CPU: 63, Period: 10_000, Flags: allFlags},
	{Op: Open, Task: -1, Period: 1 << 40},
	{Op: Rule, Process: 7, Copy: bpf.CopyRule{Start: 1, End: 1<<64 - 1, Bytes: 8, Go: bpf.GoStacks{TLS: -8, M: 48, SP: 56, CurrentG: 192}}},
	{Op: Lost},
	{Op: Maps, Process: 1<<31 - 1},
	{Op: File, Process: 1, Start: 0x400000, End: 0x401000},
}

var replies = []Reply{
	{},
	{Errno: unix.EPERM, Text: "no, that is not granted"},
	{Granted: all, Count: 127},
	{Count: 1<<64 - 1, Text: strings.Repeat("ä", maxText/2)},
}

func TestMessages(t *testing.T) {
	for _, r := range requests {
		b := r.Append(nil)
		got, err := ParseRequest(b)
		if diff := cmp.Diff(r, got); err != nil || diff != "" || len(b) > MaxMessage {
			t.Errorf("%+v, %d bytes: %v (-want +got):\n%s", r, len(b), err, diff)
		}
		for n := range b {
			if got, err := ParseRequest(b[:n]); err == nil {
				t.Errorf("%d of %d bytes of %+v are %+v", n, len(b), r, got)
			}
		}
		if _, err := ParseRequest(append(b, 0)); err == nil {
			t.Errorf("%+v with a byte more is taken", r)
		}
	}
	for _, r := range replies {
		b := r.Append(nil)
		got, err := ParseReply(b)
		if diff := cmp.Diff(r, got); err != nil || diff != "" || len(b) > MaxMessage {
			t.Errorf("%+v, %d bytes: %v (-want +got):\n%s", r, len(b), err, diff)
		}
	}
	long := Reply{Text: strings.Repeat("ä", MaxMessage)}
	if got, err := ParseReply(long.Append(nil)); err != nil || !strings.HasPrefix(long.Text, got.Text) || len(got.Text) < maxText-4 {
		t.Errorf("a text that is too long: %v, %d bytes", err, len(got.Text))
	}
}

// What no recorder asks for is refused where it is read, not where it would be done.
func TestNoSuchRequest(t *testing.T) {
	for what, r := range map[string]Request{
		"task 0":             {Op: Open, Period: 1e6},
		"task -2":            {Op: Open, Task: -2, Period: 1e6},
		"CPU -1":             {Op: Open, Task: 1, CPU: -1, Period: 1e6},
		"a period of 9 µs":   {Op: Open, Task: 1, Period: 9000},
		"a flag":             {Op: Open, Task: 1, Period: 1e6, Flags: 4},
		"another grant":      {Op: Hello, Want: 8},
		"process 0":          {Op: Rule},
		"process -1":         {Op: Maps, Process: 1<<32 - 1},
		"a mapping of none":  {Op: File, Process: 1, Start: 2, End: 2},
		"more than a stack":  {Op: Rule, Process: 1, Copy: bpf.CopyRule{Bytes: bpf.MaxCopyBytes + 1}},
		"less than a byte":   {Op: Rule, Process: 1, Copy: bpf.CopyRule{Bytes: -1}},
		"a request 0":        {},
		"a request 7":        {Op: 7},
		"copies in a rule":   {Op: Rule, Process: 1, Copies: true},
		"copies in an event": {Op: Open, Task: 1, Period: 1e6, Copies: true},
	} {
		if got, err := ParseRequest(r.Append(nil)); err == nil || got != (Request{}) {
			t.Errorf("%s is taken: %+v", what, got)
		}
	}
}

// A value or an error, and a value has one form only.
func FuzzRequest(f *testing.F) {
	for _, r := range requests {
		f.Add(r.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			if r != (Request{}) {
				t.Fatalf("%+v and %v", r, err)
			}
			return
		}
		if again := r.Append(nil); !bytes.Equal(b, again) {
			t.Fatalf("%x is %+v, which is %x", b, r, again)
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, r := range replies {
		f.Add(r.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReply(b)
		if err != nil {
			if r != (Reply{}) {
				t.Fatalf("%+v and %v", r, err)
			}
			return
		}
		if again := r.Append(nil); !bytes.Equal(b, again) {
			t.Fatalf("%x is %+v, which is %x", b, r, again)
		}
	})
}

// What recvmsg(2) gives beside a message.
func FuzzBeside(f *testing.F) {
	f.Add(unix.UnixRights()) // no descriptor: the numbers are closed by nobody here
	f.Add(unix.UnixCredentials(&unix.Ucred{Pid: 1, Uid: 2, Gid: 3}))
	f.Add([]byte("\x19\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\xab\x05\x00\x00")) // not whole numbers
	f.Add([]byte("\x10\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fds, _, known, err := parseBeside(b)
		if len(fds) > len(b)/4 || err != nil && known && len(b) < unix.SizeofCmsghdr {
			t.Fatalf("%d descriptors in %d bytes", len(fds), len(b))
		}
	})
}
