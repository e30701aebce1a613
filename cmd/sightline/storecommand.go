package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

func newStore(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Look after the file that captures are kept in",
		Example: `  sightline store check                      read all of it and verify it
  sightline store compact                    give the space of removed captures back
  sightline store export backup.db           copy it; --store backup.db reads the copy`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no command %q; use check, compact or export", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newStoreCheck(io), newStoreCompact(io), newStoreExport(io))
	return cmd
}

// A storeReport is what store check --json prints.
type storeReport struct {
	Path        string `json:"path"`
	Whole       bool   `json:"whole"`
	Problem     string `json:"problem,omitempty"`
	Captures    int    `json:"captures"`
	Interrupted int    `json:"interrupted"`
	File        int64  `json:"file"` // bytes
	Used        int64  `json:"used"` // bytes of it
}

func newStoreCheck(io streams) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Read all that is stored and verify it",
		Long: `Reads everything in the store and verifies it: the pages of the file, each record's checksum and
content, and that nothing is missing and nothing left over. Nothing is changed. The exit status is 1
where something is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := storeOf(cmd)
			if errors.Is(err, store.ErrDamaged) {
				return failure{err.Error()}
			}
			if err != nil {
				return err
			}
			r := storeReport{Path: st.Path(), Whole: true}
			checked := st.Check()
			if checked != nil && !errors.Is(checked, store.ErrDamaged) {
				return checked
			}
			if checked != nil {
				r.Whole, r.Problem = false, checked.Error()
			}
			if list, err := st.List(); err == nil {
				r.Captures = len(list)
				for _, m := range list {
					if m.Interrupted && !m.Recording {
						r.Interrupted++
					}
				}
			}
			if u, err := st.Usage(); err == nil {
				r.File, r.Used = u.File, u.Used
			}
			if asJSON {
				if err := writeJSON(io.out, r); err != nil {
					return err
				}
			}
			if !r.Whole {
				return failure{r.Problem}
			}
			if !asJSON {
				r.print(io.out)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (r storeReport) print(out io.Writer) {
	p := paletteFor(out)
	fmt.Fprintf(out, "%s  %s\n", p.good("whole"), r.Path)
	fmt.Fprintf(out, "       %s, %s used of %s\n", plural(r.Captures, "capture"), lspserver.Weight(r.Used, profile.Bytes), lspserver.Weight(r.File, profile.Bytes))
	if r.Interrupted > 0 {
		fmt.Fprintf(out, "       %d of them interrupted: their recorder was killed\n", r.Interrupted)
	}
}

func newStoreCompact(io streams) *cobra.Command {
	return &cobra.Command{
		Use:   "compact",
		Short: "Give the space of removed captures back",
		Long: `Writes the store's file anew without its free pages. A store does that by itself when more than
half of it is free. Whoever else uses it waits meanwhile.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := storeOf(cmd)
			if err != nil {
				return err
			}
			before, err := st.Usage()
			if err != nil {
				return err
			}
			if err := st.Compact(); err != nil {
				return err
			}
			after, err := st.Usage()
			if err != nil {
				return err
			}
			fmt.Fprintf(io.out, "%s: %s → %s\n", st.Path(), lspserver.Weight(before.File, profile.Bytes), lspserver.Weight(after.File, profile.Bytes))
			return nil
		},
	}
}

func newStoreExport(io streams) *cobra.Command {
	return &cobra.Command{
		Use:   "export FILE",
		Short: "Copy all captures to a file",
		Long: `Copies the store to a new file: a backup, or captures for another machine. --store FILE reads it,
here as there. One capture in another tool's format is what sightline export writes.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("store export takes the file to write, such as backup.db")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			st, err := storeOf(cmd)
			if err != nil {
				return err
			}
			if err := st.Copy(args[0]); err != nil {
				return err
			}
			info, err := os.Stat(args[0])
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s has disappeared as soon as it was written; another program removes it", args[0])
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(io.out, "%s: %s\n", args[0], lspserver.Weight(info.Size(), profile.Bytes))
			return nil
		},
	}
}
