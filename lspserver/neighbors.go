package lspserver

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/view"
)

// neighbors answers rpc.MethodNeighbors, for the innermost function around a line that has a cost.
// Closures are functions of their own. Rows are calls: under recursion a sample may have several
// callers, so that callers may add up to more than the function.
func (s *server) neighbors(ctx context.Context, p rpc.NeighborsParams) (*rpc.NeighborsResult, error) {
	d, err := s.documentAsked(ctx, rpc.MethodNeighbors, p.TextDocument)
	if err != nil {
		return nil, err
	}
	if p.Line < 0 {
		return nil, rpc.ErrParams("%s: there is no line %d: give \"line\", counted from 0", rpc.MethodNeighbors, p.Line)
	}
	res := &rpc.NeighborsResult{Callers: []rpc.StackRow{}, Callees: []rpc.StackRow{}}
	a := s.annotations(d)
	if a == nil {
		return res, nil
	}
	l := a.file.capture
	res.Capture = string(l.key.id)
	if a.stale() {
		return res, nil
	}
	fn := a.around(d, p.Line)
	if fn == nil {
		return res, nil
	}
	detail := l.sums.FunctionDetail(fn.Name, fn.Module)
	res.Name, res.Label = shortName(fn.Module, fn.Name), functionLabel(fn.Name)
	res.Text = l.words(detail.Total.Weight, formBoth) + " in total, " + l.words(detail.Self.Weight, formBoth) + " itself"
	places := s.places(ctx)
	row := func(side string, r view.Row, verb string) rpc.StackRow {
		at := places.of(l.fileAt(r.File), r.Line)
		x := rpc.StackRow{
			Name: shortName(r.Module, r.Name), Label: functionLabel(r.Name), Side: side,
			Total: float64(r.Total.Weight), Self: float64(r.Self.Weight),
			TotalCount: float64(r.Total.Count), SelfCount: float64(r.Self.Count),
			Text: l.words(r.Total.Weight, formBoth), Location: at,
		}
		if l.total.Weight != 0 {
			x.Share = float64(r.Total.Weight) / float64(l.total.Weight)
		}
		if r.Self.Weight != 0 {
			x.SelfText = l.words(r.Self.Weight, formBoth)
		}
		lines := []string{x.Name, fmt.Sprintf("%s %s: %s, %s", verb, fn.Name, x.Text, Samples(r.Total.Count))}
		if at := placeText(r.File, r.Line, at); at != "" {
			lines = append(lines, at)
		}
		x.Tooltip = strings.Join(lines, "\n")
		return x
	}
	for _, r := range detail.Callers {
		res.Callers = append(res.Callers, row("caller", r, "calls"))
	}
	for _, r := range detail.Callees {
		res.Callees = append(res.Callees, row("callee", r, "is called by"))
	}
	return res, ctx.Err()
}

// around is the function with a cost that a 0-based line lies in: the innermost, and of several that
// begin on one line the one with most weight; nil where there is none.
func (p *placed) around(d *document, line int) *placedFunction {
	var best *placedFunction
	for i := range p.functions {
		fn := &p.functions[i]
		if fn.now > line || p.endOf(d, *fn) < line {
			continue
		}
		if best == nil || fn.now > best.now || fn.Total.Weight > best.Total.Weight {
			best = fn
		}
	}
	return best
}

// fullName is a function as patterns know it: its binary before it.
func fullName(module, name string) string {
	if module == "" {
		return name
	}
	switch module { // brackets would be awkward in patterns
	case "[kernel]":
		module = "kernel"
	case "[vdso]":
		module = "vdso"
	}
	return module + "!" + name
}

// shortName is the same for narrow places: without the binary's folders, or a Windows suffix.
func shortName(module, name string) string {
	module = path.Base(strings.ReplaceAll("/"+module, `\`, "/"))
	if module == "/" {
		module = ""
	}
	if low := strings.ToLower(module); strings.HasSuffix(low, ".dll") || strings.HasSuffix(low, ".exe") {
		module = module[:len(module)-len(".dll")]
	}
	return fullName(module, name)
}

// comparedName tells a function in comparing captures: two recordings of one test have its binary at
// different paths.
func comparedName(r *view.Row) string { return shortName(r.Module, r.Name) }
