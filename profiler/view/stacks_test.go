package view

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// stackProfile makes a profile of lines "time weight root;…;leaf", in ms.
func stackProfile(lines ...string) *profile.Profile {
	var samples []vectorSample
	for _, line := range lines {
		var x vectorSample
		fields := strings.SplitN(line, " ", 3)
		fmt.Sscan(fields[0], &x.time)
		fmt.Sscan(fields[1], &x.weight)
		if len(fields) == 3 {
			x.stack = fields[2]
		}
		samples = append(samples, x)
	}
	return vectorProfile(samples)
}

func filtered(t *testing.T, s *Source, f Filter) *Selection {
	t.Helper()
	sel, err := s.Filter(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

// rowList is "name total/self" of each row, in their order.
func rowList(rows []StackRow) []string {
	var list []string
	for _, r := range rows {
		list = append(list, fmt.Sprintf("%s %.4g/%.4g", r.Name, r.Total, r.Self))
	}
	return list
}

func wantRows(t *testing.T, got []StackRow, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, rowList(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDeviations(t *testing.T) {
	linux := []string{
		"0 1 /usr/lib/x86_64-linux-gnu/libc-2.31.so!__read", "1 1 /usr/lib/libstdc++.so.6!operator new(unsigned long)",
		"3 1 [kernel.kallsyms]!do_syscall_64", "5 1 /home/u/my-app!github.com/foo/bar.(*T).M", "6 1 [vdso]!__vdso_clock_gettime",
	}
	for _, c := range []struct {
		name    string
		filter  Filter
		samples []string
		want    []string
	}{
		{"modules have more characters", Filter{Group: "{%}!->module $1"}, linux, []string{
			"module kernel 1/1", "module libc-2.31.so 1/1", "module libstdc++.so.6 1/1", "module my-app 1/1", "module vdso 1/1", "ROOT 5/0"}},
		{"module entries are whole", Filter{Group: "[c] {%}!=>module $1"}, []string{"0 1 /a b/my app:1!f", "1 1 [kernel.kallsyms]!g", "2 1 nothing"}, []string{
			"module kernel <<kernel!g>> 1/1", "module my app:1 <<my app:1!f>> 1/1", "nothing 1/1", "ROOT 3/0"}},
		{"Go packages", Filter{Group: "{go}!->package $1"}, []string{
			"0 1 a!github.com/x/y.(*T).M", "1 2 a!main.main;a!gopkg.in/yaml%2ev3.F", "2 3 slices.SortFunc[go.shape.[]github.com/x/y.T]", "3 4 libc!printf", "4 5 c!fold.part.0", "5 6 std::f<a.b>(int)"}, []string{
			"std::f<a.b>(int) 6/6", "c!fold.part.0 5/5", "libc!printf 4/4", "package slices 3/3", "package gopkg.in/yaml.v3 2/2", "package github.com/x/y 1/1", "ROOT 21/0", "package main 2/0"}},
		{"an empty include element", Filter{Include: "b;"}, []string{"0 1 a;b", "1 1 a"}, []string{"b 1/1", "ROOT 1/0", "a 1/0"}},
		{"entry or simple, each frame", Filter{Group: "x!->G;y!=>G"}, []string{"0 1 x!a;y!b;x!c;y!d", "1 1 y!b;y!d"}, []string{
			"G <<y!b>> 2/1", "G <<y!d>> 1/1", "ROOT 2/0", "G 1/0"}},
		{"braces stay", Filter{}, []string{"0 1 m!f{1};m!g {x}", "1 1 m!f{2};{z}"}, []string{"m!g {x} 1/1", "{z} 1/1", "ROOT 2/0", "m!f{1} 1/0", "m!f{2} 1/0"}},
		{"a loss folds as a gain does", Filter{FoldPercent: 50}, []string{"0 -10 m;a", "1 -1 m;b"}, []string{"a -10/-10", "m -11/-1", "ROOT -11/0"}},
		{"unknown symbols are one", Filter{}, []string{"0 1 /x/lib.so!?", "1 2 /y/lib.so!?"}, []string{"lib.so!? 3/3", "ROOT 3/0"}},
		{"a folded root keeps its group", Filter{Group: "a!->A", Fold: "^A"}, []string{"0 1 a!f;b;a!g"}, []string{"b 1/1", "A 1/0", "ROOT 1/0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantRows(t, filtered(t, NewSource(stackProfile(c.samples...)), c.filter).ByName(NoColumns).Rows, c.want...)
		})
	}
}

// A bucket that is used all the time reads A, and zero rows around a focus are left out.
func TestWhenSaturated(t *testing.T) {
	sel := filtered(t, NewSource(stackProfile("0 32 a;b")), Filter{Start: 0, End: 32})
	if got, want := sel.Root(When).When, strings.Repeat("A", 32); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	sel = filtered(t, NewSource(stackProfile("0 6 A;B;C;B;C;B", "1 4 A;B;C;B", "2 2 A;B")), Filter{})
	b, err := sel.Callees("B", AllColumns)
	if err != nil {
		t.Fatal(err)
	}
	if c := b.Children(); len(c) != 0 || b.Row.Total != 12 || b.Row.Self != 12 {
		t.Errorf("%v %+v", c, b.Row)
	}
}

func TestCharacters(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   string
	}{
		{[]float64{0, .0005, .005, .009, .01, .05, .0999, .1, .55, .999, 1, 1.05, 2, 3.49, 3.5, 3.6, 100}, "_.ooo00159AAKY***"},
		{[]float64{-.0001, -.05, -.1, -1, -2.49, -2.5, -9}, "aabky@@"},
	} {
		want := c.want
		if c.want == "_.ooo00159AAKY***" {
			want = "_.oo000159AAKY***" // 0.01 is on the edge, and in float64 beyond it
		}
		if got := draw(c.values, 1); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	values := make([]float64, 64)
	values[1] = 2
	if got := draw(bin(values), 1); got != "A"+strings.Repeat("_", 31) {
		t.Error(got)
	}
}

func TestFilterErrors(t *testing.T) {
	for _, c := range []struct {
		filter Filter
		want   string
	}{
		{Filter{Group: "[c] a->b;{x->y"}, `read group pattern "{x", column 10: the { has no }; write } where the group ends, or leave the { out`},
		{Filter{Fold: "é; a}"}, `read fold pattern "a}", column 5: there is no { before the }; write { where the group begins, or leave the } out`},
		{Filter{Include: "x;@a(b"}, `read include pattern "@a(b", column 4: missing closing ): a(b; correct the regular expression after @, or leave the @ out to search for text`},
		{Filter{Exclude: "@a**"}, `read exclude pattern "@a**", column 3: invalid nested repetition operator: **; correct the regular expression after @, or leave the @ out to search for text`},
		{Filter{FoldPercent: -1}, `read fold-percent pattern "-1": it is not a percentage; give a number from 0 to 100`},
		{Filter{Start: 5, End: 4}, `read start pattern "5 to 4": the end is before the start; exchange the two`},
		{Filter{Start: math.Inf(1)}, `read start pattern "+Inf to 0": it is not a time; give milliseconds since the start, or nothing`},
		{Filter{Weights: "x"}, `read weights pattern "x": there is no such policy; use interval or amount`},
		{Filter{Include: strings.Repeat("a;", 65)}, "there are 65 patterns"},
	} {
		err := c.filter.Check()
		var e *FilterError
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v:\n%v\nwant\n%s", c.filter, err, c.want)
		}
	}
	if _, err := NewSource(stackProfile("0 1 a")).Filter(t.Context(), Filter{Scenarios: []int{1}}); err == nil {
		t.Error("a scenario that is not there")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewSource(stackProfile("0 1 a")).Filter(ended, Filter{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestFocus(t *testing.T) {
	sel := filtered(t, NewSource(stackProfile("0 1 app!main;lib!read;c!f", "1 1 app!main;app!compress/flate.(*Writer).deflateFast", "1 1 app!main;lib!write;d!f")), Filter{})
	for _, c := range []struct{ focus, want string }{
		{"lib!read", "lib!read"}, {"write", "lib!write"}, {Root, Root},
		{"raed", `look at "raed": no row has that name; the nearest are "lib!read", `},
		{"ib!r", `look at "ib!r": no row has that name; the nearest are "lib!read", `},
		{"DeflateFats", `look at "DeflateFats": no row has that name; the nearest are "app!compress/flate.(*Writer).deflateFast", `},
		{"f", `look at "f": more than one module has it; give the whole name: "c!f", "d!f"`},
	} {
		got, err := sel.Name(c.focus)
		if err != nil {
			got = err.Error()
			if e := (*FocusError)(nil); !errors.As(err, &e) || len(e.Nearest) > 3 {
				t.Errorf("%T %v", err, err)
			}
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %s, want %s", c.focus, got, c.want)
		}
	}
	empty := filtered(t, NewSource(stackProfile()), Filter{})
	if _, err := empty.CallerCallee("x", AllColumns); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Error(err)
	}
}

func TestStackJSON(t *testing.T) {
	sel := filtered(t, NewSource(stackProfile("0 1 a;b", "1 2.5 a")), Filter{End: 4, Weights: Amount})
	for _, c := range []struct {
		value any
		want  string
	}{
		{sel.ByName(AllColumns), `{"root":{"name":"ROOT","total":3.5,"self":0,"totalCount":2,"selfCount":0,"foldWeight":0,"foldCount":0,"first":0,"last":1,"when":"8_______K_______________________","which":""},"rows":[` +
			`{"name":"a","total":3.5,"self":2.5,"totalCount":2,"selfCount":1,"foldWeight":0,"foldCount":0,"first":0,"last":1,"when":"8_______K_______________________","which":""},` +
			`{"name":"b","total":1,"self":1,"totalCount":1,"selfCount":1,"foldWeight":0,"foldCount":0,"first":0,"last":0,"when":"8_______________________________","which":""},` +
			`{"name":"ROOT","total":3.5,"self":0,"totalCount":2,"selfCount":0,"foldWeight":0,"foldCount":0,"first":0,"last":1,"when":"8_______K_______________________","which":""}]}`},
		{sel.Tree(NoColumns).Expand(TreeOptions{Depth: 1}), `{"name":"ROOT","total":3.5,"self":0,"totalCount":2,"selfCount":0,"foldWeight":0,"foldCount":0,"first":null,"last":null,"when":"","which":"","children":[` +
			`{"name":"a","total":3.5,"self":2.5,"totalCount":2,"selfCount":1,"foldWeight":0,"foldCount":0,"first":null,"last":null,"when":"","which":"","rest":1,"restCount":1,"children":[]}]}`},
	} {
		got, err := json.Marshal(c.value)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, string(got)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	calls, _ := sel.CallerCallee("b", NoColumns)
	got, err := json.Marshal(calls)
	if err != nil || !strings.HasPrefix(string(got), `{"focus":{"name":"b"`) || !strings.HasSuffix(string(got), `"callees":[]}`) {
		t.Errorf("%s %v", got, err)
	}
}

// Nothing recurses, and nothing is more than linear in the depth.
func TestDepth(t *testing.T) {
	const depth = 100_000
	p := &profile.Profile{Kind: profile.CPU, Unit: profile.Nanoseconds, Frames: make([]profile.Frame, 1), Stacks: profile.NewStacks[profile.FrameID](), Tasks: make([]profile.Task, 1)}
	for i := range 7 {
		p.Frames = append(p.Frames, profile.Frame{Func: "f" + string(rune('0'+i)), File: "f.c", Line: i + 1})
	}
	var stack profile.StackID
	for i := range depth {
		stack = p.Stacks.Intern(stack, profile.FrameID(1+i%7))
	}
	p.Samples.Append(profile.Sample{Stack: stack, Count: 1, Weight: 1e6})
	sel := filtered(t, NewSource(p), Filter{FoldPercent: 1})
	names := sel.ByName(AllColumns)
	if len(names.Rows) != 8 || names.Rows[0].Total != 1e6 || names.Root.Total != 1e6 {
		t.Errorf("%+v", names.Root)
	}
	tree := sel.Tree(AllColumns).Expand(TreeOptions{})
	levels := 0
	for n := tree; len(n.Children) > 0; n = n.Children[0] {
		levels++
	}
	if levels != depth {
		t.Errorf("%d levels", levels)
	}
	data, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	var back any
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	calls, err := sel.CallerCallee("f3", AllColumns)
	if err != nil || math.Abs(calls.Focus.Total-1e6) > 1e-3 {
		t.Errorf("%+v %v", calls, err)
	}
	callers, err := sel.Callers("f3", NoColumns)
	if err != nil {
		t.Fatal(err)
	}
	callers.Expand(TreeOptions{})
	if boxes := sel.Flame(FlameOptions{}); len(boxes) != depth+1 {
		t.Errorf("%d boxes", len(boxes))
	}
	if places, err := sel.Lines(""); err != nil || len(places) != 7 {
		t.Error(places, err)
	}
	if _, err := sel.Flatten(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTasksFrames(t *testing.T) {
	p := stackProfile("0 1 a;b", "1 2 a", "2 4 ")
	p.Tasks = append(p.Tasks, profile.Task{PID: 7, TID: 7, Comm: "main"}, profile.Task{PID: 7, TID: 8, Comm: "worker"})
	p.Samples.Task = []profile.TaskID{1, 2, 2}
	s := NewSource(p)
	sel := filtered(t, s, Filter{Tasks: true})
	wantRows(t, sel.ByName(NoColumns).Rows, "Thread (8) 6/4", "a 3/2", "b 1/1", "Process main (7) 7/0", "ROOT 7/0", "Thread (7) 1/0")
	wantRows(t, filtered(t, s, Filter{Tasks: true, Group: "^Process% {%}->$1;^Thread->Thread"}).ByName(NoColumns).Rows,
		"Thread 7/4", "a 3/2", "b 1/1", "ROOT 7/0", "main 7/0")
	in, err := sel.DrillInto(t.Context(), false, "Thread (8)")
	if err != nil {
		t.Fatal(err)
	}
	wantRows(t, filtered(t, in, Filter{Tasks: true}).ByName(NoColumns).Rows, "Thread (8) 6/4", "a 2/2", "Process main (7) 6/0", "ROOT 6/0")
	lanes, err := sel.Timeline(3)
	if err != nil || len(lanes.Lanes) != 2 || lanes.Lanes[0].Name != "worker (8)" || lanes.Lanes[0].Total != 6 {
		t.Errorf("%+v %v", lanes, err)
	}
	lanes, err = sel.Timeline(3, "a", "b")
	if err != nil || len(lanes.Lanes) != 2 || lanes.Lanes[0].Total != 3 || lanes.Lanes[1].Name != "b" {
		t.Errorf("%+v %v", lanes, err)
	}
}

func TestDiffAndOverweight(t *testing.T) {
	before := stackProfile("0 25 main;f;x", "1 25 main;f;y", "2 50 main;g")
	after := stackProfile("0 35 main;f;x", "1 25 main;f;y", "2 50 main;g")
	d, err := NewDiff(before, after)
	if err != nil {
		t.Fatal(err)
	}
	wantRows(t, filtered(t, d, Filter{}).ByName(NoColumns).Rows, "x 10/10", "ROOT 10/0", "f 10/0", "main 10/0", "g 0/0", "y 0/0")
	a, b := filtered(t, NewSource(before), Filter{FoldPercent: 90}), filtered(t, NewSource(after), Filter{})
	rows, err := Overweight(t.Context(), a, b)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		got = append(got, fmt.Sprintf("%s %g %g %.4g %.4g %d", r.Name, r.Before, r.After, r.Overweight, r.Responsibility, r.Interest))
	}
	if diff := cmp.Diff([]string{"x 25 35 400 100 5", "f 50 60 200 100 5", "ROOT 100 110 100 100 2", "main 100 110 100 100 2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if rows, err := Overweight(t.Context(), a, a); err != nil || len(rows) != 0 {
		t.Error(rows, err)
	}
	both, err := DiffSelections(t.Context(), filtered(t, NewSource(before), Filter{Include: "x"}), filtered(t, NewSource(after), Filter{Include: "f", Group: "x->X"}))
	if err != nil {
		t.Fatal(err)
	}
	wantRows(t, filtered(t, both, Filter{}).ByName(NoColumns).Rows, "y 25/25", "x 10/10", "ROOT 35/0", "f 35/0", "main 35/0")
	other := stackProfile("0 1 a")
	other.Unit, other.Source = profile.Bytes, ""
	if _, err := NewDiff(before, other); err == nil || !strings.Contains(err.Error(), "ms") || !strings.Contains(err.Error(), "bytes") {
		t.Error(err)
	}
}

func TestDrillAndFlatten(t *testing.T) {
	s := NewSource(stackProfile("0 10 a;b", "8 4 a;c", "20 5 a"))
	sel := filtered(t, s, Filter{Start: 5, End: 22, Group: "b->B"})
	in, err := sel.DrillInto(t.Context(), false, "B")
	if err != nil {
		t.Fatal(err)
	}
	again := filtered(t, in, Filter{})
	wantRows(t, again.ByName(NoColumns).Rows, "b 5.001/5.001", "ROOT 5.001/0", "a 5.001/0")
	if r := again.Root(Times); math.Abs(r.First-4.9994) > 1e-9 || math.Abs(r.Last-10) > 1e-9 {
		t.Errorf("%v..%v", r.First, r.Last)
	}
	in, err = sel.DrillInto(t.Context(), true, "a")
	if err != nil {
		t.Fatal(err)
	}
	wantRows(t, filtered(t, in, Filter{}).ByName(NoColumns).Rows, "a 2.001/2.001", "ROOT 2.001/0")
	flat, err := sel.Flatten(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wantRows(t, filtered(t, flat, Filter{}).ByName(NoColumns).Rows, "B 5.001/5.001", "c 4/4", "a 2.001/2.001", "ROOT 11/0")
	b, err := sel.Callers("B", NoColumns)
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.Walk([]string{"a", "ROOT"})
	if err != nil {
		t.Fatal(err)
	}
	in, err = sel.DrillBranch(t.Context(), false, c)
	if err != nil || in.Len() != 1 {
		t.Errorf("%d %v", in.Len(), err)
	}
	if _, err := sel.Tree(NoColumns).Walk([]string{"a", "z"}); err == nil {
		t.Error("walked to a node that is not there")
	}
	if _, err := filtered(t, s, Filter{}).DrillBranch(t.Context(), false, c); err == nil {
		t.Error("drilled into a node of another selection")
	}
}

func TestScenarioList(t *testing.T) {
	s, err := NewScenarios([]Scenario{{"S1", stackProfile("9 1 x")}, {"S1", stackProfile("100 10 m;a", "101 10 m;b")}, {"S2", stackProfile("500 40 m;a")}, {"S3", stackProfile("0 5 m;b")}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Scenarios(), []string{"S1", "S2", "S3"}) {
		t.Error(s.Scenarios())
	}
	sel := filtered(t, s, Filter{Scenarios: []int{2, 0}, Weights: Amount})
	if r := sel.Root(AllColumns); r.Which != "5K" || r.Total != 25 || r.First != 0 || r.Last != 1 {
		t.Errorf("%+v", r)
	}
	if _, err := NewScenarios(nil); err == nil {
		t.Error("no scenarios")
	}
}

// A sample of a source stands for the whole: its counts and weights add up to about the same, and the
// same sample is taken always.
func TestSample(t *testing.T) {
	p := viewerProfile(3)
	s := NewSource(p)
	small := s.Sample(10_000)
	if n := small.Len(); n < 9_900 || n > 10_100 {
		t.Errorf("%d samples", n)
	}
	a, b := filtered(t, s, Filter{}).Root(NoColumns), filtered(t, small, Filter{}).Root(NoColumns)
	if math.Abs(a.TotalCount-b.TotalCount) > 1 || math.Abs(a.Total/b.Total-1) > 1e-6 {
		t.Errorf("%v of %v, %v of %v", b.Total, a.Total, b.TotalCount, a.TotalCount)
	}
	if diff := cmp.Diff(rowList(filtered(t, small, Filter{}).ByName(NoColumns).Rows), rowList(filtered(t, s.Sample(10_000), Filter{}).ByName(NoColumns).Rows)); diff != "" {
		t.Error(diff)
	}
	if s.Sample(2_000_000) != s {
		t.Error("a copy of what is small enough")
	}
}

func TestFlameLayout(t *testing.T) {
	sel := filtered(t, NewSource(stackProfile("0 6 a;b", "1 2 a;c", "2 2 d")), Filter{})
	var left, centred []string
	for _, b := range sel.Flame(FlameOptions{}) {
		left = append(left, fmt.Sprintf("%d %s %.2g+%.2g", b.Depth, b.Name, b.X, b.Width))
	}
	for _, b := range sel.Flame(FlameOptions{Centred: true, MinWidth: 0.3}) {
		centred = append(centred, fmt.Sprintf("%d %s %.2g+%.2g", b.Depth, b.Name, b.X, b.Width))
	}
	if diff := cmp.Diff([]string{"0 ROOT 0+1", "1 a 0+0.8", "1 d 0.8+0.2", "2 b 0+0.6", "2 c 0.6+0.2"}, left); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"0 ROOT 0+1", "1 a 0+0.8", "2 b 0+0.6"}, centred); diff != "" {
		t.Error(diff)
	}
}

func TestPlaces(t *testing.T) {
	p := &profile.Profile{Kind: profile.CPU, Unit: profile.Number, Stacks: profile.NewStacks[profile.FrameID](), Tasks: make([]profile.Task, 1), Frames: []profile.Frame{{},
		{Func: "f", File: "/src/f.c", Line: 3, StartLine: 1}, {Func: "g", File: "/src/g.c", Line: 8}, {Func: "f", File: "/src/f.c", Line: 4, StartLine: 1}, {Func: "h", File: "/src/f.c", Line: 9}}}
	var f3, all profile.StackID
	f3 = p.Stacks.Intern(0, 1)
	all = p.Stacks.Intern(p.Stacks.Intern(p.Stacks.Intern(f3, 2), 3), 1) // f:3 g:8 f:4 f:3
	p.Samples.Append(profile.Sample{Stack: all, Count: 1, Weight: 10})
	p.Samples.Append(profile.Sample{Stack: p.Stacks.Intern(f3, 4), Count: 1, Weight: 1})
	s := NewSource(p)
	text := func(places []PlaceRow, err error) string {
		if err != nil {
			return err.Error()
		}
		var list []string
		for _, r := range places {
			list = append(list, fmt.Sprintf("%s:%d %g/%g", r.File, r.Line, r.Total, r.Self))
		}
		return strings.Join(list, ", ")
	}
	sel := filtered(t, s, Filter{})
	for _, c := range []struct{ focus, want string }{
		{"", "/src/f.c:3 11/10, /src/f.c:4 10/0, /src/f.c:9 1/1, /src/g.c:8 10/0"},
		{"f", "/src/f.c:3 11/10, /src/f.c:4 10/0"},
	} {
		if got := text(sel.Lines(c.focus)); got != c.want {
			t.Errorf("%q: %s, want %s", c.focus, got, c.want)
		}
	}
	if got, want := text(filtered(t, s, Filter{Fold: "g;h"}).Lines("f")), "/src/f.c:3 11/10, /src/f.c:4 10/0"; got != want {
		t.Errorf("folded: %s, want %s", got, want)
	}
	if got, want := text(filtered(t, s, Filter{Compat: true}).Lines("f")), "/src/f.c:3 11/10, /src/f.c:4 0/0"; got != want {
		t.Errorf("compat: %s, want %s", got, want)
	}
	rows, err := sel.FunctionsOf("f.c", AllColumns)
	if err != nil {
		t.Fatal(err)
	}
	wantRows(t, rows, "f 11/10", "h 1/1")
	if rows[0].Frame.StartLine != 1 || !math.IsNaN(rows[0].First) { // the samples have no times
		t.Errorf("%+v", rows[0])
	}
	if _, err := sel.FunctionsOf("fc", NoColumns); err == nil || !strings.Contains(err.Error(), "/src/f.c") {
		t.Error(err)
	}
}

// Readers of one selection do not disturb each other.
func TestConcurrent(t *testing.T) {
	v := readVectors(t)[1]
	sel, err := v.source(t).Filter(t.Context(), v.filter())
	if err != nil {
		t.Fatal(err)
	}
	tree := sel.Tree(AllColumns)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			sel.ByName(AllColumns)
			tree.Children()
			b, _ := sel.Callers("B", AllColumns)
			b.Expand(TreeOptions{})
			_, _ = sel.Timeline(3)
		})
	}
	wg.Wait()
}

func TestPolicyOf(t *testing.T) {
	for _, c := range []struct {
		kind profile.Kind
		unit profile.Unit
		want Policy
	}{{profile.CPU, profile.Nanoseconds, Interval}, {"delay", profile.Nanoseconds, Interval}, {profile.CPU, profile.Cycles, Amount}, {profile.Alloc, profile.Bytes, Amount}, {profile.CPU, profile.Millionths, Interval}} {
		if got := PolicyOf(&profile.Profile{Kind: c.kind, Unit: c.unit}); got != c.want {
			t.Errorf("%s in %s: %s", c.kind, c.unit, got)
		}
	}
}

// What has no times says nothing of when, and a tree can be cut down to the way to some rows.
func TestWithoutTimes(t *testing.T) {
	s := NewSource(stackProfile("0 1 a;b;c", "0 1 a;d", "0 1 e"))
	if s.Timed() {
		t.Error("samples at time 0 have times")
	}
	sel := filtered(t, s, Filter{})
	for _, r := range sel.ByName(AllColumns).Rows {
		if r.When != "" || !math.IsNaN(r.First) || !math.IsNaN(r.Last) {
			t.Errorf("%s was from %g to %g, %s", r.Name, r.First, r.Last, r.When)
		}
	}
	if _, err := sel.Timeline(10); !errors.Is(err, ErrNoTimes) {
		t.Errorf("timeline: %v", err)
	}
	if _, err := sel.Histogram(Root, 10); !errors.Is(err, ErrNoTimes) {
		t.Errorf("histogram: %v", err)
	}
	var f *FilterError
	if _, err := s.Filter(t.Context(), Filter{Start: 1}); !errors.As(err, &f) || f.Field != FieldRange {
		t.Errorf("a time range: %v", err)
	}
	if _, err := s.Filter(t.Context(), Filter{Start: 1, Compat: true}); err != nil {
		t.Errorf("a time range as PerfView has it: %v", err)
	}
	matches, err := sel.Finder("^c|^d")
	if err != nil {
		t.Fatal(err)
	}
	tree := sel.Tree(NoColumns).Expand(TreeOptions{}).Keep(matches)
	var names []string
	var walk func(n *StackNode)
	walk = func(n *StackNode) {
		names = append(names, n.Name)
		for _, c := range n.Children {
			walk(c)
		}
	}
	walk(tree)
	if got := strings.Join(names, " "); got != "ROOT a b c d" && got != "ROOT a d b c" {
		t.Errorf("the way to c and d is %s", got)
	}
	if none := tree.Keep(func(string) bool { return false }); none != nil {
		t.Errorf("the way to nothing is %v", none)
	}
}
