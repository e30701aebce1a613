package broker

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
)

// Version is that of the messages. A recorder and a sightline-capture of different ones do not talk.
const Version = 1

// MaxMessage bounds a message of either side, in bytes. A message is one packet of a socket of type
// SOCK_SEQPACKET, so that it has a beginning and an end whatever is in it.
const MaxMessage = 2048

// maxText bounds the text of a reply.
const maxText = MaxMessage - 32

// An Op is what a request asks for.
type Op uint8

// The requests. Hello is the first and comes once.
const (
	Hello Op = 1 + iota // load the program: the reply has its ring, and the list of the kernel's symbols where that is granted
	Open                // open an event with the program attached: the reply has it
	Rule                // set how the stacks of a process are copied
	Lost                // tell how many samples have found the ring full
	Maps                // open the list of what a process of another user has mapped
	File                // open a file that such a process has mapped
)

// Grants are what a recorder may have beyond the user code of its own user's processes.
type Grants uint32

// The grants.
const (
	Kernel  Grants = 1 << iota // addresses of kernel code, and the kernel's symbols
	Users                      // processes of other users, root's among them
	Machine                    // everything that runs on the machine
	all     = Kernel | Users | Machine
)

// A Request is a message of the recorder. Fields that its Op does not name are 0.
type Request struct {
	Op Op

	Version   uint32       // Hello
	RingBytes uint32       // Hello: bpf.Options
	Depth     uint32       // Hello: likewise
	Copies    bool         // Hello: likewise
	Want      Grants       // Hello: what is asked for; what is not granted is not given
	Process   uint32       // Rule, Maps, File: a PID
	Copy      bpf.CopyRule // Hello: bpf.Options; Rule
	Start     uint64       // File: runtime addresses of the mapping
	End       uint64       // File

	Task   int32  // Open: a TID; -1: everything that runs on the CPU
	CPU    int32  // Open
	Period uint64 // Open: perfevent.Clock, ns
	Flags  uint32 // Open: Inherit, EnableOnExec
}

// Flags of Open: fields of perfevent.Clock.
const (
	Inherit = 1 << iota
	EnableOnExec
	allFlags = Inherit | EnableOnExec
)

// A Reply answers a Request. Descriptors go beside it.
type Reply struct {
	// Errno is 0 where the request was carried out; else the kernel's answer, or one that stands for what
	// sightline-capture itself refuses, and Text says in one sentence what and why.
	Errno   unix.Errno
	Granted Grants // Hello
	Count   uint64 // Hello: the depth of stacks; Lost: samples
	Text    string // Hello: what is wrong with the administrator's file, "" where nothing is
}

// size is how many bytes a request has, by its Op.
var sizes = map[Op]int{Hello: 20 + ruleBytes, Open: 24, Rule: 8 + ruleBytes, Lost: 4, Maps: 8, File: 24}

// ruleBytes is the size of a rule: start, end, bytes, tls, and m, sp, curg.
const ruleBytes = 4*8 + 3*4

// Append writes a request, all numbers in little-endian order:
//
//	Hello  1 copies 0 0 | version | ring bytes | depth | want | rule
//	Open   2 0 0 0 | task | cpu | flags | period (8)
//	Rule   3 0 0 0 | process | rule
//	Lost   4 0 0 0
//	Maps   5 0 0 0 | process
//	File   6 0 0 0 | process | start (8) | end (8)
//	rule   start (8) | end (8) | bytes (8) | tls (8) | m | sp | curg
func (r *Request) Append(b []byte) []byte {
	le := binary.LittleEndian
	head := [4]byte{byte(r.Op)}
	if r.Copies {
		head[1] = 1
	}
	b = append(b, head[:]...)
	switch r.Op {
	case Hello:
		for _, x := range []uint32{r.Version, r.RingBytes, r.Depth, uint32(r.Want)} {
			b = le.AppendUint32(b, x)
		}
		b = appendRule(b, r.Copy)
	case Open:
		b = le.AppendUint32(b, uint32(r.Task))
		b = le.AppendUint32(b, uint32(r.CPU))
		b = le.AppendUint32(b, r.Flags)
		b = le.AppendUint64(b, r.Period)
	case Rule:
		b = le.AppendUint32(b, r.Process)
		b = appendRule(b, r.Copy)
	case Maps:
		b = le.AppendUint32(b, r.Process)
	case File:
		b = le.AppendUint32(b, r.Process)
		b = le.AppendUint64(b, r.Start)
		b = le.AppendUint64(b, r.End)
	}
	return b
}

func appendRule(b []byte, r bpf.CopyRule) []byte {
	le := binary.LittleEndian
	for _, x := range []uint64{r.Start, r.End, uint64(r.Bytes), uint64(r.Go.TLS)} {
		b = le.AppendUint64(b, x)
	}
	for _, x := range []uint32{r.Go.M, r.Go.SP, r.Go.CurrentG} {
		b = le.AppendUint32(b, x)
	}
	return b
}

