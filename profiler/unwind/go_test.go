package unwind

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goRows is GoFrames by the rows of .debug_frame, which are made of pcsp, and by names.
type goRows struct {
	table    *Table
	m        *mapped
	from, to uint64 // file addresses of Go's code
}

func newGoRows(m *mapped) goRows {
	g := goRows{table: m.code.Table, m: m}
	for _, y := range m.symbols {
		switch y.Name {
		case "runtime.text":
			g.from = y.Value
		case "runtime.etext":
			g.to = y.Value
		}
	}
	return g
}

func (g goRows) GoFrame(addr uint64) GoFrame {
	rule, _ := g.table.find(addr)
	if rule == noRule || addr < g.from || addr >= g.to {
		return GoFrame{}
	}
	f := GoFrame{Kind: GoPlain, Size: uint32(g.table.rule(rule).cfaValue) - 8}
	switch name := (space{*g.m}).name(Frame{PC: addr + g.m.code.Bias}); strings.TrimSuffix(name, ".abi0") {
	case "runtime.goexit", "runtime.mstart", "runtime.rt0_go":
		f.Kind = GoRoot
	case "runtime.systemstack", "runtime.mcall", "runtime.morestack", "runtime.gogo", "gogo":
		f.Kind = GoSwitches
	case "runtime.asmcgocall", "runtime.cgocallback":
		f.Kind = GoCgo
	case "crosscall2":
		f.Kind = GoCrosscall
	case "runtime.sigreturn__sigaction":
		f.Kind = GoSigreturn
	case "runtime.sigpanic":
		f.Kind = GoPanic
	}
	return f
}

// Go, C called by Go, and Go called by C called by Go. Stacks that change are followed with the
// pieces that the end of a walk asks for, and end with a reason of their own without them.
func TestWalkGo(t *testing.T) {
	onlyAMD64(t)
	if testing.Short() {
		t.Skip("links a program")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc, which cgo needs, is not installed")
	}
	program := filepath.Join(t.TempDir(), "gostack")
	cmd := exec.Command("go", "build", "-o", program, "./testdata/gostack")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "CGO_CFLAGS=-O2 -fomit-frame-pointer", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	tests := []struct {
		mode, want string
		first      []Reason // on the way, one for each further piece
		prints     bool     // the program tells its callers
	}{
		{"go", "main.stop main.inner main.inner main.inner main.inner main.main runtime.main", nil, true},
		{"goroutine", "main.stop main.inner main.inner main.inner main.main.func1 runtime.goexit", nil, true},
		{"cgo", "inC callsC * runtime.asmcgocall * main.main runtime.main", []Reason{CgoSwitch}, false},
		{"callback", "main.stop main.inner main.inner * runtime.cgocallback crosscall2 goCallback callsGo * runtime.asmcgocall * main.main", []Reason{CgoSwitch, CgoSwitch}, true},
	}
	for _, c := range tests {
		for _, tables := range []bool{true, false} {
			name := c.mode + " by frame pointers"
			if tables {
				name = c.mode + " by tables"
			}
			t.Run(name, func(t *testing.T) {
				p := start(t, program, c.mode)
				var found []uint64
				if c.prints {
					found = p.lines()
				}
				for i := range p.maps {
					if m := &p.maps[i]; m.code.Flags&CodeGo != 0 && tables {
						m.code.Go = newGoRows(m)
					} else if m.code.Flags&CodeGo != 0 && c.mode != "go" && c.mode != "goroutine" {
						t.Skip("in a cgo program, only Go's tables tell Go's code from C's")
					}
				}
				w := newWalker(t)
				s := p.sample(16 << 10)
				frames, end := w.Walk(s, p.maps, nil)
				for _, r := range c.first {
					if end.Reason == Root {
						break // both stacks lie in the copied bytes
					}
					if end.Reason != r {
						t.Fatalf("ended with %v in %v, want %v", end.Reason, p.maps.names(frames), r)
					}
					s.Also = append(s.Also, p.piece(end.FP, 16<<10))
					frames, end = w.Walk(s, p.maps, frames[:0])
				}
				names := p.maps.names(frames)
				for i, n := range names {
					names[i] = strings.TrimSuffix(n, ".abi0")
				}
				if end.Reason != Root {
					t.Errorf("ended with %v", end.Reason)
				}
				at := slices.IndexFunc(names, func(n string) bool { return n == strings.Fields(c.want)[0] })
				if at < 0 || !follow(names[at:], strings.Fields(c.want)) {
					t.Errorf("frames %v\nwant %s", names, c.want)
				}
				if at < 0 || !c.prints || c.mode == "callback" {
					return
				}
				for i, a := range found[1:] { // the first is stop itself, at another call
					if at+1+i >= len(frames) || frames[at+1+i].PC != a {
						t.Errorf("frame %d of %v is not %#x, as runtime.Callers has it", at+1+i, names, a)
					}
				}
			})
		}
	}
}
