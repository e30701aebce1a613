package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/process"
)

// ErrnoText is the cause of an error about a path, without the path: it stands beside it.
func errnoText(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Op + ": " + p.Err.Error()
	}
	return err.Error()
}

// WatchLeaks looks again and again at what is open, and prints which groups of descriptors grow.
func watchLeaks(ctx context.Context, io streams, o *filesOptions) error {
	growing := process.NewGrowing(time.Now())
	screen := newScreen(io.out, !o.asJSON && o.length == 0)
	begun := time.Now()
	for looks := 1; ; looks++ {
		list, err := o.list(ctx)
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return err
		}
		now := time.Now()
		growing.Look(now, list.Files)
		leaks := growing.Leaks()
		over := o.length > 0 && now.Sub(begun) >= o.length
		if o.length == 0 || over {
			if err := printLeaks(screen, io, o, leaks, now.Sub(begun), looks, len(list.Files)); err != nil {
				return err
			}
		}
		if over || !wait(ctx, o.interval) {
			break
		}
	}
	return nil
}

func printLeaks(s *screen, io streams, o *filesOptions, leaks []process.Growth, since time.Duration, looks, open int) error {
	if o.asJSON {
		return writeLook(io.out, o.length == 0, leaksToJSON(leaks, since))
	}
	t := table{width: width(io.out), uncut: !isTerminal(io.out), p: paletteFor(io.out), columns: []tableColumn{
		{title: "GREW"}, {title: "NOW"}, {title: "PER MIN", rank: 2}, {title: "PID"}, {title: "COMMAND", left: true},
		{title: "TYPE", left: true}, {title: "NAMES", left: true},
	}}
	const most = 30
	for i, g := range leaks {
		if i == most {
			break
		}
		t.rows = append(t.rows, []string{
			fmt.Sprintf("%+d", g.Last-g.First), fmt.Sprint(g.Last), perMinute(g), fmt.Sprint(g.PID), process.Printable(g.Name),
			string(g.Kind), process.Printable(g.Pattern),
		})
	}
	s.begin()
	fmt.Fprintf(s, "%s open, watched for %s, %s\n", plural(open, "file"), lspserver.Duration(since.Round(time.Second)), plural(looks, "look"))
	if len(t.rows) == 0 {
		fmt.Fprintln(s, "No group of descriptors has grown.")
	} else {
		t.print(s)
	}
	return s.end()
}

func perMinute(g process.Growth) string {
	if g.Since < 2*time.Second {
		return ""
	}
	return fmt.Sprintf("%+.1f", float64(g.Last-g.First)/g.Since.Minutes())
}

// A leakJSON is one group of descriptors that grew.
type leakJSON struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	Type    string `json:"type"`
	Pattern string `json:"pattern"`
	First   int    `json:"first"`
	Last    int    `json:"last"`
	Most    int    `json:"most"`
	Rises   int    `json:"rises"`
	Falls   int    `json:"falls"`
	Example int    `json:"example"`
	Name    string `json:"name"`
}

type leaksJSON struct {
	Milliseconds int64      `json:"milliseconds"`
	Leaks        []leakJSON `json:"leaks"`
}

func leaksToJSON(leaks []process.Growth, since time.Duration) leaksJSON {
	r := leaksJSON{Milliseconds: since.Milliseconds(), Leaks: []leakJSON{}}
	for _, g := range leaks {
		r.Leaks = append(r.Leaks, leakJSON{
			PID: g.PID, Command: jsonText(g.Name), Type: string(g.Kind), Pattern: jsonText(g.Pattern),
			First: g.First, Last: g.Last, Most: g.Most, Rises: g.Rises, Falls: g.Falls, Example: g.Example, Name: jsonText(g.Now),
		})
	}
	return r
}
