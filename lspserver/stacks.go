package lspserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/view"
)

const (
	stackRows     = 200 // that are answered where nobody says how many
	stackRowsMost = 10_000
	stacksKept    = 6 // filtered views that a session keeps ready
)

// stacks answers rpc.MethodStacks.
func (s *server) stacks(ctx context.Context, p rpc.StacksParams) (*rpc.StacksResult, error) {
	src, err := s.stackSource(ctx, rpc.MethodStacks, p.SourceRef)
	if err != nil {
		return nil, err
	}
	return s.stackRows(ctx, rpc.MethodStacks, src, &p)
}

// diff answers rpc.MethodDiff.
func (s *server) diff(ctx context.Context, p rpc.DiffParams) (*rpc.StacksResult, error) {
	const method = rpc.MethodDiff
	if p.Before == (rpc.SourceRef{}) {
		return nil, rpc.ErrParams("%s needs \"before\": give it a capture or a file to compare with", method)
	}
	before, err := s.stackSource(ctx, method, p.Before)
	if err != nil {
		return nil, err
	}
	after, err := s.stackSource(ctx, method, p.SourceRef)
	if err != nil {
		return nil, err
	}
	if p.Overweight {
		return s.overweight(ctx, before, after, &p.StacksParams)
	}
	src, err := s.difference(before, after)
	if err != nil {
		return nil, err
	}
	return s.stackRows(ctx, method, src, &p.StacksParams)
}

// A stackSource is what stack views are taken from.
type stackSource struct {
	l       *loaded // for places; of a difference, the one after
	profile *profile.Profile
	source  *view.Source
	before  *stackSource // of a difference
}

// A stackView is a source under a filter. Branches that a client has asked for are kept, so that it can
// walk on from them.
type stackView struct {
	selection *view.Selection
	root      view.StackRow

	mu       sync.Mutex // guards branches
	branches map[string]*view.Branch
}

// stackViews keeps the views used last, and the sources they are made of.
type stackViews struct {
	mu      sync.Mutex
	sources []keptSource // the last used ones at the end
	views   []keptView
}

type keptSource struct {
	of  [2]*profile.Profile // before, after; before is nil where there is only one
	src *stackSource
}

type keptView struct {
	src    *stackSource
	filter string
	make   func() (*stackView, error)
}

// kept finds or makes an element of a list that keeps the last used ones.
func kept[T any](list *[]T, same func(*T) bool, fresh func() T) T {
	var x T
	if i := slices.IndexFunc(*list, func(t T) bool { return same(&t) }); i >= 0 {
		x = (*list)[i]
		*list = slices.Delete(*list, i, i+1)
	} else {
		x = fresh()
	}
	if len(*list) >= stacksKept {
		*list = slices.Delete(*list, 0, 1)
	}
	*list = append(*list, x)
	return x
}

// stackSource opens what a client names: a capture, or a file of another tool.
func (s *server) stackSource(ctx context.Context, method string, ref rpc.SourceRef) (*stackSource, error) {
	var l *loaded
	var err error
	if ref.File != "" {
		l, err = s.foreignFile(ctx, method, ref.File)
	} else {
		l, err = s.captureAsked(ref)
	}
	if err != nil {
		return nil, err
	}
	p := l.profile
	if ref.Kind != "" && ref.Kind != string(p.Kind) {
		if p, err = l.ofKind(profile.Kind(ref.Kind)); err != nil {
			return nil, rpc.ErrParams("%s: %v", method, err)
		}
	}
	s.views.mu.Lock()
	defer s.views.mu.Unlock()
	k := kept(&s.views.sources, func(k *keptSource) bool { return k.of == [2]*profile.Profile{nil, p} }, func() keptSource {
		return keptSource{[2]*profile.Profile{nil, p}, &stackSource{l: l, profile: p, source: view.NewSource(p)}}
	})
	return k.src, nil
}

