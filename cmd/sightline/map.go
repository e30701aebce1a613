package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/memmap"
	"github.com/sightline-dev/sightline/profiler/process"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// MapFlags are those of map.
type mapFlags struct {
	kinds, regions, reconcile, fragmentation, explain, diff, asJSON bool
	strings, only, output, exe                                      string
	shortest, top                                                   int
	every, length                                                   time.Duration
	topGiven, text                                                  bool // whether --top and --strings were given
}

func newMap(io streams) *cobra.Command {
	var mf mapFlags
	cmd := &cobra.Command{
		Use:   "map PID|NAME|CORE|SNAPSHOT",
		Short: "Show where the memory of a process is, and what holds it",
		Long: `Shows the address space of a process that runs, of a core file, or of a snapshot that -o saved: every
region by what it is for, how much of it is resident, private, shared, swapped. Of Go programs it also says
what holds their resident memory. The process is not stopped.

One's own processes need no privilege. Of others it shows the sums that anybody may see.`,
		Example: `  sightline map server                      where its memory is, by kind
  sightline map 4711 --regions              every region, with its parts
  sightline map 4711 --reconcile            what holds the resident memory of a Go program, and what to do
  sightline map 4711 --every 1s --for 1m    how it changes
  sightline map 4711 -o before.json         save it, and later:
  sightline map --diff before.json 4711     what appeared, grew, went
  sightline map core.4711 --strings 'pass(word)?='
  sightline stacks before.json --view flame > memory.svg`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case mf.explain && len(args) == 0:
				return nil
			case mf.diff && len(args) != 2:
				return errors.New("map --diff takes two: processes, core files or saved snapshots, the earlier first")
			case !mf.diff && len(args) != 1:
				return errors.New("map takes one process id, name, core file or saved snapshot; `sightline ps` lists processes")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			mf.topGiven, mf.text = cmd.Flags().Changed("top"), cmd.Flags().Changed("strings")
			if err := mf.check(); err != nil {
				return err
			}
			if mf.every == 0 {
				collectLate()
			}
			return mf.run(cmd.Context(), io, args)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&mf.kinds, "kinds", false, "a row for each kind of memory (the default)")
	f.BoolVar(&mf.regions, "regions", false, "a row for each region, and for each part of it")
	f.BoolVar(&mf.reconcile, "reconcile", false, "what holds the resident memory of a Go program, and what to do about it")
	f.BoolVar(&mf.fragmentation, "fragmentation", false, "what is free: between regions, in size classes of Go, in heaps of malloc")
	f.StringVar(&mf.strings, "strings", "", "find text in the resident memory that matches this regular `expression`; '' is any")
	f.IntVar(&mf.shortest, "shortest", 6, "the fewest `characters` of a text that --strings shows")
	f.StringVar(&mf.only, "only", "", "regions and texts of this `kind` only: heap, stack, image, …")
	f.DurationVar(&mf.every, "every", 0, "take a snapshot each `time` and show how the kinds change")
	f.DurationVar(&mf.length, "for", 0, "end --every after this `time` (default: at Ctrl-C, or when the process ends)")
	f.BoolVar(&mf.diff, "diff", false, "compare two: what appeared, grew, shrank, went")
	f.BoolVar(&mf.explain, "explain", false, "say what each column and kind means and where it is from")
	f.IntVar(&mf.top, "top", 0, "show at most this many regions, changes or texts, the largest first, or size classes; 0 is all, by address")
	f.StringVar(&mf.exe, "exe", "", "the program `file` that a core file is of, where it is not where the core says")
	f.StringVarP(&mf.output, "output", "o", "", "save the snapshot to this `file`; .csv is a table, anything else what map and stacks read")
	f.BoolVar(&mf.asJSON, "json", false, "print JSON, in bytes")
	return cmd
}

