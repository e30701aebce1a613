package unwind

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// At every single instruction of a program (prologues, epilogues, lazy binding, libc's assembly,
// exceptions on their way), the walk finds the return addresses that a second way has: a shadow
// stack, kept by watching calls push and returns pop.
func TestWalkAtEveryInstruction(t *testing.T) {
	if testing.Short() {
		t.Skip("steps through some hundred thousand instructions")
	}
	t.Run("C", func(t *testing.T) { stepThrough(t, compile(t, "gcc", "walk.c", "-pthread"), 60_000) })
	t.Run("C++", func(t *testing.T) { stepThrough(t, compile(t, "g++", "throw.cc", "-pthread"), 50_000) })
}

// step executes one instruction. It tells whether the program goes on; it ends by stopping itself.
func (p *process) step(signal unix.Signal) (bool, unix.Signal) {
	p.t.Helper()
	if err := ptraceStep(p.pid, signal); err != nil {
		p.t.Fatalf("step: %v", err)
	}
	_, sig := p.wait(p.pid)
	if sig == unix.SIGTRAP {
		return true, 0
	}
	return sig != unix.SIGSTOP, sig
}

// ptraceStep is PTRACE_SINGLESTEP with a signal to deliver.
func ptraceStep(tid int, signal unix.Signal) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SINGLESTEP, uintptr(tid), 0, uintptr(signal), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// wordOf is a word of a sample's stack.
func (w *Walker) wordOf(s *Sample, addr uint64) (uint64, bool) {
	w.stack = s.Stack
	return w.word(addr)
}

// report prints a walk that was not as it should be.
func (p *process) report(step int, frames []Frame, end End, want []string) {
	p.t.Helper()
	pc := frames[0].PC
	p.t.Errorf("step %d at file address %#x: %v at %s\n%v\nwant %v", step, pc-p.maps.at(pc).code.Bias, end.Reason,
		p.maps.name(Frame{PC: end.PC, Return: true}), p.maps.names(frames), want)
}

func stepThrough(t *testing.T, program string, most int) {
	p := start(t, program, "steps")
	w := newWalker(t)
	type call struct{ at, ra uint64 } // a return address and where it is stored
	const before = 1 << 63            // for those of the first walk, which does not tell where
	var shadow []call                 // outermost first
	frames, end := w.Walk(p.sample(12<<10), p.maps, nil)
	if end.Reason != Root {
		t.Fatalf("first walk ended with %v at %s", end.Reason, p.maps.name(Frame{PC: end.PC, Return: true}))
	}
	for _, f := range slices.Backward(frames[1:]) {
		shadow = append(shadow, call{before, f.PC})
	}
	last := p.registers(p.pid)
	wrong, compared, landing := 0, 0, 0
	for {
		on, sig := p.step(0)
		if !on || compared == most {
			break
		}
		if sig != 0 {
			t.Fatalf("stopped by %v", sig)
		}
		r, s := p.registers(p.pid), p.sample(12<<10)
		stored, _ := w.wordOf(s, r.Rsp)
		for shadow[len(shadow)-1].at < r.Rsp {
			shadow = shadow[:len(shadow)-1]
		}
		if top := shadow[len(shadow)-1]; top.at == before && r.Rip == top.ra && r.Rsp == last.Rsp+8 {
			shadow = shadow[:len(shadow)-1]
		}
		if length := stored - last.Rip; r.Rsp == last.Rsp-8 && length >= 2 && length <= 8 {
			shadow = append(shadow, call{r.Rsp, stored})
		}
		last = r
		frames, end = w.Walk(s, p.maps, frames[:0])
		compared++
		// Before it lands in a handler, the unwinder overwrites its return address, and the registers
		// that its callers have stored: for some hundred instructions the stack is of two minds.
		// Its last instruction jumps to where no call returns to.
		code := p.maps.at(r.Rip).code
		overwritten := strings.Contains(code.Table.Describe(r.Rip-code.Bias), "ra=rcx")
		for _, c := range shadow {
			if c.at != before {
				v, _ := w.wordOf(s, c.at)
				overwritten = overwritten || v != c.ra
			}
		}
		if overwritten {
			landing++
			continue
		}
		ok := end.Reason == Root && len(frames)-1 == len(shadow)
		for i := 0; ok && i < len(shadow); i++ {
			ok = frames[i+1].PC == shadow[len(shadow)-1-i].ra && frames[i+1].Return && !frames[i+1].Guessed
		}
		if !ok {
			var want []Frame
			for _, c := range slices.Backward(shadow) {
				want = append(want, Frame{PC: c.ra, Return: true})
			}
			if wrong++; wrong <= 5 {
				p.report(compared, frames, end, p.maps.names(want))
			}
		}
	}
	t.Logf("%d instructions, %d wrong; %d while an exception lands in its handler", compared, wrong, landing)
	if wrong > 0 || compared < 10_000 || landing > compared/100 {
		t.Errorf("%d of %d walks are wrong", wrong, compared)
	}
}

// At every instruction of a signal's delivery, its handler and the return from it, the walk reaches
// the root over what was interrupted.
func TestWalkAtEveryInstructionOfASignal(t *testing.T) {
	p := start(t, compile(t, "gcc", "walk.c", "-pthread"), "sigsteps")
	w := newWalker(t)
	var frames []Frame
	var end End
	inHandler, compared, wrong := 0, 0, 0
	var deliver unix.Signal
	for {
		var on bool
		if on, deliver = p.step(deliver); !on {
			break
		}
		if deliver != 0 {
			continue
		}
		frames, end = w.Walk(p.sample(16<<10), p.maps, frames[:0])
		names := p.maps.names(frames)
		at := slices.Index(names, "quiet")
		compared++
		if i := slices.IndexFunc(frames, func(f Frame) bool { return f.Signal }); at >= 0 || i >= 0 {
			inHandler++
			if at >= 0 && i != at+1 || frames[i+1].Return || !slices.Contains(names, "raise") && !slices.Contains(names, "gsignal") {
				end.Reason = BadReturn
			}
		}
		if end.Reason != Root || !slices.Contains(names, "main") {
			if wrong++; wrong < 5 {
				p.report(compared, frames, end, []string{"…", "main", "…"})
			}
		}
	}
	t.Logf("%d instructions, %d in and behind the handler", compared, inHandler)
	if inHandler < 5 || compared < 100 || wrong > 0 {
		t.Errorf("%d instructions, %d of them with a signal, %d wrong", compared, inHandler, wrong)
	}
}
