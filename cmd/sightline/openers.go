package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/memmap"
	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/sourcemap"
)

// Openers tell which lines opened the descriptors that are open.
type openers struct {
	watch   *profiler.DescriptorWatch
	symbols *sourcemap.Symbolizer
	lineChooser
}

// A lineChooser tells which line of a stack a person would name.
type lineChooser struct {
	paths     *sourcemap.Paths
	workspace string
}

// StartOpeners begins to watch processes; the error says why this user cannot.
func startOpeners(ctx context.Context, workspace string, pids []int) (*openers, error) {
	watch, err := profiler.WatchDescriptors(pids, frameTable)
	if err != nil {
		return nil, err
	}
	// An error is a tool that did not answer; the paths found without it are good.
	paths, _ := sourcemap.FindPaths(ctx, []string{workspace})
	return &openers{
		watch: watch, symbols: sourcemap.NewSymbolizer(sourcemap.Config{Paths: paths}),
		lineChooser: lineChooser{paths, canonical(workspace)},
	}, nil
}

// openersNote says why the lines that open descriptors are not known, with the remedy.
func openersNote(err error) string {
	why := strings.TrimPrefix(err.Error(), "watch which lines open descriptors: ")
	return "The lines that open descriptors are not known: " + why + "."
}

func (o *openers) close() { o.watch.Close() }

// A descriptorID is one descriptor of one process.
type descriptorID struct{ pid, fd int }

// Look is the line that opened each descriptor that was opened since the start and is open still.
func (o *openers) look(ctx context.Context) (map[descriptorID]profile.Frame, error) {
	c, descriptors, err := o.watch.Capture()
	if err != nil {
		return nil, fmt.Errorf("watch which lines open descriptors: %w", err)
	}
	if err := o.symbols.Symbolize(ctx, c, o.watch.Binary); err != nil {
		return nil, err
	}
	p, err := c.Profile(profiler.Descriptors)
	if err != nil {
		return nil, err
	}
	lines := make(map[descriptorID]profile.Frame, len(descriptors))
	known := map[profile.StackID]profile.Frame{}
	for i, d := range descriptors {
		stack := p.Samples.Stack[i]
		frame, ok := known[stack]
		if !ok {
			frame = o.frame(p, stack)
			known[stack] = frame
		}
		lines[descriptorID{d.PID, d.FD}] = frame
	}
	return lines, nil
}

// Frame is the line of a stack that a person would name: the innermost in the workspace, else the
// innermost with a source that is here and outside of Go's own library, else the innermost with any source
// outside of the system's, else the innermost that has a name.
func (o *lineChooser) frame(p *profile.Profile, stack profile.StackID) profile.Frame {
	const none = 4
	best, rank := profile.Frame{Func: profile.Unknown}, none
	take := func(f profile.Frame, r int) {
		if r < rank {
			best, rank = f, r
		}
	}
	for id := range p.Stacks.LeafFirst(stack) {
		f := p.Frames[id]
		if f.Func == profile.Unknown || f.Func == profile.BrokenStack {
			continue
		}
		local, found := o.paths.Local(f.File)
		if found {
			local = canonical(local)
			f.File = local
		}
		switch {
		case f.File == "" || f.Line == 0:
			take(f, 3)
		case found && inside(o.workspace, local):
			take(f, 0)
		case found && o.paths.GOROOT != "" && inside(canonical(o.paths.GOROOT), local):
			take(f, 3)
		case found:
			take(f, 1)
		case systemLibrary(f.Module):
			take(f, 3)
		default:
			take(f, 2)
		}
	}
	return best
}

// SystemLibrary says that a file is the C library or the loader, which every call goes through.
func systemLibrary(module string) bool {
	name := filepath.Base(module)
	for _, prefix := range []string{"libc.", "libc-", "libpthread", "ld-linux", "ld-musl", "[vdso]"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// A lineCount is how many descriptors one line opened.
type lineCount struct {
	frame profile.Frame
	count int
}

// CountLines are the lines that opened some descriptors, the most first, and how many were opened by a
// line that is not known.
func countLines(lines map[descriptorID]profile.Frame, of []descriptorID) (counts []lineCount, unknown int) {
	type key struct {
		file, function string
		line           int
	}
	byLine := map[key]*lineCount{}
	for _, d := range of {
		f, ok := lines[d]
		if !ok {
			unknown++
			continue
		}
		k := key{f.File, f.Func, f.Line}
		if byLine[k] == nil {
			byLine[k] = &lineCount{frame: f}
		}
		byLine[k].count++
	}
	for _, c := range byLine {
		counts = append(counts, *c)
	}
	slices.SortFunc(counts, func(a, b lineCount) int {
		return cmp.Or(cmp.Compare(b.count, a.count), cmp.Compare(a.frame.File, b.frame.File), cmp.Compare(a.frame.Line, b.frame.Line),
			cmp.Compare(a.frame.Func, b.frame.Func))
	})
	return counts, unknown
}

// Place is a frame as a person names it: "main.leak main.go:12".
func (o *openers) place(f profile.Frame) string {
	if f.File == "" {
		if f.Module != "" {
			return f.Func + " (" + filepath.Base(f.Module) + ")"
		}
		return f.Func
	}
	return fmt.Sprintf("%s %s:%d", f.Func, shortPath(o.workspace, f.File), f.Line)
}

// PagePlace is place for an editor; see pageWords.
func (o *openers) pagePlace(f profile.Frame) string {
	if f.File == "" {
		return o.place(f)
	}
	return pageWords(o.workspace, memmap.Place{Func: f.Func, File: f.File, Line: f.Line})
}