func (mf *mapFlags) check() error {
	views := 0
	for _, on := range []bool{mf.kinds, mf.regions, mf.reconcile, mf.fragmentation, mf.text, mf.diff} {
		if on {
			views++
		}
	}
	switch {
	case views > 1:
		return errors.New("--kinds, --regions, --reconcile, --fragmentation, --strings and --diff are different views: give one of them")
	case mf.every < 0 || mf.length < 0 || mf.top < 0 || mf.shortest < 1:
		return errors.New("--every, --for and --top may not be negative, and --shortest is at least 1")
	case mf.length > 0 && mf.every == 0:
		return errors.New("--for says how long --every goes on; give --every too, such as --every 1s")
	case mf.every > 0 && mf.every < 10*time.Millisecond:
		return errors.New("--every is at least 10ms: reading a map takes that long")
	case mf.every > 0 && (views > 0 && !mf.kinds || mf.output != ""):
		return errors.New("--every shows how the kinds change; give it without another view and without -o")
	case mf.diff && mf.output != "":
		return errors.New("-o saves one snapshot; give it without --diff")
	}
	if _, err := mf.kind(); err != nil {
		return err
	}
	return nil
}

// Kind is the kind that --only names.
func (mf *mapFlags) kind() (memmap.Kind, error) {
	if mf.only == "" {
		return "", nil
	}
	var known []string
	for _, k := range memmap.Kinds {
		if strings.EqualFold(string(k), strings.ReplaceAll(mf.only, "-", " ")) {
			return k, nil
		}
		known = append(known, strings.ToLower(string(k)))
	}
	return "", fmt.Errorf("there is no kind %q of memory; there are %s", mf.only, strings.Join(known, ", "))
}

func (mf *mapFlags) run(ctx context.Context, io streams, args []string) error {
	if mf.explain {
		return explainMap(io.out, mf.asJSON)
	}
	if mf.diff {
		var both [2]*memmap.Snapshot
		for i, ref := range args {
			in, err := openMap(ctx, ref, mf.exe)
			if err != nil {
				return err
			}
			both[i], err = in.take(ctx)
			in.close()
			if err != nil {
				return err
			}
		}
		d := memmap.Compare(both[0], both[1])
		if mf.asJSON {
			return writeJSON(io.out, d)
		}
		return newMapTable(io.out).diff(both[0], both[1], &d, mf.top)
	}
	in, err := openMap(ctx, args[0], mf.exe)
	if err != nil {
		return err
	}
	defer in.close()
	if mf.every > 0 {
		return mf.timeline(ctx, io, in)
	}
	if in.process != nil {
		in.process.Walk = mf.fragmentation || mf.output != ""
	}
	s, err := in.take(ctx)
	if err != nil {
		return err
	}
	if mf.output != "" || mf.asJSON || mf.reconcile {
		if err := in.locate(ctx, s); err != nil {
			return err
		}
	}
	if mf.output != "" {
		err := writeFile(mf.output, func(w writer) error {
			if strings.EqualFold(filepath.Ext(mf.output), ".csv") {
				return s.WriteCSV(w)
			}
			return s.Write(w)
		})
		if err != nil {
			return err
		}
		fmt.Fprintln(io.err, "wrote "+mf.output)
		return nil
	}
	if mf.text {
		return mf.findStrings(ctx, io, in, s)
	}
	kind, err := mf.kind()
	if err != nil {
		return err
	}
	if kind != "" {
		s.Regions = slices.DeleteFunc(s.Regions, func(r memmap.Region) bool { return r.Kind != kind })
	}
	t := newMapTable(io.out)
	switch {
	case mf.asJSON && mf.fragmentation:
		free, of := s.GoFree()
		return writeJSON(io.out, fragmentationJSON{s.Free, len(s.Regions), s.Clusters(64), free, of, s.Classes, s.Mallocs, s.Notes})
	case mf.asJSON:
		return s.Write(io.out)
	case s.Partial:
		return t.partial(s)
	case mf.reconcile:
		if s.Terms == nil {
			return fmt.Errorf("%s is no Go program whose memory can be read: --reconcile asks the Go runtime%s", nameOfMap(s), because(s.Notes))
		}
		return t.reconcile(s, mf.top)
	case mf.regions:
		return t.regions(s, mf.top)
	case mf.fragmentation:
		top := mf.top
		if !mf.topGiven {
			top = 20 // size classes: there are 68
		}
		return t.fragmentation(s, top)
	}
	return t.kinds(s)
}

