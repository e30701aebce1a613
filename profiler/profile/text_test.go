package profile

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// everyProfile uses each part of the profile's text form, spelled as AppendText spells it.
const everyProfile = `cpu ns
start: 2026-01-31T15:04:05.123Z
length: 1.5s
task 1: pid=7 tid=8 parent=1 comm=worker
task 2:
warning: kind=lost count=3 text="3 samples were lost; record at a lower frequency"
main@main.c:3;fib@fib.c:9;fib@fib.c:10 10
/bin/x!main.main@x.go:7|start=5|entry;main.f@x.go:2:9|inlined 20 count=2 time=1.5ms task=1
[broken stack];[kernel]!do_syscall_64;"std::sort<int>(int*, int*)"@/a@v1/!b.cc -5 time=2ms
- 1 time=2ms
"-";"start:";"x;y";"nul\x00\xff";"";@"C:\\x.c":3;@:0:7;"m m"! 1 time=2ms
`

const everyCapture = `capture
target: dir=/src/fib pid=7 machine package=./fib run="Test Fib" bench=.
command: go test "a b" x=1
engine: bpf
machine: "Linux 6.18.44 x86_64, 2 CPUs"
start: 2026-01-31T15:04:05.123Z
length: 1.5s
interrupted: true
task 1: pid=7 tid=8 parent=1 comm=fib.test
mapping 1: kind=file path=/tmp/fib.test buildid=5f3c deleted offsets
mapping 2: kind=kernel path=[kernel]
mapping 3:
frame 1: /tmp/fib.test!main.main@main.go:3|entry
frame 2: main.f@main.go:9|inlined
location 1: mapping=1 addr=0x401000 return frames=2,1
location 2: addr=0x0
location 3: mapping=2 addr=0xffffffffffffffff
stack 1: parent=0 location=1
stack 2: parent=1 location=3
series: kind=cpu unit=ns period=1001001
1 1001001 time=1.001ms task=1
0 5 count=3 time=2ms
series: kind=alloc unit=bytes
2 4096
source: path=main.go local=/src/fib/main.go note="changed since" text
|package main
|
|	# not a comment
"form feed\f\n"
"no final newline"
source: path=empty.go text
source: path=gone.go
warning: kind=lost count=3 text="3 samples were lost"
`

func TestProfileTextIsExact(t *testing.T) {
	p, err := ParseProfile([]byte(everyProfile))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(everyProfile, string(p.AppendText(nil))); diff != "" {
		t.Errorf("text changed (-want +got):\n%s", diff)
	}
	want := Frame{
		Module: "/bin/x", Func: "main.main", File: "x.go", Line: 7, StartLine: 5, Entry: true,
	}
	if got := p.Frames[p.Stacks.Leaf(p.Stacks.Parent(p.Samples.Stack[1]))]; got != want {
		t.Errorf("got frame %#v, want %#v", got, want)
	}
	if got, want := p.Samples.At(1), (Sample{Stack: 5, Task: 1, Time: 1500 * time.Microsecond, Count: 2, Weight: 20}); got != want {
		t.Errorf("got sample %+v, want %+v", got, want)
	}
}

func TestCaptureTextIsExact(t *testing.T) {
	c, err := ParseCapture([]byte(everyCapture))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(everyCapture, string(c.AppendText(nil))); diff != "" {
		t.Errorf("text changed (-want +got):\n%s", diff)
	}
	if got, want := string(c.Symbols.Sources[0].Text), "package main\n\n\t# not a comment\nform feed\f\nno final newline"; got != want {
		t.Errorf("got source %q, want %q", got, want)
	}
	if c.Symbols.Sources[1].Text == nil || c.Symbols.Sources[2].Text != nil {
		t.Error("an empty source and a missing one are not told apart")
	}
}

