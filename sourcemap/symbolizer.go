package sourcemap

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// An Opener gives the bytes of a mapping: the very file that ran, or the vdso's bytes. The reader is
// borrowed and used until the Symbolizer is dropped. One call at a time is made.
type Opener func(profile.MappingID) (io.ReaderAt, error)

// Config says what a Symbolizer uses. The zero value works.
type Config struct {
	// Paths leads to the sources. Default: they are where the build says.
	Paths *Paths
	// Kallsyms opens the list of the kernel's symbols. Default: /proc/kallsyms.
	Kallsyms func() (io.ReadCloser, error)
	// DebugFolders hold debug files: BUILDID's as .build-id/xx/yyyy.debug, and PATH/NAME for a binary
	// in the folder PATH with a link to NAME. They are searched in order, and then /usr/lib/debug.
	DebugFolders []string
	// Debuginfod fetches debug files that no folder has. nil: none are fetched.
	Debuginfod *Debuginfod
	// AnswersDir is a folder of this user's that keeps what DWARF said of the addresses of binaries with
	// a build ID: Close adds to it, and NewSymbolizer's successors need not read DWARF for the same
	// lines again; and the list of the kernel's functions, by the build ID of its mapping. It holds at most
	// 256 MB. "": nothing is kept.
	AnswersDir string
	// Root is the folder that a mapping's Path begins at, "/proc/7/root" for a process in a container;
	// "" for this process's root. nil: it is that for all.
	Root func(profile.MappingID) string
	// Process tells whose memory an Anonymous mapping is, so that code made at run time gets the names
	// that its process writes. nil, or false: such code has none.
	Process func(profile.MappingID) (Process, bool)
}

// A Symbolizer turns the locations of one recording into frames. It remembers what it has named, so
// that naming a view that has grown costs only what is new, and views share their frames.
//
// Files with debug information that it opens itself stay open until Close, or until nothing refers
// to it any more.
//
// Any goroutine may call it; calls wait for one another.
type Symbolizer struct {
	config Config

	mu       sync.Mutex // guards all below
	frames   []profile.Frame
	ids      map[profile.Frame]profile.FrameID
	of       [][]profile.FrameID
	binaries map[profile.MappingID]*binaryTable // nil where it cannot be read
	jits     map[profile.MappingID]*processJIT
	kernel   table
	kernelOK bool              // kernel was opened, or cannot be
	image    *kallsymsTable    // what was kept of it; nil: nothing, or it was not looked for
	warnings []profile.Warning // of all captures so far
	sources  map[string]profile.Source
	// The binaries whose supplementary file (dwz) is missing, and the names of those files.
	lacking, lacked []string
}

// NewSymbolizer makes the symbolizer of one recording.
func NewSymbolizer(config Config) *Symbolizer {
	if config.Paths == nil {
		config.Paths = &Paths{}
	}
	if config.Kallsyms == nil {
		config.Kallsyms = func() (io.ReadCloser, error) { return os.Open("/proc/kallsyms") }
	}
	return &Symbolizer{
		config:   config,
		frames:   make([]profile.Frame, 1),
		ids:      map[profile.Frame]profile.FrameID{},
		of:       make([][]profile.FrameID, 1),
		binaries: map[profile.MappingID]*binaryTable{},
		jits:     map[profile.MappingID]*processJIT{},
		sources:  map[string]profile.Source{},
	}
}

