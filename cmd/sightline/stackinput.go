package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/convert"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/sourcemap"
)

// A stackInput is what stack views are taken from: a stored capture, or a file of another tool.
type stackInput struct {
	ref     string // as the person named it
	id      store.ID
	note    string
	capture *profile.Capture
	profile *profile.Profile
	saved   convert.Filter // that the file was saved with
}

// OpenInput opens what a person names: a capture of the store, or a file that convert reads ("-" is
// standard input). Kind chooses the series, "" the first.
func openInput(cmd *cobra.Command, in io.Reader, ref, kind string, experimental bool) (*stackInput, error) {
	x := &stackInput{ref: ref}
	if isFileRef(ref) {
		c, _, err := readForeign(cmd.Context(), in, ref, convert.Options{Experimental: experimental, Filter: &x.saved})
		if err != nil {
			return nil, err
		}
		x.capture = c
	} else {
		st, id, err := oneCapture(cmd, []string{ref})
		if err != nil {
			if errors.Is(err, store.ErrNoCapture) && strings.ContainsAny(ref, "./") {
				return nil, fmt.Errorf("%s is neither a file nor a capture; `sightline captures` lists those", ref)
			}
			return nil, err
		}
		meta, err := st.LoadMeta(id)
		if err != nil {
			return nil, err
		}
		x.id, x.note = id, meta.Note
		if x.capture, err = st.LoadWithoutSources(id); err != nil {
			return nil, err
		}
	}
	var err error
	x.profile, err = profileOf(x.capture, x.name(), kind)
	return x, err
}

// ProfileOf is the profile of one kind of a capture, of its first where kind is "".
func profileOf(c *profile.Capture, name, kind string) (*profile.Profile, error) {
	if len(c.Series) == 0 {
		return nil, fmt.Errorf("%s holds no samples", name)
	}
	if kind == "" {
		return c.Profile(c.Series[0].Kind)
	}
	p, err := c.Profile(profile.Kind(kind))
	if err != nil {
		var kinds []string
		for _, s := range c.Series {
			kinds = append(kinds, string(s.Kind))
		}
		return nil, fmt.Errorf("%s has no samples of kind %s; it has %s", name, kind, strings.Join(kinds, ", "))
	}
	return p, nil
}

func (x *stackInput) name() string {
	switch {
	case x.id != "":
		return "capture " + string(x.id)
	case x.ref == "-":
		return "standard input"
	}
	return x.ref
}

// IsFileRef says whether a word names a file, not a capture: a file that is there, or standard input.
func isFileRef(ref string) bool {
	if ref == "-" {
		return true
	}
	if strings.HasPrefix(ref, "@") {
		return false
	}
	st, err := os.Stat(ref)
	return err == nil && !st.IsDir()
}

// ReadForeign reads a file of another tool. Where the format has addresses and no names (perf.data),
// they are named from the binaries, if those are still the ones that ran.
func readForeign(ctx context.Context, in io.Reader, path string, o convert.Options) (*profile.Capture, convert.Format, error) {
	if isMapFile(path) && o.Format == "" {
		c, err := readMapCapture(path)
		return c, "memory map", err
	}
	if isHeapFile(path) && o.Format == "" {
		c, err := readHeapCapture(path)
		return c, "heap snapshot", err
	}
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, "", fmt.Errorf("read %s: %w", path, cause(err))
		}
		defer f.Close()
		in, o.Name = f, path
	} else {
		o.Name = "standard input"
	}
	c, format, err := convert.Read(ctx, in, o)
	if err != nil {
		if format == convert.OTLP && !o.Experimental {
			err = fmt.Errorf("%w: give --experimental", err)
		}
		return nil, format, err
	}
	if !named(c) {
		if err := nameForeign(ctx, c); err != nil {
			return nil, format, err
		}
	}
	return c, format, nil
}

// Cause is the reason in an error of a file, without the file, which the sentence around it names.
func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Named says whether a capture's locations have names, or none can be had.
func named(c *profile.Capture) bool {
	for i := 1; i < len(c.Locations); i++ {
		if c.Locations[i].Mapping != 0 && (i >= len(c.Symbols.Of) || len(c.Symbols.Of[i]) == 0) {
			return false
		}
	}
	return true
}

// NameForeign names the locations of a capture that another tool made on this machine or another.
func nameForeign(ctx context.Context, c *profile.Capture) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	paths, _ := sourcemap.FindPaths(ctx, []string{workspaceOf(dir)})
	s := sourcemap.NewSymbolizer(sourcemap.Config{Paths: paths, Kallsyms: func() (io.ReadCloser, error) { return kernelSymbols(c.Machine) }})
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	known := c.Symbols
	err = s.Symbolize(ctx, c, func(id profile.MappingID) (io.ReaderAt, error) {
		m := c.Mappings[id]
		if m.Kind == profile.VDSO {
			return nil, errors.New("the kernel's own code is not in a file")
		}
		f, err := os.Open(m.Path)
		if err != nil {
			return nil, fmt.Errorf("%w here; read the file on the machine it was recorded on", cause(err))
		}
		if have := gnuBuildID(f); m.BuildID != "" && have != "" && have != m.BuildID {
			f.Close()
			return nil, fmt.Errorf("it is another build (%.12s) than was recorded (%.12s)", have, m.BuildID)
		}
		files = append(files, f)
		return f, nil
	})
	if err != nil {
		return err
	}
	keepNames(c, known)
	return nil
}

// KeepNames gives back the names that the file itself brought for code that no binary names.
func keepNames(c *profile.Capture, known profile.Symbols) {
	for l, ids := range known.Of {
		if len(ids) == 0 || l >= len(c.Symbols.Of) {
			continue
		}
		c.Symbols.Of[l] = nil
		for _, id := range ids {
			c.Symbols.Frames = append(c.Symbols.Frames, known.Frames[id])
			c.Symbols.Of[l] = append(c.Symbols.Of[l], profile.FrameID(len(c.Symbols.Frames)-1))
		}
	}
}

// KernelSymbols opens this kernel's symbols if it is the one that a capture tells of.
func kernelSymbols(machine string) (io.ReadCloser, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, err
	}
	release := unix.ByteSliceToString(u.Release[:])
	if machine == "" {
		return nil, errors.New("the file does not say under which kernel it was recorded")
	}
	if !strings.Contains(machine, release) {
		return nil, fmt.Errorf("they were recorded under another kernel than %s", release)
	}
	return os.Open("/proc/kallsyms")
}

// GnuBuildID is the build ID that an ELF file carries; "" where there is none.
func gnuBuildID(r io.ReaderAt) string {
	f, err := elf.NewFile(r)
	if err != nil {
		return ""
	}
	s := f.Section(".note.gnu.build-id")
	if s == nil {
		return ""
	}
	data, err := s.Data()
	const head = 16 // name size, description size, type, "GNU\0"
	if err != nil || len(data) < head || !bytes.Equal(data[12:16], []byte("GNU\x00")) {
		return ""
	}
	n := int(f.ByteOrder.Uint32(data[4:]))
	if n > len(data)-head {
		return ""
	}
	return hex.EncodeToString(data[head : head+n])
}
