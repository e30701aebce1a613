package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/heap"
	"github.com/sightline-dev/sightline/heap/freeze"
	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/memmap"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

// HeapViews are what --view takes, the first is the default.
var heapViews = []string{"types", "tree", "retained", "paths", "sites", "goroutines", "waste"}

type heapFlags struct {
	view, focus, output, exe, how string
	priorities                    string
	raise, lower                  []string
	top, depth                    int
	fold                          float64
	asJSON, dontKeep, secondary   bool
}

func newHeap(io streams) *cobra.Command {
	var hf heapFlags
	cmd := &cobra.Command{
		Use:   "heap PID|NAME|CORE|SNAPSHOT|CAPTURE",
		Short: "Show what fills a Go heap, what keeps it, and which line allocated it",
		Long: `Takes a snapshot of the heap of a Go program that runs, which stands still for some milliseconds, or reads
the one of a core file, or one that was taken before, and shows the objects in it:

  types       by type: how many, how large, and what would be free without them
  tree        by what keeps them, every object once, under the most telling of those that refer to it
  retained    by what would be free: below each what goes with it
  paths       the objects that keep the most, and the way to them from the roots
  sites       by the line that allocated them, from the program's own memory profile
  goroutines  by state and place, with what only they hold
  waste       memory that holds nothing: unused capacity, free slots of maps, strings that are there twice

A snapshot that was taken is kept beside the captures, so that any view of it can be had later: captures
lists it, and heap @ shows the newest. --focus asks about one type or object.`,
		Example: `  sightline heap server                           what is in the heap, by type
  sightline heap @ --view tree                    the same snapshot, by what keeps it
  sightline heap @ --focus main.Session           who holds sessions, and what they keep
  sightline heap @ --focus 0xc000123000           one object
  sightline heap core.4711 --exe ./server         of a core file
  sightline heap diff @2 @                        what came and went between two snapshots
  sightline stacks @ --kind retained --view flame > heap.svg`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("heap takes one process id, name, core file, saved snapshot or capture; `sightline ps` lists processes")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return hf.run(cmd, io, args[0]) },
	}
	f := cmd.Flags()
	f.StringVar(&hf.view, "view", heapViews[0], "what to show: "+strings.Join(heapViews, ", "))
	f.StringVar(&hf.focus, "focus", "", "ask about this `type` (a name or a pattern) or object (its address, 0x…)")
	f.IntVar(&hf.top, "top", 30, "show at most this many rows; 0 is all")
	f.IntVar(&hf.depth, "depth", 0, "show this many levels of a tree; 0 is all")
	f.Float64Var(&hf.fold, "fold", 1, "leave out branches of a tree below this `percent` of the heap")
	f.BoolVar(&hf.secondary, "secondary", false, "in the tree, show what is referred to and kept by something else, too")
	hf.addPriorities(cmd)
	f.StringVar(&hf.exe, "exe", "", "the program `file` that a core file is of, where it is not where the core says")
	f.StringVar(&hf.how, "how", "auto", "how a process is read: auto, fork (it stands still for a moment), copy (for as long as that takes), running (it does not stop)")
	f.BoolVar(&hf.dontKeep, "dont-keep", false, "do not keep the snapshot beside the captures")
	f.StringVarP(&hf.output, "output", "o", "", "save the snapshot to this `file`, which heap and stacks read")
	f.BoolVar(&hf.asJSON, "json", false, "print JSON, in bytes")
	cmd.AddCommand(newHeapDiff(io))
	return cmd
}

func (hf *heapFlags) addPriorities(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&hf.priorities, "priorities", "", "which of two keepers the tree prefers: a `list` of PATTERN->NUMBER before the usual ones")
	f.StringArrayVar(&hf.raise, "raise", nil, "raise the priority of a `name` in the tree by 1")
	f.StringArrayVar(&hf.lower, "lower", nil, "lower the priority of a `name` in the tree by 1")
}

func (hf *heapFlags) check() error {
	switch {
	case !slices.Contains(heapViews, hf.view):
		return fmt.Errorf("there is no view %q; there are %s", hf.view, strings.Join(heapViews, ", "))
	case !slices.ContainsFunc(dumpWays, func(h freeze.How) bool { return h.String() == hf.how }):
		return fmt.Errorf("--how %q is no way to hold a process; there are auto, fork, copy and running", hf.how)
	case hf.top < 0 || hf.depth < 0:
		return errors.New("--top and --depth may not be negative")
	case !(hf.fold >= 0 && hf.fold <= 100):
		return errors.New("--fold is a percentage, from 0 to 100")
	}
	return nil
}

// PrioritiesOf are the priorities that the flags ask for.
func (hf *heapFlags) prioritiesOf() (*heap.Priorities, error) {
	p, err := heap.ParsePriorities(hf.priorities + ";" + heap.DefaultPriorities)
	if err != nil {
		return nil, err
	}
	for _, name := range hf.raise {
		p = p.Raise(name, 1)
	}
	for _, name := range hf.lower {
		p = p.Raise(name, -1)
	}
	return p, nil
}

func (hf *heapFlags) run(cmd *cobra.Command, io streams, ref string) error {
	if err := hf.check(); err != nil {
		return err
	}
	priorities, err := hf.prioritiesOf()
	if err != nil {
		return err
	}
	defer spareMemory()()
	in, err := hf.open(cmd, io, ref)
	if err != nil {
		return err
	}
	defer in.snapshot.Close()
	if hf.output != "" {
		if err := writeFile(hf.output, in.snapshot.Write); err != nil {
			return err
		}
		fmt.Fprintln(io.err, "wrote "+hf.output)
		if !cmd.Flags().Changed("view") && hf.focus == "" && !hf.asJSON {
			return nil
		}
	}
	a := heap.Analyze(in.snapshot, priorities)
	if in.taken && !hf.dontKeep && hf.output == "" {
		in.keep(cmd, io, a)
	}
	v := newHeapView(io.out, in, a, hf)
	if hf.focus != "" {
		return v.showFocus(hf.focus)
	}
	return v.show()
}

