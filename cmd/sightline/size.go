package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/memmap/imagesize"
	"github.com/sightline-dev/sightline/profiler/process"
)

func newSize(io streams) *cobra.Command {
	var by, old string
	var top int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "size FILE|FOLDER",
		Short: "Show what takes the space in a program, a library or a folder",
		Long: `Shows what the bytes of an ELF file are: by package (Go import path, C++ namespace, Rust crate), symbol,
section and source file; or those of a folder, by folder, type and file. Each table sums up to the size of the
whole. With --diff it shows what a new build has more and less.`,
		Example: `  sightline size ./server                     the largest sections, packages and symbols
  sightline size ./server --by package --top 0
  sightline size ./server --by file           by the source file that code was compiled from
  sightline size ./server --diff ./server.old
  sightline size /usr/lib`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if top < 0 {
				return fmt.Errorf("--top %d: show 0 (all) or more", top)
			}
			known := []imagesize.By{imagesize.Section, imagesize.Package, imagesize.Symbol, imagesize.Source, imagesize.Folder, imagesize.Type, imagesize.File}
			if by != "" && !slices.Contains(known, imagesize.By(by)) {
				return fmt.Errorf("--by %s: there are section, package, symbol and file for programs, and folder, type and path for folders", by)
			}
			o := imagesize.Options{Sources: asJSON || by == string(imagesize.Source)}
			r, err := readSize(cmd.Context(), args[0], o)
			if err != nil {
				return err
			}
			t := &sizeTable{out: io.out, p: paletteFor(io.out), width: width(io.out), top: top, by: imagesize.By(by), flagged: cmd.Flags().Changed("top")}
			if old == "" {
				if by != "" && r.Of(imagesize.By(by)) == nil {
					return fmt.Errorf("--by %s is not for %s", by, r.What)
				}
				if asJSON {
					return writeJSON(io.out, r)
				}
				return t.report(r)
			}
			before, err := readSize(cmd.Context(), old, o)
			if err != nil {
				return err
			}
			d, err := imagesize.Compare(before, r)
			if err != nil {
				return fmt.Errorf("size --diff %s %s: %w; name two of the same sort", old, args[0], err)
			}
			if asJSON {
				return writeJSON(io.out, d)
			}
			return t.diff(d)
		},
	}
	f := cmd.Flags()
	f.StringVar(&by, "by", "", "one table only: by section, package, symbol, file; of folders by folder, type, path")
	f.StringVar(&old, "diff", "", "show what is larger and smaller than in this `file or folder`")
	f.IntVar(&top, "top", 12, "show this many rows of each table; 0 is all")
	f.BoolVar(&asJSON, "json", false, "print JSON: every row of every table, in bytes")
	return cmd
}

func readSize(ctx context.Context, path string, o imagesize.Options) (*imagesize.Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", path, cause(err))
	}
	if info.IsDir() {
		return imagesize.ReadFolder(ctx, path)
	}
	return imagesize.ReadFile(ctx, path, o)
}

// A sizeTable prints what takes the space.
type sizeTable struct {
	out     io.Writer
	p       palette
	width   int
	top     int
	by      imagesize.By
	flagged bool // --top was given
	err     error
}

func (t *sizeTable) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(t.out, format, args...); err != nil && t.err == nil {
		t.err = err
	}
}

func (t *sizeTable) notes(notes []string) {
	for _, n := range notes {
		t.printf("%s\n", t.p.dim("note: "+n))
	}
}

// Rows is how many of n are shown.
func (t *sizeTable) rows(n int) int {
	if t.top == 0 {
		return n
	}
	top := t.top
	if t.by != "" && !t.flagged {
		top = 30
	}
	return min(n, top)
}

func (t *sizeTable) report(r *imagesize.Report) error {
	t.printf("%s\n", t.p.bold(process.Printable(r.Path)))
	t.printf("%s\n", t.p.dim(r.What+" · "+bytesWords(r.Bytes)))
	t.notes(r.Notes)
	for _, x := range r.Tables {
		if t.by != "" && x.By != t.by {
			continue
		}
		t.printf("\n%s\n", t.p.dim(fmt.Sprintf("%11s %7s  %s", "bytes", "share", x.By)))
		n := t.rows(len(x.Parts))
		for _, p := range x.Parts[:n] {
			t.printf("%s %7s  %s\n", t.p.heat(fmt.Sprintf("%11s", bytesWords(p.Bytes)), p.Bytes, r.Bytes), lspserver.Percent(p.Bytes, r.Bytes), t.name(p.Name, p.In, 21))
		}
		if n < len(x.Parts) {
			rest := int64(0)
			for _, p := range x.Parts[n:] {
				rest += p.Bytes
			}
			t.printf("%s\n", t.p.dim(fmt.Sprintf("%11s %7s  … %s more; --top 0 shows all", bytesWords(rest), lspserver.Percent(rest, r.Bytes), lspserver.Count(int64(len(x.Parts)-n)))))
		}
	}
	return t.err
}

// Name is what stands last in a row, and the section of a symbol behind it where there is room.
func (t *sizeTable) name(name, in string, used int) string {
	name = process.Printable(name)
	room := max(t.width-used, 20)
	if !isTerminal(t.out) {
		room = 1 << 20
	}
	if in != "" && !strings.HasPrefix(name, "[") && in != ".text" && in != name && len([]rune(name))+len(in)+2 <= room {
		return name + t.p.dim("  "+process.Printable(in))
	}
	return tail(name, room)
}

func (t *sizeTable) diff(d *imagesize.Diff) error {
	t.printf("%s\n", t.p.bold(process.Printable(d.Old)+" → "+process.Printable(d.New)))
	t.printf("%s → %s, %s\n", bytesWords(d.Before), bytesWords(d.After), lspserver.SignedWeight(d.Bytes, "bytes"))
	t.notes(d.Notes)
	for _, x := range d.Tables {
		if t.by != "" && x.By != t.by {
			continue
		}
		if len(x.Changes) == 0 {
			t.printf("\n%s\n", t.p.dim("by "+string(x.By)+" nothing changed"))
			continue
		}
		t.printf("\n%s\n", t.p.dim(fmt.Sprintf("%12s %11s %11s  %s", "change", "before", "after", x.By)))
		n := t.rows(len(x.Changes))
		for _, c := range x.Changes[:n] {
			change := fmt.Sprintf("%12s", lspserver.SignedWeight(c.Bytes, "bytes"))
			if c.Bytes > 0 {
				change = t.p.bad(change)
			} else {
				change = t.p.good(change)
			}
			t.printf("%s %11s %11s  %s\n", change, blankZero(bytesWords(c.Before), c.Before), blankZero(bytesWords(c.After), c.After), t.name(c.Name, c.In, 38))
		}
		if n < len(x.Changes) {
			rest := int64(0)
			for _, c := range x.Changes[n:] {
				rest += c.Bytes
			}
			t.printf("%s\n", t.p.dim(fmt.Sprintf("%12s %23s  … %s more; --top 0 shows all", lspserver.SignedWeight(rest, "bytes"), "", lspserver.Count(int64(len(x.Changes)-n)))))
		}
	}
	return t.err
}
