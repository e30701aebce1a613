package unwind

import (
	"debug/elf"
	"encoding/binary"
)

// A Stack is copied bytes of a stack: those at runtime addresses from Addr on.
type Stack struct {
	Addr uint64
	Data []byte
}

func (s *Stack) end() uint64 { return s.Addr + uint64(len(s.Data)) }

// holds tells whether n bytes at addr were copied.
func (s *Stack) holds(addr, n uint64) bool {
	at := addr - s.Addr
	return at < uint64(len(s.Data)) && uint64(len(s.Data))-at >= n
}

// A Sample is a thread at an instant: what a walk begins with.
type Sample struct {
	Registers Registers
	// Stack is the copied bytes from the stack pointer on.
	Stack Stack
	// Also are further pieces, if someone copied them: of the goroutine's stack while C code runs on
	// the thread's, or of the stack that a signal interrupted. Walks go on there.
	Also []Stack
	// Past is what a walk of the thread has found before, and Same how many of its frames, from the outermost
	// on, are where they were: who has looked knows that these words of the stack are the same. A walk that
	// comes to one of them goes on with the frames of the Past. Stack need not have more than what is below.
	Past *Past
	Same int
}

// Code is what is at a range of runtime addresses.
type Code struct {
	// Start and End (without it) are the runtime addresses that the answer holds for.
	Start, End uint64
	// Bias is runtime address - file address: modulo 1<<64, so it may be below zero.
	Bias uint64
	// Table is the rows of the file; nil for code that has none.
	Table *Table
	// Flags are what else is known of the code.
	Flags CodeFlags
	// Go answers for Go's own code, by what its tables say; nil where it is not known or not Go. What
	// it does not know of is taken for C.
	Go GoFrames
}

// CodeFlags say of what kind code is.
type CodeFlags uint8

const (
	// CodeGo is code of Go's compiler and assembler, all of it. It has frame pointers; without Code.Go
	// they are followed, and rows (of .debug_frame) serve for the leaf only: they do not know of the
	// runtime's changes of stacks. In a binary with C code, the ranges have to be told apart, or
	// Code.Go given.
	CodeGo CodeFlags = 1 << iota
	// CodeSigreturn is what a signal handler returns to, where no rows say so: musl's __restore_rt.
	CodeSigreturn
	// CodeEntry is code without callers: it is the root, where rows do not say otherwise. It is at a
	// file's entry point (musl's _start, that of the dynamic linker), and where threads begin
	// (musl's __clone).
	CodeEntry
)

// A Space is the code of a process as it was at a sample.
type Space interface {
	// Code is what is at a runtime address; false where nothing executable is mapped. A walk asks
	// once for each range that it comes to.
	Code(pc uint64) (Code, bool)
}

// A Frame is one address of a stack.
type Frame struct {
	// PC is a runtime address: of an instruction, or a return address.
	PC uint64
	// Return says that it is a return address, so that the call is before it. It is false of the leaf,
	// and of what a signal interrupted.
	Return bool
	// Signal says that it is the code that a signal handler returns to: the next frame is what the signal interrupted.
	Signal bool
	// Guessed says that no rows led to it: the frame pointer did, or for a call to nowhere the
	// stack's first word. Code without frame pointers can lose callers there.
	Guessed bool
}

// Reason is why a walk ended.
type Reason uint8

const (
	// Root: the outermost frame was reached; the stack is whole.
	Root Reason = iota
	// CutByCopy: the stack goes on behind the copied bytes.
	CutByCopy
	// NoRows: no rows cover the code, and there is no frame pointer that could be one.
	NoRows
	// BadCFA: the rules lead to a frame below the stack pointer, out of any stack, or not aligned.
	BadCFA
	// BadRegister: the rules need a register whose value is not known.
	BadRegister
	// BadExpression: an expression could not be evaluated.
	BadExpression
	// BadReturn: the return address is not in any code.
	BadReturn
	// Cycle: the walk did not get on.
	Cycle
	// TooDeep: there are more frames than the walker follows.
	TooDeep
	// OtherStack: a signal interrupted code on another stack, which was not copied.
	OtherStack
	// GoSwitch: Go's runtime has changed stacks (systemstack, mcall, morestack, gogo), and the
	// goroutine's was not copied.
	GoSwitch
	// CgoSwitch: the same between Go and C (asmcgocall, cgocallback).
	CgoSwitch
	// NoStack: there are no registers or no copied bytes to begin with.
	NoStack

	reasonCount
)