func because(notes []string) string {
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.Join(notes, " ") + ")"
}

// A fragmentationJSON is what --fragmentation --json prints.
type fragmentationJSON struct {
	Free     memmap.Columns      `json:"free"`
	Regions  int                 `json:"regions"`
	Clusters []memmap.Cluster    `json:"clusters"`
	GoFree   int64               `json:"goFree"` // bytes of free slots in the Go heap
	GoHeap   int64               `json:"goHeap"` // bytes of its spans
	Classes  []memmap.SizeClass  `json:"sizeClasses,omitempty"`
	Mallocs  []memmap.MallocHeap `json:"mallocHeaps,omitempty"`
	Notes    []string            `json:"notes,omitempty"`
}

// A mapInput is what a person named: a process, a core file or a saved snapshot.
type mapInput struct {
	process *memmap.Process
	core    string
	exe     string
	saved   *memmap.Snapshot
}

func (in *mapInput) close() {
	if in.process != nil {
		in.process.Close()
	}
}

func (in *mapInput) take(ctx context.Context) (*memmap.Snapshot, error) {
	switch {
	case in.saved != nil:
		return in.saved, nil
	case in.core != "":
		return memmap.ReadCore(ctx, in.core, memmap.CoreOptions{Exe: in.exe})
	}
	return in.process.Take(ctx)
}

// Locate finds the lines that a snapshot that was just taken tells of; that they cannot be found is a note.
func (in *mapInput) locate(ctx context.Context, s *memmap.Snapshot) error {
	if in.saved != nil || len(s.Sites)+len(s.Goroutines) == 0 {
		return nil
	}
	l, err := newLocator(ctx, workspaceOf("."), s, in.exe)
	if err == nil {
		defer l.close()
		err = l.locate(ctx, s)
	}
	if err != nil && ctx.Err() == nil {
		s.Notes = append(s.Notes, "The lines that started goroutines and allocated objects are not known: "+err.Error()+".")
		err = nil
	}
	return err
}

// OpenMap opens what is named: digits are a process, else a file that is there, else a name.
func openMap(ctx context.Context, ref, exe string) (*mapInput, error) {
	if pid, err := strconv.Atoi(ref); err == nil && strings.IndexFunc(ref, func(r rune) bool { return r < '0' || r > '9' }) < 0 {
		p, err := memmap.Open(pid)
		return &mapInput{process: p}, err
	}
	if info, err := os.Stat(ref); err == nil && !info.IsDir() {
		head, err := headOf(ref)
		switch {
		case err != nil:
			return nil, fmt.Errorf("map %s: %w", ref, cause(err))
		case memmap.SniffCore(head):
			return &mapInput{core: ref, exe: exe}, nil
		case memmap.Sniff(head):
			s, err := readMap(ref)
			return &mapInput{saved: s}, err
		case strings.Contains(ref, "/") || len(processesNamed(ref)) == 0:
			return nil, fmt.Errorf("%s is neither a core file nor a memory map that `sightline map -o` saved; `sightline size` shows what takes the room in a program", ref)
		}
	}
	pids := processesNamed(ref)
	switch len(pids) {
	case 0:
		return nil, fmt.Errorf("there is no process, core file or saved memory map %q; `ps` lists processes", ref)
	case 1:
		p, err := memmap.Open(pids[0])
		return &mapInput{process: p}, err
	}
	return nil, severalNamed(ref, pids)
}