// difference is after − before as a source.
func (s *server) difference(before, after *stackSource) (*stackSource, error) {
	source, err := view.NewDiff(before.profile, after.profile)
	if err != nil {
		return nil, errState("%v", err)
	}
	of := [2]*profile.Profile{before.profile, after.profile}
	s.views.mu.Lock()
	defer s.views.mu.Unlock()
	k := kept(&s.views.sources, func(k *keptSource) bool { return k.of == of }, func() keptSource {
		return keptSource{of, &stackSource{l: after.l, profile: after.profile, source: source, before: before}}
	})
	return k.src, nil
}

// ofKind is the capture's profile of another kind than the one whose lines are shown.
func (l *loaded) ofKind(kind profile.Kind) (*profile.Profile, error) {
	l.kindsMu.Lock()
	defer l.kindsMu.Unlock()
	if p := l.kinds[kind]; p != nil {
		return p, nil
	}
	c, err := l.again()
	if err != nil {
		return nil, err
	}
	p, err := c.Profile(kind)
	if err != nil {
		var kinds []string
		for _, s := range c.Series {
			kinds = append(kinds, string(s.Kind))
		}
		return nil, fmt.Errorf("%s has no samples of kind %.40q: it has %s", l.target, kind, strings.Join(kinds, ", "))
	}
	if l.kinds == nil {
		l.kinds = map[profile.Kind]*profile.Profile{}
	}
	l.kinds[kind] = p
	return p, nil
}

// foreignFile reads a file of another tool, which is kept until it changes.
func (s *server) foreignFile(ctx context.Context, method, path string) (*loaded, error) {
	if !filepath.IsAbs(path) {
		return nil, rpc.ErrParams("%s: %.80q is no absolute path: give the file's full path as \"file\"", method, path)
	}
	if s.cfg.ReadFile == nil {
		return nil, errState("this build of the server cannot read %.200s: run \"sightline stacks %[1]s\" in a terminal", path)
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, errState("%.200s cannot be read: %v", path, errors.Unwrap(err))
	}
	key := captureKey{root: fmt.Sprintf("%s\x00%d\x00%d", path, st.Size(), st.ModTime().UnixNano())}
	return await(ctx, func() (*loaded, error) {
		return s.captures.get(key, func() (*loaded, error) {
			c, err := s.cfg.ReadFile(s.ctx, path)
			if err != nil {
				return nil, errState("%v", err)
			}
			l, err := load(captureKey{}, c, new(profile.Follower), func(string) []byte { return nil })
			if err != nil {
				return nil, errState("%.200s: %v", path, err)
			}
			l.name = filepath.Base(path)
			l.again = func() (*profile.Capture, error) { return c, nil }
			return l, nil
		})
	})
}

// await calls work, which several requests may share, and returns before it ends when ctx does: a
// request that is cancelled is answered at once, and the work is kept for the others.
func await[T any](ctx context.Context, work func() (T, error)) (T, error) {
	var result T
	var err error
	var panicked any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }() // it is the request's to report
		result, err = work()
	}()
	select {
	case <-done:
		if panicked != nil {
			panic(panicked)
		}
		return result, err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// stackTitle is what is shown and how old it is now: of one target twice, only how old.
func (s *server) stackTitle(x *stackSource) string {
	age := func(l *loaded) string {
		if l.start.IsZero() {
			return ""
		}
		return Age(s.cfg.Now().Sub(l.start))
	}
	name := func(l *loaded) string { return cmp.Or(l.name, l.target.String()) }
	title := func(l *loaded) string {
		if at := age(l); at != "" {
			return name(l) + " · " + at
		}
		return name(l)
	}
	if x.before == nil {
		return title(x.l)
	}
	before := x.before.l
	if from, to := age(before), age(x.l); name(before) == name(x.l) && from != "" && to != "" {
		return name(x.l) + " · from " + from + " to " + to
	}
	return "from " + title(before) + " to " + title(x.l)
}

// viewOf filters a source, once for each filter.
func (s *server) viewOf(ctx context.Context, src *stackSource, f view.Filter) (*stackView, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return nil, rpc.ErrParams("the filter's numbers are no numbers: %v", err)
	}
	s.views.mu.Lock()
	k := kept(&s.views.views, func(k *keptView) bool { return k.src == src && k.filter == string(text) }, func() keptView {
		return keptView{src, string(text), sync.OnceValues(func() (*stackView, error) {
			selection, err := src.source.Filter(s.ctx, f)
			if err != nil {
				return nil, err
			}
			return &stackView{selection: selection, root: selection.Root(view.NoColumns), branches: map[string]*view.Branch{}}, nil
		})}
	})
	s.views.mu.Unlock()
	v, err := await(ctx, k.make)
	if err != nil {
		return nil, filterError(err)
	}
	return v, nil
}

