package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/profiler/convert"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/view"
)

// TimeOf is a time that a view gives.
func timeOf(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }

func newDiff(io streams) *cobra.Command {
	var sf stacksFlags
	var overweight bool
	var failOver string
	cmd := &cobra.Command{
		Use:   "diff BEFORE AFTER",
		Short: "Show what changed between two captures or files",
		Long: `Shows AFTER minus BEFORE in any view of sightline stacks: what grew is positive. --overweight lists the
functions that grew more than the whole did, those that tell the most first.

--fail-over ends with status 1 if the whole, or with --focus that function, has grown by more than so many
percent: for a check in CI. Two recordings compare where both did the same work: record a benchmark with a
fixed count (-benchtime 1000x), or a command.`,
		Example: `  sightline diff @2 @
  sightline diff old.pprof new.pprof --view call-tree
  sightline diff @2 @ --overweight
  sightline diff base.pprof new.pprof --fail-over 5%`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("diff takes two captures or files, before and after, and %d were given", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := sf.check(); err != nil {
				return err
			}
			limit, err := percentage(failOver)
			if err != nil {
				return err
			}
			before, err := openInput(cmd, io.in, args[0], sf.kind, sf.experimental)
			if err != nil {
				return err
			}
			after, err := openInput(cmd, io.in, args[1], sf.kind, sf.experimental)
			if err != nil {
				return err
			}
			f, err := sf.of(cmd, convert.Filter{})
			if err != nil {
				return err
			}
			whole := f
			whole.FoldPercent = 0
			sides := [2]*view.Selection{}
			for i, x := range []*stackInput{before, after} {
				if sides[i], err = view.NewSource(x.profile).Filter(cmd.Context(), whole); err != nil {
					return err
				}
			}
			if note := rebuilt(before.profile, after.profile); note != "" && f.Group == "" {
				fmt.Fprintln(io.err, "note: "+note)
			}
			if overweight {
				err = printOverweight(cmd, io, &sf, f, sides, wordsOf(after.profile))
			} else {
				x := &stackShow{words: wordsOf(after.profile), signed: true}
				x.title = []string{"from " + before.name() + " to " + after.name(), growthWords(sides, x.words)}
				if x.source, err = view.NewDiff(before.profile, after.profile); err != nil {
					return err
				}
				x.filter = f
				if x.selection, err = x.source.Filter(cmd.Context(), f); err != nil {
					return err
				}
				err = sf.show(cmd, io, x)
			}
			if err != nil || failOver == "" {
				return err
			}
			return judge(sides, sf.focus, limit, wordsOf(after.profile))
		},
	}
	sf.add(cmd)
	cmd.Flags().BoolVar(&overweight, "overweight", false, "report which functions grew more than the whole did")
	cmd.Flags().StringVar(&failOver, "fail-over", "", "end with status 1 if the whole, or --focus, grew by more than this `percentage`")
	return cmd
}

func percentage(text string) (float64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(text), "%"), 64)
	if err != nil || n < 0 || n > 1e6 {
		return 0, fmt.Errorf("--fail-over %s is no percentage; write 5 or 5%%", text)
	}
	return n, nil
}

// Rebuilt is a sentence for two profiles of one program whose binary has two names, of which no function
// would compare: the module with most of the weight before is not there after, and the reverse.
func rebuilt(before, after *profile.Profile) string {
	old, oldHas := modules(before)
	new, newHas := modules(after)
	if old == "" || new == "" || newHas[old] || oldHas[new] {
		return ""
	}
	return fmt.Sprintf("most is in %s before and in %s after, so that their functions do not compare; --group '{*}!{*}->$2' compares them by name alone",
		filepath.Base(old), filepath.Base(new))
}

// modules are those on which a profile's stacks end, and the one with at least half of the weight.
func modules(p *profile.Profile) (most string, all map[string]bool) {
	weight := map[string]int64{}
	var sum int64
	for i, id := range p.Samples.Stack {
		if id == 0 {
			continue
		}
		weight[p.Frames[p.Stacks.Leaf(id)].Module] += p.Samples.Weight[i]
		sum += p.Samples.Weight[i]
	}
	all = map[string]bool{}
	for m, w := range weight {
		all[m] = true
		if w > sum/2 {
			most = m
		}
	}
	return most, all
}

// GrowthWords tells the two totals and how they differ.
func growthWords(sides [2]*view.Selection, w weightWords) string {
	a, b := sides[0].Root(view.NoColumns).Total, sides[1].Root(view.NoColumns).Total
	return fmt.Sprintf("%s → %s · %s", w.of(a), w.of(b), change(a, b))
}

func change(before, after float64) string {
	switch {
	case before == after:
		return "no change"
	case before == 0:
		return "new"
	}
	return fmt.Sprintf("%+.1f%%", 100*(after-before)/before)
}

// Judge fails where the focus, or everything, grew by more than limit percent.
func judge(sides [2]*view.Selection, focus string, limit float64, w weightWords) error {
	what := "the whole"
	var totals [2]float64
	for i, s := range sides {
		totals[i] = s.Root(view.NoColumns).Total
		if focus == "" {
			continue
		}
		what, totals[i] = focus, 0
		name, err := s.Name(focus)
		if err != nil {
			if i == 0 {
				continue // it is new
			}
			return err
		}
		calls, err := s.CallerCallee(name, view.NoColumns)
		if err != nil {
			return err
		}
		totals[i] = calls.Focus.Total
	}
	if totals[1] <= totals[0]*(1+limit/100) {
		return nil
	}
	return failure{fmt.Sprintf("%s grew from %s to %s (%s), which is more than %g%%", what, w.of(totals[0]), w.of(totals[1]), change(totals[0], totals[1]), limit)}
}

func printOverweight(cmd *cobra.Command, io streams, sf *stacksFlags, f view.Filter, sides [2]*view.Selection, w weightWords) error {
	rows, err := view.Overweight(cmd.Context(), sides[0], sides[1])
	if err != nil {
		return err
	}
	if rows == nil {
		rows = []view.OverweightRow{}
	}
	if sf.asJSON {
		if cmd.Flags().Changed("top") {
			rows = firstOf(rows, sf.top)
		}
		return writeJSON(io.out, rows)
	}
	p := paletteFor(io.out)
	fmt.Fprintln(io.out, p.bold(growthWords(sides, w)))
	if words := f.Active(); words != "" {
		fmt.Fprintln(io.out, p.dim("filter: ")+expand(words))
	}
	if len(rows) == 0 {
		fmt.Fprintln(io.out, "\nThe whole did not change, so nothing grew more than it did.")
		return nil
	}
	fmt.Fprintln(io.out)
	fmt.Fprintln(io.out, p.dim(fmt.Sprintf("%8s  %10s  %10s  %10s  %10s  %s", "interest", "overweight", "of growth", "before", "after", "name")))
	for _, r := range firstOf(rows, sf.top) {
		text := fmt.Sprintf("%8s  %9.0f%%  %9.0f%%  %10s  %10s", strings.Repeat("●", r.Interest), r.Overweight, r.Responsibility, w.of(r.Before), w.of(r.After))
		fmt.Fprintln(io.out, text+"  "+cut(expand(r.Name), max(width(io.out)-58, 20)))
	}
	if n := len(firstOf(rows, sf.top)); n < len(rows) {
		fmt.Fprintln(io.out, p.dim(fmt.Sprintf("… %d more; --top 0 shows all", len(rows)-n)))
	}
	return nil
}