// Symbolize names every location of c, which is the recording's capture or a view of it, and sets
// c.Symbols.Frames and c.Symbols.Of. Each location gets at least one frame:
//
//   - code of a binary: what its tables say, with the binary's path as Module; Unknown, also with
//     Module, where they do not know the address or the binary cannot be read, for which c gets a
//     warning per binary;
//   - kernel code: the kernel's symbols; Kernel where they may not be read, with a warning;
//   - code made at run time: what its process tells (Config.Process), in the module JIT, or Unknown;
//   - addresses in nothing known: Unknown.
//
// It fails only with ctx's error, and then c is as it was.
func (s *Symbolizer) Symbolize(ctx context.Context, c *profile.Capture, open Opener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	work := s.sort(c)
	for _, w := range work {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.open(w, c, open)
	}
	if err := s.attach(ctx, work, c); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	byTable := map[table][]*batch{} // mappings of the kernel share one; a table serves one goroutine
	for _, w := range work {
		byTable[w.table] = append(byTable[w.table], w)
	}
	for _, batches := range byTable {
		group.Go(func() error {
			for _, w := range batches {
				if err := w.name(groupCtx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.intern(c, work)
	for _, w := range work {
		w.noteFresh()
		for _, note := range w.notes() {
			s.warn(note)
		}
	}
	for _, w := range s.warnings {
		c.Warn(w.Kind, w.Count, w.Text)
	}
	for _, w := range work {
		if w.binary != nil && w.binary.lacks != "" && !slices.Contains(s.lacking, w.module) {
			s.lacking = append(s.lacking, w.module)
			s.lacked = append(s.lacked, w.binary.lacks)
		}
	}
	if len(s.lacking) > 0 {
		c.Warn(profile.WarnUnreadable, 0, lackingText(s.lacking, s.lacked))
	}
	n := len(c.Locations)
	c.Symbols.Frames = s.frames[:len(s.frames):len(s.frames)]
	c.Symbols.Of = s.of[:n:n]
	return nil
}

// Close keeps what may be of use to others (Config.AnswersDir) and closes the files that the Symbolizer
// has opened. What is asked afterwards opens them again.
func (s *Symbolizer) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keepAnswers()
	for _, b := range s.binaries {
		if b != nil && b.files != nil {
			b.files.close()
		}
	}
}

// keepAnswers adds the answers that are new to those of the folder. What cannot be kept is not: it is
// as well found again.
func (s *Symbolizer) keepAnswers() {
	if s.config.AnswersDir == "" {
		return
	}
	kept := map[string]*answers{} // by build ID: a binary may be mapped by several processes
	for _, m := range slices.Sorted(maps.Keys(s.binaries)) {
		b := s.binaries[m]
		if b == nil || len(b.fresh) == 0 {
			continue
		}
		places := b.fresh
		b.fresh = nil
		id := buildID(b.file)
		// What something is missing for, or damaged, may have better answers tomorrow.
		if !isBuildID(id) || len(b.notes) > 0 || b.lacks != "" {
			continue
		}
		before, ok := kept[id]
		if !ok {
			before = b.answers
		}
		fresh := make([]freshAnswer, 0, len(places))
		for _, p := range places {
			f := freshAnswer{low: p.low, high: p.high}
			for _, id := range s.of[p.location] {
				if frame := s.frames[id]; frame.Func != profile.Unknown || frame.File != "" {
					f.frames = append(f.frames, frame)
				}
			}
			fresh = append(fresh, f)
		}
		kept[id] = before.with(fresh, b.sums)
		if writeAnswers(s.config.AnswersDir, id, kept[id]) != nil {
			return
		}
	}
}

// attach finds the debug files of binaries that are asked for the first time. Only what is fetched
// from servers takes time, so some are looked for at once.
func (s *Symbolizer) attach(ctx context.Context, work []*batch, c *profile.Capture) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, w := range work {
		b := w.binary
		if b == nil || b.files != nil || c.Mappings[w.mapping].Kind != profile.FileCode || !w.asksOthers() {
			continue
		}
		files := &filePool{}
		if s.config.Root != nil {
			if files.root = s.config.Root(w.mapping); files.root == "/" {
				files.root = ""
			}
		}
		find := &debugFinder{
			folders: append(slices.Clip(s.config.DebugFolders), systemDebugFolder), path: w.module, files: files, note: b.note, lacks: b.lack,
		}
		if s.config.Debuginfod != nil {
			find.fetch = s.config.Debuginfod.Fetch
		}
		group.Go(func() error { return b.attach(ctx, find, s.config.Paths.remapped) })
	}
	return group.Wait()
}

// A batch is the new locations of one mapping.
type batch struct {
	mapping profile.MappingID
	module  string
	table   table        // nil where none can be had
	binary  *binaryTable // the same, where it is a binary's
	offsets bool         // locations are file offsets
	unnamed profile.Frame
	keep    bool // answers
	asks    []ask
	// The answers: location asks[i] has frames[asks[i].from:asks[i].to].
	frames []profile.Frame
}

type ask struct {
	addr      uint64 // as Location.Lookup gives it
	location  profile.LocationID
	from, to  int32
	low, high uint64 // the file addresses that DWARF's answer holds for; none where it is not to be kept
}

// sort puts the locations that have no frames yet into batches. The addresses of each are in order:
// tables are fastest when the next address is near.
func (s *Symbolizer) sort(c *profile.Capture) []*batch {
	byMapping := make([]*batch, len(c.Mappings))
	var work []*batch
	for i := len(s.of); i < len(c.Locations); i++ {
		l := c.Locations[i]
		w := byMapping[l.Mapping]
		if w == nil {
			w = &batch{mapping: l.Mapping}
			byMapping[l.Mapping] = w
			work = append(work, w)
		}
		w.asks = append(w.asks, ask{addr: l.Lookup(), location: profile.LocationID(i)})
	}
	for _, w := range work {
		slices.SortFunc(w.asks, func(a, b ask) int { return cmp.Compare(a.addr, b.addr) })
	}
	return work
}

// open finds the batch's table.
func (s *Symbolizer) open(w *batch, c *profile.Capture, open Opener) {
	m := c.Mappings[w.mapping]
	w.unnamed.Func = profile.Unknown
	switch m.Kind {
	case profile.KernelCode:
		w.module, w.unnamed.Func = profile.Kernel, profile.Kernel
		w.table = s.kernelTable(w, m.BuildID)
		return
	case profile.FileCode:
		w.module = m.Path
	case profile.VDSO:
		w.module = "[vdso]"
	case profile.Anonymous:
		if t := s.openJIT(w.mapping); t != nil {
			w.table = t
		}
		return
	default:
		return
	}
	w.unnamed.Module = w.module
	w.keep = s.config.AnswersDir != ""
	w.offsets = m.Offsets
	b, known := s.binaries[w.mapping]
	if !known {
		var err error
		var r io.ReaderAt
		if r, err = open(w.mapping); err == nil {
			b, err = openBinary(r)
		}
		if err == nil && m.Kind == profile.FileCode {
			if id := buildID(b.file); isBuildID(id) && isBuildID(m.BuildID) && id != m.BuildID {
				b, err = nil, fmt.Errorf("it is of another build (build ID %s) than the one that ran (%s); symbolize with that one", id, m.BuildID)
			}
		}
		if err == nil && w.keep {
			if id := buildID(b.file); isBuildID(id) {
				b.answers = readAnswers(s.config.AnswersDir, id)
			}
		}
		if err != nil {
			s.warn(fmt.Sprintf("the symbols of %s cannot be read: %v", w.module, err))
		}
		s.binaries[w.mapping] = b
	}
	if b != nil {
		w.binary, w.table = b, b
	}
}

// A processJIT is what is known of one process's code made at run time.
type processJIT struct {
	process Process
	table   *jitTable
}

// openJIT reads what a mapping's process has written of its code, nil where that is nothing. It is
// read anew by each call, as it grows while a recording does: calls are few, and come with new
// locations only.
func (s *Symbolizer) openJIT(m profile.MappingID) *jitTable {
	j := s.jits[m]
	if j == nil {
		if s.config.Process == nil {
			return nil
		}
		p, ok := s.config.Process(m)
		if !ok {
			return nil
		}
		j = &processJIT{process: p}
		s.jits[m] = j
	}
	t, notes := openJIT(j.process)
	if t != nil {
		j.table = t // what was written is good after its file was removed
	}
	for _, note := range notes {
		s.warn("code that process " + strconv.Itoa(j.process.PID) + " made at run time: " + note)
	}
	if j.table == nil && len(notes) == 0 {
		s.warn(fmt.Sprintf("code that process %d made at run time has no names; "+
			"start it so that it tells them: node --perf-basic-prof, python3 -X perf, java -XX:+DumpPerfMapAtExit -XX:+PreserveFramePointer", j.process.PID))
	}
	return j.table
}

// openKernel opens the kernel's table; nil where its names may not be read.
func (s *Symbolizer) openKernel() table {
	r, err := s.config.Kallsyms()
	if err == nil {
		defer r.Close()
		var t table
		if t, err = openKallsyms(r); err == nil {
			return t
		}
	}
	s.warn(fmt.Sprintf("kernel functions have no names: %v", err))
	return nil
}

// lackingText is one warning for all binaries whose supplementary file is missing: a distribution's programs
// and their libraries come by the dozen, and share such files.
func lackingText(binaries, files []string) string {
	const listed = 3
	those := slices.Clone(files)
	slices.Sort(those)
	text := func(names []string) string {
		if n := len(names) - listed; n > 0 {
			return fmt.Sprintf("%s and %d more", strings.Join(names[:listed], ", "), n)
		}
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s: some inlined calls have no names, as a part of the debug information, which dwz has put into files of their own, is missing (%s); install the debug packages anew",
		text(binaries), text(slices.Compact(those)))
}

// warn remembers a warning for this capture and those to come.
func (s *Symbolizer) warn(text string) {
	w := profile.Warning{Kind: profile.WarnUnreadable, Text: text}
	if !slices.Contains(s.warnings, w) {
		s.warnings = append(s.warnings, w)
	}
}

// noteFresh notes which answers of the batch are to be kept.
func (w *batch) noteFresh() {
	if !w.keep || w.binary == nil {
		return
	}
	for _, a := range w.asks {
		if a.high > a.low && len(w.binary.fresh) < maxAnswers {
			w.binary.fresh = append(w.binary.fresh, freshPlace{a.low, a.high, a.location})
		}
	}
}

// name finds the frames of the batch.
func (w *batch) name(ctx context.Context) error {
	parts := w.split()
	frames := make([][]profile.Frame, len(parts))
	group, ctx := errgroup.WithContext(ctx)
	for i, part := range parts {
		group.Go(func() (err error) {
			frames[i], err = w.namePart(ctx, part)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	w.frames = frames[0]
	for i, part := range parts[1:] {
		before := int32(len(w.frames))
		w.frames = append(w.frames, frames[i+1]...)
		for _, id := range part {
			w.asks[id].from += before
			w.asks[id].to += before
		}
	}
	return nil
}

// minSplit is how many locations are worth the trouble of naming them at once.
const minSplit = 64

// split makes parts of the batch that may be named at once: indices into asks, in ascending order. It
// is at least one.
func (w *batch) split() [][]int32 {
	parts := make([][]int32, 1, maxParts)
	for i := range w.asks {
		part := 0
		if addr, ok := w.address(w.asks[i].addr); ok && w.binary != nil && len(w.asks) >= minSplit {
			part = w.binary.part(addr)
		}
		for part >= len(parts) {
			parts = append(parts, nil)
		}
		parts[part] = append(parts[part], int32(i))
	}
	return parts
}

// namePart finds the frames of some of the batch's locations.
func (w *batch) namePart(ctx context.Context, part []int32) ([]profile.Frame, error) {
	var last *ask
	frames := make([]profile.Frame, 0, 2*len(part))
	keep := w.keep && w.binary != nil
	for i, id := range part {
		if i%256 == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		a := &w.asks[id]
		if last != nil && a.addr == last.addr {
			a.from, a.to = last.from, last.to // a call and what follows it
			continue
		}
		last = a
		a.from = int32(len(frames))
		known := false
		if addr, ok := w.address(a.addr); ok {
			frames, known = w.table.frames(addr, frames)
			if keep {
				a.low, a.high = w.binary.extent(addr)
			}
		}
		if !known {
			frames = append(frames[:a.from], w.unnamed)
		} else {
			for j := range frames[a.from:] {
				if f := &frames[int(a.from)+j]; f.Module == "" {
					f.Module = w.module
				}
			}
		}
		a.to = int32(len(frames))
	}
	return frames, nil
}

// address is what the batch's table is to be asked about, with false where it cannot be.
func (w *batch) address(addr uint64) (uint64, bool) {
	if w.table == nil {
		return 0, false
	}
	if w.offsets && w.binary != nil {
		return w.binary.addressOf(addr)
	}
	return addr, true
}

// notes are what was found wrong with the batch's binary, as sentences.
func (w *batch) notes() []string {
	if w.binary == nil {
		return nil
	}
	var out []string
	for _, note := range w.binary.notes {
		out = append(out, w.module+": "+note)
	}
	return out
}

// intern gives ids to the frames that were found, in the order of locations, so that the same
// capture gives the same ids.
func (s *Symbolizer) intern(c *profile.Capture, work []*batch) {
	first := len(s.of)
	type place struct {
		batch *batch
		ask   int
	}
	places := make([]place, len(c.Locations)-min(first, len(c.Locations)))
	n := 0
	for _, w := range work {
		for i, a := range w.asks {
			places[int(a.location)-first] = place{w, i}
			n += int(a.to - a.from)
		}
	}
	if len(s.ids) == 0 {
		s.ids = make(map[profile.Frame]profile.FrameID, n)
		s.frames = slices.Grow(s.frames, n)
	}
	all := make([]profile.FrameID, 0, n)
	for _, p := range places {
		a := p.batch.asks[p.ask]
		from := len(all)
		for _, f := range p.batch.frames[a.from:a.to] {
			id, ok := s.ids[f]
			if !ok {
				id = profile.FrameID(len(s.frames))
				s.frames = append(s.frames, f)
				s.ids[f] = id
			}
			all = append(all, id)
		}
		s.of = append(s.of, all[from:len(all):len(all)])
	}
}
