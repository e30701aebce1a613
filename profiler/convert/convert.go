// Package convert reads the profiles of other tools into captures, and writes profiles in their
// formats.
//
// It decides by content what a file is, sees through gzip, zstd and single-entry zips, and takes what
// it reads as hostile: memory and time are bounded by the bytes of the input. It knows neither symbol
// tables nor the store nor the views: a reader keeps the names a file brings, and asks nothing else
// for them.
package convert

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Format names a file format, in the words of the command line.
type Format string

// The formats that exist. SVG is only written; PerfData, PerfScript, Strace and OTLP are only read.
const (
	Pprof      Format = "pprof"
	Collapsed  Format = "collapsed"
	Speedscope Format = "speedscope"
	Firefox    Format = "firefox"
	PerfScript Format = "perf-script"
	PerfData   Format = "perf.data"
	PerfView   Format = "perfview"
	Chrome     Format = "chrome"
	Strace     Format = "strace"
	OTLP       Format = "otlp"
	SVG        Format = "svg"
)

// Options say how to read. The zero value works.
type Options struct {
	// Name of the file, for messages, and for the target where the file does not name one.
	Name string
	// Format that the input must have; "" recognizes it by content.
	Format Format
	// Experimental allows formats that still change in incompatible ways: OTLP profiles.
	Experimental bool
	// Limit is the greatest number of decompressed bytes that are read; 0 means 8 GiB.
	Limit int64
	// Kind is the one series that the capture keeps of those in the file; "" keeps all. A file without
	// it is refused.
	Kind profile.Kind
	// Filter, where set, receives what the file was filtered by when it was saved (PerfView).
	Filter *Filter
}

// A Filter is the text of the filters that a view was saved with, in the words of package view.
// Fields that were not set are "".
type Filter struct {
	Start, End       string // milliseconds since the start
	Group, Fold      string
	FoldPercent      string
	Include, Exclude string
	Scenarios        string // names or numbers of those that are shown
	Notes            string // what the person who saved the view wrote beside it
}

// Export is what is written.
type Export struct {
	// Profile to write: filtered or not, with ungrouped names. It must not be nil.
	Profile *profile.Profile
	// Others are further kinds of the same capture. Formats with Info.Several write them too, the
	// others write Profile alone. None is nil, and no two kinds are the same.
	Others []*profile.Profile
	// Capture, where it is not nil, is what the profiles were made of. Formats that know binaries
	// (pprof) have their build IDs from its Mappings, by Path.
	Capture *profile.Capture
	// Name is the title that a viewer shows: what was recorded. It may be "".
	Name string
	// Difference says that weights are of a comparison, negative where something shrank. SVG tells the two
	// apart; the other formats write the weights as they are.
	Difference bool
	// Filter is written where the format has a place for it (PerfView).
	Filter Filter
}

// Info describes a format.
type Info struct {
	Format       Format
	Description  string // a few words, without a full stop
	Extension    string // that files of it usually bear: ".pb.gz"
	Reads        bool
	Writes       bool
	Several      bool // writes Export.Others
	Experimental bool // is read only where Options.Experimental is set
}

// A format is a row of the table in formats.go.
type format struct {
	Info
	// sniff tells whether a decompressed file that begins with head (up to sniffLen bytes, without a
	// byte order mark, UTF-16 made UTF-8) is of the format. The first format that says yes is taken.
	sniff func(head []byte) bool
	// read makes a capture of an input, of which nothing has been read. It need not name the file or
	// the format in its errors.
	read func(ctx context.Context, in *input, o Options) (*profile.Capture, error)
	// write writes a profile; w is buffered.
	write func(w io.Writer, e Export) error
}

// Formats are all formats in the order in which they are tried.
func Formats() []Info {
	var all []Info
	for _, f := range formats {
		i := f.Info
		i.Reads, i.Writes = f.read != nil, f.write != nil
		all = append(all, i)
	}
	return all
}

func formatOf(name Format) *format {
	for _, f := range formats {
		if f.Format == name {
			return f
		}
	}
	return nil
}

// ErrFormat says that the input is of no format that can be read.
var ErrFormat = errors.New("the format is not known")

// Read recognizes the format of r by content, or takes o.Format, and reads it to its end. Gzip, zstd
// and zips with a single entry are seen through, UTF-16 and byte order marks too. The capture is
// Imported and passes Check; what could not be read of it is in its Warnings. Where r is also an
// io.ReaderAt and io.Seeker (a file), formats with tables at their end read it in place.
//
// The error names the file, the format and the cause. It wraps ErrFormat where no format fits, and
// ctx.Err() where ctx ended the reading.
func Read(ctx context.Context, r io.Reader, o Options) (*profile.Capture, Format, error) {
	name := o.Name
	if name == "" {
		name = "the input"
	}
	in, err := open(ctx, r, o.Limit)
	if err != nil {
		return nil, "", fmt.Errorf("read %s: %w", name, err)
	}
	defer in.close()
	var f *format
	if o.Format != "" {
		if f = formatOf(o.Format); f == nil || f.read == nil {
			return nil, "", fmt.Errorf("read %s as %s: %w; known are %s", name, o.Format, ErrFormat, readable())
		}
	} else if f = recognize(in.head); f == nil {
		if len(in.head) == 0 {
			return nil, "", fmt.Errorf("read %s: it is empty: %w", name, ErrFormat)
		}
		if in.early {
			return nil, "", fmt.Errorf("read %s: the file ends early, and %w by what can be unpacked of it, %d bytes; get it whole, or name its format", name, ErrFormat, len(in.head))
		}
		return nil, "", fmt.Errorf("read %s: %w by its content; known are %s; name one if it is of these", name, ErrFormat, readable())
	}
	if f.Experimental && !o.Experimental {
		return nil, f.Format, fmt.Errorf("read %s as %s: its layout still changes in incompatible ways; allow experimental formats to read it as far as it is understood", name, f.Format)
	}
	c, err := f.read(ctx, in, o)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && o.Kind != "" {
		err = keep(c, o.Kind)
	}
	if err != nil {
		return nil, f.Format, fmt.Errorf("read %s as %s: %w", name, f.Format, err)
	}
	return c, f.Format, nil
}

// keep leaves only the series of a kind.
func keep(c *profile.Capture, kind profile.Kind) error {
	s := c.Of(kind)
	if s == nil {
		var kinds []string
		for _, s := range c.Series {
			kinds = append(kinds, string(s.Kind))
		}
		return fmt.Errorf("it holds no %s; it has %s", kind, strings.Join(kinds, ", "))
	}
	c.Series = []profile.Series{*s}
	return nil
}

// Write writes a profile in a format. The error names the format; it wraps ErrFormat where the format
// is not written, and is the writer's where that failed.
func Write(w io.Writer, to Format, e Export) error {
	f := formatOf(to)
	if f == nil || f.write == nil {
		var names []string
		for _, f := range formats {
			if f.write != nil {
				names = append(names, string(f.Format))
			}
		}
		return fmt.Errorf("write %s: %w for writing; known are %s", to, ErrFormat, strings.Join(names, ", "))
	}
	buf := bufio.NewWriterSize(w, 64<<10)
	if err := f.write(buf, e); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	return nil
}

func recognize(head []byte) *format {
	for _, f := range formats {
		if f.read != nil && f.sniff(head) {
			return f
		}
	}
	return nil
}

func readable() string {
	var names []string
	for _, f := range formats {
		if f.read != nil {
			names = append(names, string(f.Format))
		}
	}
	return strings.Join(names, ", ")
}