// SeveralNamed is the error of a name that is not of one process.
func severalNamed(name string, pids []int) error {
	var list []string
	for _, p := range pids[:min(len(pids), 10)] {
		list = append(list, strconv.Itoa(p))
	}
	if len(pids) > 10 {
		list = append(list, "…")
	}
	return fmt.Errorf("%d processes are called %q: give the id of one: %s", len(pids), name, strings.Join(list, ", "))
}

func headOf(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if n == 0 && err != io.EOF {
		return nil, err
	}
	return head[:n], nil
}

func readMap(path string) (*memmap.Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, cause(err))
	}
	defer f.Close()
	return memmap.Read(f, path)
}

// IsMapFile says whether a file is a saved memory map.
func isMapFile(path string) bool {
	if path == "-" {
		return false
	}
	head, err := headOf(path)
	return err == nil && memmap.Sniff(head)
}

// ReadMapCapture makes a capture of a saved memory map.
func readMapCapture(path string) (*profile.Capture, error) {
	s, err := readMap(path)
	if err != nil {
		return nil, err
	}
	return s.Capture(), nil
}

// ProcessesNamed are the processes, but this one, whose name or whose program's file name it is.
func processesNamed(name string) []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var pids []int
	for _, n := range names {
		pid, err := strconv.Atoi(n)
		if err != nil || pid == os.Getpid() {
			continue
		}
		comm, err := os.ReadFile(filepath.Join("/proc", n, "comm"))
		if err != nil {
			continue
		}
		line, _ := os.ReadFile(filepath.Join("/proc", n, "cmdline"))
		first, _, _ := bytes.Cut(line, []byte{0})
		// The kernel keeps 15 bytes of the name, and a thread may give itself another.
		if string(bytes.TrimSuffix(comm, []byte("\n"))) == name || len(first) > 0 && filepath.Base(string(first)) == name {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Timeline takes a snapshot again and again.
func (mf *mapFlags) timeline(ctx context.Context, io streams, in *mapInput) error {
	if in.process == nil {
		return errors.New("--every watches a process; a core file and a saved snapshot do not change")
	}
	began := ctx
	if mf.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, mf.length)
		defer cancel()
	}
	var first, last *memmap.Snapshot
	var t *mapTable
	written := 0
	tick := time.NewTicker(mf.every)
	defer tick.Stop()
	var ended error
	for {
		s, err := in.process.TakeLight(began)
		if err != nil {
			if first == nil || began.Err() == nil && !errors.Is(err, memmap.ErrNoProcess) && !errors.Is(err, memmap.ErrNoMemory) {
				return err
			}
			if began.Err() == nil {
				ended = err
			}
			break
		}
		if s.Partial {
			if mf.asJSON {
				return s.Write(io.out)
			}
			return newMapTable(io.out).partial(s)
		}
		if first == nil {
			first = s
			t = newMapTable(io.out)
		}
		moment := memmap.MomentOf(s, first)
		if mf.asJSON {
			// One array, that is whole whenever the command ends.
			sep := "[\n"
			if written > 0 {
				sep = ",\n"
			}
			line, err := json.Marshal(moment)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(io.out, "%s%s", sep, line); err != nil {
				return err
			}
		} else {
			t.moment(s, moment, last == nil)
		}
		written++
		last = s
		select {
		case <-ctx.Done():
		case <-tick.C:
			continue
		}
		break
	}
	if mf.asJSON {
		_, err := fmt.Fprintln(io.out, "\n]")
		return err
	}
	if ended != nil {
		fmt.Fprintln(io.err, "sightline: "+sentence(ended))
	}
	d := memmap.Compare(first, last)
	return t.summary(first, last, &d)
}

