// Command sightline is a performance language server for Linux and the command line that has the
// same powers: it records what a program does, maps every sample to a source line, keeps the
// results, and shows them in an editor or a terminal.
//
// This package is flags, wiring and exit statuses. It knows every other package; none knows it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	// The first interrupt ends a recording and keeps it; once it is being kept, a second one ends
	// the program in the ordinary way.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], standardStreams()))
}

// Streams are what a command reads and writes. Tests give their own.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func standardStreams() streams { return streams{os.Stdin, os.Stdout, os.Stderr} }

// Exit statuses, the same for every command.
const (
	exitDone   = 0
	exitFailed = 1 // a check failed: the profiled test, diff --fail-over
	exitUsage  = 2 // usage or input error
)

// A failure is an outcome with exit status 1: not a mistake of the caller, nothing to remedy in
// how the command was called. Its text may be empty when everything has been said.
type failure struct{ text string }

func (f failure) Error() string { return f.text }

// Run is main without the process: it carries out one command line and returns the exit status.
func run(ctx context.Context, args []string, io streams) int {
	root := newRoot(io)
	root.SetArgs(longFlags(root, args))
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	err := root.ExecuteContext(ctx)
	var failed failure
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(io.err, "sightline: interrupted; nothing was changed")
		return exitUsage
	case errors.As(err, &failed):
		if failed.text != "" {
			fmt.Fprintln(io.err, "sightline: "+failed.text)
		}
		return exitFailed
	}
	fmt.Fprintln(io.err, "sightline: "+sentence(err))
	return exitUsage
}

// Sentence is an error on one line, unless it quotes another program's output, which stays as it
// is below the first line.
func sentence(err error) string {
	return strings.TrimRight(err.Error(), "\n")
}

func newRoot(io streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "sightline",
		Short: "See what every line costs",
		Long: `Sightline records what a program does, maps every sample to a source line and shows
the cost of each line in your editor and here.

Without a command it serves an editor over standard input and output.`,
		Example: `  sightline test ./parser -run TestParse     profile a Go test
  sightline record -- ./prog arg             profile a command, its threads and children
  sightline lines parser/parse.go            the source with its costs
  sightline stacks @ --view call-tree        the newest capture as a call tree`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no command %q; `sightline help` lists the commands", args[0])
			}
			return nil
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if isTerminal(io.in) {
				return cmd.Help()
			}
			return serve(cmd.Context(), io, serveOptions{idle: daemonIdle})
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		text := strings.ReplaceAll(err.Error(), "unknown shorthand flag", "unknown flag")
		if i := strings.Index(text, ": strconv."); i >= 0 {
			text = text[:i] + " is no number"
		}
		if cmd.Name() == "test" {
			return fmt.Errorf("%s; flags of go test come after --, see `sightline test --help`", text)
		}
		return fmt.Errorf("%s; see `%s --help`", text, cmd.CommandPath())
	})
	root.PersistentFlags().String("store", "", "keep captures in this `file` (default: one per workspace, under $XDG_STATE_HOME/sightline)")
	root.PersistentFlags().String("workspace", "", "the `folder` whose captures are meant (default: the repository or module around the current folder)")
	root.AddCommand(
		newServe(io), newTest(io), newRecord(io), newRecordings(io), newTargets(io),
		newCaptures(io), newShow(io), newRemove(io), newPin(io), newNote(io),
		newLines(io), newStacks(io), newDiff(io), newPresets(io), newImport(io), newExport(io),
		newPs(io), newFiles(io), newMap(io), newHeap(io), newDump(io), newSize(io),
		newStore(io), newDaemon(io), newDoctor(io), newBug(io), newVersion(io),
	)
	return root
}

// LongFlags lets flags be written as go test writes them, with one dash: -run is --run. A word is
// changed only if some command has a long flag of just that name; nothing after -- is.
func longFlags(root *cobra.Command, args []string) []string {
	known := map[string]bool{"help": true}
	note := func(f *pflag.Flag) {
		if len(f.Name) > 1 {
			known[f.Name] = true
		}
	}
	root.PersistentFlags().VisitAll(note)
	for _, c := range root.Commands() {
		c.Flags().VisitAll(note)
	}
	out := make([]string, len(args))
	copy(out, args)
	for i, a := range out {
		if a == "--" {
			break
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "-"), "=")
		if strings.HasPrefix(a, "-") && !strings.HasPrefix(a, "--") && known[name] {
			out[i] = "-" + a
		}
	}
	return out
}
