package main

import (
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

func newTest(io streams) *cobra.Command {
	var (
		req  lspserver.Request
		test = lspserver.TestRequest{Samples: defaultSamples, Max: defaultMax}
		opts recordFlags
		kind []string
	)
	cmd := &cobra.Command{
		Use:   "test [PKG | FILE:LINE] [-run RE | -bench RE] [-- flags]",
		Short: "Profile a test or benchmark: Go, Rust, GoogleTest, Catch2",
		Long: `Builds the test of one package, runs it in the package's folder, repeats it until enough
samples were taken, and shows the hot lines. The profile is kept, that of a failing test too.

--kind says what is measured. A Go test tells what it allocated (heap), how long it waited for channels
and locks (block) and which unlocks others waited for (mutex). Without cpu the test runs once, and every
4 KiB that it allocates are taken down; with cpu every 512 KiB, so that the time stays true.

FILE:LINE is the test around a line, in Go, Rust or C++. Cargo builds a Rust test. The program of a
GoogleTest or Catch2 test is that of a target with "tests" in .sightline.json, else one of a CMake
build folder, which is built. Flags after -- are those of go test or cargo test, or the program's.`,
		Example: `  sightline test                             every test of this folder's package
  sightline test ./parser -run TestParse     one test
  sightline test ./parser -run 'TestParse$/^long_input$'
  sightline test ./parser -bench Parse       a benchmark
  sightline test ./parser --kind heap        what each line allocates
  sightline test ./parser --kind cpu,heap,block,mutex
  sightline test ./parser -- -race -tags e2e flags of go test
  sightline test src/parse.rs:42             the Rust test around line 42
  sightline test src/parse.rs:42 -- --release
  sightline test tests/parse_test.cpp:17     the GoogleTest or Catch2 test around line 17`,
		RunE: func(cmd *cobra.Command, args []string) error {
			test.Package = "."
			pkgs, flags := args, []string(nil)
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				pkgs, flags = args[:dash], args[dash:]
			}
			switch {
			case len(pkgs) > 1:
				return fmt.Errorf("test takes one package, not %d; flags of go test come after --", len(pkgs))
			case len(pkgs) == 1:
				test.Package = pkgs[0]
			}
			if test.Run != "" && test.Bench != "" {
				return fmt.Errorf("-run and -bench exclude each other; give one")
			}
			if test.Max <= 0 {
				return fmt.Errorf("--max %s is no time to repeat for", test.Max)
			}
			if test.Samples < 1 {
				return fmt.Errorf("--samples %d: a profile needs at least 1", test.Samples)
			}
			test.Args = flags
			var err error
			if test.Kinds, err = checkKinds(kind); err != nil {
				return err
			}
			if file, line, ok := fileLine(test.Package); ok {
				if test.Run != "" || test.Bench != "" {
					return fmt.Errorf("%s is a test already; leave -run and -bench out", test.Package)
				}
				if req, err = testAt(file, line, test); err != nil {
					return err
				}
				return opts.record(cmd, io, req)
			}
			req.Test = &test
			return opts.record(cmd, io, req)
		},
	}
	f := cmd.Flags()
	f.StringVar(&test.Run, "run", "", "run the tests that match this `regexp`, as go test does")
	f.StringVar(&test.Bench, "bench", "", "run the benchmarks that match this `regexp`, and no test")
	f.StringSliceVar(&kind, "kind", []string{kindCPU}, "what to measure, with commas between: cpu; of Go tests also heap, block, mutex")
	f.IntVar(&test.Samples, "samples", defaultSamples, "repeat the test until it has this many samples,")
	f.DurationVar(&test.Max, "max", defaultMax, "or for this long; the first run is never cut short")
	opts.register(cmd)
	return cmd
}

// RecordFlags are what test and record have in common.
type recordFlags struct {
	freq   int
	engine string
	top    int
	json   bool
	stack  int
	mapped []string
	debug  []string
}