// filterError is what a client is told of a filter or a focus that is wrong.
func filterError(err error) error {
	var f *view.FilterError
	var focus *view.FocusError
	switch {
	case errors.As(err, &f), errors.As(err, &focus):
		return rpc.ErrParams("%v", err)
	case errors.Is(err, view.ErrNoTimes):
		return errState("%v", err)
	}
	return err
}

// filterOf turns the text of a viewer's fields into a filter, with its preset's fields where those are
// empty, and tells the fields as they are then.
func (s *server) filterOf(text rpc.StackFilter, root string) (view.Filter, rpc.StackFilter, error) {
	if text.Preset != "" {
		presets, err := s.presets(s.ctx, rpc.PresetsParams{Root: root})
		if err != nil {
			return view.Filter{}, text, err
		}
		i := slices.IndexFunc(presets, func(p rpc.Preset) bool { return strings.EqualFold(p.Name, text.Preset) })
		if i < 0 {
			return view.Filter{}, text, rpc.ErrParams("there is no preset %.60q: %s lists those there are", text.Preset, rpc.MethodPresets)
		}
		of := presets[i].Filter
		text.Group, text.Fold = cmp.Or(text.Group, of.Group), cmp.Or(text.Fold, of.Fold)
		text.Include, text.Exclude = cmp.Or(text.Include, of.Include), cmp.Or(text.Exclude, of.Exclude)
		text.FoldPercent = cmp.Or(text.FoldPercent, of.FoldPercent)
		text.Start, text.End = cmp.Or(text.Start, of.Start), cmp.Or(text.End, of.End)
		text.Tasks = text.Tasks || of.Tasks
		text.Weights = cmp.Or(text.Weights, of.Weights)
	}
	f := view.Filter{
		Group: text.Group, Fold: text.Fold, FoldPercent: text.FoldPercent, Include: text.Include, Exclude: text.Exclude,
		Tasks: text.Tasks, Weights: view.Policy(text.Weights),
	}
	for _, x := range []struct {
		name, text string
		to         *float64
	}{{"start", text.Start, &f.Start}, {"end", text.End, &f.End}} {
		word := strings.ReplaceAll(strings.TrimSpace(x.text), ",", "")
		if word == "" {
			continue
		}
		n, err := strconv.ParseFloat(word, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return f, text, rpc.ErrParams("the filter's %s is %.40q: give milliseconds, such as 1500", x.name, x.text)
		}
		*x.to = n
	}
	if err := f.Check(); err != nil {
		return f, text, filterError(err)
	}
	return f, text, nil
}

// filterText is the reverse of filterOf.
func filterText(f view.Filter) rpc.StackFilter {
	number := func(n float64) string {
		if n == 0 {
			return ""
		}
		return strconv.FormatFloat(n, 'f', -1, 64)
	}
	return rpc.StackFilter{
		Group: f.Group, Fold: f.Fold, FoldPercent: f.FoldPercent, Include: f.Include, Exclude: f.Exclude,
		Start: number(f.Start), End: number(f.End), Tasks: f.Tasks, Weights: string(f.Weights),
	}
}

