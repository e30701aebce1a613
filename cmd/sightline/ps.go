package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/profiler/process"
)

// PsOptions are the flags of ps.
type psOptions struct {
	tree, threads, watch, kernel, pss, asJSON bool
	sort, columns                             string
	interval                                  time.Duration
	top                                       int
}

// WatchEvery is how often a watch looks, unless it is told.
const watchEvery = time.Second

func newPs(io streams) *cobra.Command {
	var o psOptions
	cmd := &cobra.Command{
		Use:   "ps [NAME | PID | :PORT]…",
		Short: "List processes: what each uses now, its memory, threads, files and goroutines",
		Long: `Lists the processes of this machine, or those that are named by name, by number, or by a port that
they have. CPU is of an interval (--interval, 200 ms), not since the start: 100% is one processor.

PRIVATE is resident memory without a file behind, which no other process has; PSS counts a page that n
processes share as an nth (--pss, or where processes are named: the kernel takes its time for it). READ
and WRITTEN are bytes from and to storage since the start. GOROUTINES and HEAP (live after the last
collection, and allocated since) are a Go program's own counters, read from its memory without stopping it.

What this user may not see is blank, and the last line says of how many processes. Columns in which no
process has anything are left out, as are the last ones that a terminal has no room for; --columns names
those that are wanted: ` + strings.Join(psColumnNames(), ", ") + `.`,
		Example: `  sightline ps                      what is busy now
  sightline ps postgres 4711 :8080  some processes
  sightline ps --sort rss --top 10
  sightline ps --tree --watch
  sightline ps --threads myserver   its threads: on-CPU share and what each waits for
  sightline ps -- -bash             a name that begins with a dash`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(psSorts, o.sort) {
				return fmt.Errorf("--sort %s: processes are sorted by %s", o.sort, strings.Join(psSorts, ", "))
			}
			if o.interval < 0 || o.interval > time.Hour {
				return errors.New("--interval: give a time up to an hour, such as 1s")
			}
			if o.tree && o.threads {
				return errors.New("--tree and --threads are two views: give one")
			}
			if o.top < 0 {
				return errors.New("--top: give a number of processes")
			}
			if !cmd.Flags().Changed("interval") && o.watch {
				o.interval = watchEvery
			}
			if !o.watch {
				collectLate()
			}
			return ps(cmd.Context(), io, o, args)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.tree, "tree", false, "each process below its parent")
	f.BoolVar(&o.threads, "threads", false, "threads instead of processes, with on-CPU share and wait channel")
	f.StringVar(&o.sort, "sort", "cpu", "by `what`: "+strings.Join(psSorts, ", "))
	f.BoolVar(&o.watch, "watch", false, "look again and again, until Ctrl-C")
	f.DurationVar(&o.interval, "interval", busyFor, "the `time` that CPU is of; with --watch, between looks (1s)")
	f.BoolVar(&o.kernel, "kernel", false, "kernel threads too")
	f.BoolVar(&o.pss, "pss", false, "read PSS of every process")
	f.IntVar(&o.top, "top", 0, "the first `n` only")
	f.StringVar(&o.columns, "columns", "", "these `columns` instead of those that fit")
	f.BoolVar(&o.asJSON, "json", false, "print JSON; with --watch a line for each look")
	return cmd
}

var psSorts = []string{"cpu", "rss", "pss", "io", "threads", "start", "pid"}

func ps(ctx context.Context, io streams, o psOptions, words []string) error {
	columns, err := chosenColumns(o.columns)
	if err != nil {
		return err
	}
	want := process.AllFields
	if o.pss || o.sort == "pss" || len(words) > 0 || slices.ContainsFunc(columns, func(c *psColumn) bool { return c.name == "pss" }) {
		want |= process.PSS
	}
	if o.threads {
		want = process.Command | process.Status
	}
	options := process.Options{Want: want, Kernel: o.kernel || len(words) > 0, Dead: true}
	if len(words) > 0 {
		if options.Only, err = processesCalled(ctx, words, o.tree); err != nil {
			return err
		}
	}
	sampler, err := process.NewSampler(options)
	if err != nil {
		return err
	}
	screen := newScreen(io.out, o.watch && !o.asJSON)
	var threads threadLooks
	if err := sampler.Begin(ctx); err != nil {
		return err
	}
	if o.threads {
		first, err := sampler.Look(ctx)
		if err != nil {
			return err
		}
		if err := threads.look(ctx, first.Processes); err != nil {
			return err
		}
	}
	for {
		if !wait(ctx, o.interval) {
			if o.watch {
				return nil // Ctrl-C is how a watch ends
			}
			return ctx.Err()
		}
		list, err := sampler.Look(ctx)
		if err != nil {
			if o.watch && ctx.Err() != nil {
				return nil
			}
			return err
		}
		if len(words) > 0 && len(list.Processes) == 0 {
			if o.watch {
				fmt.Fprintln(io.err, "The process has ended.")
				return nil
			}
			return fmt.Errorf("look at %s: it has ended meanwhile", strings.Join(words, ", "))
		}
		if o.threads {
			if err := threads.look(ctx, list.Processes); err != nil {
				return err
			}
			err = printThreads(screen, io, o, list, &threads)
		} else {
			sortProcesses(list.Processes, o.sort)
			err = printProcesses(screen, io, o, columns, list, len(words) > 0)
		}
		if err != nil {
			return err
		}
		if !o.watch {
			return nil
		}
	}
}