func TestTextIsLenient(t *testing.T) {
	p, err := ParseProfile([]byte("\r\n# a comment\r\n  cpu\tns\r\n\r\n main ; 1\n"))
	if err == nil {
		t.Errorf("a blank before a semicolon was read as %s", p.AppendText(nil))
	}
	p, err = ParseProfile([]byte("\r\n# a comment\r\n  cpu \t ns\r\n\r\n main;f@x.c \t 1   count=2\t\r\nlength: 1s\nlength 3\nC::f:1@x 4"))
	if err != nil {
		t.Fatal(err)
	}
	const want = "cpu ns\nlength: 1s\nmain;f@x.c 1 count=2\nlength 3\nC::f:1@x 4\n"
	if diff := cmp.Diff(want, string(p.AppendText(nil))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestShortFormSaysNothingMore(t *testing.T) {
	p, err := ParseProfile([]byte("cpu ns\nmain@main.c:3;fib@fib.c:9 10\nmain@main.c:3;fib@fib.c:9 20\n"))
	if err != nil {
		t.Fatal(err)
	}
	stacks := NewStacks[FrameID]()
	leaf := stacks.Intern(stacks.Intern(0, 1), 2)
	want := &Profile{
		Kind: CPU, Unit: Nanoseconds, Tasks: make([]Task, 1), Stacks: stacks,
		Frames: []Frame{{}, {Func: "main", File: "main.c", Line: 3}, {Func: "fib", File: "fib.c", Line: 9}},
		Samples: Samples{
			Stack: []StackID{leaf, leaf}, Task: []TaskID{0, 0}, Time: []time.Duration{0, 0}, Weight: []int64{10, 20},
		},
	}
	if diff := cmp.Diff(want, p, equal); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestProfileTextErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", `line 1: the kind and the unit are missing; begin with a line such as "cpu ns"`},
		{"main;fib", `line 1: "main;fib" is not a kind and a unit; begin with a line such as "cpu ns"`},
		{"a b c", `line 1: "a b c" is not a kind and a unit`},
		{`"cpu`, `line 1: "\"cpu" is not a quoted string; close the quote`},
		{"cpu ns\n\nmain;fib", `line 3: weight "" is not a whole number of 64 bits; write the stack, a blank and the weight`},
		{"cpu ns\nmain 1.5", `line 2: weight "1.5" is not a whole number`},
		{"cpu ns\nmain 99999999999999999999", `line 2: weight "99999999999999999999" is not a whole number of 64 bits`},
		{"cpu ns\nmain;;fib 1", `line 2: a frame is missing at ";fib 1"; write "" for a frame of which nothing is known`},
		{"cpu ns\nstd sort 1", `line 2: weight "sort" is not a whole number`},
		{"cpu ns\nf@x.c:y 1", `line 2: line or column "y" in "f@x.c:y 1" is not a whole number; write function@file:line:column`},
		{"cpu ns\nf@x.c:1:2:3 1", `line 2: unexpected ":3 1" in a frame; write module!function@file:line:column`},
		{"cpu ns\nf|inline 1", `line 2: unknown mark "inline"; the marks are inlined, entry and start=LINE`},
		{"cpu ns\nf|start=x 1", `line 2: start line "x" is not a whole number`},
		{"cpu ns\nf 1 time=3", `line 2: time "3" is not a duration; write a number and a unit, as in 1.5ms`},
		{"cpu ns\nf 1 time=2ms\nf 1 time=1ms", `line 3: time 1ms comes after 2ms; order the samples by time`},
		{"cpu ns\nf 1 task=1", `line 2: task 1 is not declared; put its line "task 1: …" before this one`},
		{"cpu ns\nf 1 weight=1", `line 2: unknown field "weight"; the fields here are count, time and task`},
		{"cpu ns\nf 1 ; 2", `line 2: unexpected "; 2"; write fields as key=value`},
		{"cpu ns\ntask 2: pid=1", `line 2: expected "task 1:"; number the tasks 1, 2, 3 without gaps`},
		{"cpu ns\ntask: pid=1", `line 2: expected "task 1:"`},
		{"cpu ns\ntask 1: pid=x", `line 2: pid "x" is not a whole number of 64 bits`},
		{"cpu ns\ntask 1: pid=1x", `line 2: pid "1x" is not a whole number of 64 bits`},
		{`cpu ns` + "\n" + `task 1: comm="a"b`, `line 2: unexpected "b" after comm; put a blank between fields`},
		{"cpu ns\nstart: yesterday", `line 2: start "yesterday" is not a time; write it as 2026-01-31T15:04:05.123Z`},
		{"cpu ns\nlength: 1s\nlength: 2s", `line 3: a second line "length:"; remove one`},
		{"cpu ns\nlength 1: 1s", `line 2: "length 1:" has no number; write "length:"`},
		{"cpu ns\nlength: 1s 2s", `line 2: unexpected "2s" after "length:"; quote a value that has blanks`},
		{"cpu ns\nmain: 10", `line 2: unknown line "main:"; the lines of a profile are`},
	} {
		p, err := ParseProfile([]byte(tt.text))
		if err == nil {
			t.Errorf("%q was read as %q, want error %s", tt.text, p.AppendText(nil), tt.want)
		} else if !strings.HasPrefix(err.Error(), "profile text, "+tt.want) {
			t.Errorf("%q:\ngot  %s\nwant profile text, %s…", tt.text, err, tt.want)
		}
	}
}

func TestCaptureTextErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", `line 1: the first line is not "capture"`},
		{"cpu ns\nmain 1", `line 1: the first line is not "capture"; begin with it, or parse a profile`},
		{"capture\n1 10", `line 2: "1 10" comes before any series; put a line "series: kind=cpu unit=ns" above`},
		{"capture\nseries: kind=cpu\n1 10", `line 3: stack 1 is not declared; put its line "stack 1: …" before this one`},
		{"capture\nseries: kind=cpu\nmain 10", `line 3: stack "main" is not the number of an entry`},
		{"capture\nseries: kind=cpu\nseries: kind=cpu", `line 3: a second series of kind "cpu"`},
		{"capture\nstack 1: location=1", `line 2: location 1 is not declared`},
		{"capture\nlocation 1:\nstack 1: location=1 parent=1", `line 3: stack 1 is not declared`},
		{"capture\nlocation 1:\nstack 1: parent=0", `line 3: the stack has no location; add location=`},
		{"capture\nlocation 1: mapping=1", `line 2: mapping 1 is not declared`},
		{"capture\nlocation 1: frames=1", `line 2: frame 1 is not declared`},
		{"capture\nlocation 1: frames=0", `line 2: frame 0 is no frame`},
		{"capture\nlocation 1: frames=", `line 2: frame "" is not the number of an entry`},
		{"capture\nlocation 1: addr=x", `line 2: addr "x" is not an address; write it as 0x401000`},
		{"capture\nmapping 1: kind=exe", `line 2: unknown kind of mapping "exe"; write none, file, kernel, vdso or anonymous`},
		{"capture\nframe 1: a b", `line 2: unexpected " b" after a frame`},
		{"capture\nframe 1:", `line 2: a frame is missing at ""`},
		{"capture\nframe 2: a", `line 2: expected "frame 1:"`},
		{"capture\ninterrupted: no", `line 2: interrupted is "no"; write "interrupted: true" or leave the line out`},
		{"capture\nengine: a\nengine: b", `line 3: a second line "engine:"`},
		{"capture\nsource: path=a text\n|a\n\"b", `line 4: "\"b" is not a quoted string`},
		{"capture\nsource: path=a text\n|a\n\"b\" c", `line 4: unexpected "c" after "source text:"`},
		{"capture\nsource: path=a\n|a", `line 3: "|a" comes before any series`},
		{"capture\nthing: 1", `line 2: unknown line "thing:"; the lines of a capture are`},
		{"capture\ntarget 1: pid=1", `line 2: "target 1:" has no number; write "target:"`},
	} {
		c, err := ParseCapture([]byte(tt.text))
		if err == nil {
			t.Errorf("%q was read as %q, want error %s", tt.text, c.AppendText(nil), tt.want)
		} else if !strings.HasPrefix(err.Error(), "capture text, "+tt.want) {
			t.Errorf("%q:\ngot  %s\nwant capture text, %s…", tt.text, err, tt.want)
		}
	}
}