// stackRows answers one page of a view.
func (s *server) stackRows(ctx context.Context, method string, src *stackSource, p *rpc.StacksParams) (*rpc.StacksResult, error) {
	if p.Offset < 0 || p.Limit < 0 || p.Limit > stackRowsMost {
		return nil, rpc.ErrParams("%s: %d rows from %d on are too few or too many: give a limit up to %d, or 0 for %d", method, p.Limit, p.Offset, stackRowsMost, stackRows)
	}
	f, fields, err := s.filterOf(p.Filter, p.Root)
	if err != nil {
		return nil, err
	}
	v, err := s.viewOf(ctx, src, f)
	if err != nil {
		return nil, err
	}
	res := s.stackResult(src, v, f, fields)
	w := &stackWriter{s: s, src: src, v: v, places: s.places(ctx)}
	if p.Focus == "" && slices.Contains([]string{rpc.ViewCallers, rpc.ViewCallees, rpc.ViewCallerCallee, rpc.ViewFunctions}, p.View) {
		return nil, rpc.ErrParams("%s: view %s is about one function or file: name it with \"focus\"", method, p.View)
	}
	switch p.View {
	case rpc.ViewByName, "":
		res.About = "functions"
		rows := v.selection.ByName(view.AllColumns).Rows
		if p.Find != "" {
			if rows, err = v.selection.Find(p.Find, view.AllColumns); err != nil {
				return nil, filterError(err)
			}
		}
		somePage(res, p, len(rows), func(i int) rpc.StackRow { return w.row(&rows[i]) })
	case rpc.ViewCallTree, rpc.ViewCallers, rpc.ViewCallees:
		b, err := v.branch(p.View, p.Focus, p.Node)
		if err != nil {
			return nil, filterError(err)
		}
		res.About = "call tree"
		if p.View != rpc.ViewCallTree {
			root, err := v.branch(p.View, p.Focus, "")
			if err != nil {
				return nil, filterError(err)
			}
			res.About = p.View + " of " + rowLabel(root.Row.Name, root.Row.Frame)
		}
		if p.Node == "" { // the root itself, so that its numbers can be shown
			somePage(res, p, 1, func(int) rpc.StackRow { return w.branch(b, nil) })
			break
		}
		path, err := nodePath(p.Node)
		if err != nil {
			return nil, err
		}
		children := b.Children()
		somePage(res, p, len(children), func(i int) rpc.StackRow {
			return w.branch(children[i], append(slices.Clone(path), children[i].Row.Name))
		})
	case rpc.ViewCallerCallee:
		calls, err := v.selection.CallerCallee(p.Focus, view.AllColumns)
		if err != nil {
			return nil, filterError(err)
		}
		res.About = "callers and callees of " + rowLabel(calls.Focus.Name, calls.Focus.Frame)
		rows := slices.Concat(calls.Callers, []view.StackRow{calls.Focus}, calls.Callees)
		somePage(res, p, len(rows), func(i int) rpc.StackRow {
			row := w.row(&rows[i])
			switch {
			case i < len(calls.Callers):
				row.Side = "caller"
			case i == len(calls.Callers):
				row.Side = "focus"
			default:
				row.Side = "callee"
			}
			return row
		})
	case rpc.ViewFunctions:
		res.About = "functions of " + filepath.Base(p.Focus)
		rows, err := v.selection.FunctionsOf(p.Focus, view.AllColumns)
		if err != nil {
			return nil, errState("%v", err)
		}
		somePage(res, p, len(rows), func(i int) rpc.StackRow { return w.row(&rows[i]) })
	case rpc.ViewLines:
		res.About = "lines"
		if p.Focus != "" {
			res.About += " of " + w.labelOf(p.Focus)
		}
		lines, err := v.selection.Lines(p.Focus)
		if err != nil {
			return nil, filterError(err)
		}
		slices.SortStableFunc(lines, func(a, b view.PlaceRow) int {
			return cmp.Or(cmp.Compare(math.Abs(b.Self), math.Abs(a.Self)), cmp.Compare(math.Abs(b.Total), math.Abs(a.Total)))
		})
		somePage(res, p, len(lines), func(i int) rpc.StackRow { return w.line(&lines[i]) })
	case rpc.ViewTimeline, rpc.ViewHistogram:
		if err := w.overTime(res, p); err != nil {
			return nil, err
		}
	default:
		return nil, rpc.ErrParams("%s: there is no view %.40q: give %s", method, p.View, strings.Join([]string{
			rpc.ViewByName, rpc.ViewCallTree, rpc.ViewCallers, rpc.ViewCallees, rpc.ViewCallerCallee,
			rpc.ViewLines, rpc.ViewFunctions, rpc.ViewTimeline, rpc.ViewHistogram,
		}, ", "))
	}
	return res, ctx.Err()
}