var reasonNames = [reasonCount]string{
	"root", "cut by copy", "no rows", "bad CFA", "bad register", "bad expression", "bad return address", "cycle", "too deep",
	"other stack", "Go stack switch", "cgo stack switch", "no stack",
}

// String names the reason in two or three words.
func (r Reason) String() string {
	if r < reasonCount {
		return reasonNames[r]
	}
	return "unknown reason"
}

// An End is how a walk ended.
type End struct {
	Reason Reason
	// PC is the runtime address at which the walk could not go on, or whose frame is the root: the
	// last frame's. It names the module to blame.
	PC uint64
	// SP and FP are the stack and frame pointer as far as the walk came. At a GoSwitch or CgoSwitch, FP is a
	// frame of the goroutine's stack: who can read that (Sample.Also) can go on.
	SP, FP uint64
	// Missing is for CutByCopy how many bytes more would at least have been needed.
	Missing uint64
	// Same says that the walk has come to Sample.Past, and PC and SP are of that.
	Same bool
	// Bad is for BadReturn the address that is in no code.
	Bad uint64
}

const (
	defaultDepth = 4096

	// A frame is no larger than this, and a stack that goes on behind the copy goes on within it.
	// Beyond, an address is of something else.
	farthest = 16 << 20
	// A signal's frame with all processor state is some 3 KiB on amd64, 11 with AMX, and more with
	// arm64's SVE: what it interrupted on the same stack is not farther.
	farthestSignal = 256 << 10

	maxStill = 4 // frames in a row that may leave the stack pointer as it is: arm64's outlined functions
)

// A Walker walks stacks, one at a time. It keeps what it works with from walk to walk, so that a
// walk allocates nothing.
type Walker struct {
	// Depth is how many frames a walk gives at most; 0 is 4096.
	Depth int

	machine *machine
	regs    Registers // of the frame that the walk is at
	stack   Stack
	also    []Stack
	space   Space
	past    *Past
	same    int

	at     uint64   // where the last step has read the caller's address; 0: in no place on a stack
	places []uint64 // of the frames of the walk

	codes  [8]Code // answers of space
	nCodes int
	oldest int

	miss     uint64 // the address that word did not find
	jumped   bool   // the last step left for another stack, by a signal
	still    int
	exprWork [maxExprStack]uint64
}

// NewWalker makes a walker for a processor: EM_X86_64 or EM_AARCH64.
func NewWalker(m elf.Machine) (*Walker, error) {
	of, err := machineOf(m)
	if err != nil {
		return nil, err
	}
	return &Walker{machine: of}, nil
}

// Walk appends the frames of a stack to frames, leaf first, and tells how it ended. The leaf is
// there even where nothing else could be found. It takes time in proportion to the frames found,
// whatever rows, registers and bytes it is given, and keeps no reference to them.
func (w *Walker) Walk(s *Sample, space Space, frames []Frame) ([]Frame, End) {
	m := w.machine
	w.regs, w.stack, w.also, w.space = s.Registers, s.Stack, s.Also, space
	w.past, w.same, w.places = s.Past, s.Same, w.places[:0]
	w.jumped, w.still, w.oldest = false, 0, 0
	depth := w.Depth
	if depth <= 0 {
		depth = defaultDepth
	}
	var end End
	if w.regs.known(m.pc) {
		frames, end = w.walk(frames, len(frames)+depth)
		if end.Same {
			end.SP = w.past.At[0] + 8
			return w.done(frames, end)
		}
		end.SP, end.FP = w.regs.Value[m.sp], w.regs.Value[m.fp]
		if !w.regs.known(m.fp) {
			end.FP = 0
		}
	} else {
		end.Reason = NoStack
	}
	return w.done(frames, end)
}

func (w *Walker) done(frames []Frame, end End) ([]Frame, End) {
	clear(w.codes[:w.nCodes])
	w.nCodes = 0
	w.stack, w.also, w.space, w.past = Stack{}, nil, nil, nil
	return frames, end
}

// Places are where the addresses of the frames of the last walk were read on the stack, in the order of the
// frames; 0 where it was somewhere else, as of the leaf and what a signal interrupted. They are good until the
// next walk.
func (w *Walker) Places() []uint64 { return w.places }

