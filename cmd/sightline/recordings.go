package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/cmd/sightline/daemon"
	"github.com/sightline-dev/sightline/lspserver"
)

// A recordingEnd asks the daemon to end a recording. It answers a recordingEnded.
type recordingEnd struct {
	Home    string // surroundings.home
	Number  int    // of the recording; 0 is the only one there is
	Discard bool
}

type recordingEnded struct {
	Name    string // of the recording that ends; "" where nothing does
	Problem string // why not
}

// EndRecording ends a recording for a command.
func (h *host) endRecording(ctx context.Context, conn *daemon.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(tellWithin))
	var e recordingEnd
	if err := conn.Receive(&e); err != nil {
		return err
	}
	hub := h.hubOf(e.Home)
	all := hub.Underway()
	switch {
	case len(all) == 0:
		return conn.Send(recordingEnded{Problem: "nothing is being recorded"})
	case e.Number == 0 && len(all) > 1:
		return conn.Send(recordingEnded{Problem: fmt.Sprintf("%d recordings are under way; give the number of one, which `sightline recordings` shows", len(all))})
	case e.Number == 0:
		e.Number = all[0].Number
	}
	for _, r := range all {
		if r.Number != e.Number {
			continue
		}
		ended := hub.End(r.Number, e.Discard)
		if ended == nil {
			break
		}
		select {
		case <-ended:
		case <-ctx.Done():
		case <-time.After(keepWithin):
			return conn.Send(recordingEnded{Problem: fmt.Sprintf("%s is asked to end and takes its time; `sightline recordings` tells how it goes", r.Name)})
		}
		_ = conn.SetDeadline(time.Now().Add(tellWithin))
		return conn.Send(recordingEnded{Name: r.Name})
	}
	return conn.Send(recordingEnded{Problem: fmt.Sprintf("no recording has number %d; `sightline recordings` shows them", e.Number)})
}

func newRecordings(io streams) *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "recordings",
		Short: "List what is being recorded, in editors and terminals; end it",
		Long: `Lists what editors and terminals of this user are recording. Any of it can be ended from here: stop keeps
what was recorded, discard drops it. Whoever began it is told how it went.`,
		Example: `  sightline recordings                       what is being recorded
  sightline recordings stop                  end the only one, and keep it
  sightline recordings discard 2             end number 2, and drop it`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no command %q; use stop or discard", args[0])
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error {
			s := daemonStatus{Recordings: []lspserver.Underway{}}
			if conn := daemonNow(wantStatus); conn != nil {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(answerWithin))
				if err := conn.Receive(&s); err != nil {
					return fmt.Errorf("ask the daemon (process %d): %w", conn.Welcome.PID, err)
				}
			}
			if asJSON {
				return writeJSON(io.out, s.Recordings)
			}
			if len(s.Recordings) == 0 {
				fmt.Fprintln(io.out, "Nothing is being recorded.")
			}
			s.printRecordings(io.out)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.AddCommand(newRecordingsEnd(io, "stop", "End a recording and keep it", false), newRecordingsEnd(io, "discard", "End a recording and drop it", true))
	return cmd
}

func newRecordingsEnd(io streams, name, short string, discard bool) *cobra.Command {
	return &cobra.Command{
		Use:   name + " [NUMBER]",
		Short: short,
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			end := recordingEnd{Home: (*surroundings)(nil).home(), Discard: discard}
			if len(args) > 0 {
				n, err := strconv.Atoi(args[0])
				if err != nil || n < 1 {
					return fmt.Errorf("%s is not the number of a recording; `sightline recordings` shows them", args[0])
				}
				end.Number = n
			}
			conn := daemonNow(wantEnd)
			if conn == nil {
				return fmt.Errorf("nothing is being recorded that is known: no daemon runs")
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(keepWithin + answerWithin))
			var ended recordingEnded
			err := conn.Send(end)
			if err == nil {
				err = conn.Receive(&ended)
			}
			if err != nil {
				return fmt.Errorf("ask the daemon (process %d): %w", conn.Welcome.PID, err)
			}
			if ended.Problem != "" {
				return fmt.Errorf("%s", ended.Problem)
			}
			what := map[bool]string{false: "has ended and is kept", true: "has ended and is dropped"}[discard]
			fmt.Fprintf(io.out, "The recording of %s %s.\n", ended.Name, what)
			return nil
		},
	}
}

// PrintRecordings lists recordings, a line each.
func (s daemonStatus) printRecordings(out io.Writer) {
	for _, r := range s.Recordings {
		fmt.Fprintf(out, "  %-3d %-12s %-8s %-14s %s\n", r.Number, r.Phase, lspserver.Duration(r.Elapsed), lspserver.Samples(int64(r.Samples)), cut(expand(r.Target), 100))
	}
}