// overTime answers the views of weight over time.
func (w *stackWriter) overTime(res *rpc.StacksResult, p *rpc.StacksParams) error {
	if p.Buckets < 0 || p.Buckets > stackRowsMost {
		return rpc.ErrParams("%s: %d parts of time are too few or too many: give up to %d, or 0 for 32", rpc.MethodStacks, p.Buckets, stackRowsMost)
	}
	if p.View == rpc.ViewHistogram {
		focus := cmp.Or(p.Focus, view.Root)
		label := w.labelOf(focus)
		res.About = "over time"
		if p.Focus != "" {
			res.About = label + " over time"
		}
		h, err := w.v.selection.Histogram(focus, p.Buckets)
		if err != nil {
			return filterError(err)
		}
		var total float64
		for _, x := range h.Sums {
			total += x
		}
		res.Start, res.Width = h.Start, h.Width
		somePage(res, p, 1, func(int) rpc.StackRow {
			return rpc.StackRow{Name: focus, Label: label, Total: total, Text: w.words(total), When: h.Text, Weights: h.Sums, Tooltip: focus}
		})
		return nil
	}
	res.About = "threads over time"
	lanes, err := w.v.selection.Timeline(p.Buckets)
	if err != nil {
		return filterError(err)
	}
	res.Start, res.Width = lanes.Start, lanes.Width
	somePage(res, p, len(lanes.Lanes), func(i int) rpc.StackRow {
		l := &lanes.Lanes[i]
		return rpc.StackRow{Name: l.Name, Label: l.Name, Total: l.Total, Text: w.words(l.Total), Weights: l.Sums, Tooltip: l.Name}
	})
	return nil
}

// line is a source line as a row.
func (w *stackWriter) line(l *view.PlaceRow) rpc.StackRow {
	row := rpc.StackRow{
		Name: fmt.Sprintf("%s:%d", l.File, l.Line), Label: fmt.Sprintf("%s:%d", filepath.Base(l.File), l.Line),
		Total: l.Total, Self: l.Self, TotalCount: l.TotalCount, SelfCount: l.SelfCount, Text: w.words(l.Total),
		Location: w.places.of(w.src.l.fileAt(l.File), l.Line),
	}
	if whole := math.Abs(w.v.root.Total); whole != 0 {
		row.Share = l.Total / whole
	}
	if l.Self != 0 {
		row.SelfText = w.words(l.Self)
	}
	row.Tooltip = row.Name + "\n" + row.Text + " in total"
	return row
}

// somePage puts some of n rows into a result.
func somePage(res *rpc.StacksResult, p *rpc.StacksParams, n int, row func(int) rpc.StackRow) {
	end := min(n, p.Offset+cmp.Or(p.Limit, stackRows))
	for i := p.Offset; i < end; i++ {
		res.Rows = append(res.Rows, row(i))
	}
	res.More = max(0, n-max(end, p.Offset))
}

