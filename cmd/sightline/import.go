package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/convert"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/profiler/view"
	"github.com/sightline-dev/sightline/sourcemap"
)

func newImport(io streams) *cobra.Command {
	var experimental, asJSON bool
	var note, format string
	cmd := &cobra.Command{
		Use:   "import FILE…",
		Short: "Store what another tool recorded, so that the editor shows it",
		Long: `Reads a file of another tool and stores it beside the captures of the workspace. Where its frames name
source lines, the editor shows their costs as it shows those of its own captures. What the file is, is seen
from its content; gzip, zstd and zips are seen through. - is standard input.

` + formatList(func(i convert.Info) bool { return i.Reads }),
		Example: `  sightline import cpu.pprof
  sightline import perf.data
  perf script | sightline import -`,
		Args: atLeast(1, "import takes the files to import, or - for standard input"),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := workspaceFlag(cmd)
			if err != nil {
				return err
			}
			st, err := storeOf(cmd)
			if err != nil {
				return err
			}
			defer tellDaemon(st.Path())
			var all []captureJSON
			for _, path := range args {
				meta, format, err := importFile(cmd.Context(), io.in, st, dir, path, convert.Options{Experimental: experimental, Format: convert.Format(format)})
				if err != nil {
					return err
				}
				if note != "" {
					if err := st.SetNote(meta.ID, note); err != nil {
						return err
					}
				}
				if asJSON {
					all = append(all, captureToJSON(meta))
					continue
				}
				fmt.Fprintf(io.out, "%s  %s\n", meta.ID, importWords(meta, format))
				for _, w := range meta.Warnings {
					fmt.Fprintln(io.out, paletteFor(io.out).dim("note: "+warningWords(w)))
				}
			}
			if asJSON {
				return writeJSON(io.out, all)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&experimental, "experimental", false, "read formats that still change (OTLP)")
	f.StringVar(&format, "format", "", "the file's `format`, where its content could be several")
	f.StringVar(&note, "note", "", "write a `note` on the capture")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func warningWords(w profile.Warning) string {
	if w.Count > 1 {
		return fmt.Sprintf("%s (%s)", w.Text, lspserver.Count(w.Count))
	}
	return w.Text
}

// FormatList is the formats that a command knows, for its help.
func formatList(which func(convert.Info) bool) string {
	var b strings.Builder
	b.WriteString("Formats:")
	for _, i := range convert.Formats() {
		if which(i) {
			fmt.Fprintf(&b, "\n  %-12s %s", i.Format, i.Description)
			if i.Experimental {
				b.WriteString(" (with --experimental)")
			}
		}
	}
	return b.String()
}

// ImportFile stores a file of another tool with the sources that its frames name.
func importFile(ctx context.Context, in io.Reader, st *store.Store, dir, path string, o convert.Options) (store.Meta, convert.Format, error) {
	c, format, err := readForeign(ctx, in, path, o)
	if err != nil {
		return store.Meta{}, format, err
	}
	if err := addSources(ctx, c, dir); err != nil {
		return store.Meta{}, format, err
	}
	meta, err := st.Put(c)
	return meta, format, err
}

// AddSources gives a capture the texts of the sources that its frames name.
func addSources(ctx context.Context, c *profile.Capture, dir string) error {
	paths, err := sourcemap.FindPaths(ctx, []string{workspaceOf(dir)})
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.Warn(profile.WarnUnreadable, 0, fmt.Sprintf("Some sources may be missing: %v", err))
	}
	return sourcemap.NewSymbolizer(sourcemap.Config{Paths: paths}).Sources(ctx, c)
}

func importWords(m store.Meta, format convert.Format) string {
	var kinds []string
	for _, k := range m.Kinds {
		kinds = append(kinds, fmt.Sprintf("%s %s", lspserver.Weight(k.Weight, k.Unit), lspserver.KindWords(k.Kind)))
	}
	return fmt.Sprintf("%s · %s · %s", cut(expand(m.Target.String()), 60), strings.Join(kinds, ", "), format)
}

func newExport(io streams) *cobra.Command {
	var ff filterFlags
	var format, output string
	cmd := &cobra.Command{
		Use:   "export [CAPTURE|FILE]",
		Short: "Write a capture in the format of another tool",
		Long: `Writes the newest capture, or another one, or a file of another tool, so that other programs can read it.
With a filter only the stacks that it keeps are written, with functions as they are, not as they are grouped.

` + formatList(func(i convert.Info) bool { return i.Writes }),
		Example: `  sightline export -o cpu.pprof
  sightline export @2 --format speedscope > cpu.speedscope.json
  sightline export -o view.perfView.xml --include main.Parse
  sightline export perf.data -o flame.svg`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref := "@"
			if len(args) > 0 {
				ref = args[0]
			}
			f, err := formatFor(format, output)
			if err != nil {
				return err
			}
			if output == "" && isTerminal(io.out) && f != convert.Collapsed {
				return fmt.Errorf("%s is not for reading on a terminal; give a file with -o, or redirect the output", f)
			}
			x, err := openInput(cmd, io.in, ref, ff.kind, ff.experimental)
			if err != nil {
				return err
			}
			filter, err := ff.of(cmd, x.saved)
			if err != nil {
				return err
			}
			filtered := func(p *profile.Profile) (*profile.Profile, error) {
				if !filtersSamples(filter) {
					return p, nil
				}
				s, err := view.NewSource(p).Filter(cmd.Context(), filter)
				if err != nil {
					return nil, err
				}
				return s.Profile(cmd.Context(), f == convert.SVG)
			}
			p, err := filtered(x.profile)
			if err != nil {
				return err
			}
			var others []*profile.Profile
			if ff.kind == "" && len(x.capture.Series) > 1 {
				if !holdsSeveral(f) {
					fmt.Fprintf(io.err, "sightline: %s holds one kind of samples: only %s is written; --kind chooses another\n", f, p.Kind)
				} else {
					for _, s := range x.capture.Series[1:] {
						other, err := x.capture.Profile(s.Kind)
						if err == nil {
							other, err = filtered(other)
						}
						if err != nil {
							return err
						}
						others = append(others, other)
					}
				}
			}
			e := convert.Export{Profile: p, Others: others, Capture: x.capture, Name: x.capture.Target.String(), Filter: convert.Filter{
				Start: number(filter.Start), End: number(filter.End), Group: filter.Group, Fold: filter.Fold,
				FoldPercent: number(filter.FoldPercent), Include: filter.Include, Exclude: filter.Exclude,
			}}
			if output == "" {
				return convert.Write(io.out, f, e)
			}
			if err := writeFile(output, func(w writer) error { return convert.Write(w, f, e) }); err != nil {
				return err
			}
			fmt.Fprintln(io.err, "wrote "+output)
			return nil
		},
	}
	ff.add(cmd.Flags())
	cmd.Flags().StringVar(&format, "format", "", "the `format` to write (default: by the name of the file)")
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to this `file`")
	return cmd
}

