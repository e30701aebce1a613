package sourcemap

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A change replaces the first find of a text, or what is at an offset from its end.
type change struct{ find, replacement string }

func trailOf(t *testing.T, text string, changes ...change) (*Trail, string) {
	t.Helper()
	trail := NewTrail(text)
	for _, c := range changes {
		at := strings.Index(text, c.find)
		if at < 0 {
			t.Fatalf("%q is not in %q", c.find, text)
		}
		trail = trail.Edit(text, at, at+len(c.find), c.replacement)
		text = text[:at] + c.replacement + text[at+len(c.find):]
	}
	return trail, text
}

func TestDriftTrail(t *testing.T) {
	const two = "package p\nfunc Cold() {\n\tloop\n\tx++\n\ty--\n}\nfunc Hot() {\n\tloop\n\tx++\n\ty--\n}\n"
	const cold = "func Cold() {\n\tloop\n\tx++\n\ty--\n}\n"
	tests := []struct {
		name, text string
		changes    []change
		want       string
	}{
		{"nothing", "a\nb\n", nil, "1 2"},
		{"no newline at the end", "a\nb", []change{{"b", "b\nc"}}, "1 2 -"},
		{"a function is cut", two, []change{{cold, ""}}, "1 7 8 9 10 11"},
		{"cut, and the cut undone", two, []change{{cold, ""}, {"package p\n", "package p\n" + cold}}, "1 2 3 4 5 6 7 8 9 10 11"},
		{"cut and pasted below one with the same body", two, []change{{cold, ""}, {"y--\n}\n", "y--\n}\n" + cold}}, "1 7 8 9 10 11 2 3 4 5 6"},
		{"the body is cut and pasted below", two, []change{{"\tloop\n\tx++\n\ty--\n", ""}, {"func Hot() {\n", "func Hot() {\n\tloop\n\tx++\n\ty--\n"}}, "1 2 6 7 - - - 8 9 10 11"},
		{"a copy above", "a\nhot\nb\n", []change{{"hot\n", "hot\nhot\n"}}, "1 2 - 3"},
		{"a line inserted before an equal one", "a\nhot\nb\n", []change{{"a\n", "a\nhot\n"}}, "1 - 2 3"},
		{"a line inserted after the end of the line above an equal one", "a\nhot\nb\n", []change{{"a", "a\nhot"}}, "1 - 2 3"},
		{"altered", "a\nhot\nb\n", []change{{"hot", "hat"}}, "1 - 3"},
		{"altered and undone beside an equal line", "hot\nhot\nb\n", []change{{"hot\nhot", "hot\nhat"}, {"hat", "hot"}}, "1 2 3"},
		{"typed and joined again", "a\nf(x, y)\nb\n", []change{{", ", ",\n"}, {",\n", ", "}}, "1 2 3"},
		{"indented", "a\nhot\nb\n", []change{{"hot", "\t\thot"}}, "1 2 3"},
		{"all replaced by what was there", two, []change{{two, ""}, {"", two}}, "1 2 3 4 5 6 7 8 9 10 11"},
		{"line ends joined", "a\nb\nc\n", []change{{"\nb", ""}}, "1 3"},
		{"the final newline is removed and put back", "a\nb\n", []change{{"b\n", "b"}, {"b", "b\n"}}, "1 2"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			trail, text := trailOf(t, test.text, test.changes...)
			same := NewLineMap([]byte(test.text), []byte(test.text))
			m := trail.Follow(same, []byte(test.text), []byte(text))
			if diff := cmp.Diff(test.want, mapping(m)); diff != "" {
				t.Errorf("lines of %q (-want +got):\n%s", text, diff)
			}
		})
	}
}

// What changed before the first text is found by comparing, and restored when it is edited back.
func TestDriftTrailAfterDiff(t *testing.T) {
	recorded, opened := "a\nb\nc\nd\n", "new\na\nB\nc\nd\n"
	first := NewLineMap([]byte(recorded), []byte(opened))
	trail, text := trailOf(t, opened, change{"c\n", "x\nc\n"})
	if diff := cmp.Diff("- 1 - - 3 4", mapping(trail.Follow(first, []byte(recorded), []byte(text)))); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	trail, text = trailOf(t, opened, change{"B", "b"})
	if diff := cmp.Diff("- 1 2 3 4", mapping(trail.Follow(first, []byte(recorded), []byte(text)))); diff != "" {
		t.Errorf("lines after the edit was taken back (-want +got):\n%s", diff)
	}
}

// The second way: lines are told apart by a number that no edit alters, so comparing cannot be wrong.
// The texts that the trail sees have the numbers taken away, and most lines are equal then.
func TestDriftTrailFollowsLines(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	for round := range 2000 {
		type line struct {
			id   int // 0: new
			text string
		}
		var lines []line
		for i := range 4 + r.IntN(12) {
			lines = append(lines, line{i + 1, string("ab"[r.IntN(2)])})
		}
		join := func() string {
			var b strings.Builder
			for _, l := range lines {
				b.WriteString(l.text + "\n")
			}
			return b.String()
		}
		trail, total := NewTrail(join()), NewTrail(join())
		for range 1 + r.IntN(8) {
			before := join()
			from := r.IntN(len(lines) + 1)
			to := min(len(lines), from+r.IntN(3))
			var added []line
			if from == to {
				for range 1 + r.IntN(3) {
					added = append(added, line{0, string("ab"[r.IntN(2)])})
				}
			}
			var b strings.Builder
			for _, l := range added {
				b.WriteString(l.text + "\n")
			}
			trail = trail.Edit(before, 2*from, 2*to, b.String())
			total = total.Then(NewTrail(before).Edit(before, 2*from, 2*to, b.String()))
			lines = append(lines[:from:from], append(added, lines[to:]...)...)
		}
		var want []int32
		for _, l := range lines {
			want = append(want, int32(l.id))
		}
		if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(trail.from)); diff != "" {
			t.Fatalf("round %d (-want +got):\n%s", round, diff)
		}
		if diff := cmp.Diff(fmt.Sprint(want), fmt.Sprint(total.from)); diff != "" {
			t.Fatalf("round %d, put together (-want +got):\n%s", round, diff)
		}
	}
}

// Whatever is edited, what Follow answers obeys the laws of a LineMap.
func FuzzDriftTrail(f *testing.F) {
	f.Add("a\nb\n", "b\na\nb", 1, 3, "\nx")
	f.Add("\ufeffa\r\n", "a", 0, 0, "\r")
	f.Fuzz(func(t *testing.T, recorded, opened string, start, end int, replacement string) {
		start = max(0, min(start, len(opened)))
		end = max(start, min(end, len(opened)))
		text := opened[:start] + replacement + opened[end:]
		trail := NewTrail(opened).Edit(opened, start, end, replacement)
		back := trail.Edit(text, start, start+len(replacement), opened[start:end])
		for _, c := range []struct {
			trail *Trail
			text  string
		}{{trail, text}, {back, opened}} {
			if lines := len(splitLines([]byte(c.text))); len(c.trail.from) != lines {
				t.Fatalf("%d lines are followed; the text has %d", len(c.trail.from), lines)
			}
			m := c.trail.Follow(NewLineMap([]byte(recorded), []byte(opened)), []byte(recorded), []byte(c.text))
			checkMap(t, m, []byte(recorded), []byte(c.text))
		}
	})
}