func (s *server) stackResult(src *stackSource, v *stackView, f view.Filter, fields rpc.StackFilter) *rpc.StacksResult {
	unit := src.profile.Unit
	if src.profile.Source != "" {
		unit = src.profile.Source
	}
	text := src.weight(v.root.Total)
	if src.before != nil {
		text = SignedWeight(src.canonical(v.root.Total), src.profile.Unit)
	} else if count := Samples(int64(math.Round(v.root.TotalCount))); src.profile.Unit == profile.Number && v.root.Total == v.root.TotalCount {
		text = count // which is all there is
	} else {
		text += ", " + count
	}
	return &rpc.StacksResult{
		Capture: string(src.l.key.id), Title: s.stackTitle(src), Filter: f.Active(), Unit: string(unit),
		Total: v.root.Total, Text: text, Rows: []rpc.StackRow{}, Fields: fields,
	}
}

// canonical is a row's weight in the profile's own unit.
func (x *stackSource) canonical(weight float64) int64 {
	return int64(math.Round(weight / x.profile.Unit.In(x.profile.Source)))
}

func (x *stackSource) weight(weight float64) string {
	return Weight(x.canonical(weight), x.profile.Unit)
}

// branch is a node of one of the trees of the view.
func (v *stackView) branch(tree, focus, node string) (*view.Branch, error) {
	if node == "" {
		node = "[]"
	}
	path, err := nodePath(node)
	if err != nil {
		return nil, err
	}
	prefix := tree + "\x00" + focus + "\x00"
	v.mu.Lock()
	b := v.branches[prefix+node]
	root := v.branches[prefix+"[]"]
	v.mu.Unlock()
	if b != nil {
		return b, nil
	}
	if root == nil {
		switch tree {
		case rpc.ViewCallers:
			root, err = v.selection.Callers(focus, view.AllColumns)
		case rpc.ViewCallees:
			root, err = v.selection.Callees(focus, view.AllColumns)
		default:
			root = v.selection.Tree(view.AllColumns)
		}
		if err != nil {
			return nil, err
		}
		v.keep(prefix+"[]", root)
	}
	if b, err = root.Walk(path); err != nil {
		return nil, err
	}
	v.keep(prefix+node, b)
	return b, nil
}

// branchesKept bounds what a view remembers of its trees; beyond it they are walked again.
const branchesKept = 10_000

func (v *stackView) keep(key string, b *view.Branch) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.branches) >= branchesKept {
		clear(v.branches)
	}
	v.branches[key] = b
}

// nodePath decodes rpc.StackRow.Node: the names from the root's child on.
func nodePath(node string) (path []string, err error) {
	if err := json.Unmarshal([]byte(node), &path); err != nil {
		return nil, rpc.ErrParams("there is no node %.80q: give the \"node\" of a row, as it was answered", node)
	}
	return path, nil
}

// A stackWriter turns rows of views into words.
type stackWriter struct {
	s      *server
	src    *stackSource
	v      *stackView
	places *places
}

func (w *stackWriter) branch(b *view.Branch, path []string) rpc.StackRow {
	row := w.row(&b.Row)
	if path == nil {
		path = []string{}
	}
	text, _ := json.Marshal(path) // strings always encode
	row.Node, row.Children = string(text), b.HasChildren()
	return row
}

// words are a weight as a row says it: share and weight, or in a difference the signed weight.
func (w *stackWriter) words(weight float64) string {
	x := w.src
	if x.before != nil {
		return SignedWeight(x.canonical(weight), x.profile.Unit)
	}
	return Percent(x.canonical(weight), x.canonical(w.v.root.Total)) + " · " + x.weight(weight)
}

