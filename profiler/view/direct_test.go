package view

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// direct counts a profile the slow way: sample by sample, frame by frame, with sets and with no part
// of the package but its result types.
type direct struct {
	p *profile.Profile
}

// each calls f for every sample with its frames, root first.
func (d direct) each(f func(x profile.Sample, m profile.Measure, frames []profile.Frame)) {
	for k := range d.p.Samples.Len() {
		x := d.p.Samples.At(k)
		var frames []profile.Frame
		for id := range d.p.Stacks.LeafFirst(x.Stack) {
			frames = append(frames, d.p.Frames[id])
		}
		slices.Reverse(frames)
		f(x, profile.Measure{Weight: x.Weight, Count: x.Count}, frames)
	}
}

type cost struct{ Self, Total profile.Measure }

// costs sums up by key: self for the leaf's key, total once for each different key of a stack. Keys
// are joined by NUL; an empty key is left out.
func (d direct) costs(key func(frames []profile.Frame, i int) string) map[string]cost {
	costs := map[string]cost{}
	d.each(func(_ profile.Sample, m profile.Measure, frames []profile.Frame) {
		seen := map[string]bool{}
		for i := range frames {
			k := key(frames, i)
			if k == "" {
				continue
			}
			c := costs[k]
			if i == len(frames)-1 {
				c.Self.Add(m)
			}
			if !seen[k] {
				seen[k] = true
				c.Total.Add(m)
			}
			costs[k] = c
		}
	})
	return costs
}

func lineKey(f profile.Frame) string {
	if f.File == "" || f.Line <= 0 {
		return ""
	}
	return fmt.Sprint(f.File, "\x00", f.Line)
}

func nameKey(f profile.Frame) string { return f.Func + "\x00" + f.Module }

func rowCosts(t *testing.T, rows []Row) map[string]cost {
	t.Helper()
	costs := map[string]cost{}
	for _, r := range rows {
		key := r.Name + "\x00" + r.Module
		if _, twice := costs[key]; twice {
			t.Errorf("two rows of %q", key)
		}
		costs[key] = cost{r.Self, r.Total}
	}
	return costs
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-direct +got):\n%s", what, diff)
	}
}

// checkAll holds every view of p against the direct count and against the laws of sums.
func checkAll(t *testing.T, p *profile.Profile) {
	t.Helper()
	d := direct{p}
	s := NewSums(p)
	total := p.Total()
	if s.Total() != total {
		t.Errorf("total %+v, want %+v", s.Total(), total)
	}
	checkLines(t, d, s, total)

	rows := s.ByName()
	same(t, "by name", d.costs(func(fs []profile.Frame, i int) string { return nameKey(fs[i]) }), rowCosts(t, rows))
	var self profile.Measure
	for i, r := range rows {
		self.Add(r.Self)
		if i > 0 && bySelf(&rows[i-1], &r) >= 0 {
			t.Errorf("rows %d and %d are not in order", i-1, i)
		}
	}
	self.Add(s.self[0])
	if self != total {
		t.Errorf("the self of all rows is %+v, want %+v", self, total)
	}

	for _, r := range rows[:min(len(rows), 5)] {
		module := r.Module
		checkDetail(t, d, s.FunctionDetail(r.Name, module), func(f profile.Frame) bool {
			return f.Func == r.Name && (module == "" || f.Module == module)
		})
	}
	for _, l := range s.Hottest(5) {
		checkDetail(t, d, s.DetailOf(l.File, l.Line.Line), func(f profile.Frame) bool {
			return f.File == l.File && f.Line == l.Line.Line
		})
	}
	same(t, "no such line", LineDetail{}, s.DetailOf("no such file", 1))
}

func checkLines(t *testing.T, d direct, s *Sums, total profile.Measure) {
	t.Helper()
	got := map[string]cost{}
	var self profile.Measure
	files := s.Lines()
	for i, f := range files {
		if i > 0 && files[i-1].File >= f.File {
			t.Errorf("files %q and %q are not in order", files[i-1].File, f.File)
		}
		for j, l := range f.Lines {
			if j > 0 && f.Lines[j-1].Line >= l.Line {
				t.Errorf("%s: lines %d and %d are not in order", f.File, f.Lines[j-1].Line, l.Line)
			}
			got[fmt.Sprint(f.File, "\x00", l.Line)] = cost{l.Self, l.Total}
			self.Add(l.Self)
		}
	}
	same(t, "lines", d.costs(func(fs []profile.Frame, i int) string { return lineKey(fs[i]) }), got)
	d.each(func(_ profile.Sample, m profile.Measure, frames []profile.Frame) {
		if len(frames) == 0 || lineKey(frames[len(frames)-1]) == "" {
			self.Add(m)
		}
	})
	if self != total {
		t.Errorf("the self of all lines and of leaves without a line is %+v, want %+v", self, total)
	}
	hot := s.Hottest(len(got) + 1)
	if len(hot) != len(got) {
		t.Errorf("%d hot lines, want %d", len(hot), len(got))
	}
	for i := 1; i < len(hot); i++ {
		if bySize(hot[i-1].Self, hot[i].Self) > 0 {
			t.Errorf("hot lines %d and %d are not in order", i-1, i)
		}
	}
}