func (w *Walker) walk(frames []Frame, most int) ([]Frame, End) {
	m := w.machine
	at := Frame{PC: w.regs.Value[m.pc]}
	w.at = 0
	for {
		frames = append(frames, at)
		w.places = append(w.places, w.at)
		if i := w.past.index(w.at, w.same); i >= 0 && w.at != 0 && w.past.Frames[i] == at && len(frames)+i <= most {
			for ; i > 0; i-- {
				frames = append(frames, w.past.Frames[i-1])
				w.places = append(w.places, w.past.At[i-1])
			}
			return frames, End{Reason: Root, PC: w.past.Frames[0].PC, Same: true}
		}
		i := len(frames) - 1
		pc := at.PC
		if !w.regs.known(m.sp) && len(frames) == 1 || len(w.stack.Data) == 0 && len(w.also) == 0 {
			return frames, End{Reason: NoStack, PC: pc}
		}
		if len(frames) >= most {
			return frames, End{Reason: TooDeep, PC: pc}
		}
		sp := w.regs.Value[m.sp]
		w.at = 0
		to, reason := w.step(&frames[i])
		if to.exact || to.jump {
			w.at = 0
		}
		if reason != goOn {
			end := End{Reason: reason, PC: pc}
			if reason == CutByCopy {
				end.Missing = w.miss + 8 - w.stackEnd(sp)
			}
			return frames, end
		}
		next := w.regs.Value[m.pc] & m.codeMask
		w.regs.set(m.pc, next)
		if next == 0 && !to.exact {
			return frames, End{Reason: Root, PC: pc}
		}
		at = Frame{PC: next, Return: !to.exact, Guessed: to.guessed}
		if w.codeOf(at) == nil && !to.exact { // what a signal interrupted may be a call to nowhere
			return frames, End{Reason: BadReturn, PC: pc, Bad: next}
		}
		w.jumped = to.jump
		if now := w.regs.Value[m.sp]; !to.jump {
			switch {
			case now > sp:
				w.still = 0
			case now < sp, w.still == maxStill:
				return frames, End{Reason: Cycle, PC: pc}
			default:
				w.still++
			}
		}
	}
}

// goOn is no reason to end.
const goOn Reason = 0xff

// A leap is what kind of step was made.
type leap struct {
	exact   bool // the caller's pc is where it was interrupted, not a return address
	jump    bool // the caller may be on another stack
	guessed bool
}

// step goes from the frame at to its caller: it changes the registers to the caller's.
func (w *Walker) step(at *Frame) (leap, Reason) {
	code := w.codeOf(*at)
	if code == nil { // only of an exact pc
		return w.nowhere()
	}
	if code.Flags&CodeSigreturn != 0 {
		at.Signal = true
		return w.sigreturn()
	}
	look := at.PC - code.Bias
	if at.Return {
		look--
	}
	flags := code.Flags // further questions may put other code in its place
	if code.Go != nil {
		if to, reason, ok := w.goStep(code, look, at); ok {
			return to, reason
		}
		flags &^= CodeGo // C in a Go binary
	}
	rule, next := uint32(noRule), uint64(0)
	if code.Table != nil && code.Table.machine == w.machine {
		rule, next = code.Table.find(look)
	}
	if rule == noRule && flags&CodeEntry != 0 {
		return leap{}, Root
	}
	if at.Return && next == look+1 {
		// What a signal handler returns to is not behind a call, and may be the first of its function.
		if here, _ := code.Table.find(next); here != noRule && code.Table.rule(here).flags&flagSignal != 0 {
			rule = here
		}
	}
	if rule == noRule || flags&CodeGo != 0 && at.Return {
		return w.byFramePointer(flags)
	}
	r := code.Table.rule(rule)
	if r.flags&flagSignal != 0 {
		at.Signal = true
		if w.machine == &arm64 {
			// The kernel's rows say where the frame record is that it makes for debuggers: that has
			// the interrupted x30, but not the pc (arch/arm64/kernel/signal.c, setup_return).
			return w.sigreturn()
		}
	}
	if flags&CodeGo != 0 {
		return w.goLeaf(code, &r)
	}
	return w.byRule(code, &r)
}

// codeOf is the code that a frame is in; nil where there is none.
func (w *Walker) codeOf(at Frame) *Code {
	if at.Return {
		if c := w.code(at.PC - 1); c != nil {
			return c
		}
	}
	return w.code(at.PC)
}

func (w *Walker) code(pc uint64) *Code {
	for i := range w.nCodes {
		if c := &w.codes[i]; pc >= c.Start && pc < c.End {
			return c
		}
	}
	c, ok := w.space.Code(pc)
	if !ok || pc < c.Start || pc >= c.End {
		return nil
	}
	i := w.nCodes
	if i < len(w.codes) {
		w.nCodes++
	} else {
		i = w.oldest
		w.oldest = (i + 1) % len(w.codes)
	}
	w.codes[i] = c
	return &w.codes[i]
}

