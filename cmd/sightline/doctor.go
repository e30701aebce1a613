package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/store"
)

// A diagnosis is what `doctor --json` prints.
type diagnosis struct {
	Version   buildInfo          `json:"version"`
	Store     string             `json:"store"`
	Captures  int                `json:"captures"`
	StoreFail string             `json:"storeError,omitempty"`
	Abilities []profiler.Ability `json:"abilities"`
}

func newDoctor(io streams) *cobra.Command {
	asJSON, fix := false, false
	var folder, group string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Tell what can be recorded here, what cannot, and what would help",
		Long: `Tries what recordings use, by doing it, and prints what works. Beside what does not it names the
cause and the command that gives it with the least privilege. Nothing is changed.

With --fix it prints the commands that let ordinary users record with the bpf engine, by installing
sightline-capture with the capabilities that it needs, and what stands in the way. Root's does what it
prints, asks nothing, and does nothing twice.`,
		Example: `  sightline doctor                          what works here, and what would help
  sightline doctor --fix                    what root has to do for the bpf engine
  sudo sightline doctor --fix               do it
  sudo sightline doctor --fix --group dev   for the members of a group alone`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if fix {
				folder, err := filepath.Abs(folder)
				if err != nil {
					return err
				}
				r, err := fixPrivileges(folder, group)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(io.out, r)
				}
				r.print(io.out)
				return nil
			}
			if cmd.Flags().Changed("group") || cmd.Flags().Changed("folder") {
				return errors.New("--group and --folder say what --fix is to do; give that too")
			}
			d := diagnose(storeOf(cmd))
			if asJSON {
				return writeJSON(io.out, d)
			}
			d.print(io.out)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&fix, "fix", false, "print what lets ordinary users record with the bpf engine; as root, do it")
	cmd.Flags().StringVar(&group, "group", "", "with --fix: let only members of this `group` use it (default: everyone)")
	cmd.Flags().StringVar(&folder, "folder", profiler.CaptureFolders[0], "with --fix: install it in this `folder`")
	return cmd
}

// Diagnose finds out what works; st is the store to look into, or err why there is none.
func diagnose(st *store.Store, err error) *diagnosis {
	d := &diagnosis{Version: version(), Abilities: profiler.Probe()}
	if err == nil {
		d.Store = st.Path()
		list, listErr := st.List()
		d.Captures, err = len(list), listErr
	}
	if err != nil {
		d.StoreFail = err.Error()
	}
	return d
}

// Result is the same for an editor.
func (d *diagnosis) result() rpc.DoctorResult {
	var text strings.Builder
	d.print(&text)
	r := rpc.DoctorResult{Text: text.String()}
	for _, a := range d.Abilities {
		engine := string(a.Engine)
		r.Engines = append(r.Engines, rpc.EngineInfo{
			Engine: engine, What: strings.TrimPrefix(a.Name, engine+": "), Works: a.OK, Detail: a.Detail, Why: a.Why, Remedy: a.Remedy,
		})
		if a.OK && (a.Name == abilityOwn || a.Name == abilityBPF) {
			r.Healthy = true
		}
	}
	return r
}

func (d *diagnosis) print(out io.Writer) {
	p := paletteFor(out)
	longest := 0
	for _, a := range d.Abilities {
		longest = max(longest, len(a.Name))
	}
	room := max(width(out)-longest-9, 40)
	type advice struct {
		remedy string
		gives  []string
	}
	var advices []*advice
	for _, a := range d.Abilities {
		mark := p.good("yes")
		if !a.OK {
			mark = p.bad("no ")
		}
		lines := wrap(a.Detail, room)
		if a.Why != "" {
			lines = append(lines, wrap("because "+a.Why, room)...)
		}
		for i, line := range lines {
			if i == 0 {
				fmt.Fprintf(out, "%s  %-*s  %s\n", mark, longest, a.Name, line)
			} else {
				fmt.Fprintf(out, "     %*s  %s\n", longest, "", p.dim(line))
			}
		}
		if a.Remedy == "" {
			continue
		}
		remedy, other, _ := strings.Cut(a.Remedy, ", or, ") // one command gives many abilities
		at := slices.IndexFunc(advices, func(x *advice) bool { return x.remedy == remedy })
		if at < 0 {
			at = len(advices)
			advices = append(advices, &advice{remedy: remedy})
		}
		gives := a.Name
		if other != "" {
			gives += " (or, " + other + ")"
		}
		advices[at].gives = append(advices[at].gives, gives)
	}
	for i, x := range advices {
		if i == 0 {
			fmt.Fprintln(out, "\n"+p.bold("What would help"))
		}
		fmt.Fprintf(out, "\n  %s\n", x.remedy)
		for _, ability := range x.gives {
			fmt.Fprintln(out, p.dim("    gives "+ability))
		}
	}
	fmt.Fprintln(out)
	if d.StoreFail != "" {
		fmt.Fprintf(out, "%s  store: %s\n", p.bad("no "), d.StoreFail)
	} else {
		fmt.Fprintf(out, "%s  store: %s, %s\n", p.good("yes"), d.Store, plural(d.Captures, "capture"))
	}
}

// Wrap breaks text between words into lines of at most n columns; a word that is longer stays
// whole, because it is a path or a command to copy.
func wrap(text string, n int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) > n:
			lines = append(lines, line)
			line = word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
