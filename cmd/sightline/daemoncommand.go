package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/cmd/sightline/daemon"
	"github.com/sightline-dev/sightline/lspserver"
)

func newDaemon(io streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Look after the process that serves all editors",
		Long: `One process per user serves all editors: they share captures and recordings, and a recording goes
on when the editor that began it is closed. sightline serve starts it when it is needed; it ends
when no editor and no recording has needed it for ten minutes.`,
		Example: `  sightline daemon status                    who is served, what is recorded
  sightline daemon stop                      end it; recordings are kept
  sightline daemon log -f                    follow its log`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no command %q; use status, stop or log", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDaemonStatus(io), newDaemonStop(io), newDaemonLog(io), newDaemonRun())
	return cmd
}

func newDaemonRun() *cobra.Command {
	idle := daemonIdle
	cmd := &cobra.Command{
		Use:    runDaemonName,
		Short:  "Be the daemon, in the foreground",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if idle <= 0 {
				return fmt.Errorf("--idle %s is no time to wait", idle)
			}
			err := runDaemon(cmd.Context(), idle)
			if errors.Is(err, daemon.ErrRuns) {
				return errors.New("the daemon runs already; `sightline daemon status` tells of it")
			}
			return err
		},
	}
	cmd.Flags().DurationVar(&idle, "idle", idle, "end after so long without anything to do")
	return cmd
}

// Reach connects to the daemon; nil if none runs.
func reach(wants string) (*daemon.Conn, *daemon.Place, error) {
	p, err := daemonPlace()
	if err != nil {
		return nil, nil, err
	}
	conn, err := daemon.Dial(p, daemon.Hello{Wants: wants, Version: version().Version, PID: os.Getpid()}, answerWithin)
	if errors.Is(err, daemon.ErrNone) {
		return nil, p, nil
	}
	return conn, p, err
}

func newDaemonStatus(io streams) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell whether the daemon runs, whom it serves and what it records",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			conn, p, err := reach(wantStatus)
			if err != nil {
				return err
			}
			defer p.Close()
			if conn == nil {
				if asJSON {
					return writeJSON(io.out, struct {
						Running bool   `json:"running"`
						Socket  string `json:"socket"`
					}{false, p.Socket()})
				}
				fmt.Fprintf(io.out, "No daemon runs; an editor's `sightline serve` starts it.\nsocket  %s\nlog     %s\n", p.Socket(), logPath(p))
				return nil
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(answerWithin))
			var s daemonStatus
			if err := conn.Receive(&s); err != nil {
				return fmt.Errorf("ask the daemon (process %d): %w", conn.Welcome.PID, err)
			}
			if asJSON {
				return writeJSON(io.out, struct {
					Running bool `json:"running"`
					daemonStatus
				}{true, s})
			}
			s.print(io.out, time.Now())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (s daemonStatus) print(out io.Writer, now time.Time) { // now is before Since where the clock was set back
	p := paletteFor(out)
	fmt.Fprintf(out, "%s since %s, process %d, version %s, %.0f MB\n", p.good("running"), lspserver.Duration(max(0, now.Sub(s.Since))), s.PID, s.Version, float64(s.RSS)/1e6)
	fmt.Fprintf(out, "socket  %s\nlog     %s\n", s.Socket, s.Log)
	if len(s.Sessions) > 0 {
		fmt.Fprintln(out, "\n"+p.bold(plural(len(s.Sessions), "editor")))
		for _, e := range s.Sessions {
			fmt.Fprintf(out, "  process %-8d %-8s %s\n", e.PID, lspserver.Duration(max(0, now.Sub(e.Since))), e.Folder)
		}
	}
	if len(s.Recordings) > 0 {
		fmt.Fprintln(out, "\n"+p.bold(plural(len(s.Recordings), "recording")))
		s.printRecordings(out)
	}
	if len(s.Sessions)+len(s.Recordings) == 0 {
		fmt.Fprintf(out, "\nNothing to do; it ends when that is so for %s.\n", lspserver.Duration(s.Idle))
	}
	if len(s.Reports) > 0 {
		fmt.Fprintf(out, "\n%s, the newest %s\n", p.bad(plural(len(s.Reports), "report")+" of crashes"), s.Reports[0])
	}
}

