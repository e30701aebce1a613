package unwind

// Go's stacks.
//
// Go's compiler keeps frame pointers on amd64 and arm64, and its tables (pcsp) say how large a
// function's frame is at each instruction, which serves for the leaf before its frame pointer is set.
// What neither says is where the other stack of a thread is, when the runtime has changed stacks:
//
//   - systemstack, mcall, morestack and gogo change between the goroutine's stack and the thread's
//     (g0). systemstack leaves the frame pointer as it was, on the goroutine's stack.
//   - asmcgocall changes to g0 to call C, cgocallback back to the goroutine's to call Go. C code keeps
//     the frame pointer's value, as it must for its caller: it is known where the rows of all C
//     functions on the way were.
//   - Signal handlers run on a stack of their own (gsignal). sigreturn__sigaction returns from it by
//     the registers that the kernel has stored.
//
// One copied piece of stack holds one of them. Where the frame pointer leads into a piece that was
// copied (Sample.Also), the walk goes on there; otherwise it ends with GoSwitch, CgoSwitch or
// OtherStack, and End.FP says where one would go on. Each of those is a stack whose callers are
// lost, not one that can be taken for whole.

// GoFrames answers what Go's own tables (pclntab) say of code.
type GoFrames interface {
	// GoFrame is what is known at an instruction, by its file address: for a return address the one
	// before it. It must not allocate.
	GoFrame(addr uint64) GoFrame
}

// A GoFrame is what is known of a function's frame at an instruction.
type GoFrame struct {
	Kind GoKind
	// Size is the value of pcsp: the bytes between the stack pointer and, on amd64, the return
	// address; on arm64, the caller's stack pointer.
	Size uint32
}

// GoKind is what a function does with stacks.
type GoKind uint8

const (
	// GoUnknown: no table covers the address. It is C code that was linked with Go's, which rows tell of.
	GoUnknown GoKind = iota
	// GoPlain: nothing special.
	GoPlain
	// GoRoot: the outermost function of a stack (abi.FuncFlagTopFrame): goexit, mstart, rt0_go.
	GoRoot
	// GoSwitches: the function writes to the stack pointer (abi.FuncFlagSPWrite), so that the size is
	// not that of this stack: systemstack, mcall, morestack, gogo.
	GoSwitches
	// GoCgo: likewise, to call C or from C: asmcgocall, cgocallback.
	GoCgo
	// GoCrosscall: crosscall2, by which C calls Go: it stores the registers that C wants to keep.
	GoCrosscall
	// GoSigreturn: sigreturn__sigaction, which signal handlers return to.
	GoSigreturn
	// GoPanic: sigpanic, which a signal handler makes look as if it was called where the signal came.
	GoPanic
)

// goStep makes the step that Go's tables describe. ok is false where they say nothing.
func (w *Walker) goStep(code *Code, look uint64, at *Frame) (leap, Reason, bool) {
	m := w.machine
	f := code.Go.GoFrame(look)
	to := leap{}
	switch f.Kind {
	case GoUnknown:
		return to, goOn, false
	case GoRoot:
		return to, Root, true
	case GoSigreturn:
		at.Signal = true
		to, reason := w.sigreturn()
		return to, reason, true
	case GoSwitches:
		to, reason := w.overSwitch(GoSwitch)
		return to, reason, true
	case GoCgo:
		to, reason := w.overSwitch(CgoSwitch)
		return to, reason, true
	case GoPanic:
		to.exact = true
	}
	if !w.regs.known(m.sp) { // after a step by frame pointer on arm64
		to, reason := w.byFramePointer(CodeGo)
		return to, reason, true
	}
	sp := w.regs.Value[m.sp]
	size := uint64(f.Size)
	if size%8 != 0 || size > farthest {
		return to, BadCFA, true
	}
	next := Registers{}
	if w.regs.known(m.fp) {
		next.set(m.fp, w.regs.Value[m.fp])
	}
	var cfa, saved uint64
	if m == &amd64 {
		cfa, saved = sp+size+8, sp+size-8
		ra, ok := w.word(cfa - 8)
		if !ok {
			return to, w.missed(BadCFA), true
		}
		w.at = cfa - 8
		next.set(m.pc, ra)
	} else {
		// runtime/traceback.go, resolveInternal: the link register of a leaf, else the word at sp.
		cfa, saved = sp+size, sp-8
		ra, ok := w.regs.Value[m.link], size == 0 && w.regs.known(m.link)
		if !ok {
			if ra, ok = w.word(sp); !ok {
				return to, w.missed(BadCFA), true
			}
		}
		next.set(m.pc, ra)
	}
	next.set(m.sp, cfa)
	if size >= 8 {
		if fp, ok := w.word(saved); ok {
			next.set(m.fp, fp)
		} else {
			next.Known &^= 1 << m.fp
		}
	}
	if f.Kind == GoCrosscall && m == &amd64 {
		// runtime/cgo/abi_amd64.h, PUSH_REGS_HOST_TO_ABI0: below the frame pointer, rbx, r12-r15.
		for i, n := range []int{3, 12, 13, 14, 15} {
			if v, ok := w.word(cfa - 56 + 8*uint64(i)); ok {
				next.set(n, v)
			}
		}
	}
	w.regs = next
	return to, goOn, true
}

// overSwitch follows the frame pointer from a function that changes stacks, if it leads into copied
// bytes.
func (w *Walker) overSwitch(otherwise Reason) (leap, Reason) {
	fp := w.regs.Value[w.machine.fp]
	if !w.regs.known(w.machine.fp) || fp%8 != 0 {
		return leap{}, otherwise
	}
	if fp == 0 && otherwise == GoSwitch {
		// mcall and morestack clear it: the goroutine that called them waits, perhaps for another thread.
		return leap{}, Root
	}
	ra, ok := w.word(fp + 8)
	if _, both := w.word(fp); !ok || !both || ra == 0 || w.codeOf(Frame{PC: ra, Return: true}) == nil {
		return leap{}, otherwise
	}
	return w.record(fp, leap{jump: true}, otherwise)
}

// goLeaf makes the step from Go's code by a row of .debug_frame, which does not say where the frame
// pointer is stored, if that leads to code; by the frame pointer otherwise.
func (w *Walker) goLeaf(code *Code, r *ruleKey) (leap, Reason) {
	m := w.machine
	before, flags := w.regs, code.Flags
	to, reason := w.byRule(code, r)
	if reason == goOn && w.codeOf(Frame{PC: w.regs.Value[m.pc] & m.codeMask, Return: true}) != nil {
		sp, cfa := before.Value[m.sp], w.regs.Value[m.sp]
		saved, has := cfa-16, cfa >= sp+16
		if m == &arm64 {
			saved, has = sp-8, cfa > sp
		}
		if has {
			if fp, ok := w.word(saved); ok {
				w.regs.set(m.fp, fp)
			} else {
				w.regs.Known &^= 1 << m.fp
			}
		}
		return to, goOn
	}
	w.regs = before
	return w.byFramePointer(flags)
}