func checkDetail(t *testing.T, d direct, got LineDetail, in func(profile.Frame) bool) {
	t.Helper()
	all := d.costs(func(fs []profile.Frame, i int) string {
		if in(fs[i]) {
			return "focus"
		}
		return ""
	})["focus"]
	same(t, "detail", all, cost{got.Self, got.Total})
	same(t, "functions", d.costs(func(fs []profile.Frame, i int) string {
		if in(fs[i]) {
			return nameKey(fs[i])
		}
		return ""
	}), rowCosts(t, got.Functions))
	same(t, "callers", d.costs(func(fs []profile.Frame, i int) string {
		if i > 0 && in(fs[i]) {
			return nameKey(fs[i-1])
		}
		return ""
	}), rowCosts(t, got.Callers))
	same(t, "callees", d.costs(func(fs []profile.Frame, i int) string {
		if i > 0 && in(fs[i-1]) {
			return nameKey(fs[i])
		}
		return ""
	}), rowCosts(t, got.Callees))

	want := map[profile.TaskID]cost{}
	var sum cost
	d.each(func(x profile.Sample, m profile.Measure, frames []profile.Frame) {
		if !slices.ContainsFunc(frames, in) {
			return
		}
		c := want[x.Task]
		c.Total.Add(m)
		if in(frames[len(frames)-1]) {
			c.Self.Add(m)
		}
		want[x.Task] = c
	})
	threads := map[profile.TaskID]cost{}
	for _, r := range got.Threads {
		threads[r.ID] = cost{r.Self, r.Total}
		sum.Self.Add(r.Self)
		sum.Total.Add(r.Total)
		if r.Task != d.p.Tasks[r.ID] {
			t.Errorf("thread %d is %+v, want %+v", r.ID, r.Task, d.p.Tasks[r.ID])
		}
	}
	same(t, "threads", want, threads)
	same(t, "all threads", all, sum)
}

// randomProfile has deep recursion, lines without file, inlining, several tasks, empty stacks, counts
// and, if signed, weights that cancel out.
func randomProfile(seed uint64, samples, depth int, signed bool) *profile.Profile {
	r := rand.New(rand.NewPCG(seed, 7))
	p := &profile.Profile{
		Kind: profile.CPU, Unit: profile.Nanoseconds,
		Frames: make([]profile.Frame, 1), Stacks: profile.NewStacks[profile.FrameID](), Tasks: make([]profile.Task, 1+r.IntN(4)),
	}
	for i := 1; i < len(p.Tasks); i++ {
		p.Tasks[i] = profile.Task{PID: 1, TID: i}
	}
	for range 1 + r.IntN(12) {
		f := profile.Frame{Func: string(rune('a' + r.IntN(5))), Inlined: r.IntN(4) == 0}
		if r.IntN(4) > 0 {
			f.File, f.Line = f.Func[:r.IntN(2)]+".c", r.IntN(5)
		}
		if r.IntN(3) == 0 {
			f.Module = "m"
		}
		p.Frames = append(p.Frames, f)
	}
	for range samples {
		var stack profile.StackID
		for range r.IntN(depth + 1) {
			stack = p.Stacks.Intern(stack, profile.FrameID(1+r.IntN(len(p.Frames)-1)))
		}
		if r.IntN(8) == 0 {
			continue // a stack that no sample needs
		}
		x := profile.Sample{Stack: stack, Task: profile.TaskID(r.IntN(len(p.Tasks))), Count: 1, Weight: int64(r.IntN(10))}
		if signed {
			x.Weight -= 5
		}
		if r.IntN(4) == 0 {
			x.Count = int64(r.IntN(4))
		}
		p.Samples.Append(x)
	}
	return p
}

func TestAgainstDirectCount(t *testing.T) {
	for seed := range uint64(300) {
		p := randomProfile(seed, int(seed%40), 1+int(seed%13), seed%3 == 0)
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		checkAll(t, p)
		if t.Failed() {
			t.Fatalf("seed %d:\n%s", seed, p.AppendText(nil))
		}
	}
}

// The numbering of frames and stacks must not show: the text form numbers anew.
func TestNumberingDoesNotShow(t *testing.T) {
	for seed := range uint64(50) {
		p := randomProfile(seed, 30, 8, seed%2 == 0)
		q, err := profile.ParseProfile(p.AppendText(nil))
		if err != nil {
			t.Fatal(err)
		}
		// q's frames, in the opposite order
		n := profile.FrameID(len(q.Frames))
		slices.Reverse(q.Frames[1:])
		parents, frames := q.Stacks.Columns()
		frames = slices.Clone(frames)
		for i := 1; i < len(frames); i++ {
			frames[i] = n - frames[i]
		}
		q.Stacks = profile.StacksOf(parents, frames)
		a, b := NewSums(p), NewSums(q)
		same(t, "lines", a.Lines(), b.Lines())
		same(t, "by name", a.ByName(), b.ByName())
		same(t, "hottest", a.Hottest(10), b.Hottest(10))
		same(t, "detail", a.FunctionDetail("a", ""), b.FunctionDetail("a", ""))
	}
}

func FuzzViews(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(string(randomProfile(seed, 10, 8, seed%2 == 0).AppendText(nil)))
	}
	f.Add("cpu ns\nmain@m.c:1;f@f.c:2;f@f.c:2;f@f.c:3 10\n- 3\n[unknown] 4 count=7\n")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 4<<10 {
			return // the direct count is quadratic
		}
		p, err := profile.ParseProfile([]byte(text))
		if err != nil {
			return
		}
		for _, f := range p.Frames {
			if strings.ContainsAny(f.Func+f.Module+f.File, "\x00\x01") {
				return // what the direct count joins keys with
			}
		}
		checkAll(t, p)
	})
}
