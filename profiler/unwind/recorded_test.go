package unwind

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Walks over hand-made registers and stacks: for arm64, which no test here can run on, and for what
// no well-behaved program does.

// handSpace is one range of code.
type handSpace struct {
	code  Code
	asked int
}

func (s *handSpace) Code(pc uint64) (Code, bool) {
	s.asked++
	return s.code, pc >= s.code.Start && pc < s.code.End
}

// stackOf is words at addresses from at on.
func stackOf(at uint64, words ...uint64) Stack {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return Stack{at, b}
}

func frameText(frames []Frame) string {
	var all []string
	for _, f := range frames {
		s := fmt.Sprintf("%x", f.PC)
		if f.Return {
			s += "r"
		}
		if f.Signal {
			s += "s"
		}
		if f.Guessed {
			s += "g"
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

// arm64Table: a leaf at 0x1000, frames by x29 at 0x1100 and by sp at 0x1200, a root at 0x1300, a
// signal frame at 0x1400.
func arm64Table(t testing.TB) *Table {
	c := cfi{version: 1, isEH: true}
	c.cie("zR", []byte{encodeAbsolute}, 30, cfaDefCFA, 31, 0)
	at := func(start uint64, program ...byte) { c.fde(append(words64(start, 0x100), 0), program...) }
	at(0x1000)
	at(0x1100, cfaAdvance|4, cfaNegateRAState, cfaAdvance|4, cfaDefCFAOffset, 32, cfaOffset|29, 4, cfaOffset|30, 3, cfaAdvance|4, cfaDefCFARegister, 29)
	at(0x1200, cfaAdvance|4, cfaDefCFAOffset, 16, cfaOffset|30, 2)
	at(0x1300, cfaUndefined, 30)
	c.cie("zRS", []byte{encodeAbsolute}, 30, cfaDefCFA, 29, 0, cfaOffset|30, 0x7f, cfaNop)
	at(0x1400)
	return parsed(t, Sections{Machine: elf.EM_AARCH64, EHFrame: Section{0x8000, c.b}})
}

func TestWalkARM64(t *testing.T) {
	const bias = 0x10_0000
	table := arm64Table(t)
	if got := table.Describe(0x1110); got != "cfa=x29+32 x29=c-32 ra=c-24 signed" {
		t.Fatalf("row %s", got)
	}
	const sp = 0x7000
	const signed = 0x0055 << 48 // a pointer's signature
	signal := make([]uint64, 100)
	signal[(128+176+8)/8+31] = 0x9000    // sp
	signal[(128+176+8)/8+32] = 0x10_1000 // pc
	signal[(128+176+8)/8+30] = 0x10_1310 // x30
	tests := []struct {
		name          string
		pc, x29, link uint64
		words         []uint64
		also          []Stack
		goFrames      GoFrames
		want          string
		reason        Reason
	}{
		{name: "leaf", pc: 0x1010, link: bias + 0x1310, want: "101010 101310r"},
		{name: "signed", pc: 0x1120, x29: sp, words: []uint64{0, signed | bias + 0x1310, 0, 0}, want: "101120 101310r"},
		{name: "prologue", pc: 0x1104, link: signed | bias + 0x1310, want: "101104 101310r"},
		{name: "frames", pc: 0x1010, link: bias + 0x1140, x29: sp + 16,
			words: []uint64{1, 2, 0x99, bias + 0x1210, 3, 4, bias + 0x1310, 0}, want: "101010 101140r 101210r 101310r"},
		{name: "frames in order", pc: 0x1010, link: bias + 0x1140, x29: sp,
			words: []uint64{0x99, bias + 0x1210, 3, 4, bias + 0x1310}, want: "101010 101140r 101210r 101310r"},
		{name: "link lost", pc: 0x1010, link: bias + 0x1020, want: "101010 101020r", reason: BadRegister},
		{name: "signal", pc: 0x1010, link: bias + 0x1410, words: signal, also: []Stack{stackOf(0x9000, 0)}, want: "101010 101410rs 101000 101310r"},
		{name: "other stack", pc: 0x1010, link: bias + 0x1410, words: signal[:10], want: "101010 101410rs", reason: CutByCopy},
		{name: "frame pointer", pc: 0x2000, x29: sp + 16, words: []uint64{0, 0, sp + 48, bias + 0x2010, 0, 0, 0, bias + 0x1310}, want: "102000 102010rg 101310rg"},
		{name: "Go", pc: 0x1010, x29: sp - 8, words: []uint64{bias + 0x1020, 0, 0, sp + 56, bias + 0x1030},
			goFrames: handGo{0x1010: {GoPlain, 32}, 0x101f: {GoPlain, 16}, 0x102f: {GoRoot, 0}}, want: "101010 101020r 101030r"},
		{name: "Go leaf", pc: 0x1010, link: bias + 0x1030, goFrames: handGo{0x1010: {GoPlain, 0}, 0x102f: {GoRoot, 0}}, want: "101010 101030r"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			values := make([]uint64, 33)
			values[29], values[30], values[31], values[32] = c.x29, c.link, sp, bias+c.pc
			s := Sample{Stack: stackOf(sp, c.words...), Also: c.also}
			if len(c.words) == 0 {
				s.Stack = stackOf(sp, 0)
			}
			s.Registers.SetPerf(elf.EM_AARCH64, PerfRegisters(elf.EM_AARCH64), values)
			w, err := NewWalker(elf.EM_AARCH64)
			if err != nil {
				t.Fatal(err)
			}
			frames, end := w.Walk(&s, &handSpace{code: Code{Start: bias + 0x1000, End: bias + 0x3000, Bias: bias, Table: table, Go: c.goFrames}}, nil)
			if got := frameText(frames); got != c.want || end.Reason != c.reason {
				t.Errorf("%s, %v at %#x\nwant %s, %v", got, end.Reason, end.PC, c.want, c.reason)
			}
		})
	}
}

type handGo map[uint64]GoFrame

func (g handGo) GoFrame(addr uint64) GoFrame { return g[addr] }

// amd64 where programs do not come by themselves.
func TestWalkHandMade(t *testing.T) {
	const sp = 0x7000
	rows := func(program ...byte) *Table {
		c := cfi{version: 4}
		c.cie("", nil, 16, amd64Start...)
		c.fde(words64(0x1000, 0x100), program...)
		return parsed(t, Sections{Machine: elf.EM_X86_64, DebugFrame: Section{Data: c.b}})
	}
	loop := []byte{cfaValExpression, 16, 3, opConst2u, 0x10, 0x10}
	tests := []struct {
		name   string
		table  *Table
		flags  CodeFlags
		words  []uint64
		rbp    uint64
		want   string
		reason Reason
	}{
		{name: "zero is the root", table: rows(), words: []uint64{0x1020, 0}, want: "1010 1020r"},
		{name: "undefined is the root", table: rows(cfaUndefined, 16), words: []uint64{0}, want: "1010"},
		{name: "not code", table: rows(), words: []uint64{0x9999}, want: "1010", reason: BadReturn},
		{name: "cut", table: rows(), words: []uint64{0x1020, 0x1030}, want: "1010 1020r 1030r", reason: CutByCopy},
		{name: "below the stack pointer", table: rows(cfaDefCFASF, 7, 1), words: []uint64{1}, want: "1010", reason: BadCFA},
		{name: "not aligned", table: rows(cfaDefCFAOffset, 9), words: []uint64{1, 2}, want: "1010", reason: BadCFA},
		{name: "far", table: rows(cfaDefCFA, 6, 0), rbp: 1 << 40, words: []uint64{1, 2}, want: "1010", reason: BadCFA},
		{name: "lost register", table: rows(cfaDefCFA, 10, 0), words: []uint64{1}, rbp: 1, want: "1010", reason: BadCFA},
		{name: "expression", table: rows(cfaDefCFAExpression, 3, 0x77, 16, opNop), words: []uint64{5, 0x1020, 5, 0}, want: "1010 1020r"},
		{name: "endless expression", table: rows(cfaDefCFAExpression, 3, opSkip, 0xfd, 0xff), words: []uint64{1}, want: "1010", reason: BadExpression},
		{name: "expression of nothing", table: rows(cfaDefCFAExpression, 1, opPlus), words: []uint64{1}, want: "1010", reason: BadExpression},
		{name: "register name as expression", table: rows(cfaDefCFAExpression, 1, 0x57), words: []uint64{1}, want: "1010", reason: BadExpression},
		{name: "division by zero", table: rows(cfaDefCFAExpression, 3, opLit0, opLit0, opDiv), words: []uint64{1}, want: "1010", reason: BadExpression},
		{name: "memory of others", table: rows(cfaDefCFAExpression, 2, opLit0, opDeref), words: []uint64{1}, want: "1010", reason: BadExpression},
		{name: "cycle", table: rows(append([]byte{cfaDefCFAOffset, 0}, loop...)...), words: []uint64{1}, want: "1010 1010r 1010r 1010r 1010r", reason: Cycle},
		{name: "frame pointer", words: []uint64{7, 7, sp + 40, 0x1020, 7, 0, 0}, rbp: sp + 16, want: "1010 1020rg"},
		{name: "frame pointer elsewhere", words: []uint64{7}, rbp: 0x100, want: "1010", reason: NoRows},
		{name: "no frame pointer", words: []uint64{7}, want: "1010", reason: NoRows},
		{name: "frame pointer behind the copy", words: []uint64{7}, rbp: sp + 0x100, want: "1010", reason: CutByCopy},
		{name: "entry", words: []uint64{7}, flags: CodeEntry, want: "1010"},
		{name: "Go's root", words: []uint64{7}, flags: CodeGo, want: "1010"},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			s := Sample{Stack: stackOf(sp, c.words...)}
			s.Registers.SetPerf(elf.EM_X86_64, PerfRegisters(elf.EM_X86_64), []uint64{0, 0, 0, 0, 0, 0, c.rbp, sp, 0x1010, 0, 0, 0x7ff1, 0, 0, 0, 0, 0})
			space := &handSpace{code: Code{Start: 0x1000, End: 0x1100, Table: c.table, Flags: c.flags}}
			frames, end := newWalker(t).Walk(&s, space, nil)
			if got := frameText(frames); got != c.want || end.Reason != c.reason {
				t.Errorf("%s, %v at %#x\nwant %s, %v", got, end.Reason, end.PC, c.want, c.reason)
			}
			if space.asked > 4 {
				t.Errorf("asked for the code %d times", space.asked)
			}
		})
	}
	// A trampoline without rows, as musl has it; what was interrupted is the same code here.
	t.Run("sigreturn", func(t *testing.T) {
		words := make([]uint64, 24)
		words[5+15], words[5+16] = sp+0x88, 0x1020 // rsp, rip
		s := Sample{Stack: stackOf(sp, words...)}
		s.Registers.set(amd64PC, 0x1010)
		s.Registers.set(amd64SP, sp)
		frames, end := newWalker(t).Walk(&s, &handSpace{code: Code{Start: 0x1000, End: 0x1100, Flags: CodeSigreturn}}, nil)
		if got := frameText(frames); got != "1010s 1020s" || end.Reason != CutByCopy || end.Missing == 0 {
			t.Errorf("%s, %v, %d bytes missing", got, end.Reason, end.Missing)
		}
	})
	// A handler returns to the first instruction of a function, which only the rows know to be no call's.
	t.Run("return to a first instruction", func(t *testing.T) {
		c := cfi{version: 1, isEH: true}
		c.cie("zR", []byte{encodeAbsolute}, 16, amd64Start...)
		c.fde(append(words64(0x1000, 0x40), 0))
		c.cie("zRS", []byte{encodeAbsolute}, 16, cfaDefCFA, 7, 32, cfaOffset|16, 1)
		c.fde(append(words64(0x1040, 0x10), 0))
		table := parsed(t, Sections{Machine: elf.EM_X86_64, EHFrame: Section{0x8000, c.b}})
		s := Sample{Stack: stackOf(sp, 0x1040, 0, 0, 0, 0x1000, 0)}
		s.Registers.set(amd64PC, 0x1010)
		s.Registers.set(amd64SP, sp)
		frames, end := newWalker(t).Walk(&s, &handSpace{code: Code{Start: 0x1000, End: 0x1100, Table: table}}, nil)
		if got := frameText(frames); got != "1010 1040rs 1000" || end.Reason != Root {
			t.Errorf("%s, %v", got, end.Reason)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		frames, end := newWalker(t).Walk(new(Sample), new(handSpace), nil)
		if len(frames) != 0 || end.Reason != NoStack {
			t.Errorf("%v, %v", frames, end)
		}
	})
	t.Run("depth", func(t *testing.T) {
		w := newWalker(t)
		w.Depth = 3
		s := Sample{Stack: stackOf(sp, slices.Repeat([]uint64{0x1020}, 100)...)}
		s.Registers.set(amd64PC, 0x1010)
		s.Registers.set(amd64SP, sp)
		frames, end := w.Walk(&s, &handSpace{code: Code{Start: 0x1000, End: 0x1100, Table: rows()}}, make([]Frame, 2))
		if len(frames) != 5 || end.Reason != TooDeep {
			t.Errorf("%d frames, %v", len(frames), end.Reason)
		}
	})
}

// Whatever rows, registers and bytes: the walk ends within its depth, the leaf is the sample's pc, and
// the end names the last frame.
func FuzzWalk(f *testing.F) {
	eh := cfi{isEH: true, version: 1}
	eh.cie("zRS", []byte{encodeU4}, 16, amd64Start...)
	eh.fde([]byte{0, 0x10, 0, 0, 0, 1, 0, 0, 0}, cfaAdvance|1, cfaDefCFAExpression, 4, 0x77, 8, opDeref, opDeref, cfaExpression, 16, 2, 0x77, 8)
	eh.cie("zR", []byte{encodeU4}, 16, amd64Start...)
	eh.fde([]byte{0, 0x11, 0, 0, 0, 1, 0, 0, 0}, cfaAdvance|1, cfaValExpression, 7, 3, 0x77, 8, opNop, cfaRegister, 16, 3)
	f.Add(eh.b, stackOf(0, 0x1120, 0x7010, 0x1020, 0x1120, 0x7000).Data, uint64(0x1010), uint64(0x7000), uint64(0x7010), uint8(0))
	f.Fuzz(func(t *testing.T, rows, stack []byte, pc, sp, fp uint64, flags uint8) {
		for _, m := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64} {
			table, err := Parse(Sections{Machine: m, EHFrame: Section{0x2000, rows}})
			if err != nil {
				t.Fatal(err)
			}
			s := Sample{Stack: Stack{sp, stack}}
			values := make([]uint64, 64)
			for i := range values {
				values[i] = sp + 8*uint64(i)
			}
			s.Registers.SetPerf(m, PerfRegisters(m), values)
			of, _ := machineOf(m)
			s.Registers.set(of.pc, pc)
			s.Registers.set(of.sp, sp)
			s.Registers.set(of.fp, fp)
			w, err := NewWalker(m)
			if err != nil {
				t.Fatal(err)
			}
			w.Depth = 256
			space := &handSpace{code: Code{Start: 0, End: 1 << 47, Table: table, Flags: CodeFlags(flags)}}
			if flags&0x80 != 0 {
				space.code.Go = handGo{pc: {GoKind(flags & 7), uint32(fp)}}
			}
			frames, end := w.Walk(&s, space, nil)
			if len(frames) == 0 || len(frames) > 256 || frames[0].PC != pc {
				t.Fatalf("%d frames from %#x", len(frames), pc)
			}
			if end.Reason >= reasonCount || end.PC != frames[len(frames)-1].PC {
				t.Fatalf("ended with %v at %#x; the last frame is at %#x", end.Reason, end.PC, frames[len(frames)-1].PC)
			}
			again, second := w.Walk(&s, space, nil)
			if !slices.Equal(again, frames) || second != end {
				t.Fatalf("another time %v, %v; the first %v, %v", again, second, frames, end)
			}
		}
	})
}