// word is the 8 bytes at a runtime address, of the copied ones.
func (w *Walker) word(addr uint64) (uint64, bool) {
	if w.stack.holds(addr, 8) {
		return binary.LittleEndian.Uint64(w.stack.Data[addr-w.stack.Addr:]), true
	}
	for i := range w.also {
		if s := &w.also[i]; s.holds(addr, 8) {
			return binary.LittleEndian.Uint64(s.Data[addr-s.Addr:]), true
		}
	}
	if i := w.past.index(addr, w.same); i >= 0 {
		return w.past.Frames[i].PC, true
	}
	w.miss = addr
	return 0, false
}

// bytes is n bytes at a runtime address, of the copied ones.
func (w *Walker) bytes(addr, n uint64) []byte {
	if w.stack.holds(addr, n) {
		return w.stack.Data[addr-w.stack.Addr:][:n]
	}
	for i := range w.also {
		if s := &w.also[i]; s.holds(addr, n) {
			return s.Data[addr-s.Addr:][:n]
		}
	}
	w.miss = addr
	return nil
}

// stackEnd is the end of the copied piece that a stack pointer is in, or else of the next one below
// it; 0 where there is none.
func (w *Walker) stackEnd(sp uint64) uint64 {
	if w.stack.holds(sp, 1) {
		return w.stack.end()
	}
	below := uint64(0)
	if w.stack.end() <= sp {
		below = w.stack.end()
	}
	for i := range w.also {
		s := &w.also[i]
		if s.holds(sp, 1) {
			return s.end()
		}
		if s.end() <= sp {
			below = max(below, s.end())
		}
	}
	return below
}

// missed is why the address that word did not find was not there, at the frame of sp.
func (w *Walker) missed(otherwise Reason) Reason {
	sp := w.regs.Value[w.machine.sp]
	end := w.stackEnd(sp)
	limit := uint64(farthest)
	if w.jumped {
		limit, otherwise = farthestSignal, OtherStack
	}
	if end != 0 && w.miss+8 > end && w.miss+8-end <= limit && w.miss >= sp {
		return CutByCopy
	}
	return otherwise
}

// byRule makes the step that a rule describes.
func (w *Walker) byRule(code *Code, r *ruleKey) (leap, Reason) {
	m, t := w.machine, code.Table
	old := &w.regs
	signal := r.flags&flagSignal != 0
	if r.flags&flagRoot != 0 {
		return leap{}, Root
	}
	var cfa uint64
	if r.cfaKind == ruleRegister {
		if !old.known(int(r.cfaRegister)) {
			return leap{}, BadRegister
		}
		cfa = old.Value[r.cfaRegister] + uint64(int64(r.cfaValue))
	} else {
		v, reason := w.evaluate(t.expression(r.cfaValue), code, 0, false)
		if reason != goOn {
			return leap{}, reason
		}
		cfa = v
	}
	sp := old.Value[m.sp]
	if !signal && (cfa < sp || cfa-sp > farthest || cfa%8 != 0) {
		return leap{}, BadCFA
	}
	next := w.regs
	if !signal {
		next.Known &= m.kept
	}
	next.set(m.sp, cfa)
	found := false // the return address has a rule
	for i := range int(r.list.count) {
		n, s := t.save(int(r.list.first) + i)
		v, reason := w.saved(s, cfa, code)
		isRA := n == r.ra
		switch {
		case isRA && reason != goOn:
			return leap{}, reason
		case isRA:
			found = true
			if s.kind == ruleOffset {
				w.at = cfa + uint64(int64(s.value))
			}
			next.set(m.pc, v)
			if int(n) != m.pc && signal {
				next.set(int(n), v)
			}
		case s.kind == ruleSame, s.kind == ruleOffset && !signal && cfa+uint64(int64(s.value)) < sp:
			// What is stored below the stack pointer was not copied. Epilogues have just loaded it from
			// there, and do not say so.
			if old.known(int(n)) {
				next.set(int(n), old.Value[n])
			}
		case s.kind == ruleUndefined || reason != goOn:
			next.Known &^= 1 << n
		default:
			next.set(int(n), v)
		}
	}
	if !found {
		// A function that has not stored it, or never does: it is in the link register, until a call.
		if int(r.ra) == m.pc || !old.known(int(r.ra)) {
			return leap{}, BadRegister
		}
		next.set(m.pc, old.Value[r.ra])
	}
	w.regs = next
	return leap{exact: signal, jump: signal}, goOn
}

