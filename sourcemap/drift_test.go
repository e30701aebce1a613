package sourcemap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mapping spells a LineMap as a person would draw it: for each present line the recorded one, "-"
// for none.
func mapping(m *LineMap) string {
	var words []string
	_, n := m.Lines()
	for j := 1; j <= n; j++ {
		if i, ok := m.Then(j); ok {
			words = append(words, fmt.Sprint(i))
		} else {
			words = append(words, "-")
		}
	}
	return strings.Join(words, " ")
}

func TestLineMap(t *testing.T) {
	tests := []struct {
		name, recorded, current string
		want                    string
		changed, edited         int
	}{
		{"equal", "a\nb\n", "a\nb\n", "1 2", 0, 0},
		{"both empty", "", "", "", 0, 0},
		{"all removed", "a\nb\n", "", "", 2, 2},
		{"all new", "", "a\n", "-", 1, 1},
		{"no final newline", "a\nb\n", "a\nb", "1 2", 0, 0},
		{"one line altered", "a\nb\nc\n", "a\nB\nc\n", "1 - 3", 2, 1},
		{"lines added in front", "a\nb\n", "x\ny\na\nb\n", "- - 1 2", 2, 2},
		{"line removed", "a\nb\nc\n", "a\nc\n", "1 3", 1, 1},
		{"CRLF is no change", "a\nb\n", "a\r\nb\r\n", "1 2", 0, 0},
		{"byte order mark", "\ufeffa\nb\n", "a\nb\n", "1 2", 0, 0},
		{"indentation is no change", "f()\nx = 1\n", "if c {\n\tf()\n\tx = 1\n}\n", "- 1 2 -", 2, 2},
		{"white space within a line is a change", "f()\nx = 1\ng()\n", "f()\nx  = 1\ng()\n", "1 - 3", 2, 1},
		{"white space in a literal is a change", "f()\ns = \"a b\"\ng()\n", "f()\ns = \"ab\"\ng()\n", "1 - 3", 2, 1},
		{"trailing space", "a\nb\n", "a  \nb\t\n", "1 2", 0, 0},
		{"a function is added after one that ends alike",
			"func a() {\n\tx()\n}\n\nfunc c() {\n\tz()\n}\n",
			"func a() {\n\tx()\n}\n\nfunc b() {\n\ty()\n}\n\nfunc c() {\n\tz()\n}\n",
			"1 2 3 4 - - - - 5 6 7", 4, 4},
		{"an added function begins with its first line",
			"p\nf {\nx\n}\nh {\ny\n}\ng {\nz\n}\nq\n", "P\nf {\nx\n}\ng {\nz\n}\nk {\ny\n}\nQ\n",
			"- 2 3 4 8 9 10 - - - -", 10, 8},
		{"a block of lines that the unchanged part has too is no block",
			"u1\nu2\nu3\na\nb\nc\nd\nu1\nu2\nu3\nz\n", "u1\nu2\nu3\nu1\nu2\nu3\na\nb\nc\nd\nz\n",
			"1 2 3 - - - 4 5 6 7 11", 6, 6},
		{"braces between replaced lines are not the same ones",
			"one\n}\n\ntwo\n", "uno\n}\n\ndos\n", "- - - -", 8, 4},
		{"braces between added lines are",
			"a\n}\n\nb\n", "a\nx\n}\n\n// doc\nb\n", "1 - 2 3 - 4", 2, 2},
		{"a block moves up",
			"a1\na2\na3\na4\na5\nf1\nf2\nf3\nz\n", "f1\nf2\nf3\na1\na2\na3\na4\na5\nz\n",
			"6 7 8 1 2 3 4 5 9", 0, 0},
		{"two lines are no block", "a\nb\nc\nf1\nf2\nz\n", "f1\nf2\na\nb\nc\nz\n", "- - 1 2 3 6", 4, 4},
		{"three lines that the text has twice are no block",
			"a\nb\nc\nd\nr1\nr2\nr3\nx\nr1\nr2\nr3\n", "r1\nr2\nr3\na\nb\nc\nd\nr1\nr2\nr3\nx\n",
			"- - - 1 2 3 4 5 6 7 8", 6, 6},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := NewLineMap([]byte(test.recorded), []byte(test.current))
			if d := cmp.Diff(test.want, mapping(m)); d != "" {
				t.Errorf("lines (-want +got):\n%s", d)
			}
			if m.Changed() != test.changed || m.Edited() != test.edited {
				t.Errorf("changed %d, edited %d; want %d, %d", m.Changed(), m.Edited(), test.changed, test.edited)
			}
			checkLaws(t, []byte(test.recorded), []byte(test.current))
		})
	}
}

