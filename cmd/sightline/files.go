package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/profiler/process"
)

func newFiles(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "files [PID | NAME | PATH | :PORT]… [-i[46][tcp|udp][@host][:port]]…",
		Short: "List open files: of processes, of a path, of a port; what leaks, and where it is opened",
		Long: `Lists what processes have open, as lsof does: descriptors, mapped files, folders and programs. Words
choose: a number is a process, :PORT the sockets with a port, what has a slash or exists is a path, anything
else a name. The everyday flags of lsof mean what they mean there; what they select is ORed, with -a ANDed.

  -p 1,2,^3      processes            -c NAME, -c /RE/   commands that begin so, or match
  -u NAME,^root  users                -d 0-2,cwd,^mem    descriptors: cwd rtd txt mem DEL fd
  -i [46][tcp|udp][@host][:port,…]    network files      -sTCP:LISTEN,^CLOSE_WAIT  with states
  -U             unix sockets         +L1                removed files that take space
  +D DIR         a folder, recursively; +d DIR its own files
  -a  AND instead of OR               -t  numbers of processes only
  -r [SECONDS]   again and again      +E  name the other ends of pipes and sockets
  -o             offsets, not sizes   -n, -P, -w are accepted: no name is ever looked up

  --watch        what leaks: descriptors that grow, by kind and by name without numbers, and the source lines
                 that opened those that are still open, where this user may load BPF programs
  --interval D   between looks of a watch (2s)
  --for D        how long to watch (until Ctrl-C)
  --json         print JSON; with -r and --watch a line for each look

Names that are not printable are shown escaped. TYPE, NODE and NAME are as lsof has them; a socket's state is
followed by what is unread, unsent or not accepted.`,
		Example: `  sightline files myserver              what a process has open
  sightline files :8080                 who has the port
  sightline files /var/log/app.log      who has the file open
  sightline files -iTCP -sTCP:LISTEN    what listens
  sightline files +L1                   removed files that still take space
  sightline files myserver --watch      what leaks, and the lines that open it`,
		DisableFlagParsing: true, // pflag knows neither +D nor -iTCP
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := parseFilesArgs(args)
			if err != nil {
				return err
			}
			if o.help {
				return cmd.Help()
			}
			if !o.watch && o.repeat == 0 {
				collectLate()
			}
			return files(cmd.Context(), io, o)
		},
	}
	// These are for `help` and completion only: parseFilesArgs reads them.
	cmd.Flags().Bool("json", false, "print JSON")
	cmd.Flags().Bool("watch", false, "what leaks")
	cmd.Flags().Duration("interval", leakEvery, "between looks of a watch")
	cmd.Flags().Duration("for", 0, "how long to watch")
	return cmd
}

// LeakEvery is how often a watch for leaks looks, unless it is told.
const leakEvery = 2 * time.Second

func files(ctx context.Context, io streams, o *filesOptions) error {
	if err := o.resolve(ctx); err != nil {
		return err
	}
	if o.watch {
		return watchLeaks(ctx, io, o)
	}
	for {
		list, err := o.list(ctx)
		if err != nil {
			if o.repeat > 0 && ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := printFiles(io, o, list); err != nil {
			return err
		}
		if o.repeat == 0 {
			if len(list.Files) == 0 && !o.selection.Everything() && !o.asJSON {
				return failure{nothingOpen(list)}
			}
			return nil
		}
		if !wait(ctx, o.repeat) {
			return nil
		}
	}
}

func nothingOpen(list *process.FileList) string {
	text := "nothing that is selected is open"
	if list.Unseen.Guarded > 0 {
		text += fmt.Sprintf(", as far as this user may see: of %s it may not", processWords(list.Unseen.Guarded))
	}
	return text
}

// List is what is selected of what is open now.
func (o *filesOptions) list(ctx context.Context) (*process.FileList, error) {
	options := o.selection.Options()
	options.Offsets, options.Peers = o.offsets, o.peers
	list, err := process.Files(ctx, options)
	if err != nil {
		return nil, err
	}
	list.Files = slices.DeleteFunc(list.Files, func(f process.File) bool { return !o.selection.Matches(&f) })
	return list, nil
}

// Resolve turns words into a selection. It is an error where a process, a path or a service is not there.
func (o *filesOptions) resolve(ctx context.Context) error {
	for _, word := range o.words {
		if err := o.word(ctx, word); err != nil {
			return err
		}
	}
	if len(o.words) > 0 && o.watch && len(o.selection.PIDs) == 0 {
		return errors.New("watch for leaks: name processes, by number or name")
	}
	return nil
}
