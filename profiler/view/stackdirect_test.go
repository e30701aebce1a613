package view

import (
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// slow is the viewer's algebra said the direct way: sample by sample, on strings, with a regular
// expression for everything, and with no part of the package but the shape of its results.
type slow struct {
	f    Filter
	sets []slowSet
}

// A slowSet is a profile that takes part: scale is −1 for the before of a difference.
type slowSet struct {
	p     *profile.Profile
	scale float64
}

type slowSample struct {
	nodes  []string // texts, root first
	time   float64
	until  float64
	weight float64
	count  float64
	folded bool // a frame was folded into the last node
}

func slowPattern(pattern string, compat bool) *regexp.Regexp {
	if rest, ok := strings.CutPrefix(pattern, "@"); ok {
		re, err := regexp.Compile("(?i)" + rest)
		if err != nil {
			return nil
		}
		return re
	}
	var b strings.Builder
	depth := 0
	for _, c := range pattern {
		switch c {
		case '*':
			b.WriteString(".*")
		case '%':
			class := `.?\p{L}\p{Mn}\p{Nd}\p{Pc}`
			if !compat {
				class += `~@+\-`
			}
			b.WriteString("[" + class + "]*")
		case '^', '|':
			b.WriteRune(c)
		case '{':
			b.WriteByte('(')
			depth++
		case '}':
			b.WriteByte(')')
			if depth--; depth < 0 {
				return nil
			}
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	if depth != 0 {
		return nil
	}
	re, err := regexp.Compile("(?i)" + b.String())
	if err != nil {
		return nil
	}
	return re
}

func slowList(list string, compat bool) (all []*regexp.Regexp, never, ok bool) {
	if strings.Trim(list, " \t\r\n") == "" {
		return nil, false, true
	}
	for _, one := range strings.Split(list, ";") {
		if one = strings.Trim(one, " \t\r\n"); one == "" {
			never = true
			continue
		}
		re := slowPattern(one, compat)
		if re == nil {
			return nil, false, false
		}
		all = append(all, re)
	}
	return all, never, true
}

var slowNumber = regexp.MustCompile(`\$[0-9&]`)

// slowGroup is the group of a full name.
func slowGroup(group, full string, compat bool) (name string, entry bool) {
	if t := strings.TrimLeft(group, " \t\r\n"); strings.HasPrefix(t, "[") {
		if _, rest, ok := strings.Cut(t, "]"); ok {
			group = rest
		}
	}
	for _, one := range strings.Split(group, ";") {
		if one = strings.Trim(one, " \t\r\n"); one == "" {
			continue
		}
		if one == "{%}!=>module $1" {
			module, _, ok := strings.Cut(full, "!")
			if !ok || module == "" {
				continue
			}
			if compat {
				module = regexp.MustCompile(`[\p{L}\p{Nd}._]*$`).FindString(module)
			} else {
				module = module[strings.LastIndex(module, "/")+1:]
			}
			return "module " + module, true
		}
		pattern, to, isEntry := one, "$&", false
		if a, b, ok := strings.Cut(one, "=>"); ok {
			pattern, to, isEntry = a, b, true
		} else if a, b, ok := strings.Cut(one, "->"); ok {
			pattern, to = a, b
		}
		to = strings.TrimSpace(to)
		m := slowPattern(pattern, compat).FindStringSubmatch(full)
		if m == nil {
			continue
		}
		name = slowNumber.ReplaceAllStringFunc(to, func(s string) string {
			if s == "$&" {
				return m[0]
			}
			if k := int(s[1] - '0'); k < len(m) {
				return m[k]
			}
			return ""
		})
		entry = isEntry
		if name == "" {
			return "", false
		}
		if entry {
			return name, true
		}
		full = name
	}
	return name, entry
}

func slowShort(full string) string {
	module, function, ok := strings.Cut(full, "!")
	if !ok {
		return full
	}
	module = regexp.MustCompile(`(?s)^.*[/\\]`).ReplaceAllString(module, "")
	if len(module) > 4 {
		module = regexp.MustCompile(`(?i)\.(dll|exe)$`).ReplaceAllString(module, "")
	}
	return module + "!" + function
}

func slowFull(f profile.Frame, compat bool) string {
	if f.Module == "" {
		return f.Func
	}
	if !compat {
		switch f.Module {
		case "[kernel]", "[kernel.kallsyms]", "[kernel.vmlinux]":
			return "kernel!" + f.Func
		case "[vdso]":
			return "vdso!" + f.Func
		}
	}
	return f.Module + "!" + f.Func
}

// samples are what the filter leaves. It fails where a pattern is no pattern.
func (d *slow) samples() (all []slowSample, ok bool) {
	c := d.f.Compat
	fold, _, ok1 := slowList(d.f.Fold, c)
	include, never, ok2 := slowList(d.f.Include, c)
	exclude, _, ok3 := slowList(d.f.Exclude, c)
	if !ok1 || !ok2 || !ok3 {
		return nil, false
	}
	any := func(list []*regexp.Regexp, text string) bool {
		return slices.ContainsFunc(list, func(re *regexp.Regexp) bool { return re.MatchString(text) })
	}
	for _, set := range d.sets {
		p := set.p
		policy := d.f.Weights
		if policy == "" {
			policy = PolicyOf(d.sets[0].p)
		}
		ms := p.Unit.In(p.Source)
		if p.Unit == profile.Nanoseconds {
			ms = 1e-6
		}
	samples:
		for k := range p.Samples.Len() {
			x := p.Samples.At(k)
			type node struct {
				text, identity, entry string
			}
			var nodes []node
			matched := make([]bool, len(include))
			folded := false
			var frames []profile.Frame
			for id := range p.Stacks.LeafFirst(x.Stack) {
				frames = append(frames, p.Frames[id])
			}
			slices.Reverse(frames)
			for _, f := range frames {
				full := slowFull(f, c)
				short := slowShort(full)
				group, entry := slowGroup(d.f.Group, full, c)
				shown, n := full, node{short, "frame " + full, ""}
				switch {
				case group == "" && strings.HasSuffix(full, "!?"):
					shown, n = short, node{short, "group " + short, ""}
				case group == "":
				case entry:
					shown = group + " <<" + short + ">>"
					n = node{shown, "frame " + full, "entry " + group}
				default:
					shown, n = group, node{group, "group " + group, ""}
				}
				if any(exclude, shown) {
					continue samples
				}
				folds := any(fold, shown)
				if len(nodes) > 0 {
					up := nodes[len(nodes)-1]
					if folds {
						folded = true
						continue
					}
					if n.identity == up.identity || n.entry != "" && n.entry == up.entry {
						continue
					}
				}
				counts := true
				if folds && c {
					n, counts = node{short, "frame " + full, ""}, false
				}
				nodes, folded = append(nodes, n), false
				for i, re := range include {
					matched[i] = matched[i] || counts && re.MatchString(shown)
				}
			}
			if slices.Contains(matched, false) || never && c {
				continue
			}
			s := slowSample{time: float64(x.Time) / 1e6, weight: set.scale * float64(x.Weight), count: set.scale * float64(x.Count), folded: folded}
			from, to := math.Inf(-1), math.Inf(1)
			if d.f.Start != 0 {
				from = d.f.Start - 0.0006
			}
			if d.f.End != 0 {
				to = d.f.End + 0.0006
			}
			length := 0.0
			if policy == Interval {
				length = math.Abs(s.weight) * ms
			}
			if s.time > to || s.time+length < from {
				continue
			}
			if length > 0 {
				a, b := max(s.time, from), min(s.time+length, to)
				if a != s.time || b != s.time+length {
					s.weight = math.Copysign((b-a)/ms, s.weight)
				}
				s.time, length = a, b-a
			}
			s.until = s.time + length
			s.weight *= p.Unit.In(p.Source)
			for _, n := range nodes {
				s.nodes = append(s.nodes, n.text)
			}
			all = append(all, s)
		}
	}
	return all, true
}

type slowCost struct {
	Total, Self, Fold, TotalCount, SelfCount, FoldCount float64
	First                                               float64
}

type slowCosts map[string]*slowCost

func (m slowCosts) at(key string, time float64) *slowCost {
	c := m[key]
	if c == nil {
		c = &slowCost{First: time}
		m[key] = c
	}
	c.First = min(c.First, time)
	return c
}

// merge adds a cost to what is at a key.
func (m slowCosts) merge(key string, x *slowCost) {
	c := m.at(key, x.First)
	c.Total, c.Self, c.Fold = c.Total+x.Total, c.Self+x.Self, c.Fold+x.Fold
	c.TotalCount, c.SelfCount, c.FoldCount = c.TotalCount+x.TotalCount, c.SelfCount+x.SelfCount, c.FoldCount+x.FoldCount
}

// cut is the same with names as PerfView shows them.
func (m slowCosts) cut() slowCosts {
	to := slowCosts{}
	for key, c := range m {
		if len(key) > 2 {
			if at := strings.IndexByte(key[2:], '{'); at >= 0 && key != Root {
				key = key[:2+at]
			}
		}
		to.merge(key, c)
	}
	return to
}

// slowNames is the by-name view, slowPaths the call tree by its paths.
func slowNames(all []slowSample) slowCosts {
	costs := slowCosts{}
	costs[Root] = &slowCost{First: math.Inf(1)}
	for _, s := range all {
		seen := map[string]bool{}
		for i, text := range append([]string{"\x00ROOT"}, s.nodes...) {
			key := text
			if i == 0 {
				key = Root
			} else {
				key = "." + text
			}
			c := costs.at(key, s.time)
			if !seen[key] {
				seen[key] = true
				c.Total += s.weight
				c.TotalCount += s.count
			}
			if i == len(s.nodes) {
				c.Self += s.weight
				c.SelfCount += s.count
				if s.folded {
					c.Fold += s.weight
					c.FoldCount += s.count
				}
			}
		}
	}
	return costs
}

func slowPaths(all []slowSample) slowCosts {
	costs := slowCosts{}
	costs[Root] = &slowCost{First: math.Inf(1)}
	for _, s := range all {
		key := Root
		for i := range len(s.nodes) + 1 {
			if i > 0 {
				key += "\x01" + s.nodes[i-1]
			}
			c := costs.at(key, s.time)
			c.Total += s.weight
			c.TotalCount += s.count
			if i == len(s.nodes) {
				c.Self += s.weight
				c.SelfCount += s.count
				if s.folded {
					c.Fold += s.weight
					c.FoldCount += s.count
				}
			}
		}
	}
	return costs
}

// slowAround are the rows of the caller-callee view of a focus: "focus", "caller NAME", "callee NAME".
func slowAround(all []slowSample, focus string) slowCosts {
	costs := slowCosts{}
	for _, s := range all {
		nodes := append([]string{Root}, s.nodes...)
		var at []int
		for i, n := range nodes {
			if i > 0 && n == focus && focus != Root || i == 0 && focus == Root {
				at = append(at, i)
			}
		}
		for _, i := range at {
			w, n := s.weight/float64(len(at)), s.count/float64(len(at))
			rows := []string{"focus"}
			leaf := []bool{i == len(nodes)-1}
			if i > 0 {
				rows, leaf = append(rows, "caller "+nodes[i-1]), append(leaf, i == len(nodes)-1)
			}
			if i+1 < len(nodes) {
				rows, leaf = append(rows, "callee "+nodes[i+1]), append(leaf, i+1 == len(nodes)-1)
			}
			for k, row := range rows {
				c := costs.at(row, s.time)
				c.Total += w
				c.TotalCount += n
				if leaf[k] {
					c.Self += w
					c.SelfCount += n
					if s.folded {
						c.Fold += w
						c.FoldCount += n
					}
				}
			}
		}
	}
	return costs
}

// slowWays are the paths of the callers tree, or of the callees tree, by their names.
func slowWays(all []slowSample, focus string, up bool) slowCosts {
	costs := slowCosts{}
	for _, s := range all {
		at := -1
		for i, n := range s.nodes {
			if n == focus {
				at = i
			}
		}
		if at < 0 {
			continue
		}
		way := s.nodes[at:]
		if up {
			way = slices.Clone(s.nodes[:at+1])
			slices.Reverse(way)
			way = append(way, Root)
		}
		key := ""
		for _, n := range way {
			key += "\x01" + n
			costs.at(key, s.time).Total += s.weight
		}
	}
	for key, c := range costs {
		if c.Total == 0 {
			delete(costs, key)
		}
	}
	return costs
}

func fastCost(r StackRow) *slowCost {
	first := r.First
	if math.IsNaN(first) {
		first = math.Inf(1)
	}
	return &slowCost{r.Total, r.Self, r.FoldWeight, r.TotalCount, r.SelfCount, r.FoldCount, first}
}

var roughly = cmp.Comparer(func(a, b float64) bool {
	return a == b || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b), 1e6)
})

func equal(t *testing.T, what string, want, got slowCosts) {
	t.Helper()
	if diff := cmp.Diff(want, got, roughly); diff != "" {
		t.Fatalf("%s (-slow +fast):\n%s", what, diff)
	}
}

func treeCosts(costs slowCosts, key string, n *StackNode) {
	costs.merge(key, fastCost(n.StackRow))
	for _, c := range n.Children {
		treeCosts(costs, key+"\x01"+c.Name, c)
	}
}

// checkStacks holds every view of a source under a filter against the direct way.
func checkStacks(t *testing.T, sets []slowSet, f Filter) {
	t.Helper()
	var src *Source
	if len(sets) == 2 {
		var err error
		if src, err = NewDiff(sets[1].p, sets[0].p); err != nil {
			t.Fatal(err)
		}
	} else {
		src = NewSource(sets[0].p)
	}
	if !src.Timed() && !f.Compat {
		f.Start, f.End = 0, 0 // they would be refused: see TestWithoutTimes
	}
	d := slow{f, sets}
	sel, err := src.Filter(t.Context(), f)
	if checked := f.Check(); (checked == nil) != (err == nil) {
		t.Fatalf("check says %v, filter %v", checked, err)
	}
	if err != nil {
		if sel != nil {
			t.Fatalf("a selection and the error %v", err)
		}
		_ = err.Error()
		return
	}
	all, ok := d.samples()
	if !ok {
		t.Fatalf("a filter that is none was taken: %+v", f)
	}
	names := sel.ByName(AllColumns)
	got := slowCosts{}
	roots := 0
	for _, r := range names.Rows {
		if r.Name == Root && roots == 0 && r.Total == names.Root.Total && r.Self == names.Root.Self {
			roots++
			got[Root] = fastCost(r)
			continue
		}
		got.merge("."+r.Name, fastCost(r))
	}
	want := slowNames(all)
	if f.Compat {
		want = want.cut()
	}
	equal(t, "by name", want, got)
	if f.Compat {
		return // its rows are cut, and its trees have rows of nothing
	}
	got = slowCosts{}
	tree := sel.Tree(AllColumns)
	expanded := tree.Expand(TreeOptions{})
	treeCosts(got, Root, expanded)
	equal(t, "call tree", slowPaths(all), got)
	sameLazily(t, expanded, tree)

	for _, r := range names.Rows[:min(4, len(names.Rows))] {
		calls, err := sel.CallerCallee(r.Name, AllColumns)
		if err != nil {
			t.Fatal(err)
		}
		got = slowCosts{}
		if !math.IsNaN(calls.Focus.First) {
			got["focus"] = fastCost(calls.Focus)
		}
		for _, r := range calls.Callers {
			got.merge("caller "+r.Name, fastCost(r))
		}
		for _, r := range calls.Callees {
			got.merge("callee "+r.Name, fastCost(r))
		}
		equal(t, fmt.Sprintf("caller-callee of %q", r.Name), slowAround(all, r.Name), got)
		if r.Name == Root {
			continue
		}
		for _, up := range []bool{false, true} {
			of := sel.Callees
			if up {
				of = sel.Callers
			}
			b, err := of(r.Name, AllColumns)
			if err != nil {
				t.Fatal(err)
			}
			x := b.Expand(TreeOptions{})
			all2, got := slowCosts{}, slowCosts{}
			treeCosts(all2, "\x01"+r.Name, x)
			for key, c := range all2 {
				if c.Total != 0 {
					got[key] = &slowCost{Total: c.Total, First: c.First}
				}
			}
			equal(t, fmt.Sprintf("callers %v of %q", up, r.Name), slowWays(all, r.Name, up), got)
			sameLazily(t, x, b)
		}
	}

	// What is drilled into has the weight of what was looked at, and the flame graph lies within itself.
	if r := names.Rows[0]; len(all) > 0 {
		in, err := sel.DrillInto(t.Context(), true, r.Name)
		if err != nil {
			t.Fatal(err)
		}
		again, err := in.Filter(t.Context(), Filter{Weights: f.Weights})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := again.Root(NoColumns).Total, r.Self; math.Abs(got-want) > float64(len(all))*src.factor {
			t.Fatalf("drilled into %q: %v, want %v", r.Name, got, want)
		}
	}
	boxes := sel.Flame(FlameOptions{})
	for i, b := range boxes {
		if b.Parent >= i || i > 0 && (b.X < boxes[b.Parent].X-1e-9 || b.X+b.Width > boxes[b.Parent].X+boxes[b.Parent].Width+1e-9) {
			t.Fatalf("box %d %+v is not within %+v", i, b, boxes[max(0, b.Parent)])
		}
	}
}

// sameLazily compares a tree with itself walked child by child.
func sameLazily(t *testing.T, n *StackNode, b *Branch) {
	t.Helper()
	got, want := b.Row, n.StackRow
	if diff := cmp.Diff(want, got, roughly, cmp.Comparer(func(a, b string) bool { return a == b || len(a) == buckets && nearWhen(a, b) })); diff != "" && !math.IsNaN(want.First) {
		t.Fatalf("%q (-expanded +lazy):\n%s", n.Name, diff)
	}
	children := b.Children()
	if len(children) != len(n.Children) {
		t.Fatalf("%q has %d children, lazily %d", n.Name, len(n.Children), len(children))
	}
	for i, c := range children {
		sameLazily(t, n.Children[i], c)
	}
}

// strange are names that patterns, text and other tools trip over.
var strange = []string{
	"f", "g", "main.main", "main.(*T).Run", "runtime.mallocgc", "operator->", "a;b", "line\nbreak", "nul\x00byte", "bad\xffbyte", "f{1}", "{z}",
	"?", "", "ROOT", "std::sort<int>(int*, int*)", "é", "K", "github.com/a/b.F[go.shape.int]", "@x", " blank ", "example.com/gopkg%2ein.F",
}

var modules = []string{"", "app", "/usr/lib/libc-2.31.so", "[kernel]", "[vdso]", "my-app", `C:\x\y.dll`, "lib\xff"}

func strangeProfile(r *rand.Rand) *profile.Profile {
	p := &profile.Profile{
		Kind: profile.CPU, Unit: profile.Nanoseconds, Frames: make([]profile.Frame, 1),
		Stacks: profile.NewStacks[profile.FrameID](), Tasks: make([]profile.Task, 3), Length: time.Second,
	}
	p.Tasks[1], p.Tasks[2] = profile.Task{PID: 1, TID: 1, Comm: "a"}, profile.Task{PID: 1, TID: 2, Comm: "b"}
	for range 1 + r.IntN(12) {
		p.Frames = append(p.Frames, profile.Frame{Func: strange[r.IntN(len(strange))], Module: modules[r.IntN(len(modules))], File: "f.c", Line: r.IntN(9)})
	}
	stacks := []profile.StackID{0}
	for range r.IntN(40) {
		up := stacks[r.IntN(len(stacks))]
		if r.IntN(2) == 0 {
			up = stacks[len(stacks)-1]
		}
		stacks = append(stacks, p.Stacks.Intern(up, profile.FrameID(1+r.IntN(len(p.Frames)-1))))
	}
	at := time.Duration(0)
	for range r.IntN(60) {
		at += time.Duration(r.IntN(40)) * time.Millisecond / 2
		x := profile.Sample{Stack: stacks[r.IntN(len(stacks))], Task: profile.TaskID(r.IntN(3)), Time: at, Count: 1, Weight: int64(r.IntN(30)) * 500_000}
		if r.IntN(8) == 0 {
			x.Count, x.Weight = int64(r.IntN(5)), -x.Weight
		}
		p.Samples.Append(x)
	}
	return p
}

var stockGroups = []string{
	"", "", "{%}!=>module $1", "[x] {%}!->module $1", "app!->;{*}!=>M $1", "f->F;F->G;g=>H", "{%!*}.%(=>class $1;{%!*}::=>class $1", "f", "!=>OTHER", "@^(.)->$1x",
}
var stockLists = []string{"", "", "", "f", "g;app!", "^main", "module *l", "a*n", "OTHER", "@.{3}", "%!m", "k", "é|{f}", "x;", "<<"}

func randomFilter(r *rand.Rand) Filter {
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	f := Filter{Group: pick(stockGroups), Fold: pick(stockLists), Include: pick(stockLists), Exclude: pick(stockLists), Compat: r.IntN(4) == 0}
	if r.IntN(3) > 0 {
		f.Exclude = ""
	}
	if r.IntN(3) == 0 {
		f.Start = float64(r.IntN(400))
		f.End = f.Start + float64(r.IntN(400))
	}
	f.Weights = []Policy{"", Interval, Amount}[r.IntN(3)]
	return f
}

func TestStacksDirect(t *testing.T) {
	n := uint64(400)
	if testing.Short() {
		n = 100
	}
	for seed := range n {
		r := rand.New(rand.NewPCG(seed, 3))
		sets := []slowSet{{strangeProfile(r), 1}}
		if r.IntN(4) == 0 {
			sets = append(sets, slowSet{strangeProfile(r), -1})
		}
		f := randomFilter(r)
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { checkStacks(t, sets, f) }) {
			t.Fatalf("filter %+v", f)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, g := range stockGroups {
		for i, l := range stockLists {
			f.Add(uint64(i), g, l, stockLists[(i+3)%len(stockLists)], "", i%2 == 0)
		}
	}
	f.Add(uint64(1), "{", "}", "@(", "@[", false)
	f.Add(uint64(1), "a=>$9$&$", "%%", "^^", "*|*", true)
	f.Fuzz(func(t *testing.T, seed uint64, group, fold, include, exclude string, compat bool) {
		if len(group)+len(fold)+len(include)+len(exclude) > 200 || strings.Contains(group, "{go}") {
			return
		}
		r := rand.New(rand.NewPCG(seed, 5))
		checkStacks(t, []slowSet{{strangeProfile(r), 1}}, Filter{Group: group, Fold: fold, Include: include, Exclude: exclude, Compat: compat})
	})
}

// FuzzPattern: a pattern matches what its regular expression matches, or is refused with its column.
func FuzzPattern(f *testing.F) {
	for _, l := range stockLists {
		for _, n := range strange {
			f.Add(l, n, false)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, name string, compat bool) {
		if len(pattern) > 100 || len(name) > 200 {
			return
		}
		p, err := parsePattern(FieldFind, item{pattern, 1}, compat)
		want := slowPattern(pattern, compat)
		if (err == nil) != (want != nil) {
			t.Fatalf("%q: %v, slowly %v", pattern, err, want)
		}
		if err != nil {
			e := err.(*FilterError)
			if e.Column < 1 || e.Column > len([]rune(pattern))+1 || e.Cause == "" || e.Remedy == "" {
				t.Fatalf("%+v", e)
			}
			return
		}
		n := newCaseless(name)
		if got, want := p.matches(n), want.MatchString(name); got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, name, got, want)
		}
		if got, want := p.find(n, compat), want.FindStringSubmatchIndex(name); !slices.Equal(got, want) {
			t.Fatalf("%q in %q: %v, want %v", pattern, name, got, want)
		}
	})
}