// FindStrings prints the texts in memory.
func (mf *mapFlags) findStrings(ctx context.Context, io streams, in *mapInput, s *memmap.Snapshot) error {
	re, err := regexp.Compile(mf.strings)
	if err != nil {
		return fmt.Errorf("--strings %q is no regular expression: %w", mf.strings, err)
	}
	kind, err := mf.kind()
	if err != nil {
		return err
	}
	var m *memmap.Memory
	switch {
	case in.process != nil && s.Partial:
		return newMapTable(io.out).partial(s)
	case in.process != nil:
		m = in.process.Memory()
	case in.core != "":
		if m, err = memmap.CoreMemory(in.core, memmap.CoreOptions{Exe: in.exe}); err != nil {
			return err
		}
	default:
		return errors.New("a saved snapshot has no memory in it: --strings takes a process or a core file")
	}
	defer m.Close()
	o := memmap.StringOptions{Shortest: mf.shortest, Pattern: re}
	if kind != "" {
		o.Kinds = []memmap.Kind{kind}
	}
	found := 0
	t := newMapTable(io.out)
	at := siteLines{in: in, s: s}
	defer at.close()
	var failed error
	err = m.Strings(ctx, s, o, func(x memmap.String) bool {
		found++
		r := &s.Regions[x.Region]
		if mf.asJSON {
			sep := ",\n"
			if found == 1 {
				sep = "[\n"
			}
			var line []byte
			line, failed = json.Marshal(stringJSON{x, r.Kind, r.Label(), r.Start, at.of(ctx, x.Owner)})
			if failed == nil {
				_, failed = fmt.Fprintf(io.out, "%s%s", sep, line)
			}
		} else {
			t.text(x, r, at.of(ctx, x.Owner))
			failed = t.err
		}
		return failed == nil && (mf.top == 0 || found < mf.top)
	})
	if mf.asJSON {
		open := ""
		if found == 0 {
			open = "["
		}
		fmt.Fprintln(io.out, open+"\n]")
	}
	if err := cmp.Or(failed, err); err != nil {
		return err
	}
	if !mf.asJSON && found == 0 {
		fmt.Fprintf(io.out, "No text of %d characters or more in the resident memory of %s matches.\n", mf.shortest, nameOfMap(s))
	}
	return nil
}

// A stringJSON is what --strings --json prints of each text.
type stringJSON struct {
	memmap.String
	Kind   memmap.Kind `json:"kind"`
	Owner  string      `json:"owner"`
	Region uint64      `json:"region"` // its start
	// Allocated is the line that allocated the object; known of those that the memory profile recorded.
	Allocated *memmap.Place `json:"allocated,omitempty"`
}

func explainMap(out io.Writer, asJSON bool) error {
	if asJSON {
		return writeJSON(out, struct {
			Columns []memmap.Explanation `json:"columns"`
			Kinds   []memmap.Explanation `json:"kinds"`
		}{memmap.Explanations(), memmap.KindExplanations()})
	}
	p := paletteFor(out)
	part := func(title string, all []memmap.Explanation) {
		fmt.Fprintln(out, p.bold(title))
		for _, e := range all {
			for i, line := range wrap(e.Text, max(width(out)-20, 40)) {
				if i > 0 {
					e.Name = ""
				}
				fmt.Fprintf(out, "  %-17s %s\n", e.Name, line)
			}
			for _, line := range wrap("from: "+e.Source, max(width(out)-20, 40)) {
				fmt.Fprintf(out, "  %-17s %s\n", "", p.dim(line))
			}
		}
	}
	part("Columns", memmap.Explanations())
	fmt.Fprintln(out)
	part("Kinds", memmap.KindExplanations())
	return nil
}

func nameOfMap(s *memmap.Snapshot) string {
	switch {
	case s.Core != "":
		return "core file " + process.Printable(s.Core)
	case s.PID != 0:
		return fmt.Sprintf("process %d (%s)", s.PID, process.Printable(s.Name))
	}
	return process.Printable(s.Name)
}

func bytesWords(n int64) string { return lspserver.Weight(n, profile.Bytes) }
