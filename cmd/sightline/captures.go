package main

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

// A captureJSON is one capture as `captures --json` and `show --json` print it.
type captureJSON struct {
	ID          store.ID      `json:"id"`
	Target      string        `json:"target"`
	Engine      string        `json:"engine"`
	Machine     string        `json:"machine,omitempty"`
	Start       time.Time     `json:"start"`
	Length      int64         `json:"length"`
	Kinds       []kindJSON    `json:"kinds"`
	Bytes       int64         `json:"bytes"`
	Snapshot    int64         `json:"snapshot,omitempty"` // bytes of the heap snapshot beside it
	Pinned      bool          `json:"pinned"`
	Interrupted bool          `json:"interrupted"`
	Note        string        `json:"note,omitempty"`
	Warnings    []warningJSON `json:"warnings,omitempty"`
	Mappings    []mappingJSON `json:"mappings,omitempty"`
	Files       []string      `json:"files,omitempty"`
}

type kindJSON struct {
	Kind    profile.Kind `json:"kind"`
	Unit    profile.Unit `json:"unit"`
	Samples int64        `json:"samples"`
	Total   int64        `json:"total"`
}

type mappingJSON struct {
	Kind    string `json:"kind"`
	Path    string `json:"path"`
	BuildID string `json:"buildID,omitempty"`
	Deleted bool   `json:"deleted,omitempty"`
}

type warningJSON struct {
	Kind  profile.WarningKind `json:"kind"`
	Text  string              `json:"text"`
	Count int64               `json:"count,omitempty"`
}

func warningsToJSON(warnings []profile.Warning) []warningJSON {
	var out []warningJSON
	for _, w := range warnings {
		out = append(out, warningJSON(w))
	}
	return out
}

func captureToJSON(m store.Meta) captureJSON {
	c := captureJSON{
		ID: m.ID, Target: m.Target.String(), Engine: m.Engine, Machine: m.Machine, Start: m.Start,
		Length: int64(m.Length), Kinds: []kindJSON{}, Bytes: m.Bytes, Snapshot: m.Snapshot, Pinned: m.Pinned,
		Interrupted: m.Interrupted, Note: m.Note, Warnings: warningsToJSON(m.Warnings),
	}
	for _, k := range m.Kinds {
		c.Kinds = append(c.Kinds, kindJSON{k.Kind, k.Unit, int64(k.Samples), k.Weight})
	}
	return c
}

