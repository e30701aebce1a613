package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/profiler/convert"
	"github.com/sightline-dev/sightline/profiler/view"
)

// The views of `sightline stacks`.
var stackViews = []string{
	"by-name", "call-tree", "caller-callee", "callers", "callees", "lines", "functions", "flame", "timeline", "histogram",
}

// StacksFlags are those of stacks and diff.
type stacksFlags struct {
	filterFlags
	view    string
	focus   string
	file    string
	find    string
	top     int
	depth   int
	least   float64
	buckets int
	asJSON  bool
}

func (sf *stacksFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&sf.view, "view", "by-name", strings.Join(stackViews, ", "))
	f.StringVar(&sf.focus, "focus", "", "the `function` or group that the view is about")
	f.StringVar(&sf.file, "file", "", "the source `file` whose functions or lines are meant")
	f.StringVar(&sf.find, "find", "", "show only rows whose name matches this `pattern`, and in a tree the way to them")
	f.IntVar(&sf.top, "top", 30, "show this many rows; 0 is all")
	f.IntVar(&sf.depth, "depth", 0, "show this many levels of a tree; 0 is all")
	f.Float64Var(&sf.least, "min", 1, "leave out branches of a tree below this many percent")
	f.IntVar(&sf.buckets, "buckets", 0, "parts of the time in timeline and histogram (default 32)")
	f.BoolVar(&sf.asJSON, "json", false, "print JSON: every row, weights in the unit of the source, times in ms")
	sf.filterFlags.add(f)
}

func (sf *stacksFlags) check() error {
	if sf.view == "functions-of-a-file" {
		sf.view = "functions"
	}
	switch {
	case !slices.Contains(stackViews, sf.view):
		return fmt.Errorf("there is no view %s; there are %s", sf.view, strings.Join(stackViews, ", "))
	case sf.top < 0, sf.depth < 0, sf.least < 0 || sf.least > 100, sf.buckets < 0 || sf.buckets > 100_000:
		return fmt.Errorf("--top %d --depth %d --min %g --buckets %d: none may be negative, --min is a percentage, and there are at most 100000 buckets", sf.top, sf.depth, sf.least, sf.buckets)
	case sf.focus == "" && slices.Contains([]string{"caller-callee", "callers", "callees"}, sf.view):
		return fmt.Errorf("--view %s is about one function; name it with --focus", sf.view)
	case sf.file == "" && sf.view == "functions":
		return errors.New("--view functions shows those of one source file; name it with --file")
	case sf.find != "" && slices.Contains([]string{"flame", "timeline", "histogram"}, sf.view):
		return fmt.Errorf("--find looks for rows, and --view %s has none; use --include to keep stacks that have a name", sf.view)
	case math.IsNaN(sf.least):
		return errors.New("--min is no percentage; give a number from 0 to 100")
	}
	return nil
}

func newStacks(io streams) *cobra.Command {
	var sf stacksFlags
	var scenarios []string
	var why bool
	cmd := &cobra.Command{
		Use:   "stacks [CAPTURE|FILE]",
		Short: "Show where the weight is: by function, as a tree, around one function, over time",
		Long: `Shows the stacks of a capture, or of a file that another tool made (pprof, perf.data, perf script,
collapsed, speedscope, Firefox, PerfView, Chrome trace, strace; - is standard input). Without one it is the
newest capture.

Patterns are literal text with * for anything, % for the characters of a name, ^ for the beginning and | for
or; a pattern that begins with @ is a regular expression. Lists are separated by semicolons. In --group,
PATTERN->NAME makes one group, PATTERN=>NAME one for each function by which it is entered; {…} is $1 in NAME.`,
		Example: `  sightline stacks                                        the newest capture by function
  sightline stacks @2 --view call-tree                    the one before as a call tree
  sightline stacks --preset "just my code"                everything else as what my code calls
  sightline stacks cpu.pprof --group '{%}!->module $1'    another tool's file by module
  sightline stacks --view callers --focus runtime.mallocgc
  sightline stacks --start 100 --end 200 --include main.Parse
  sightline stacks --view flame > flame.svg
  sightline stacks --scenario old=a.pprof --scenario new=b.pprof
  sightline stacks --why-broken                           what keeps stacks from being whole
  sightline stacks --top 0 --json                         every function, for another program`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := sf.check(); err != nil {
				return err
			}
			if why {
				return sf.explain(cmd, io, args, scenarios)
			}
			x, err := sf.open(cmd, io.in, args, scenarios)
			if err != nil {
				return err
			}
			return sf.show(cmd, io, x)
		},
	}
	sf.add(cmd)
	cmd.Flags().BoolVar(&why, "why-broken", false, "list where and why stacks have lost their outermost callers, and what helps")
	cmd.Flags().StringArrayVar(&scenarios, "scenario", nil, "look at several as one: `NAME=CAPTURE|FILE`, more than once; or a .scenarioSet.xml")
	return cmd
}