// The question: how long does a frame take? Stacks of a real process, with tables of libc and the
// program: frames per second and core are 1e9 / (ns/frame).
func BenchmarkWalk(b *testing.B) {
	onlyAMD64(b)
	program := compile(b, "gcc", "walk.c", "-pthread")
	for _, mode := range []string{"plain", "qsort", "signal", "deep 200"} {
		b.Run("stack="+strings.ReplaceAll(mode, " ", "_"), func(b *testing.B) {
			p := start(b, append([]string{program}, strings.Fields(mode)...)...)
			s := p.sample(32 << 10)
			w := newWalker(b)
			var space Space = p.maps
			frames, end := w.Walk(s, space, nil)
			if end.Reason != Root {
				b.Fatalf("ended with %v", end.Reason)
			}
			b.ReportAllocs()
			for b.Loop() {
				frames, _ = w.Walk(s, space, frames[:0])
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(frames)), "ns/frame")
		})
	}
}

func TestWalkAllocatesNothing(t *testing.T) {
	onlyAMD64(t)
	p := start(t, compile(t, "gcc", "walk.c", "-pthread"), "signal")
	s := p.sample(32 << 10)
	w := newWalker(t)
	var space Space = p.maps
	frames, _ := w.Walk(s, space, nil)
	if n := testing.AllocsPerRun(100, func() { frames, _ = w.Walk(s, space, frames[:0]) }); n != 0 {
		t.Errorf("%v allocations a walk", n)
	}
}