func TestLineMapOutside(t *testing.T) {
	m := NewLineMap([]byte("a\n"), []byte("a\n"))
	for _, n := range []int{-1, 0, 2, 1 << 40} {
		if line, ok := m.Now(n); ok {
			t.Errorf("Now(%d) = %d", n, line)
		}
		if line, ok := m.Then(n); ok {
			t.Errorf("Then(%d) = %d", n, line)
		}
	}
}

// checkLaws checks what NewLineMap promises of any two texts.
func checkLaws(t *testing.T, recorded, current []byte) {
	t.Helper()
	m := NewLineMap(recorded, current)
	checkMap(t, m, recorded, current)
	if bytes.Equal(recorded, current) && m.Changed() != 0 {
		t.Fatalf("equal texts have %d changed lines", m.Changed())
	}
}

// checkMap checks what is true of every LineMap.
func checkMap(t *testing.T, m *LineMap, recorded, current []byte) {
	t.Helper()
	a, b := splitLines(recorded), splitLines(current)
	if na, nb := m.Lines(); na != len(a) || nb != len(b) {
		t.Fatalf("%d and %d lines; want %d and %d", na, nb, len(a), len(b))
	}
	last, matched := 0, 0
	for i := 1; i <= len(a); i++ {
		j, ok := m.Now(i)
		if !ok {
			continue
		}
		matched++
		if back, ok := m.Then(j); !ok || back != i {
			t.Fatalf("Then(Now(%d)=%d) = %d, %v", i, j, back, ok)
		}
		if !sameLine(a[i-1], b[j-1]) {
			t.Fatalf("Now(%d)=%d: %q became %q", i, j, a[i-1], b[j-1])
		}
		if m.isMoved(i - 1) {
			continue
		}
		if j <= last {
			t.Fatalf("Now(%d)=%d is not above %d", i, j, last)
		}
		last = j
	}
	for j := 1; j <= len(b); j++ {
		if i, ok := m.Then(j); ok {
			if now, ok := m.Now(i); !ok || now != j {
				t.Fatalf("Now(Then(%d)=%d) = %d, %v", j, i, now, ok)
			}
		}
	}
	if want := len(a) + len(b) - 2*matched; m.Changed() != want {
		t.Fatalf("Changed() = %d; want %d", m.Changed(), want)
	}
	if m.Edited() > m.Changed() || 2*m.Edited() < m.Changed() {
		t.Fatalf("Edited() = %d with %d changed", m.Edited(), m.Changed())
	}
}

// The second way: the textbook table of longest common subsequences.
func lcsLength(a, b [][]byte) int {
	table := make([][]int, len(a)+1)
	for i := range table {
		table[i] = make([]int, len(b)+1)
	}
	for i := range a {
		for j := range b {
			if sameLine(a[i], b[j]) {
				table[i+1][j+1] = table[i][j] + 1
			} else {
				table[i+1][j+1] = max(table[i][j+1], table[i+1][j])
			}
		}
	}
	return table[len(a)][len(b)]
}

func TestLineMapMatchesLongestSubsequence(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		text := func() [][]byte {
			var b []byte
			words := 1 + r.IntN(6)
			for range r.IntN(14) {
				b = append(b, "}abcdef"[r.IntN(words+1)], '\n')
			}
			return splitLines(b)
		}
		a, b := text(), text()
		if len(a) == 0 || len(b) == 0 {
			continue
		}
		m := &LineMap{now: make([]int32, len(a)), then: make([]int32, len(b))}
		d := newDiffer(m, a, b, 0, len(a), len(b))
		d.matchInOrder()
		count := func() (n int) {
			for _, j := range m.now {
				if j != 0 {
					n++
				}
			}
			return n
		}
		want := lcsLength(a, b)
		if got := count(); got != want {
			t.Fatalf("%q → %q: %d lines matched; want %d", a, b, got, want)
		}
		if d.slide(); count() != want {
			t.Fatalf("%q → %q: %d lines matched after sliding; want %d", a, b, count(), want)
		}
		join := func(lines [][]byte) []byte { return append(bytes.Join(lines, []byte("\n")), '\n') }
		checkLaws(t, join(a), join(b))
	}
}

