package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/sourcemap"
)

// An annotated file is a source as it is now with the costs that a capture knows of it.
type annotated struct {
	File    string       `json:"file"` // on this machine, else as the build recorded it
	Capture store.ID     `json:"capture"`
	Kind    profile.Kind `json:"kind"`
	Unit    profile.Unit `json:"unit"`
	// Lines that cost anything, in order. Line and Text are those of the present file.
	Lines []annotatedLine `json:"lines"`
	// Note says what is wrong with the source as it was recorded: that it is not the text that the program
	// was built from, or why there is none.
	Note string `json:"note,omitempty"`
	// Changed is how many costly lines are left out because their text is not what was recorded.
	Changed int `json:"changed,omitempty"`

	text  []string // of the present file
	whole int64    // weight of the capture
}

type annotatedLine struct {
	Line  int    `json:"line"`
	Self  int64  `json:"self"`  // in Unit
	Total int64  `json:"total"` // in Unit
	Count int64  `json:"count"` // samples in Total
	Text  string `json:"text"`
}

// Annotate lays a capture's costs over the present text of one of its sources, or over the text as
// recorded where asked for, or where the file is gone.
func (o *opened) annotate(s *profile.Source, recorded bool) *annotated {
	a := &annotated{
		File: s.Path, Capture: o.meta.ID, Kind: o.profile.Kind, Unit: o.profile.Unit,
		Note: s.Note, Lines: []annotatedLine{}, whole: o.profile.Total().Weight,
	}
	text, now := s.Text, func(line int) (int, bool) { return line, true }
	if s.Local != "" {
		a.File = s.Local
		if current, err := os.ReadFile(s.Local); err == nil && !recorded {
			if s.Text != nil {
				now = sourcemap.NewLineMap(s.Text, current).Now
			}
			text = current
		}
	}
	if len(text) > 0 {
		a.text = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
	for _, f := range o.sums.Lines() {
		if f.File != s.Path {
			continue
		}
		for _, l := range f.Lines {
			line, ok := now(l.Line)
			if !ok {
				a.Changed++
				continue
			}
			x := annotatedLine{Line: line, Self: l.Self.Weight, Total: l.Total.Weight, Count: l.Total.Count}
			if line > 0 && line <= len(a.text) {
				x.Text = strings.TrimRight(a.text[line-1], "\r")
			}
			a.Lines = append(a.Lines, x)
		}
	}
	return a
}

func newLines(io streams) *cobra.Command {
	var (
		ref           string
		asJSON, all   bool
		recorded      bool
		mapped        []string
		percentAtWhat float64
		kind          string
	)
	cmd := &cobra.Command{
		Use:   "lines FILE",
		Short: "Show a source with the cost of its lines, as the editor does",
		Long: `Prints the parts of a source file that cost anything, each line with its total (the line and
all it calls) and its self (the line alone). Costs come from the newest capture that touches the
file and stand on the lines of the file as it is now: a line that moved keeps its number, a line
that changed loses it.`,
		Example: `  sightline lines parser/parse.go
  sightline lines parser/parse.go --capture @2 --all
  sightline lines parser/parse.go --kind alloc
  sightline lines parser/parse.go --json | jq '.lines[] | select(.self > 1e6)'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("lines takes one file, not %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			st, err := storeOf(cmd)
			if err != nil {
				return err
			}
			dir, err := workspaceFlag(cmd)
			if err != nil {
				return err
			}
			paths := &sourcemap.Paths{Workspace: []string{workspaceOf(dir)}}
			if paths.Prefixes, err = mapPaths(mapped); err != nil {
				return err
			}
			o, err := captureFor(st, ref, args[0], kind, paths)
			if err != nil {
				return err
			}
			o.findSources(args[0], paths)
			s, err := o.sourceFor(args[0])
			if err != nil {
				return err
			}
			if percentAtWhat < 0 || percentAtWhat > 100 {
				return fmt.Errorf("--threshold %g is not between 0 and 100 percent", percentAtWhat)
			}
			a := o.annotate(s, recorded)
			if asJSON {
				return writeJSON(io.out, a)
			}
			if s.Note != "" {
				fmt.Fprintf(io.err, "sightline: %s: %s\n", shortPath(".", args[0]), s.Note)
			}
			a.print(io.out, workspaceOf(dir), o, all, percentAtWhat)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&ref, "capture", "", "use this `capture` (default: the newest that touches the file)")
	f.StringVar(&kind, "kind", "", "costs of this `kind` where there are several: cpu, alloc, in-use, blocked, contention (default: the first)")
	f.StringArrayVar(&mapped, "map-path", nil, "sources that the build had under FROM are under TO here; `FROM=TO`, may be given again")
	f.BoolVar(&all, "all", false, "print the whole file, not only what costs")
	f.BoolVar(&recorded, "recorded", false, "print the text as it was recorded")
	f.Float64Var(&percentAtWhat, "threshold", 1, "leave lines below this many percent without a number")
	f.BoolVar(&asJSON, "json", false, "print JSON: every line that cost anything, weights in the capture's unit")
	return cmd
}

// FindSources finds the places of the sources named as file is that were not found when they were
// recorded: on another machine, or without the rule that leads to them.
func (o *opened) findSources(file string, paths *sourcemap.Paths) {
	for i := range o.capture.Symbols.Sources {
		s := &o.capture.Symbols.Sources[i]
		if s.Local == "" && filepath.Base(s.Path) == filepath.Base(file) {
			if local, ok := paths.Local(s.Path); ok {
				s.Local, s.Note = local, ""
			}
		}
	}
}

// CaptureFor opens the capture that ref names, else the newest that has samples in file.
func captureFor(st *store.Store, ref, file, kind string, paths *sourcemap.Paths) (*opened, error) {
	if ref != "" {
		id, err := st.Resolve(ref)
		if err != nil {
			return nil, err
		}
		return openCapture(st, id, kind)
	}
	list, err := st.List()
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	abs = canonical(abs)
	var loose *store.ID
	for _, m := range list {
		for _, f := range m.Files {
			if f.Local != "" && canonical(f.Local) == abs || f.Path == file {
				return openCapture(st, m.ID, kind)
			}
			if f.Local == "" && filepath.Base(f.Path) == filepath.Base(file) {
				if local, ok := paths.Local(f.Path); ok && canonical(local) == abs {
					return openCapture(st, m.ID, kind)
				}
			}
			if loose == nil && strings.HasSuffix("/"+f.Path, "/"+filepath.ToSlash(file)) {
				loose = &m.ID
			}
		}
	}
	if loose != nil {
		return openCapture(st, *loose, kind)
	}
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no file %s, and no capture has one of that name", file)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("nothing is recorded in this workspace yet; `sightline test` or `sightline record` does it")
	}
	return nil, fmt.Errorf("no capture has a sample in %s; `sightline captures` lists what was recorded", file)
}

// Print writes the file as an editor shows it: numbers beside the lines over the threshold, the
// stretches that cost nothing left out.
func (a *annotated) print(out io.Writer, workspace string, o *opened, all bool, threshold float64) {
	p := paletteFor(out)
	cost := map[int]annotatedLine{}
	last := 0
	for _, l := range a.Lines {
		cost[l.Line] = l
		last = max(last, l.Line)
	}
	least := int64(threshold / 100 * float64(a.whole))
	hot := func(l int) bool { c, ok := cost[l]; return ok && c.Total >= least && c.Total > 0 }
	shown := func(n int) bool {
		if all {
			return true
		}
		for l := n - 2; l <= n+2; l++ {
			if hot(l) {
				return true
			}
		}
		return false
	}
	fmt.Fprintf(out, "%s  %s\n", p.bold(shortPath(workspace, a.File)),
		p.dim(fmt.Sprintf("%s · %s · %s · capture %s", cut(expand(o.capture.Target.String()), 80), lspserver.Weight(a.whole, a.Unit), age(o.meta.Start), a.Capture)))
	if a.Changed > 0 {
		fmt.Fprintln(out, p.dim(plural(a.Changed, "line")+" changed since, without a number"))
	}
	lines := max(len(a.text), last)
	digits := len(fmt.Sprint(lines))
	room := width(out) - digits - 38
	number := func(w int64) string {
		if w == 0 {
			return fmt.Sprintf("%16s", "")
		}
		return fmt.Sprintf("%6s %9s", lspserver.Percent(w, a.whole), lspserver.Weight(w, a.Unit))
	}
	fmt.Fprintln(out, p.dim(fmt.Sprintf("%16s %17s  %*s", "total", "self", digits, "")))
	skipped := false
	for n := 1; n <= lines; n++ {
		if !shown(n) {
			skipped = true
			continue
		}
		if skipped && !all {
			fmt.Fprintln(out, p.dim(fmt.Sprintf("%34s  %*s", "", digits, "⋯")))
		}
		skipped = false
		text := ""
		if n <= len(a.text) {
			text = cut(expand(a.text[n-1]), room)
		}
		var total, self int64
		if hot(n) {
			total, self = cost[n].Total, cost[n].Self
		}
		fmt.Fprintf(out, "%s %s  %s  %s\n", p.heat(number(total), total, a.whole), p.heat(number(self)+" ", self, a.whole),
			p.dim(fmt.Sprintf("%*d", digits, n)), text)
	}
	if !all && skipped && len(a.Lines) > 0 {
		fmt.Fprintln(out, p.dim(fmt.Sprintf("%34s  %*s", "", digits, "⋯")))
	}
}