func newCaptures(io streams) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:     "captures",
		Aliases: []string{"ls"},
		Short:   "List what was recorded, newest first",
		Long: `Lists the captures of the workspace. Name one by its id, by the beginning of its id, or by its
place in this list: @ is the newest, @2 the one before.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := storeOf(cmd)
			if err != nil {
				return err
			}
			list, err := st.List()
			if err != nil {
				return err
			}
			if asJSON {
				all := []captureJSON{}
				for _, m := range list {
					all = append(all, captureToJSON(m))
				}
				return writeJSON(io.out, all)
			}
			if len(list) == 0 {
				fmt.Fprintln(io.out, "No captures yet. `sightline test` or `sightline record` makes one.")
				return nil
			}
			w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tWHEN\tSAMPLES\tWEIGHT\tSIZE\tTARGET")
			for _, m := range list {
				samples, weight := "", ""
				for _, k := range m.Kinds {
					samples, weight = lspserver.Count(int64(k.Samples)), lspserver.Weight(k.Weight, k.Unit)
					break
				}
				marks := ""
				if m.Pinned {
					marks += " [pinned]"
				}
				if m.Interrupted {
					marks += " [interrupted]"
				}
				if m.Note != "" {
					marks += " " + m.Note
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s%s\n", m.ID, age(m.Start), samples, weight,
					lspserver.Weight(m.Bytes+m.Snapshot, profile.Bytes), cut(expand(m.Target.String()), 60), marks)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// AtLeast demands a number of arguments, else says what the command takes.
func atLeast(n int, takes string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < n {
			return errors.New(takes)
		}
		return nil
	}
}

// OneCapture gives a command its store and the capture that its first argument names, the newest
// where there is none.
func oneCapture(cmd *cobra.Command, args []string) (*store.Store, store.ID, error) {
	st, err := storeOf(cmd)
	if err != nil {
		return nil, "", err
	}
	ref := "@"
	if len(args) > 0 {
		ref = args[0]
	}
	id, err := st.Resolve(ref)
	return st, id, err
}

func newShow(io streams) *cobra.Command {
	asJSON := false
	top := 10
	cmd := &cobra.Command{
		Use:   "show [CAPTURE]",
		Short: "Show what a capture holds and its hot lines",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			st, id, err := oneCapture(cmd, args)
			if err != nil {
				return err
			}
			o, err := openCapture(st, id, "")
			if err != nil {
				return err
			}
			if asJSON {
				j := captureToJSON(o.meta)
				for _, m := range o.capture.Mappings[1:] {
					j.Mappings = append(j.Mappings, mappingJSON{m.Kind.String(), m.Path, m.BuildID, m.Deleted})
				}
				for _, s := range o.capture.Symbols.Sources {
					j.Files = append(j.Files, s.Path)
				}
				return writeJSON(io.out, j)
			}
			dir, err := workspaceFlag(cmd)
			if err != nil {
				return err
			}
			o.summary(io.out, age(o.meta.Start))
			fmt.Fprintln(io.out, paletteFor(io.out).dim(o.provenance()))
			if o.meta.Note != "" {
				fmt.Fprintln(io.out, "note: "+o.meta.Note)
			}
			o.hotLines(io.out, workspaceOf(dir), top)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().IntVar(&top, "top", top, "show this many hot lines")
	return cmd
}

// Provenance is where and when a capture was made, as far as it is known, and what it takes.
func (o *opened) provenance() string {
	var parts []string
	if o.capture.Machine != "" {
		parts = append(parts, o.capture.Machine)
	}
	if o.meta.Start.IsZero() {
		parts = append(parts, "imported "+o.meta.ID.Time().Local().Format("2006-01-02 15:04:05"))
	} else {
		parts = append(parts, o.meta.Start.Local().Format("2006-01-02 15:04:05"))
	}
	return strings.Join(append(parts, lspserver.Weight(o.meta.Bytes+o.meta.Snapshot, profile.Bytes)+" stored"), " · ")
}

func newRemove(io streams) *cobra.Command {
	return &cobra.Command{
		Use:   "rm CAPTURE…",
		Short: "Remove captures",
		Args:  atLeast(1, "rm takes the captures to remove; `sightline captures` lists them"),
		RunE: func(cmd *cobra.Command, args []string) error {
			st, err := storeOf(cmd)
			if err != nil {
				return err
			}
			ids := make([]store.ID, len(args)) // all named before one is removed: "@ @2" means two
			for i, ref := range args {
				if ids[i], err = st.Resolve(ref); err != nil {
					return err
				}
			}
			defer tellDaemon(st.Path())
			for _, id := range ids {
				if err := st.Remove(id); err != nil {
					return err
				}
				fmt.Fprintln(io.out, "removed "+string(id))
			}
			return nil
		},
	}
}

func newPin(io streams) *cobra.Command {
	off := false
	cmd := &cobra.Command{
		Use:   "pin [CAPTURE]",
		Short: "Keep a capture when old ones are removed to make room",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			st, id, err := oneCapture(cmd, args)
			if err != nil {
				return err
			}
			if err := st.Pin(id, !off); err != nil {
				return err
			}
			tellDaemon(st.Path())
			if off {
				fmt.Fprintln(io.out, "unpinned "+string(id))
			} else {
				fmt.Fprintln(io.out, "pinned "+string(id))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&off, "off", false, "let it be removed again")
	return cmd
}

func newNote(io streams) *cobra.Command {
	return &cobra.Command{
		Use:     "note CAPTURE TEXT…",
		Short:   "Write a note on a capture",
		Example: "  sightline note @ before the cache",
		Args:    atLeast(1, "note takes a capture and a text; no text removes the note"),
		RunE: func(cmd *cobra.Command, args []string) error {
			st, id, err := oneCapture(cmd, args)
			if err != nil {
				return err
			}
			defer tellDaemon(st.Path())
			return st.SetNote(id, strings.Join(args[1:], " "))
		},
	}
}
