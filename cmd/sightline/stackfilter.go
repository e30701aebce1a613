package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sightline-dev/sightline/profiler/convert"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/profiler/view"
	"github.com/sightline-dev/sightline/sourcemap"
)

// FilterFlags are the flags that every stack view has.
type filterFlags struct {
	preset       string
	compat       string
	weights      string
	kind         string
	saved        bool
	experimental bool
	filter       view.Filter
}

func (ff *filterFlags) add(f *pflag.FlagSet) {
	f.StringVar(&ff.preset, "preset", "", "begin with a filter that has this `name`; `sightline presets` lists them")
	f.StringVar(&ff.filter.Group, "group", "", "group functions by these `patterns`: '{%}!->module $1'")
	f.StringVar(&ff.filter.Fold, "fold", "", "charge functions that match these `patterns` to their callers")
	f.Float64Var(&ff.filter.FoldPercent, "fold-percent", 0, "fold what is below this `share` of the whole, in percent")
	f.StringVar(&ff.filter.Include, "include", "", "keep stacks that have all of these `patterns`")
	f.StringVar(&ff.filter.Exclude, "exclude", "", "drop stacks that have any of these `patterns`")
	f.Float64Var(&ff.filter.Start, "start", 0, "leave out what was before this many `ms` since the beginning")
	f.Float64Var(&ff.filter.End, "end", 0, "leave out what was after this many `ms`")
	f.StringVar(&ff.weights, "weights", "", "take weights as an `interval` of time or as an amount (default: as the kind has it)")
	f.StringVar(&ff.compat, "compat", "", "follow another `tool` to the letter: perfview")
	f.BoolVar(&ff.filter.Tasks, "tasks", false, "begin stacks with their process and thread")
	f.StringVar(&ff.kind, "kind", "", "the `kind` of samples, where there are several (default: the first)")
	f.BoolVar(&ff.saved, "saved", false, "begin with the filter that the file was saved with (PerfView)")
	f.BoolVar(&ff.experimental, "experimental", false, "read formats that still change (OTLP)")
}

// Of is the filter that the flags of a command ask for.
func (ff *filterFlags) of(cmd *cobra.Command, saved convert.Filter) (view.Filter, error) {
	given := ff.filter
	switch ff.compat {
	case "":
	case "perfview":
		given.Compat = true
	default:
		return given, fmt.Errorf("--compat %s: there is no such tool to follow; it is perfview", ff.compat)
	}
	given.Weights = view.Policy(ff.weights)
	base := view.Filter{}
	if ff.saved {
		base = savedFilter(saved)
	}
	if ff.preset != "" {
		p, err := findPreset(cmd, ff.preset)
		if err != nil {
			return given, err
		}
		base = overlay(base, p.Filter)
	}
	return overlay(base, given), nil
}

// Overlay is base with every field of over that is set.
func overlay(base, over view.Filter) view.Filter {
	text := func(to *string, from string) {
		if from != "" {
			*to = from
		}
	}
	number := func(to *float64, from float64) {
		if from != 0 {
			*to = from
		}
	}
	text(&base.Group, over.Group)
	text(&base.Fold, over.Fold)
	text(&base.Include, over.Include)
	text(&base.Exclude, over.Exclude)
	number(&base.FoldPercent, over.FoldPercent)
	number(&base.Start, over.Start)
	number(&base.End, over.End)
	if over.Scenarios != nil {
		base.Scenarios = over.Scenarios
	}
	if over.Weights != "" {
		base.Weights = over.Weights
	}
	base.Compat = base.Compat || over.Compat
	base.Tasks = base.Tasks || over.Tasks
	return base
}

// SavedFilter is the filter that a file was saved with. Numbers that are none are left out.
func savedFilter(s convert.Filter) view.Filter {
	number := func(text string) float64 {
		n, _ := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
		return n
	}
	return view.Filter{
		Group: s.Group, Fold: s.Fold, Include: s.Include, Exclude: s.Exclude,
		FoldPercent: number(s.FoldPercent), Start: number(s.Start), End: number(s.End),
	}
}

// A preset is a filter under a name: one that comes with the program, or one that a person saved.
type preset struct {
	Name   string      `json:"name"`
	About  string      `json:"about"`
	Stock  bool        `json:"stock"`
	Filter view.Filter `json:"filter"`
}

