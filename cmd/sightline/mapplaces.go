package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/sightline-dev/sightline/memmap"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/sourcemap"
)

// A locator finds the lines of addresses in one program. It remembers what it has found.
type locator struct {
	exe       *os.File
	lines     lineChooser
	symbols   *sourcemap.Symbolizer
	capture   *profile.Capture
	locations map[uint64]profile.LocationID
}

// NewLocator opens the program of a process, or of a core file.
func newLocator(ctx context.Context, workspace string, s *memmap.Snapshot, exe string) (*locator, error) {
	path := cmp.Or(exe, s.Exe)
	if s.Core == "" {
		path = fmt.Sprintf("/proc/%d/exe", s.PID)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	// An error is a tool that did not answer; the paths found without it are good.
	paths, _ := sourcemap.FindPaths(ctx, []string{workspace})
	l := &locator{
		exe: f, lines: lineChooser{paths, canonical(workspace)}, symbols: sourcemap.NewSymbolizer(sourcemap.Config{Paths: paths}),
		capture: profile.NewCapture(profile.Target{PID: s.PID}, s.Time), locations: map[uint64]profile.LocationID{},
	}
	l.capture.Imported = true // its stacks are what they are
	l.capture.Mappings = append(l.capture.Mappings, profile.Mapping{Kind: profile.FileCode, Path: s.Exe})
	return l, nil
}

func (l *locator) close() {
	l.symbols.Close()
	l.exe.Close()
}

// Frames are the lines of stacks of return addresses, the innermost first; of none, the zero frame.
func (l *locator) frames(ctx context.Context, stacks [][]uint64) ([]profile.Frame, error) {
	c := l.capture
	var samples profile.Samples
	for _, stack := range stacks {
		id := profile.StackID(0)
		for i := range stack {
			addr := stack[len(stack)-1-i]
			at, known := l.locations[addr]
			if !known {
				at = profile.LocationID(len(c.Locations))
				c.Locations = append(c.Locations, profile.Location{Mapping: 1, Addr: addr, Return: true})
				l.locations[addr] = at
			}
			id = c.Stacks.Intern(id, at)
		}
		samples.Append(profile.Sample{Stack: id, Count: 1, Weight: 1})
	}
	c.Series = []profile.Series{{Kind: memmap.Resident, Unit: profile.Number, Samples: samples}}
	if err := l.symbols.Symbolize(ctx, c, func(profile.MappingID) (io.ReaderAt, error) { return l.exe, nil }); err != nil {
		return nil, err
	}
	p, err := c.Profile(memmap.Resident)
	if err != nil {
		return nil, err
	}
	frames := make([]profile.Frame, len(stacks))
	for i, stack := range stacks {
		if len(stack) > 0 {
			frames[i] = l.lines.frame(p, p.Samples.Stack[i])
		}
	}
	return frames, nil
}

// Locate fills in the places of a snapshot.
func (l *locator) locate(ctx context.Context, s *memmap.Snapshot) error {
	var stacks [][]uint64
	var places []*memmap.Place
	for i := range s.Goroutines {
		g := &s.Goroutines[i]
		if g.Created != 0 {
			stacks, places = append(stacks, []uint64{g.Created}), append(places, &g.Place)
		}
	}
	for i := range s.Sites {
		stacks, places = append(stacks, s.Sites[i].Stack), append(places, &s.Sites[i].Place)
	}
	if len(stacks) == 0 {
		return nil
	}
	frames, err := l.frames(ctx, stacks)
	if err != nil {
		return err
	}
	for i, f := range frames {
		*places[i] = memmap.Place{Func: f.Func, File: f.File, Line: f.Line}
	}
	return nil
}

// PlaceWords is a place as a person names it: "main.leak main.go:12".
func placeWords(workspace string, p memmap.Place) string {
	switch {
	case p.Func == "" || p.Func == profile.Unknown:
		return "an unknown line"
	case p.File == "":
		return p.Func
	}
	return fmt.Sprintf("%s %s:%d", p.Func, shortPath(workspace, p.File), p.Line)
}

// SitesByPlace are the sites of a snapshot, or of one of its regions, by line, those with the most bytes first.
func sitesByPlace(s *memmap.Snapshot, region ...uint64) []memmap.Site {
	return sumByPlace(s.Sites, func(x memmap.Site) (memmap.Place, bool) {
		return x.Place, len(region) == 0 || x.Region == region[0]
	}, func(sum *memmap.Site, x memmap.Site) {
		sum.Place, sum.Region, sum.Stack = x.Place, x.Region, x.Stack
		sum.Bytes, sum.Objects = sum.Bytes+x.Bytes, sum.Objects+x.Objects
	}, func(x *memmap.Site) int64 { return x.Bytes })
}

// A goroutineSum is goroutines that one line started.
type goroutineSum struct {
	place           memmap.Place
	created         uint64 // 0 for those that no line started
	number, bytes   int64
	smallest, large int64 // stacks
}

func goroutinesByPlace(s *memmap.Snapshot) []goroutineSum {
	return sumByPlace(s.Goroutines, func(x memmap.Goroutines) (memmap.Place, bool) { return x.Place, true },
		func(sum *goroutineSum, x memmap.Goroutines) {
			size := int64(x.Stack)
			if sum.number == 0 {
				sum.smallest = size
			}
			sum.place, sum.created = x.Place, x.Created
			sum.number, sum.bytes = sum.number+x.Number, sum.bytes+x.Bytes()
			sum.smallest, sum.large = min(sum.smallest, size), max(sum.large, size)
		}, func(x *goroutineSum) int64 { return x.bytes })
}

// Size is how large all stacks are together.
func (g *goroutineSum) size() string { return bytesWords(g.bytes) }

// Each is how large one stack is: "64.0 KiB each".
func (g *goroutineSum) each() string {
	switch {
	case g.number == 1:
		return bytesWords(g.large)
	case g.smallest == g.large:
		return bytesWords(g.large) + " each"
	}
	return bytesWords(g.smallest) + " to " + bytesWords(g.large) + " each"
}

// Words say who started them and how large the stack of each is.
func (g *goroutineSum) words(workspace string) string {
	if g.created == 0 {
		return "the start of the program, " + g.each()
	}
	return placeWords(workspace, g.place) + ", " + g.each()
}

// sumByPlace sums up by line, in order of measure.
func sumByPlace[T, S any](all []T, place func(T) (memmap.Place, bool), add func(*S, T), measure func(*S) int64) []S {
	sums := map[memmap.Place]*S{}
	for _, x := range all {
		p, wanted := place(x)
		if !wanted {
			continue
		}
		if sums[p] == nil {
			sums[p] = new(S)
		}
		add(sums[p], x)
	}
	places := slices.SortedFunc(maps.Keys(sums), func(a, b memmap.Place) int {
		return cmp.Or(-cmp.Compare(measure(sums[a]), measure(sums[b])), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Func, b.Func))
	})
	list := make([]S, 0, len(places))
	for _, p := range places {
		list = append(list, *sums[p])
	}
	return list
}

// SiteLines tell the lines that allocated single objects. The zero value but for its input works.
type siteLines struct {
	in      *mapInput
	s       *memmap.Snapshot
	locator *locator
	failed  bool
	known   map[*uint64]*memmap.Place // by stack, which objects from one place share
}

func (n *siteLines) close() {
	if n.locator != nil {
		n.locator.close()
	}
}

// Of is the line that allocated an object; nil where it is not known.
func (n *siteLines) of(ctx context.Context, o *memmap.Owner) *memmap.Place {
	if o == nil || len(o.Site) == 0 || n.failed {
		return nil
	}
	if p, ok := n.known[&o.Site[0]]; ok {
		return p
	}
	if n.locator == nil {
		var err error
		if n.locator, err = newLocator(ctx, workspaceOf("."), n.s, n.in.exe); err != nil {
			n.failed = true
			return nil
		}
		n.known = map[*uint64]*memmap.Place{}
	}
	frames, err := n.locator.frames(ctx, [][]uint64{o.Site})
	if err != nil {
		n.failed = true
		return nil
	}
	p := &memmap.Place{Func: frames[0].Func, File: frames[0].File, Line: frames[0].Line}
	n.known[&o.Site[0]] = p
	return p
}