// HoldsSeveral says whether a format can hold several kinds of samples.
func holdsSeveral(f convert.Format) bool {
	return slices.ContainsFunc(convert.Formats(), func(i convert.Info) bool { return i.Format == f && i.Several })
}

type writer = io.Writer

func number(f float64) string {
	if f == 0 {
		return ""
	}
	return fmt.Sprint(f)
}

// FiltersSamples says whether a filter leaves samples or frames out, other than by how it groups.
func filtersSamples(f view.Filter) bool {
	return f.Include != "" || f.Exclude != "" || f.Start != 0 || f.End != 0 || f.Tasks || f.Group != "" || f.Fold != "" || f.FoldPercent != 0
}

// FormatFor is the format that is named, else that of files of such a name.
func formatFor(name, file string) (convert.Format, error) {
	var known []string
	best, fit := convert.Format(""), 0
	for _, i := range convert.Formats() {
		if !i.Writes {
			continue
		}
		known = append(known, string(i.Format))
		if name == string(i.Format) {
			return i.Format, nil
		}
		if name == "" && i.Extension != "" && strings.HasSuffix(strings.ToLower(file), strings.ToLower(i.Extension)) && len(i.Extension) > fit {
			best, fit = i.Format, len(i.Extension)
		}
	}
	if best != "" {
		return best, nil
	}
	for suffix, f := range map[string]convert.Format{
		".pprof": convert.Pprof, ".pb.gz": convert.Pprof, ".prof": convert.Pprof, ".folded": convert.Collapsed, ".collapsed": convert.Collapsed,
		".txt": convert.Collapsed, ".speedscope.json": convert.Speedscope, ".perfview.xml": convert.PerfView, ".perfview.xml.zip": convert.PerfView, ".svg": convert.SVG,
	} {
		if name == "" && strings.HasSuffix(strings.ToLower(file), suffix) {
			return f, nil
		}
	}
	switch {
	case name != "":
		return "", fmt.Errorf("%s is no format that is written; there are %s", name, strings.Join(known, ", "))
	case file != "":
		return "", fmt.Errorf("the name %s does not tell a format; give --format: %s", filepath.Base(file), strings.Join(known, ", "))
	}
	return "", fmt.Errorf("say which format to write with --format: %s", strings.Join(known, ", "))
}

// WriteFile writes a file whole or not at all.
func writeFile(path string, write func(io.Writer) error) (err error) {
	fail := func(err error) error { return fmt.Errorf("write %s: %w", path, cause(err)) }
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() { // a device or a pipe
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return fail(err)
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".sightline-*")
	if err != nil {
		return fail(err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Close()); err != nil {
		return fail(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fail(err)
	}
	return nil
}