// PresetsOf are the saved presets of a workspace, by name, and then the stock ones.
func presetsOf(cmd *cobra.Command) ([]preset, error) {
	dir, err := workspaceFlag(cmd)
	if err != nil {
		return nil, err
	}
	st, err := storeOf(cmd)
	if err != nil {
		return nil, err
	}
	kept, err := st.Presets()
	if err != nil {
		return nil, err
	}
	var all []preset
	for _, k := range kept {
		p := preset{Name: k.Name, About: "saved here"}
		if err := json.Unmarshal([]byte(k.Text), &p.Filter); err != nil {
			return nil, fmt.Errorf("preset %s does not decode (%w); remove it with `sightline presets rm`", k.Name, err)
		}
		all = append(all, p)
	}
	for _, s := range view.Presets(ownModules(dir)) {
		if !slices.ContainsFunc(all, func(p preset) bool { return strings.EqualFold(p.Name, s.Name) }) {
			all = append(all, preset{s.Name, s.About, true, view.Filter{}.With(s)})
		}
	}
	return all, nil
}

// OwnModules are the import paths of the Go modules whose code is one's own: those of the workspace,
// and the one that dir lies in.
func ownModules(dir string) []string {
	modules := sourcemap.Modules(workspaceOf(dir))
	for at, err := filepath.Abs(dir); err == nil; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			for _, m := range sourcemap.Modules(at) {
				if !slices.Contains(modules, m) {
					modules = append(modules, m)
				}
			}
			break
		}
		if at == filepath.Dir(at) {
			break
		}
	}
	return modules
}

func findPreset(cmd *cobra.Command, name string) (preset, error) {
	all, err := presetsOf(cmd)
	if err != nil {
		return preset{}, err
	}
	var names []string
	for _, p := range all {
		if strings.EqualFold(p.Name, name) {
			return p, nil
		}
		names = append(names, strconv.Quote(p.Name))
	}
	return preset{}, fmt.Errorf("there is no preset %q; there are %s", name, strings.Join(names, ", "))
}

func newPresets(io streams) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "presets",
		Short: "List the filters that have a name, or save one",
		Example: `  sightline presets
  sightline presets save mine --group '{go}!=>package $1' --fold 'runtime.%'
  sightline stacks --preset mine`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := presetsOf(cmd)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(io.out, all)
			}
			p := paletteFor(io.out)
			longest := 0
			for _, x := range all {
				longest = max(longest, len([]rune(x.Name)))
			}
			for _, x := range all {
				fmt.Fprintf(io.out, "%-*s  %s\n", longest, x.Name, x.About)
				if words := x.Filter.Active(); words != "" {
					fmt.Fprintf(io.out, "%*s  %s\n", longest, "", p.dim(cut(expand(words), width(io.out)-longest-2)))
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(newPresetSave(io), newPresetRemove(io))
	return cmd
}

func newPresetSave(io streams) *cobra.Command {
	var ff filterFlags
	cmd := &cobra.Command{
		Use:   "save NAME",
		Short: "Save the filter that the flags make under a name",
		Args:  atLeast(1, "presets save takes a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := ff.of(cmd, convert.Filter{})
			if err != nil {
				return err
			}
			if err := f.Check(); err != nil {
				return err
			}
			if f.Active() == "" && !f.Tasks && !f.Compat {
				return errors.New("presets save: there is nothing to save; give a filter, such as --group '{%}!->module $1'")
			}
			text, err := json.Marshal(f)
			if err != nil {
				return err
			}
			st, err := storeOf(cmd)
			if err != nil {
				return err
			}
			name := strings.Join(args, " ")
			if err := st.SetPreset(store.Preset{Name: name, Text: string(text)}); err != nil {
				return err
			}
			fmt.Fprintln(io.out, "saved "+name)
			return nil
		},
	}
	ff.add(cmd.Flags())
	return cmd
}

func newPresetRemove(io streams) *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME",
		Short: "Forget a saved filter",
		Args:  atLeast(1, "presets rm takes a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			st, err := storeOf(cmd)
			if err != nil {
				return err
			}
			name := strings.Join(args, " ")
			if err := st.RemovePreset(name); err != nil {
				return err
			}
			fmt.Fprintln(io.out, "removed "+name)
			return nil
		},
	}
}
