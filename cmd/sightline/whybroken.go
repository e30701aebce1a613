package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sightline-dev/sightline/profiler/process"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/sourcemap"
)

// WhyBroken is what `sightline stacks --why-broken --json` prints.
type whyBroken struct {
	Broken float64        `json:"broken"` // share of the weight on stacks that lost their outermost callers
	Count  int64          `json:"count"`  // samples on them
	Rows   []brokenReason `json:"rows"`
}

// A brokenReason is one module, and why stacks end in it.
type brokenReason struct {
	Module string `json:"module"`
	Reason string `json:"reason"`
	Count  int64  `json:"count"` // stacks
	Remedy string `json:"remedy,omitempty"`
}

// WhyBrokenOf are the reasons that the recorder gave, and the broken stacks that it gave none for: those
// that were walked by frame pointers, by the module that they end in. The most frequent is first.
//
// The recorder counts what its walks could not finish. Where the last function that they came to has a
// name that nothing calls, as clone3, of which no rows tell, the stack is whole for all that.
func whyBrokenOf(p *profile.Profile) whyBroken {
	why := whyBroken{Broken: p.Broken(), Rows: []brokenReason{}}
	unexplained := map[string]int64{}
	parents, frames := p.Stacks.Columns()
	outermost := make([]profile.FrameID, len(parents)) // below [broken stack]; 0: not broken
	for id := 1; id < len(parents); id++ {
		up := parents[id]
		switch {
		case outermost[up] != 0:
			outermost[id] = outermost[up]
		case up != 0 && parents[up] == 0 && p.Frames[frames[up]].Func == profile.BrokenStack:
			outermost[id] = frames[id]
		}
	}
	for i, id := range p.Samples.Stack {
		if f := outermost[id]; f != 0 {
			x := p.Samples.At(i)
			why.Count += x.Count
			unexplained[cmp.Or(p.Frames[f].Module, profile.Unknown)] += x.Count
		}
	}
	for _, w := range p.Warnings {
		if b, ok := w.Broken(); ok {
			row := brokenReason{Module: b.Module, Reason: b.Reason, Remedy: b.Remedy}
			modules := []string{b.Module}
			if b.Module == madeCode { // which has frames of both modules, as it has names or not
				row.Module, modules = sourcemap.JIT, []string{sourcemap.JIT, profile.Unknown}
			}
			for _, module := range modules {
				n := min(b.Count-row.Count, unexplained[module])
				row.Count += n
				unexplained[module] -= n
			}
			if row.Count > 0 {
				why.Rows = append(why.Rows, row)
			}
		}
	}
	for module, n := range unexplained {
		if n > 0 {
			why.Rows = append(why.Rows, brokenReason{
				Module: module, Reason: "no caller by frame pointers", Count: n,
				Remedy: "its stack was not copied: --stack-bytes 16384 has the perf engine do so also where the program that is started keeps frame pointers, and the bpf engine does by itself; or build it with -fno-omit-frame-pointer",
			})
		}
	}
	slices.SortFunc(why.Rows, func(a, b brokenReason) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Module, b.Module), strings.Compare(a.Reason, b.Reason))
	})
	return why
}

func showWhyBroken(io streams, p *profile.Profile, asJSON bool) error {
	why := whyBrokenOf(p)
	if asJSON {
		return writeJSON(io.out, why)
	}
	if len(why.Rows) == 0 {
		_, err := fmt.Fprintln(io.out, "Every stack is whole.")
		return err
	}
	fmt.Fprintf(io.out, "%.1f%% of the weight is on stacks that lost their outermost callers.\n\n", 100*why.Broken)
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "stacks\tmodule\treason\tremedy")
	for _, r := range why.Rows {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", r.Count, process.Printable(r.Module), r.Reason, r.Remedy)
	}
	return w.Flush()
}

// MadeCode is the recorder's name of memory without a file, where code is made at run time.
const madeCode = "//anon"

// BrokenNote is one line for all warnings about broken stacks; "" where there are none.
func brokenNote(p *profile.Profile, ref string) string {
	if p.Broken() < 0.0005 {
		return ""
	}
	for _, w := range p.Warnings {
		if w.Kind == profile.WarnBroken {
			return fmt.Sprintf("some stacks have lost their callers; `sightline stacks %s --why-broken` tells where and why", ref)
		}
	}
	return ""
}