func newDaemonStop(io streams) *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "End the daemon; recordings are stopped and kept",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			conn, p, err := reach(wantStop)
			if err != nil {
				return err
			}
			defer p.Close()
			if conn == nil {
				fmt.Fprintln(io.out, "No daemon runs.")
				return nil
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(keepWithin + answerWithin))
			defer context.AfterFunc(cmd.Context(), func() { conn.Close() })()
			// The connection ends with the process.
			if err := conn.Receive(&struct{}{}); errors.Is(err, os.ErrDeadlineExceeded) {
				return failure{fmt.Sprintf("the daemon (process %d) does not end; `kill -9 %[1]d` does, and loses at most a second of what it records", conn.Welcome.PID)}
			}
			fmt.Fprintf(io.out, "The daemon (process %d) has ended.\n", conn.Welcome.PID)
			return nil
		},
	}
}

func newDaemonLog(io streams) *cobra.Command {
	var (
		follow bool
		level  string
		lines  int
	)
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show the daemon's log",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keep, err := levelFilter(level)
			if err != nil {
				return err
			}
			if lines < 0 {
				return fmt.Errorf("--lines %d is no number of lines", lines)
			}
			p, err := daemonPlace()
			if err != nil {
				return err
			}
			defer p.Close()
			path := logPath(p)
			f, err := os.Open(path)
			if errors.Is(err, os.ErrNotExist) && !follow {
				return fmt.Errorf("there is no log %s yet: the daemon of this build has not run", path)
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("read the log: %w", err)
			}
			at := int64(0)
			if f != nil {
				last, end, err := lastLogLines(f, lines, keep)
				f.Close()
				if err != nil {
					return fmt.Errorf("read the log: %w", err)
				}
				at = end
				fmt.Fprint(io.out, last)
			}
			if !follow {
				return nil
			}
			return followLog(cmd.Context(), io.out, path, at, keep)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on to show what is added, until Ctrl-C")
	f.StringVar(&level, "level", "debug", "show from this `level` on: debug, info, warn or error")
	f.IntVarP(&lines, "lines", "n", 200, "begin with so many of the last lines; 0 is none")
	return cmd
}

// LevelFilter says which lines of a log to show. A line without a level, such as those of the Go
// runtime, is shown always.
func levelFilter(least string) (func(line string) bool, error) {
	order := []string{"DEBUG", "INFO", "WARN", "ERROR"}
	from := -1
	for i, l := range order {
		if strings.EqualFold(l, least) {
			from = i
		}
	}
	if from < 0 {
		return nil, fmt.Errorf("--level %s does not exist; use debug, info, warn or error", least)
	}
	return func(line string) bool {
		for _, lower := range order[:from] {
			if strings.Contains(line, " level="+lower+" ") {
				return false
			}
		}
		return true
	}, nil
}

// LastLogLines is the last n lines of a file that are to be kept, and where the file ends.
func lastLogLines(f *os.File, n int, keep func(string) bool) (text string, end int64, err error) {
	var last []string
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break // what is not a whole line yet comes when it is followed
		}
		if err != nil {
			return "", 0, err
		}
		end += int64(len(line))
		if !keep(line) {
			continue
		}
		last = append(last, line)
		if len(last) > 2*n+1 {
			last = append([]string(nil), last[len(last)-n:]...)
		}
	}
	return strings.Join(last[max(0, len(last)-n):], ""), end, nil
}

// FollowLog prints what is added to a log file from an offset on, also when the file is put aside for a
// new one, until ctx ends.
func followLog(ctx context.Context, out io.Writer, path string, at int64, keep func(string) bool) error {
	var f *os.File
	var r *bufio.Reader
	rest := ""
	defer func() {
		if f != nil {
			f.Close()
		}
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if f == nil {
			if opened, err := os.Open(path); err == nil {
				f = opened
				if _, err := f.Seek(at, io.SeekStart); err != nil {
					return fmt.Errorf("read the log: %w", err)
				}
				r, at, rest = bufio.NewReader(f), 0, ""
			}
		}
		for f != nil {
			line, err := r.ReadString('\n')
			rest += line
			if err != nil {
				break
			}
			if keep(rest) {
				if _, err := io.WriteString(out, rest); err != nil {
					return fmt.Errorf("write the log: %w", err)
				}
			}
			rest = ""
		}
		if f != nil {
			ours, err := f.Stat()
			now, statErr := os.Stat(path)
			if err != nil || statErr == nil && !os.SameFile(ours, now) {
				f.Close()
				f = nil
				continue
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// LogFiles are the daemon's log files, the newest first, of every build.
func logFiles(folder string) []string {
	all, _ := filepath.Glob(filepath.Join(folder, "daemon-*.log*"))
	return all
}