// SpareMemory lets the collector run more often than usual, until its result is called: a heap is large,
// and most of what is made of it stays.
func spareMemory() func() {
	before := debug.SetGCPercent(50)
	return func() { debug.SetGCPercent(before) }
}

// A heapInput is a snapshot and where it is from.
type heapInput struct {
	snapshot *heap.Snapshot
	id       store.ID // of the capture beside it; "" where there is none
	taken    bool     // just now, of a process
	core     string   // path of the core file that it is of
}

// OpenHeap opens what is named: digits are a process, else a file that is there, else a capture with a
// snapshot, else the name of a process.
func (hf *heapFlags) open(cmd *cobra.Command, io streams, ref string) (*heapInput, error) {
	if pid, err := strconv.Atoi(ref); err == nil && strings.IndexFunc(ref, func(r rune) bool { return r < '0' || r > '9' }) < 0 {
		return hf.take(cmd.Context(), io, pid)
	}
	if info, err := os.Stat(ref); err == nil && !info.IsDir() && !strings.HasPrefix(ref, "@") {
		head, err := headOf(ref)
		switch {
		case err != nil:
			return nil, fmt.Errorf("heap of %s: %w", ref, cause(err))
		case heap.Sniff(head):
			s, err := heap.Open(ref)
			return &heapInput{snapshot: s}, err
		case memmap.SniffCore(head):
			return hf.core(cmd.Context(), io, ref)
		case strings.Contains(ref, "/"):
			return nil, fmt.Errorf("%s is neither a core file nor a heap snapshot that `sightline heap -o` saved; `sightline stacks` reads profiles of other tools", ref)
		}
	}
	pids := processesNamed(ref)
	if len(pids) == 0 || strings.HasPrefix(ref, "@") {
		in, err := openKeptHeap(cmd, ref)
		if err == nil || strings.HasPrefix(ref, "@") || !errors.Is(err, store.ErrNoCapture) {
			return in, err
		}
		return nil, fmt.Errorf("there is no process, core file, saved snapshot or capture %q; `sightline ps` lists processes, `sightline captures` captures", ref)
	}
	if len(pids) == 1 {
		return hf.take(cmd.Context(), io, pids[0])
	}
	var list []string
	for _, p := range pids[:min(len(pids), 10)] {
		list = append(list, strconv.Itoa(p))
	}
	if len(pids) > 10 {
		list = append(list, "…")
	}
	return nil, fmt.Errorf("%d processes are called %q: give the id of one: %s", len(pids), ref, strings.Join(list, ", "))
}

// OpenKeptHeap opens the snapshot beside a capture. @ is the newest capture that has one, @2 the one
// before.
func openKeptHeap(cmd *cobra.Command, ref string) (*heapInput, error) {
	st, err := storeOf(cmd)
	if err != nil {
		return nil, err
	}
	id, err := resolveHeap(st, ref)
	if err != nil {
		return nil, err
	}
	path, err := st.SnapshotFile(id)
	if err != nil {
		return nil, err
	}
	s, err := heap.Open(path)
	return &heapInput{snapshot: s, id: id}, err
}

func resolveHeap(st *store.Store, ref string) (store.ID, error) {
	if !strings.HasPrefix(ref, "@") {
		return st.Resolve(ref)
	}
	n := 1
	if ref != "@" {
		var err error
		if n, err = strconv.Atoi(ref[1:]); err != nil || n < 1 {
			return st.Resolve(ref) // which says what is wrong
		}
	}
	list, err := st.List()
	if err != nil {
		return "", err
	}
	list = slices.DeleteFunc(list, func(m store.Meta) bool { return m.Snapshot == 0 })
	if n > len(list) {
		return "", fmt.Errorf("%s: the store has %s; `sightline heap PID` takes one", ref, plural(len(list), "heap snapshot"))
	}
	return list[n-1].ID, nil
}

// Keep stores a snapshot that was taken. Where that fails what was asked for is shown all the same.
func (in *heapInput) keep(cmd *cobra.Command, io streams, a *heap.Analysis) {
	err := func() error {
		dir, err := workspaceFlag(cmd)
		if err != nil {
			return err
		}
		st, err := storeOf(cmd)
		if err != nil {
			return err
		}
		c := a.Capture()
		if err := addSources(cmd.Context(), c, dir); err != nil {
			return err
		}
		meta, err := st.PutSnapshot(c, in.snapshot.Write)
		if err == nil {
			in.id = meta.ID
			tellDaemon(st.Path())
		}
		return err
	}()
	if err != nil {
		fmt.Fprintln(io.err, "sightline: the snapshot is not kept: "+sentence(err))
	}
}

// IsHeapFile says whether a file is a saved heap snapshot.
func isHeapFile(path string) bool {
	if path == "-" {
		return false
	}
	head, err := headOf(path)
	return err == nil && heap.Sniff(head)
}

// ReadHeapCapture makes a capture of a saved heap snapshot.
func readHeapCapture(path string) (*profile.Capture, error) {
	s, err := heap.Open(path)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return heap.Analyze(s, nil).Capture(), nil
}

func bytesOfHeap(n uint64) string { return lspserver.Weight(int64(n), profile.Bytes) }

// HeapShare is a part of the live heap in percent.
func heapShare(part, whole uint64) string { return lspserver.Percent(int64(part), int64(whole)) }

// CountOf is a number of objects with its thousands apart: "1,036,180".
func countOf(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
