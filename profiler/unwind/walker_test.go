package unwind

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Programs are stopped in the depth of all kinds of stacks. Two expectations: the functions that
// the source calls, by the symbol table, and the addresses that glibc's backtrace finds in the
// program itself.
func TestWalkC(t *testing.T) {
	onlyAMD64(t)
	program := compile(t, "gcc", "walk.c", "-pthread")
	tests := []struct {
		args   string
		want   string // functions, leaf first, from stop on
		copied int
		reason Reason
		blame  string
		apart  bool // backtrace(3) cannot do it
	}{
		{args: "plain", want: "stop leaf middle plain main"},
		{args: "alloca", want: "stop leaf dynamic main"},
		{args: "realigned", want: "stop leaf dynamic realigned main"},
		{args: "deep 30", want: "stop leaf deep deep * main"},
		{args: "tail", want: "stop leaf tailed main"},
		{args: "noreturn", want: "stop leaf ending beforeEnding main"},
		{args: "thread", want: "stop leaf middle plain threadMain"},
		{args: "signal", want: "stop leaf handler libc.so.6 * onSignal main"},
		{args: "altstack", want: "stop leaf handler libc.so.6", reason: OtherStack, apart: true},
		{args: "nowhere", want: "stop leaf handler libc.so.6 ? nowhere main", apart: true},
		{args: "bare", want: "stop leaf middle plain withFP bare main", apart: true},
		{args: "barer", want: "stop leaf middle plain withoutFP", reason: NoRows, blame: "withoutFP", apart: true},
		{args: "deep 3000", want: "stop leaf deep deep deep", copied: 16 << 10, reason: CutByCopy, blame: "deep"},
		{args: "deep 3000", want: "stop leaf deep deep * main", copied: 256 << 10},
	}
	for _, c := range tests {
		t.Run(c.args, func(t *testing.T) {
			p := start(t, append([]string{program}, strings.Fields(c.args)...)...)
			found := p.lines()
			if c.copied == 0 {
				c.copied = 64 << 10
			}
			s := p.sample(c.copied)
			frames, end := newWalker(t).Walk(s, p.maps, nil)
			names := p.maps.names(frames)
			t.Logf("%v at %s; %d frames", end.Reason, p.maps.name(Frame{PC: end.PC, Return: true}), len(frames))
			if end.Reason != c.reason {
				t.Errorf("ended with %v at %#x, want %v; frames %v", end.Reason, end.PC, c.reason, names)
			}
			if end.PC != frames[len(frames)-1].PC {
				t.Errorf("ended at %#x, want that of the last frame, %#x", end.PC, frames[len(frames)-1].PC)
			}
			if at := p.maps.name(frames[len(frames)-1]); c.blame != "" && at != c.blame {
				t.Errorf("ended in %s, want %s", at, c.blame)
			}
			walkByPast(t, p, s, frames, end)
			at := slices.Index(names, "stop")
			if at < 0 || !follow(names[at:], strings.Fields(c.want)) {
				t.Fatalf("frames %v\nwant %s", names, c.want)
			}
			if end.Reason == CutByCopy && (end.Missing == 0 || end.Missing > 1<<16) {
				t.Errorf("%d bytes missing", end.Missing)
			}
			if c.apart {
				return
			}
			// backtrace's first address is in stop, as our frame of stop is, at another call.
			var want, got []string
			for _, a := range found[1:] {
				want = append(want, fmt.Sprintf("%x", a))
			}
			for _, f := range frames[at+1:] {
				got = append(got, fmt.Sprintf("%x", f.PC))
			}
			if end.Reason == CutByCopy {
				want = want[:len(got)]
			}
			if !slices.Equal(got, want) {
				t.Errorf("addresses %v\nbacktrace(3) has %v", got, want)
			}
		})
	}
}

// follow tells whether names begin with want, in which * stands for any number.
func follow(names, want []string) bool {
	for i, w := range want {
		if w == "*" {
			rest := slices.Index(names[i:], want[i+1])
			return rest >= 0 && follow(names[i+rest:], want[i+1:])
		}
		if i >= len(names) || strings.SplitN(names[i], "@", 2)[0] != w && !(w == "libc.so.6" && strings.Contains(names[i], "restore")) {
			return false
		}
	}
	return true
}

// What a signal on another stack interrupted is found where that stack is given too.
func TestWalkOverStacks(t *testing.T) {
	onlyAMD64(t)
	p := start(t, compile(t, "gcc", "walk.c", "-pthread"), "altstack")
	s := p.sample(16 << 10)
	w := newWalker(t)
	_, end := w.Walk(s, p.maps, nil)
	if end.Reason != OtherStack || end.SP == 0 {
		t.Fatalf("ended with %v, stack pointer %#x", end.Reason, end.SP)
	}
	s.Also = []Stack{p.piece(end.SP, 16<<10)}
	frames, end := w.Walk(s, p.maps, nil)
	names := p.maps.names(frames)
	if end.Reason != Root || !slices.Contains(names, "onSignal") || !slices.Contains(names, "main") {
		t.Errorf("ended with %v: %v", end.Reason, names)
	}
}
