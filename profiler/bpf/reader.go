package bpf

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// A Reader takes samples out of a ring.
//
// One goroutine at a time may call SetDeadline and ReadInto. Flush and Close may be called by any.
type Reader struct {
	reader *ringbuf.Reader
	record ringbuf.Record // reused by ReadInto
	ring   *ebpf.Map      // nil where a Program has it
}

// OpenReader reads the ring of a Program that another process has loaded, by a descriptor of its map
// (Program.RingFD), which remains the caller's. That takes no privilege, but Linux 5.19: before that the
// kernel tells an ordinary user nothing of a map (kernel.unprivileged_bpf_disabled).
func OpenReader(ringFD int) (*Reader, error) {
	fd, err := unix.FcntlInt(uintptr(ringFD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read the BPF ring of another process: %w", err)
	}
	ring, err := ebpf.NewMapFromFD(fd) // closes it where it fails
	if err != nil {
		return nil, fmt.Errorf("read the BPF ring of another process: %w", err)
	}
	r, err := ringbuf.NewReader(ring)
	if err != nil {
		ring.Close()
		return nil, fmt.Errorf("read the BPF ring of another process: %w", err)
	}
	return &Reader{reader: r, ring: ring}, nil
}

// SetDeadline says until when ReadInto waits for samples; the zero time is for ever. A deadline in
// the past makes ReadInto return what is in the ring and never wait.
func (s *Reader) SetDeadline(t time.Time) { s.reader.SetDeadline(t) }

// ReadInto takes the oldest sample out of the ring, reusing the slices of x. It waits for the
// deadline, for a ring that is an eighth full, or for Flush, whatever comes first; then it returns
// all samples there are, call by call, and after them [os.ErrDeadlineExceeded] or [ErrFlushed] if
// one of these ended the wait. After Close it returns an error that wraps [os.ErrClosed].
//
// A sample alone does not end the wait, so a reader without deadline may wait long: set one.
//
// Samples of one CPU come in the order of time. Those of different CPUs may be out of order by the
// few microseconds between taking the time and having the ring's lock.
func (s *Reader) ReadInto(x *Sample) error {
	s.record.RawSample = x.raw
	err := s.reader.ReadInto(&s.record)
	x.raw = s.record.RawSample
	if err != nil {
		return err
	}
	return decode(x.raw, x)
}

// Flush ends the present or the next wait of ReadInto.
func (s *Reader) Flush() error { return s.reader.Flush() }

// Close ends a blocked ReadInto and unmaps the ring. Close twice is Close.
func (s *Reader) Close() error { return errors.Join(s.reader.Close(), s.ring.Close()) } // of nil it is nothing