// saved is the value of a register by its rule.
func (w *Walker) saved(s saved, cfa uint64, code *Code) (uint64, Reason) {
	switch s.kind {
	case ruleOffset:
		return w.stored(cfa + uint64(int64(s.value)))
	case ruleValOffset:
		return cfa + uint64(int64(s.value)), goOn
	case ruleRegister:
		if !w.regs.known(int(s.value)) {
			return 0, BadRegister
		}
		return w.regs.Value[s.value], goOn
	case ruleExpression:
		at, reason := w.evaluate(code.Table.expression(s.value), code, cfa, true)
		if reason != goOn {
			return 0, reason
		}
		return w.stored(at)
	case ruleValExpr:
		return w.evaluate(code.Table.expression(s.value), code, cfa, true)
	}
	return 0, BadRegister
}

func (w *Walker) stored(addr uint64) (uint64, Reason) {
	v, ok := w.word(addr)
	if !ok {
		return 0, w.missed(BadCFA)
	}
	return v, goOn
}

// byFramePointer makes the step by the frame record that the frame pointer points to: the caller's
// frame pointer and the return address (System V ABI for x86-64, section 3.4.1; Procedure Call
// Standard for the Arm 64-bit Architecture, section 6.4.6).
func (w *Walker) byFramePointer(code CodeFlags) (leap, Reason) {
	m := w.machine
	if !w.regs.known(m.fp) {
		return leap{}, NoRows
	}
	fp, sp := w.regs.Value[m.fp], w.regs.Value[m.sp]
	isGo := code&CodeGo != 0
	if fp == 0 {
		// Go's mark of the outermost frame. The System V ABI has it too, but a program that keeps no
		// frame pointers has the kernel's zero in the register everywhere.
		if isGo {
			return leap{}, Root
		}
		return leap{}, NoRows
	}
	// In Go for arm64 the record begins one word below the stack pointer.
	lowest := sp
	if isGo && m == &arm64 {
		lowest -= 8
	}
	if fp%8 != 0 || fp < lowest || fp-lowest > farthest {
		return leap{}, NoRows
	}
	return w.record(fp, leap{guessed: !isGo}, NoRows)
}

// record makes the step by the frame record at fp.
func (w *Walker) record(fp uint64, to leap, otherwise Reason) (leap, Reason) {
	m := w.machine
	ra, ok := w.word(fp + 8)
	if !ok {
		return leap{}, w.missed(otherwise)
	}
	w.at = fp + 8
	caller, known := w.word(fp) // below the copied bytes, for a leaf of Go on arm64
	next := Registers{}
	next.set(m.pc, ra)
	if known {
		next.set(m.fp, caller)
	}
	next.set(m.sp, fp+16)
	if m == &arm64 {
		// The record is not at the end of the frame: the stack pointer is at least this.
		next.Known &^= 1 << m.sp
	}
	w.regs = next
	return to, goOn
}

// nowhere makes the step from a leaf that is in no code: a call through a bad pointer, which has
// only stored the return address.
func (w *Walker) nowhere() (leap, Reason) {
	m := w.machine
	sp := w.regs.Value[m.sp]
	pc := w.regs.Value[m.pc]
	next := w.regs
	next.Known &= m.kept
	if m.link >= 0 {
		if !w.regs.known(m.link) {
			return leap{}, BadReturn
		}
		next.set(m.pc, w.regs.Value[m.link])
		next.set(m.sp, sp)
	} else {
		ra, ok := w.word(sp)
		if !ok {
			return leap{}, BadReturn
		}
		next.set(m.pc, ra)
		next.set(m.sp, sp+8)
	}
	if next.Value[m.pc] == 0 || next.Value[m.pc] == pc {
		return leap{}, BadReturn // not a root: nothing says so
	}
	w.regs = next
	return leap{guessed: true}, goOn
}

// sigreturn makes the step to what a signal interrupted, by the registers that the kernel has stored
// above the handler's frame.
func (w *Walker) sigreturn() (leap, Reason) {
	m := w.machine
	if !w.regs.known(m.sp) {
		return leap{}, BadRegister
	}
	sp := w.regs.Value[m.sp]
	var next Registers
	for n, offset := range m.signal {
		v, ok := w.word(sp + uint64(offset))
		if !ok {
			return leap{}, w.missed(BadCFA)
		}
		next.set(n, v)
	}
	w.regs = next
	return leap{exact: true, jump: true}, goOn
}