func (w *stackWriter) row(r *view.StackRow) rpc.StackRow {
	row := rpc.StackRow{
		Name: r.Name, Label: rowLabel(r.Name, r.Frame),
		Total: r.Total, Self: r.Self, TotalCount: r.TotalCount, SelfCount: r.SelfCount,
		Text: w.words(r.Total), When: r.When, Which: r.Which, FoldWeight: r.FoldWeight, FoldCount: r.FoldCount,
	}
	if !math.IsNaN(r.First) && !math.IsInf(r.First, 0) {
		first, last := r.First, r.Last
		row.First, row.Last = &first, &last
	}
	if whole := math.Abs(w.v.root.Total); whole != 0 {
		row.Share = r.Total / whole
	}
	if r.Self != 0 {
		row.SelfText = w.words(r.Self)
	}
	if r.Frame.File != "" {
		row.Location = w.places.of(w.src.l.fileAt(r.Frame.File), r.Frame.StartLine)
	}
	lines := []string{r.Name, row.Text + " in total"}
	if w.src.before == nil {
		lines[1] += ", " + Samples(int64(math.Round(r.TotalCount)))
	}
	if row.SelfText != "" {
		lines = append(lines, row.SelfText+" itself")
	}
	if r.FoldWeight != 0 {
		lines = append(lines, w.words(r.FoldWeight)+" of that folded in")
	}
	if at := placeText(r.Frame.File, r.Frame.StartLine, row.Location); at != "" {
		lines = append(lines, at)
	}
	row.Tooltip = strings.Join(lines, "\n")
	return row
}

// overweight answers the overweight report.
func (s *server) overweight(ctx context.Context, before, after *stackSource, p *rpc.StacksParams) (*rpc.StacksResult, error) {
	f, fields, err := s.filterOf(p.Filter, p.Root)
	if err != nil {
		return nil, err
	}
	whole := f
	whole.FoldPercent = 0
	var sides [2]*stackView
	for i, src := range []*stackSource{before, after} {
		if sides[i], err = s.viewOf(ctx, src, whole); err != nil {
			return nil, err
		}
	}
	rows, err := view.Overweight(ctx, sides[0].selection, sides[1].selection)
	if err != nil {
		return nil, err
	}
	res := s.stackResult(after, sides[1], f, fields)
	res.Title = s.stackTitle(&stackSource{l: after.l, before: before})
	res.About = "what grew more than the whole"
	growth := sides[1].root.Total - sides[0].root.Total
	res.Text = SignedWeight(after.canonical(growth), after.profile.Unit)
	frames := framesOf(sides[1].selection)
	places := s.places(ctx)
	somePage(res, p, len(rows), func(i int) rpc.StackRow {
		r := &rows[i]
		row := rpc.StackRow{
			Name: r.Name, Label: rowLabel(r.Name, frames[r.Name]), Total: r.After - r.Before,
			Text: SignedWeight(after.canonical(r.After-r.Before), after.profile.Unit),
		}
		if growth != 0 {
			row.Share = row.Total / math.Abs(growth)
		}
		row.SelfText = fmt.Sprintf("%.0f%% of the growth", r.Responsibility)
		if frame := frames[r.Name]; frame.File != "" {
			row.Location = places.of(after.l.fileAt(frame.File), frame.StartLine)
		}
		row.Tooltip = fmt.Sprintf("%s\nfrom %s to %s\nit grew by %.0f%% of what the whole's growth explains, and is %.0f%% of that\ninterest %d of 6",
			r.Name, before.weight(r.Before), after.weight(r.After), r.Overweight, r.Responsibility, r.Interest)
		return row
	})
	return res, ctx.Err()
}

// labelOf is the label of a row that only its name is known of.
func (w *stackWriter) labelOf(name string) string {
	return rowLabel(name, framesOf(w.v.selection)[name])
}

// framesOf are the frames behind the names of a selection.
func framesOf(sel *view.Selection) map[string]profile.Frame {
	frames := map[string]profile.Frame{}
	for _, r := range sel.ByName(view.NoColumns).Rows {
		frames[r.Name] = r.Frame
	}
	return frames
}
