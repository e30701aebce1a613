package sourcemap

import (
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Bounds of the sources kept with one recording. Text that people write stays far below the first;
// the second is some ten times what a large program's hot files have.
const (
	maxSource  = 4 << 20
	maxSources = 128 << 20
)

// Sources sets c.Symbols.Sources: the files that frames of c name, each once, ordered by Path, with
// their texts where Config.Paths leads to them. A file is read once per recording, at the first call
// that finds it, so that later views and the finished capture keep the text as it was; a file that
// was not found is looked for again.
//
// A source has a Note where its text is missing, where it has not the MD5 that a binary's line table
// (DWARF 5) has for it, and, where there is none, where the file is younger than the binary that names
// it. Sources fails only with ctx's error, and then c is as it was.
func (s *Symbolizer) Sources(ctx context.Context, c *profile.Capture) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	modules := map[string]string{} // by source file, a binary that names it
	for i := range c.Symbols.Frames {
		if f := &c.Symbols.Frames[i]; f.File != "" {
			if _, ok := modules[f.File]; !ok {
				modules[f.File] = f.Module
			}
		}
	}
	sources := make([]profile.Source, 0, len(modules))
	for file := range modules {
		sources = append(sources, profile.Source{Path: file})
	}
	slices.SortFunc(sources, func(a, b profile.Source) int { return strings.Compare(a.Path, b.Path) })

	var total int64
	for _, known := range s.sources {
		total += int64(len(known.Text))
	}
	built := map[string]time.Time{} // by Module
	for id, b := range s.binaries {
		if b != nil && int(id) < len(c.Mappings) {
			built[c.Mappings[id].Path] = b.built
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(8) // enough to hide the latency of a disk
	for i := range sources {
		source := &sources[i]
		if known, ok := s.sources[source.Path]; ok {
			*source = known
			continue
		}
		if source.Note = madeUp(source.Path); source.Note != "" {
			continue
		}
		local, ok := s.config.Paths.Local(source.Path)
		if !ok {
			source.Note = "not found on this machine; a path prefix can say where it is"
			continue
		}
		source.Local = local
		// The files are asked for their sizes in order, so that the same ones are left out each time.
		info, err := os.Stat(local)
		switch {
		case err != nil:
			source.Note = err.Error()
		case !info.Mode().IsRegular():
			source.Note = "not a regular file"
		case info.Size() > maxSource:
			source.Note = fmt.Sprintf("not kept: its %d bytes are more than the %d of a source that is kept", info.Size(), maxSource)
		case total+info.Size() > maxSources:
			source.Note = fmt.Sprintf("not kept: the recording's sources are more than %d bytes together", maxSources)
		default:
			total += info.Size()
			if b := built[modules[source.Path]]; !b.IsZero() && info.ModTime().After(b) && !s.fixed(local) {
				source.Note = fmt.Sprintf("changed after %s was built; lines may have moved", filepath.Base(modules[source.Path]))
			}
			group.Go(func() error {
				if err := groupCtx.Err(); err != nil {
					return err
				}
				text, err := readSource(local)
				if err != nil {
					source.Note = err.Error()
					return nil
				}
				source.Text = text
				if sums := s.sums(source.Path); len(sums) > 0 {
					// The build's own word is better than times.
					if source.Note = ""; !isOneOf(sums, md5.Sum(text)) {
						source.Note = notTheText(modules[source.Path])
					}
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	others := map[string][]string{} // by Module, sources that are not those of the build
	for i := range sources {
		source := &sources[i]
		if source.Text != nil {
			s.sources[source.Path] = *source
		}
		if strings.Contains(source.Note, byMD5) {
			others[modules[source.Path]] = append(others[modules[source.Path]], filepath.Base(source.Path))
		}
	}
	for _, module := range slices.Sorted(maps.Keys(others)) {
		files := others[module]
		if len(files) > maxNamed {
			files = append(files[:maxNamed:maxNamed], fmt.Sprintf("%d more", len(files)-maxNamed))
		}
		c.Warn(profile.WarnUnreadable, 0, strings.Join(files, ", ")+": "+notTheText(module))
	}
	c.Symbols.Sources = sources
	return nil
}

// isOneOf says whether a text's checksum is one that a build has for it. The GNU assembler writes those
// that a compiler gives it (.file … md5 0x…) with the last byte first.
func isOneOf(sums [][md5.Size]byte, sum [md5.Size]byte) bool {
	turned := sum
	slices.Reverse(turned[:])
	return slices.Contains(sums, sum) || slices.Contains(sums, turned)
}

// byMD5 is in the note of a source with another MD5, and in no other note.
const byMD5 = "by the MD5 in its debug information"

func notTheText(module string) string {
	return fmt.Sprintf("not the text that %s was built from, %s; lines may have moved, so build it again", filepath.Base(module), byMD5)
}

// maxNamed is how many such sources a warning names.
const maxNamed = 3

// sums are the checksums that binaries have of a source; none where they do not tell.
func (s *Symbolizer) sums(file string) [][md5.Size]byte {
	var all [][md5.Size]byte
	for _, b := range s.binaries {
		if b != nil {
			for _, sum := range b.sums(file) {
				all = append(all, sum)
			}
		}
	}
	return all
}

// readSource reads a text, which is never nil, of at most maxSource bytes: a file may grow after it
// was asked for its size.
func readSource(local string) ([]byte, error) {
	f, err := os.Open(local)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	if err == nil && len(text) > maxSource {
		return nil, fmt.Errorf("not kept: it has grown to more than %d bytes", maxSource)
	}
	return text, err
}

// fixed tells files that nobody edits, whose time is that of their installation and says nothing
// about their content.
func (s *Symbolizer) fixed(local string) bool {
	for _, folder := range []string{s.config.Paths.GOROOT, s.config.Paths.ModCache} {
		if _, ok := within(local, folder); ok && folder != "" {
			return true
		}
	}
	return false
}

// madeUp says why a file that a binary names has no source anywhere; "" if it may have one.
func madeUp(file string) string {
	switch path.Base(file) {
	case autogenerated:
		return "made by the compiler: there is no source"
	case "_cgo_gotypes.go", "_cgo_export.c", "_cgo_main.c":
		return "made by cgo during the build: the file is gone"
	case "_testmain.go":
		return "made by go test during the build: the file is gone"
	case "<built-in>", "<command-line>", "<stdin>":
		return "not a file: the compiler's own name"
	}
	return ""
}

// autogenerated is the file of code that Go's compiler makes up.
const autogenerated = "<autogenerated>"