func FuzzLineMap(f *testing.F) {
	f.Add([]byte("a\nb\nc\n"), []byte("a\r\nx\nc"))
	f.Add([]byte("f {\n x\n}\n\ng {\n y\n}\n"), []byte("g {\n y\n}\n\nf {\n x\n}\n"))
	f.Add([]byte("\ufeff\n\n\n"), []byte("\n\xff"))
	f.Fuzz(func(t *testing.T, recorded, current []byte) {
		checkLaws(t, recorded, current)
	})
}

// program is a text like source code of n lines, and edit alters it in some places.
func program(r *rand.Rand, n int) [][]byte {
	var text [][]byte
	for i := 0; len(text) < n; i++ {
		text = append(text, fmt.Appendf(nil, "func f%d(x int) (int, error) {", i))
		for j := range 3 + r.IntN(20) {
			switch r.IntN(4) {
			case 0:
				text = append(text, []byte("\tif err != nil {"), []byte("\t\treturn 0, err"), []byte("\t}"))
			default:
				text = append(text, fmt.Appendf(nil, "\tx += g%d(x, %d) // some words to fill the line", j, r.IntN(n)))
			}
		}
		text = append(text, []byte("\treturn x, nil"), []byte("}"), nil)
	}
	return text[:n]
}

func edit(r *rand.Rand, text [][]byte, edits int) [][]byte {
	text = append([][]byte(nil), text...)
	for i := range edits {
		at := r.IntN(len(text))
		switch r.IntN(3) {
		case 0:
			text[at] = fmt.Appendf(nil, "\tedited(%d)", i)
		case 1:
			text = append(text[:at], append([][]byte{fmt.Appendf(nil, "\tadded(%d)", i)}, text[at:]...)...)
		case 2:
			text = append(text[:at], text[at+1:]...)
		}
	}
	return text
}

func TestLineMapWorstCases(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	text := program(r, 20000)
	shuffled := append([][]byte(nil), text...)
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	join := func(lines [][]byte) []byte { return append(bytes.Join(lines, []byte("\n")), '\n') }
	m := NewLineMap(join(text), join(shuffled))
	if m.Changed() < 20000 {
		t.Errorf("%d changed lines of a shuffled text", m.Changed())
	}
	// What was moved as a whole is found although the order cannot be compared any more.
	var turned [][]byte
	for at := len(text) - 100; at >= 0; at -= 100 {
		turned = append(turned, text[at:at+100]...)
	}
	m = NewLineMap(join(text), join(turned))
	if m.Changed() > 2000 {
		t.Errorf("%d changed lines of a text of which blocks of 100 lines were moved", m.Changed())
	}
	checkLaws(t, join(text), join(turned))
}

func BenchmarkLineMap(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	join := func(lines [][]byte) []byte { return append(bytes.Join(lines, []byte("\n")), '\n') }
	large := program(r, 20000)
	shuffled := append([][]byte(nil), large...)
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	other := program(rand.New(rand.NewPCG(7, 8)), 20000)
	for i := range other {
		if i%3 == 0 {
			other[i] = fmt.Appendf(nil, "other %d", i)
		}
	}
	text := program(r, 5000)
	for _, bench := range []struct {
		name string
		a, b [][]byte
	}{
		{"lines=5000/edits=0", text, text},
		{"lines=5000/edits=1", text, edit(r, text, 1)},
		{"lines=5000/edits=10", text, edit(r, text, 10)},
		{"lines=5000/edits=500", text, edit(r, text, 500)},
		{"lines=20000/different", large, other},
		{"lines=20000/shuffled", large, shuffled},
	} {
		b.Run(bench.name, func(b *testing.B) {
			x, y := join(bench.a), join(bench.b)
			for b.Loop() {
				NewLineMap(x, y)
			}
		})
	}
}