// Explain prints why stacks are broken.
func (sf *stacksFlags) explain(cmd *cobra.Command, io streams, args, scenarios []string) error {
	if len(scenarios) > 0 {
		return errors.New("--why-broken is about one capture; give it without --scenario")
	}
	ref := "@"
	if len(args) > 0 {
		ref = args[0]
	}
	o, err := openInput(cmd, io.in, ref, sf.kind, sf.experimental)
	if err != nil {
		return err
	}
	return showWhyBroken(io, o.profile, sf.asJSON)
}

// A stackShow is a source of stacks, how it was filtered, and what a person should know of it.
type stackShow struct {
	title     []string // lines above a table
	source    *view.Source
	selection *view.Selection
	filter    view.Filter // as the flags ask for it
	words     weightWords
	signed    bool
}

// Open opens what the arguments name and filters it.
func (sf *stacksFlags) open(cmd *cobra.Command, in io.Reader, args, scenarios []string) (*stackShow, error) {
	x := &stackShow{}
	var saved convert.Filter
	if len(scenarios) > 0 {
		if len(args) > 0 {
			return nil, fmt.Errorf("%s beside --scenario: give it a name, --scenario NAME=%s", args[0], args[0])
		}
		if err := sf.openScenarios(cmd, in, scenarios, x); err != nil {
			return nil, err
		}
	} else {
		ref := "@"
		if len(args) > 0 {
			ref = args[0]
		}
		o, err := openInput(cmd, in, ref, sf.kind, sf.experimental)
		if err != nil {
			return nil, err
		}
		saved = o.saved
		x.source, x.words = view.NewSource(o.profile), wordsOf(o.profile)
		x.title = o.title()
		if n := len(o.capture.Series); n > 1 && sf.kind == "" {
			var others []string
			for _, s := range o.capture.Series[1:] {
				others = append(others, string(s.Kind))
			}
			x.title = append(x.title, fmt.Sprintf("note: this is %s; --kind shows %s", o.capture.Series[0].Kind, strings.Join(others, ", ")))
		}
		if saved != (convert.Filter{}) && !sf.saved {
			x.title = append(x.title, "note: it was saved with a filter; --saved applies it")
		}
	}
	return x, sf.filterSource(cmd, x, saved)
}

func (sf *stacksFlags) filterSource(cmd *cobra.Command, x *stackShow, saved convert.Filter) error {
	f, err := sf.of(cmd, saved)
	if err != nil {
		return err
	}
	x.filter = f
	x.selection, err = x.source.Filter(cmd.Context(), f)
	return err
}

// OpenScenarios makes one source of several captures and files.
func (sf *stacksFlags) openScenarios(cmd *cobra.Command, in io.Reader, given []string, x *stackShow) error {
	var set []view.Scenario
	var names []string
	add := func(name, ref string) error {
		o, err := openInput(cmd, in, ref, sf.kind, sf.experimental)
		if err != nil {
			return err
		}
		set, names = append(set, view.Scenario{Name: name, Profile: o.profile}), append(names, name)
		return nil
	}
	for _, g := range given {
		if convert.IsScenarioSet(g) && !strings.Contains(g, "=") {
			files, err := scenarioFiles(g)
			if err != nil {
				return err
			}
			for _, f := range files {
				if err := add(f.Name, f.File); err != nil {
					return err
				}
			}
			continue
		}
		name, ref, ok := strings.Cut(g, "=")
		if !ok || name == "" || ref == "" {
			return fmt.Errorf("--scenario %s: write it as NAME=CAPTURE or NAME=FILE", g)
		}
		if err := add(name, ref); err != nil {
			return err
		}
	}
	source, err := view.NewScenarios(set)
	if err != nil {
		return err
	}
	x.source, x.words = source, wordsOf(set[0].Profile)
	names = source.Scenarios()
	x.title = []string{fmt.Sprintf("%d scenarios: %s", len(names), strings.Join(names, ", "))}
	if n := len(set) - len(names); n > 0 {
		x.title = append(x.title, fmt.Sprintf("note: %d of the files given had a name that a later one has, and were left out", n))
	}
	return nil
}

// ScenarioFiles are the files that a scenario set names.
func scenarioFiles(path string) ([]convert.Scenario, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the scenario set %s: %w", path, cause(err))
	}
	defer f.Close()
	return convert.ReadScenarioSet(f, filepath.Dir(path), nil)
}