func (o *recordFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&o.freq, "freq", 999, "samples per second of each thread")
	f.StringVar(&o.engine, "engine", "", "how to record: bpf or perf (default: the best that works here)")
	f.IntVar(&o.stack, "stack-bytes", 0, "copy so many `bytes` of the stacks of code without frame pointers; 0 is none (default: 16384, and more where that is not enough)")
	f.StringArrayVar(&o.mapped, "map-path", nil, "sources that the build had under FROM are under TO here; `FROM=TO`, may be given again")
	f.StringArrayVar(&o.debug, "debug-folder", nil, "search this `folder` for debug files before /usr/lib/debug; may be given again")
	f.IntVar(&o.top, "top", 10, "show this many hot lines")
	f.BoolVar(&o.json, "json", false, "print the outcome as JSON")
}

// Record carries out a request with progress on a terminal and prints what came of it.
func (o *recordFlags) record(cmd *cobra.Command, io streams, req lspserver.Request) error {
	if o.freq < 1 || o.freq > 100_000 {
		return fmt.Errorf("--freq %d is not between 1 and 100000", o.freq)
	}
	if o.engine != "" && o.engine != "bpf" && o.engine != "perf" {
		return fmt.Errorf("--engine %s does not exist; use bpf or perf", o.engine)
	}
	if o.stack < 0 || o.stack > 65_528 {
		return fmt.Errorf("--stack-bytes %d is not between 0 and 65528", o.stack)
	}
	var err error
	if req.Prefixes, err = mapPaths(o.mapped); err != nil {
		return err
	}
	if req.DebugFolders, err = debugFolders(o.debug); err != nil {
		return err
	}
	dir, err := workspaceFlag(cmd)
	if err != nil {
		return err
	}
	st, err := storeOf(cmd)
	if err != nil {
		return err
	}
	req.Workspace, req.Freq, req.Engine = dir, o.freq, o.engine
	if req.Dir == "" {
		req.Dir = dir
	}
	rec := &recorder{open: func(string) (*store.Store, error) { return st, nil }, stackBytes: o.stack, interruptible: true}
	if o.stack == 0 && cmd.Flags().Changed("stack-bytes") {
		rec.stackBytes = -1
	}
	if req.Test == nil && req.Native == nil {
		rec.streams = io
		if o.json {
			rec.streams.out = io.err // standard output is for the JSON
		}
	}
	// A command is given this terminal. Who asks for a certain way of recording gets that.
	share := len(req.Command) == 0 && len(o.mapped)+len(o.debug) == 0
	for _, flag := range []string{"freq", "engine", "stack-bytes", "samples", "max"} {
		share = share && !cmd.Flags().Changed(flag)
	}
	shown := showRecording(req, st.Path(), dir, share)
	running := shown.share(cmd.Context(), io, req.For)
	if running == nil {
		if running, err = rec.Start(cmd.Context(), req); err != nil {
			shown.end(lspserver.Result{}, err)
			return err
		}
		shown.began(running)
	}
	showProgress(io, req, o.json, shown.updates(running.Updates()))
	result, err := running.Wait()
	shown.end(result, err)
	if err == errLeft {
		return failure{err.Error()}
	}
	tellDaemon(st.Path())
	if err != nil {
		return err
	}
	if result.ID == "" {
		return failure{result.Message}
	}
	if err := o.report(io, st, dir, result); err != nil {
		return err
	}
	if result.Failed {
		return failure{}
	}
	return nil
}