func TestNastyNames(t *testing.T) {
	for _, a := range nasty {
		for _, b := range nasty {
			for _, f := range []Frame{
				{Func: a, Module: b}, {Func: a, File: b}, {Func: a, File: b, Line: 3, Inlined: true}, {Module: a, File: b, Column: 2},
			} {
				p := &Profile{Kind: Kind(a), Unit: Unit(b), Tasks: []Task{{}, {Comm: a}}, Frames: []Frame{{}, f, {Func: b}}, Stacks: NewStacks[FrameID]()}
				p.Samples.Append(Sample{Stack: p.Stacks.Intern(p.Stacks.Intern(0, 1), 2), Count: 1, Weight: 1})
				text := p.AppendText(nil)
				got, err := ParseProfile(text)
				if err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				var frames []Frame
				for id := range got.Stacks.LeafFirst(got.Samples.Stack[0]) {
					frames = append(frames, got.Frames[id])
				}
				if !slices.Equal(frames, []Frame{{Func: b}, f}) || got.Kind != p.Kind || got.Unit != p.Unit || got.Tasks[1] != p.Tasks[1] {
					t.Fatalf("%q was read as %#v of %q in %q, want %#v", text, frames, got.Kind, got.Unit, f)
				}
			}
		}
	}
}

func TestTargetString(t *testing.T) {
	for _, tt := range []struct {
		target Target
		want   string
	}{
		{Target{Package: "./fib", Run: "TestFib", Bench: ".", Command: []string{"x"}}, "go test ./fib -run TestFib -bench ."},
		{Target{Command: []string{"target/debug/deps/fib-01", "--exact", "a::b"}, Run: "cargo test a::b"}, "cargo test a::b"},
		{Target{Machine: true}, "whole machine"},
		{Target{PID: 71}, "process 71"},
		{Target{Command: []string{"sh", "-c", "a b", ""}}, `sh -c "a b" ""`},
		{Target{}, "nothing"},
	} {
		if got := tt.target.String(); got != tt.want {
			t.Errorf("%+v is %q, want %q", tt.target, got, tt.want)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add(everyProfile)
	for _, w := range nasty {
		f.Add("cpu ns\nmain;" + w + "@" + w + ":3|" + w + " 10 " + w)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProfile([]byte(text))
		if err != nil {
			if p != nil {
				t.Fatal("both a profile and an error")
			}
			return
		}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		printed := p.AppendText(nil)
		again, err := ParseProfile(printed)
		if err != nil {
			t.Fatalf("printed as %q: %v", printed, err)
		}
		if diff := cmp.Diff(p, again, equal); diff != "" {
			t.Fatalf("printed as %q (-want +got):\n%s", printed, diff)
		}
	})
}

func FuzzParseCapture(f *testing.F) {
	f.Add(everyCapture)
	for seed := range uint64(20) {
		f.Add(string(randomCapture(seed).AppendText(nil)))
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCapture([]byte(text))
		if err != nil {
			if c != nil {
				t.Fatal("both a capture and an error")
			}
			return
		}
		roundTrip(t, c)
	})
}

// FuzzCaptureText prints random captures with names the fuzzer chooses.
func FuzzCaptureText(f *testing.F) {
	for seed := range uint64(100) {
		f.Add(seed, nasty[seed%uint64(len(nasty))])
	}
	f.Fuzz(func(t *testing.T, seed uint64, word string) {
		c := randomCapture(seed, word, word, word, word+word)
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c)
		for _, s := range c.Series { // what is valid as a capture is valid as a profile
			p, err := c.Profile(s.Kind)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
			text := p.AppendText(nil)
			again, err := ParseProfile(text)
			if err != nil {
				t.Fatalf("printed as %q: %v", text, err)
			}
			if diff := cmp.Diff(string(text), string(again.AppendText(nil))); diff != "" {
				t.Fatalf("(-want +got):\n%s", diff)
			}
		}
	})
}

func roundTrip(t *testing.T, c *Capture) {
	t.Helper()
	text := c.AppendText(nil)
	again, err := ParseCapture(text)
	if err != nil {
		t.Fatalf("printed as %q: %v", text, err)
	}
	if diff := cmp.Diff(c, again, equal); diff != "" {
		t.Fatalf("printed as %s (-want +got):\n%s", text, diff)
	}
}