// Show prints the view that was asked for.
func (sf *stacksFlags) show(cmd *cobra.Command, io streams, x *stackShow) error {
	s := x.selection
	columns := view.AllColumns
	tree := view.TreeOptions{Depth: sf.depth, MinShare: sf.least / 100}
	if sf.asJSON && !cmd.Flags().Changed("min") {
		tree.MinShare = 0
	}
	top := sf.top
	if sf.asJSON && !cmd.Flags().Changed("top") {
		top = 0
	}
	table := newStackTable(io.out, x)
	print := func(v any, human func()) error {
		if sf.asJSON {
			return writeJSON(io.out, v)
		}
		table.head()
		human()
		return table.flush()
	}
	found := func(string) bool { return true }
	if sf.find != "" {
		var err error
		if found, err = s.Finder(sf.find); err != nil {
			return err
		}
	}
	nothing := fmt.Errorf("--find %s: no row of this view has such a name; sightline stacks --find %[1]s looks among all names", sf.find)
	keepRows := func(rows []view.StackRow) []view.StackRow {
		return slices.DeleteFunc(rows, func(r view.StackRow) bool { return !found(r.Name) })
	}
	branch := func(b *view.Branch, err error) error {
		if err != nil {
			return err
		}
		n := b.Expand(tree)
		if sf.find != "" {
			if n = n.Keep(found); n == nil {
				return nothing
			}
		}
		return print(n, func() { table.tree(n) })
	}
	switch sf.view {
	case "by-name":
		rows := s.ByName(columns)
		rows.Rows = keepRows(rows.Rows)
		all := len(rows.Rows)
		rows.Rows = firstOf(rows.Rows, top)
		return print(rows, func() { table.rows(rows.Rows, all) })
	case "call-tree":
		return branch(s.Tree(columns), nil)
	case "callers":
		return branch(s.Callers(sf.focus, columns))
	case "callees":
		return branch(s.Callees(sf.focus, columns))
	case "caller-callee":
		calls, err := s.CallerCallee(sf.focus, columns)
		if err != nil {
			return err
		}
		calls.Callers, calls.Callees = keepRows(calls.Callers), keepRows(calls.Callees)
		return print(calls, func() { table.calls(calls, top) })
	case "lines":
		lines, err := s.Lines(sf.focus)
		if err != nil {
			return err
		}
		lines = slices.DeleteFunc(lines, func(l view.PlaceRow) bool { return !found(l.File) })
		if sf.file != "" {
			if lines = linesOfFile(lines, sf.file); len(lines) == 0 {
				return fmt.Errorf("no sample is in a file %s; --view lines without --file lists what there is", sf.file)
			}
		} else if !sf.asJSON {
			slices.SortStableFunc(lines, func(a, b view.PlaceRow) int { return compareFloatsDown(a.Self, b.Self) })
		}
		all := len(lines)
		lines = firstOf(lines, top)
		return print(lines, func() { table.lines(lines, all) })
	case "functions":
		rows, err := s.FunctionsOf(sf.file, columns)
		if err != nil {
			return err
		}
		rows = keepRows(rows)
		return print(rows, func() { table.rows(firstOf(rows, top), len(rows)) })
	case "flame":
		if sf.asJSON {
			return writeJSON(io.out, s.Flame(view.FlameOptions{MinWidth: tree.MinShare}))
		}
		if isTerminal(io.out) {
			return errors.New("a flame graph is a picture; write it to a file: sightline stacks --view flame > flame.svg")
		}
		p, err := s.Profile(cmd.Context(), true)
		if err != nil {
			return err
		}
		return convert.Write(io.out, convert.SVG, convert.Export{Profile: p, Name: x.title[0], Difference: x.signed})
	case "timeline":
		var names []string
		if sf.focus != "" {
			names = strings.Split(sf.focus, ";")
		}
		lanes, err := s.Timeline(sf.buckets, names...)
		if err != nil {
			return err
		}
		return print(lanes, func() { table.lanes(lanes, top) })
	}
	focus := sf.focus
	if focus == "" {
		focus = view.Root
	}
	h, err := s.Histogram(focus, sf.buckets)
	if err != nil {
		return err
	}
	return print(h, func() { table.histogram(h) })
}

func firstOf[T any](rows []T, n int) []T {
	if n > 0 && n < len(rows) {
		return rows[:n]
	}
	return rows
}

func linesOfFile(lines []view.PlaceRow, file string) []view.PlaceRow {
	return slices.DeleteFunc(slices.Clone(lines), func(l view.PlaceRow) bool {
		return l.File != file && !strings.HasSuffix(l.File, "/"+file)
	})
}

func compareFloatsDown(a, b float64) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}