func newRecord(io streams) *cobra.Command {
	var (
		req  lspserver.Request
		opts recordFlags
		kind string

		target   string
		every    string
		slowdown float64
	)
	cmd := &cobra.Command{
		Use:   "record [-p PID | -a | --target NAME | -- CMD ARG…]",
		Short: "Record a command, a process or the whole machine",
		Long: `Records where time on the CPU goes: of a command from its first instruction with all its
threads and children, of a running process with its later children, or of the whole machine.
Ctrl-C ends the recording and keeps it.

--kind alloc follows malloc and free instead, of libc, jemalloc, tcmalloc or mimalloc, in one process: what
each line allocated, and what of that it still holds. It needs root or CAP_BPF.`,
		Example: `  sightline record -- ./server -addr :8080   a command, until it ends
  sightline record -p 4711 --for 10s         a running process, for ten seconds
  sightline record -a --for 5s               everything on this machine
  sightline record -p 4711 --kind alloc --for 10s   what it allocates and keeps, by line
  sightline record --target server           a launch target of .sightline.json; sightline targets lists them`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if kind != string(profile.CPU) && kind != string(profile.Alloc) {
				return fmt.Errorf("--kind %s cannot be recorded; use cpu or alloc", kind)
			}
			if req.Kind = profile.Kind(kind); req.Kind == profile.Alloc {
				n, err := humanize.ParseBytes(every)
				if err != nil || n < 1 || n > 1<<40 {
					return fmt.Errorf("--every-bytes %s is no number of bytes above 0, such as 64KiB or 1", every)
				}
				if slowdown < 0 {
					return fmt.Errorf("--most-slowdown %g is no percentage", slowdown)
				}
				if req.Machine {
					return fmt.Errorf("--kind alloc is of one command or process, not of the machine; give -p or a command")
				}
				req.AllocationPeriod, req.MostSlowdown = int64(n), slowdown/100
			}
			req.Command = args
			given := 0
			for _, is := range []bool{len(args) > 0, cmd.Flags().Changed("pid"), req.Machine, cmd.Flags().Changed("target")} {
				if is {
					given++
				}
			}
			switch {
			case given == 0:
				return fmt.Errorf("nothing to record; give a command after --, a process with -p, a launch target with --target, or -a for the machine")
			case given > 1:
				return fmt.Errorf("give one of: a command, -p, --target, -a")
			case cmd.Flags().Changed("pid") && req.PID < 1:
				return fmt.Errorf("-p %d is not a process id", req.PID)
			case cmd.Flags().Changed("for") && req.For <= 0:
				return fmt.Errorf("--for %s is not a time to record for", req.For)
			case cmd.Flags().Changed("target"):
				t, err := targetNamed(cmd, target)
				if err != nil {
					return err
				}
				limit := req.For
				req = lspserver.TargetRequest(t)
				req.For = limit
			}
			return opts.record(cmd, io, req)
		},
	}
	f := cmd.Flags()
	f.IntVarP(&req.PID, "pid", "p", 0, "record the running process with this `id`, and its later children")
	f.StringVar(&target, "target", "", "record the launch target with this `name`, of .sightline.json")
	f.BoolVarP(&req.Machine, "all", "a", false, "record every process of the machine")
	f.DurationVar(&req.For, "for", 0, "stop after this long, such as 10s")
	f.StringVar(&kind, "kind", "cpu", "what to record: cpu, or alloc, what a C, C++ or Rust program asks its allocator for")
	f.StringVar(&every, "every-bytes", "512KiB", "of allocations take down one in so many `bytes`, on average; 1 is all")
	f.Float64Var(&slowdown, "most-slowdown", 50, "refuse to follow the allocations of a process that it would slow down by more `percent`; 0 never refuses")
	opts.register(cmd)
	return cmd
}

// Report prints what a recording brought: the summary, then the hot lines.
func (o *recordFlags) report(io streams, st *store.Store, dir string, result lspserver.Result) error {
	c, err := openCapture(st, result.ID, "")
	if err != nil {
		return err
	}
	workspace := workspaceOf(dir)
	if o.json {
		return writeJSON(io.out, c.outcome(workspace, o.top, result))
	}
	fmt.Fprintln(io.out)
	c.summary(io.out, result.Message)
	c.hotLines(io.out, workspace, o.top)
	return nil
}