// ParseRequest reads what Append writes, and nothing else: a request has exactly one form.
func ParseRequest(b []byte) (Request, error) {
	if len(b) < 4 {
		return Request{}, fmt.Errorf("read a request: it has %d bytes, and the shortest has 4", len(b))
	}
	le := binary.LittleEndian
	op := Op(b[0])
	size, known := sizes[op]
	switch {
	case !known:
		return Request{}, fmt.Errorf("read a request: there is none of kind %d", op)
	case len(b) != size:
		return Request{}, fmt.Errorf("read a request: it has %d bytes, and one of kind %d has %d", len(b), op, size)
	case b[1] > 1 || b[1] == 1 && op != Hello || b[2] != 0 || b[3] != 0:
		return Request{}, fmt.Errorf("read a request of kind %d: its reserved bytes are not 0", op)
	}
	r := Request{Op: op, Copies: b[1] == 1}
	b = b[4:]
	var err error
	switch op {
	case Hello:
		r.Version, r.RingBytes, r.Depth, r.Want = le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:]), Grants(le.Uint32(b[12:]))
		r.Copy, err = parseRule(b[16:])
		if r.Want&^all != 0 {
			err = fmt.Errorf("it wants %#x, of which some is not known", uint32(r.Want))
		}
	case Open:
		r.Task, r.CPU, r.Flags, r.Period = int32(le.Uint32(b)), int32(le.Uint32(b[4:])), le.Uint32(b[8:]), le.Uint64(b[12:])
		switch {
		case r.Task < -1 || r.Task == 0:
			err = fmt.Errorf("%d is no task", r.Task)
		case r.CPU < 0:
			err = fmt.Errorf("%d is no CPU", r.CPU)
		case r.Flags&^allFlags != 0:
			err = fmt.Errorf("flags %#x, of which some are not known", r.Flags)
		case r.Period < 10_000 || r.Period > 1<<62:
			err = fmt.Errorf("a period of %d ns cannot be had", r.Period)
		}
	case Rule:
		r.Process = le.Uint32(b)
		r.Copy, err = parseRule(b[4:])
	case Maps:
		r.Process = le.Uint32(b)
	case File:
		r.Process, r.Start, r.End = le.Uint32(b), le.Uint64(b[4:]), le.Uint64(b[12:])
		if r.Start >= r.End {
			err = fmt.Errorf("from %#x to %#x nothing can be mapped", r.Start, r.End)
		}
	}
	if err == nil && (op == Rule || op == Maps || op == File) && (r.Process == 0 || r.Process > math.MaxInt32) {
		err = fmt.Errorf("%d is no process", r.Process)
	}
	if err != nil {
		return Request{}, fmt.Errorf("read a request of kind %d: %w", op, err)
	}
	return r, nil
}

func parseRule(b []byte) (bpf.CopyRule, error) {
	le := binary.LittleEndian
	n := le.Uint64(b[16:])
	if n > bpf.MaxCopyBytes {
		return bpf.CopyRule{}, fmt.Errorf("%d bytes of a stack are more than can be copied", n)
	}
	return bpf.CopyRule{
		Start: le.Uint64(b), End: le.Uint64(b[8:]), Bytes: int(n),
		Go: bpf.GoStacks{TLS: int64(le.Uint64(b[24:])), M: le.Uint32(b[32:]), SP: le.Uint32(b[36:]), CurrentG: le.Uint32(b[40:])},
	}, nil
}

// replyBytes is what a reply has before its text.
const replyBytes = 16

// Append writes a reply, in little-endian order: errno, granted, count (8), text. A text that is too long
// is cut.
func (r *Reply) Append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(r.Errno))
	b = le.AppendUint32(b, uint32(r.Granted))
	b = le.AppendUint64(b, r.Count)
	text := r.Text
	if len(text) > maxText {
		text = text[:maxText]
		for !utf8.ValidString(text) && len(text) > maxText-utf8.UTFMax {
			text = text[:len(text)-1]
		}
	}
	return append(b, text...)
}

// ParseReply reads what Append writes.
func ParseReply(b []byte) (Reply, error) {
	le := binary.LittleEndian
	if len(b) < replyBytes || len(b) > replyBytes+maxText {
		return Reply{}, fmt.Errorf("read a reply: it has %d bytes, and one has %d to %d", len(b), replyBytes, replyBytes+maxText)
	}
	r := Reply{Errno: unix.Errno(le.Uint32(b)), Granted: Grants(le.Uint32(b[4:])), Count: le.Uint64(b[8:]), Text: string(b[replyBytes:])}
	if !utf8.ValidString(r.Text) || r.Errno > 4095 || r.Granted&^all != 0 {
		return Reply{}, fmt.Errorf("read a reply: it is nothing that sightline-capture sends")
	}
	return r, nil
}
