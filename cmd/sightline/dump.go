package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/heap/freeze"
	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/process"
)

type dumpFlags struct {
	output, how string
	asJSON      bool
}

// DumpWays are what --how takes.
var dumpWays = []freeze.How{freeze.Auto, freeze.Forked, freeze.Copied, freeze.Running}

func newDump(io streams) *cobra.Command {
	var df dumpFlags
	cmd := &cobra.Command{
		Use:   "dump PID|NAME",
		Short: "Write a core file of a process that hardly notices",
		Long: `Writes a core file of a process: its memory, threads and registers at one instant, for gdb, Delve,
` + "`sightline map` and `sightline heap`" + `. The process stands still only while it forks, some milliseconds
for 100 MB, and its child is read while it runs on. Pages that it never wrote to are holes in the file.

Where it may not or cannot fork, it stands while its memory is copied; where it cannot be stopped, its
memory is copied while it runs, and is not of one instant. What was done, and why, is said.

One's own processes need no privilege, unless the system allows tracing of children only (ptrace_scope).`,
		Example: `  sightline dump server                     write core.PID here
  sightline dump 4711 -o /var/tmp/core.4711
  sightline dump 4711 --how copy            stop it for the whole copy, without a fork
  gdb ./server core.4711                    what to do with it
  dlv core ./server core.4711
  sightline map core.4711`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("dump takes one process id or name; `sightline ps` lists processes")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return df.run(cmd.Context(), io, args[0]) },
	}
	f := cmd.Flags()
	f.StringVarP(&df.output, "output", "o", "", "write to this `file`, in place of one that is there (default: core.PID, which must not be there)")
	f.StringVar(&df.how, "how", "auto", "the `way` to hold the process: fork, copy, running, or auto, which tries them in that order")
	f.BoolVar(&df.asJSON, "json", false, "print JSON, in bytes and nanoseconds")
	return cmd
}

// A dumpJSON is what dump --json prints.
type dumpJSON struct {
	PID     int           `json:"pid"`
	Name    string        `json:"name"`
	File    string        `json:"file"`
	How     string        `json:"how"`     // fork, copy or running
	Stopped time.Duration `json:"stopped"` // nanoseconds that the process stood still
	Took    time.Duration `json:"took"`    // nanoseconds until the file was there
	Size    int64         `json:"size"`    // bytes of the file
	Stored  int64         `json:"stored"`  // bytes that it takes on disk
	Threads int           `json:"threads"`
	Notes   []string      `json:"notes"` // what was tried and why it did not work
}

func (df *dumpFlags) run(ctx context.Context, io streams, ref string) error {
	i := slices.IndexFunc(dumpWays, func(h freeze.How) bool { return h.String() == df.how })
	if i < 0 {
		return fmt.Errorf("--how %q is no way to hold a process; there are auto, fork, copy and running", df.how)
	}
	pid, err := processOf(ref)
	if err != nil {
		return err
	}
	if pid == os.Getpid() {
		return fmt.Errorf("process %d is this command itself", pid)
	}
	path := df.output
	if path == "" {
		path = "core." + strconv.Itoa(pid)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already: give another name, or -o %s to replace it", path, path)
		}
	}
	report, finish := dumpProgress(io)
	d, err := freeze.Dump(ctx, pid, path, freeze.Options{How: dumpWays[i], Progress: report})
	finish()
	if err != nil {
		return err
	}
	if df.asJSON {
		return writeJSON(io.out, dumpJSON{d.PID, d.Name, path, d.How.String(), d.Stopped, d.Took, d.Size, d.Stored, d.Threads, append([]string{}, d.Notes...)})
	}
	return df.print(io, path, d)
}

func (df *dumpFlags) print(io streams, path string, d *freeze.Dumped) error {
	p := paletteFor(io.out)
	threads := "1 thread"
	if d.Threads != 1 {
		threads = fmt.Sprintf("%d threads", d.Threads)
	}
	held := map[freeze.How]string{
		freeze.Forked:  "stopped for " + lspserver.Duration(d.Stopped) + " to fork",
		freeze.Copied:  "stopped for " + lspserver.Duration(d.Stopped) + " to be copied",
		freeze.Running: "not stopped: the memory is not of one instant, and registers are not known",
	}[d.How]
	fmt.Fprintf(io.out, "%s process %d (%s) · %s · %s\n", p.bold(expand(path)), d.PID, process.Printable(d.Name), threads, held)
	_, err := fmt.Fprintf(io.out, "%s on disk, %s with its holes · written in %s\n", bytesWords(d.Stored), bytesWords(d.Size), lspserver.Duration(d.Took))
	for _, n := range d.Notes {
		for k, line := range wrap(n, max(width(io.out)-2, 40)) {
			if k > 0 {
				line = "  " + line
			}
			fmt.Fprintln(io.out, p.dim(line))
		}
	}
	return err
}

// DumpProgress shows on a terminal how far a dump is.
func dumpProgress(io streams) (report func(done, total int64), finish func()) {
	if !isTerminal(io.err) {
		return nil, func() {}
	}
	var bar *progressbar.ProgressBar
	return func(done, total int64) {
			if bar == nil {
				bar = newBar(io, int(total))
			}
			bar.Describe(fmt.Sprintf("writing %s of %s", bytesWords(done), bytesWords(total)))
			bar.Set64(min(done, total-1)) // full is finished
		}, func() {
			if bar != nil {
				bar.Finish()
			}
		}
}

// ProcessOf is the process that a person named, by its number or its name.
func processOf(ref string) (int, error) {
	if strings.IndexFunc(ref, func(r rune) bool { return r < '0' || r > '9' }) < 0 {
		pid, err := strconv.Atoi(ref)
		if err != nil || pid <= 0 || pid > 1<<22 {
			return 0, fmt.Errorf("there is no process %s; `sightline ps` lists those that run", ref)
		}
		return pid, nil
	}
	pids := processesNamed(filepath.Base(ref))
	switch len(pids) {
	case 0:
		return 0, fmt.Errorf("there is no process %q; `sightline ps` lists those that run", ref)
	case 1:
		return pids[0], nil
	}
	return 0, severalNamed(ref, pids)
}