// Wait is false where the time was not over before ctx was.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// ProcessesCalled are the numbers of the processes that a person names: by number, by name, or ":PORT";
// with the processes that they have started, and those have, where offspring is set.
func processesCalled(ctx context.Context, words []string, offspring bool) ([]int, error) {
	sampler, err := process.NewSampler(process.Options{Want: process.Command, Kernel: true, Dead: true})
	if err != nil {
		return nil, err
	}
	list, err := sampler.Look(ctx)
	if err != nil {
		return nil, err
	}
	named := map[int]bool{}
	for _, word := range words {
		found := false
		add := func(pid int) { named[pid], found = true, true }
		if port, ok := strings.CutPrefix(word, ":"); ok {
			if err := eachOnPort(ctx, port, add); err != nil {
				return nil, err
			}
			if !found {
				return nil, fmt.Errorf("look for a process with port %s: none is seen that has it; sockets of other users' processes are seen by root only", port)
			}
			continue
		}
		pid, numberErr := strconv.Atoi(word)
		for i := range list.Processes {
			p := &list.Processes[i]
			if numberErr == nil && p.PID == pid || p.Called(word) && p.PID != os.Getpid() {
				add(p.PID)
			}
		}
		switch {
		case found:
		case numberErr == nil:
			return nil, fmt.Errorf("look at process %s: there is none of this number; `sightline ps` lists them", word)
		default:
			return nil, fmt.Errorf("look at process %s: none is called so; `sightline ps` lists them", process.Printable(word))
		}
	}
	if offspring {
		for again := true; again; {
			again = false
			for i := range list.Processes {
				p := &list.Processes[i]
				if named[p.Parent] && !named[p.PID] && p.PID != os.Getpid() {
					named[p.PID], again = true, true
				}
			}
		}
	}
	pids := make([]int, 0, len(named))
	for pid := range named {
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return pids, nil
}

// EachOnPort calls add for each process that has a socket with a port of its own.
func eachOnPort(ctx context.Context, text string, add func(pid int)) error {
	port, err := process.ParseInternet(":" + text)
	if err != nil {
		return err
	}
	list, err := process.Files(ctx, process.FilesOptions{Uses: process.Descriptors | process.SocketsOnly})
	if err != nil {
		return err
	}
	for i := range list.Files {
		f := &list.Files[i]
		if port.Matches(f.Socket) && slices.ContainsFunc(port.Ports, func(r [2]uint16) bool {
			return r[0] <= f.Socket.Local.Port() && f.Socket.Local.Port() <= r[1]
		}) {
			add(f.PID)
		}
	}
	return nil
}

func sortProcesses(all []process.Process, by string) {
	slices.SortStableFunc(all, func(a, b process.Process) int {
		order := 0
		switch by {
		case "cpu":
			order = cmp.Compare(b.Busy(), a.Busy())
		case "rss":
			order = cmp.Compare(b.Resident, a.Resident)
		case "pss":
			order = cmp.Compare(b.PSS, a.PSS)
		case "io":
			order = cmp.Or(cmp.Compare(b.Read+b.Written, a.Read+a.Written))
		case "threads":
			order = cmp.Compare(b.Threads, a.Threads)
		case "start":
			order = cmp.Compare(b.Start, a.Start)
		}
		return cmp.Or(order, cmp.Compare(a.PID, b.PID))
	})
}

// ThreadLooks are the threads of some processes over many looks.
type threadLooks struct {
	samplers map[process.ID]*process.ThreadSampler
	threads  map[process.ID][]process.Thread
}

// Look looks at the threads of these processes; one that has ended has none.
func (t *threadLooks) look(ctx context.Context, of []process.Process) error {
	before := t.samplers
	t.samplers, t.threads = map[process.ID]*process.ThreadSampler{}, map[process.ID][]process.Thread{}
	for i := range of {
		id := of[i].ID
		s := before[id]
		if s == nil {
			s = process.NewThreadSampler(id, "")
		}
		threads, err := s.Look(ctx)
		if ended := (process.ErrGone{}); errors.As(err, &ended) {
			continue
		}
		if err != nil {
			return err
		}
		t.samplers[id], t.threads[id] = s, threads
	}
	return nil
}
