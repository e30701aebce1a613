package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/process"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// ErrnoText is the cause of an error about a path, without the path: it stands beside it.
func errnoText(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Op + ": " + p.Err.Error()
	}
	return err.Error()
}

// A leakWatch looks again and again at what is open: which groups of descriptors grow, and which lines
// opened those that are open still.
type leakWatch struct {
	growing *process.Growing
	openers *openers // nil where this user may not know
	note    string   // why not; ""
	begun   time.Time
	looks   int
}

// WatchLeaks prints what leaks, until ctx or the asked time is over.
func watchLeaks(ctx context.Context, io streams, o *filesOptions) error {
	w := &leakWatch{growing: process.NewGrowing(time.Now()), begun: time.Now()}
	if pids := o.selection.PIDs; len(pids) > 0 {
		var err error
		if w.openers, err = startOpeners(ctx, workspaceOf("."), pids); err != nil {
			w.note = openersNote(err)
		} else {
			defer w.openers.close()
		}
	} else {
		w.note = "the lines that open them are known where processes are named"
	}
	screen := newScreen(io.out, !o.asJSON && o.length == 0)
	for {
		list, err := o.list(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil // Ctrl-C is how a watch ends
			}
			return err
		}
		now := time.Now()
		w.looks++
		w.growing.Look(now, list.Files)
		over := o.length > 0 && now.Sub(w.begun) >= o.length
		if o.length == 0 || over {
			report, err := w.report(ctx, list.Files, now)
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			if o.asJSON {
				err = writeLook(io.out, o.length == 0, report.json())
			} else {
				err = report.print(screen, io)
			}
			if err != nil {
				return err
			}
		}
		if over || !wait(ctx, o.interval) {
			return nil
		}
	}
}

// A leakReport is what a watch has found out.
type leakReport struct {
	watch *leakWatch
	since time.Duration
	open  int // descriptors now
	leaks []leak
}

// A leak is a group of descriptors that grew, and the lines that opened those of it that are open.
type leak struct {
	process.Growth
	lines   []lineCount
	unknown int // opened before the watch began, or in a way that is not seen
}

func (w *leakWatch) report(ctx context.Context, files []process.File, now time.Time) (*leakReport, error) {
	r := &leakReport{watch: w, since: now.Sub(w.begun)}
	of := map[process.Group][]descriptorID{}
	for i := range files {
		f := &files[i]
		if f.FD >= 0 && f.Err == nil {
			r.open++
			g := process.Group{ID: f.ID, Name: f.Owner.Name, Kind: f.Kind, Pattern: process.PatternOf(f)}
			of[g] = append(of[g], descriptorID{f.PID, f.FD})
		}
	}
	var lines map[descriptorID]profile.Frame
	if w.openers != nil {
		var err error
		if lines, err = w.openers.look(ctx); err != nil {
			return nil, err
		}
	}
	for _, g := range w.growing.Leaks() {
		x := leak{Growth: g}
		if w.openers != nil {
			x.lines, x.unknown = countLines(lines, of[g.Group])
		}
		r.leaks = append(r.leaks, x)
	}
	return r, nil
}

func (r *leakReport) print(s *screen, io streams) error {
	t := table{width: width(io.out), uncut: !isTerminal(io.out), p: paletteFor(io.out), columns: []tableColumn{
		{title: "GREW"}, {title: "NOW"}, {title: "PER MIN", rank: 2, optional: true}, {title: "PID"}, {title: "COMMAND", left: true},
		{title: "TYPE", left: true}, {title: "NAMES, AND THE LINES THAT OPENED THEM", left: true},
	}}
	const most, mostLines = 20, 5
	for _, g := range r.leaks[:min(most, len(r.leaks))] {
		t.rows = append(t.rows, []string{
			fmt.Sprintf("%+d", g.Last-g.First), fmt.Sprint(g.Last), perMinute(g.Growth), fmt.Sprint(g.PID), process.Printable(g.Name),
			string(g.Kind), process.Printable(g.Pattern),
		})
		below := func(n int, text string) {
			t.rows = append(t.rows, []string{"", "", "", "", "", "", fmt.Sprintf("  %5d  %s", n, text)})
		}
		for i, l := range g.lines {
			if i == mostLines {
				below(restOfLines(g.lines[i:]), "by other lines")
				break
			}
			below(l.count, process.Printable(r.watch.openers.place(l.frame)))
		}
		if g.unknown > 0 && r.watch.openers != nil {
			below(g.unknown, "opened before the watch began")
		}
	}
	s.begin()
	fmt.Fprintf(s, "%s open, watched for %s, %s\n", plural(r.open, "descriptor"), lspserver.Duration(r.since.Round(time.Second)), plural(r.watch.looks, "look"))
	if len(t.rows) == 0 {
		fmt.Fprintln(s, "No group of descriptors has grown.")
	} else {
		t.print(s)
	}
	if r.watch.note != "" {
		fmt.Fprintln(s, t.p.dim("note: "+r.watch.note))
	}
	return s.end()
}

func restOfLines(lines []lineCount) (n int) {
	for _, l := range lines {
		n += l.count
	}
	return n
}

func perMinute(g process.Growth) string {
	if g.Since < 2*time.Second {
		return ""
	}
	return fmt.Sprintf("%+.1f", float64(g.Last-g.First)/g.Since.Minutes())
}

// A leakJSON is one group of descriptors that grew.
type leakJSON struct {
	PID     int            `json:"pid"`
	Command string         `json:"command"`
	Type    string         `json:"type"`
	Pattern string         `json:"pattern"`
	First   int            `json:"first"`
	Last    int            `json:"last"`
	Most    int            `json:"most"`
	Rises   int            `json:"rises"`
	Falls   int            `json:"falls"`
	Example *int           `json:"example,omitempty"`
	Name    string         `json:"name,omitempty"`
	Lines   []leakLineJSON `json:"lines,omitempty"`
	Unknown int            `json:"openedBefore,omitempty"`
}

type leakLineJSON struct {
	Function string `json:"function"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Open     int    `json:"open"`
}

type leaksJSON struct {
	Milliseconds int64      `json:"milliseconds"`
	Open         int        `json:"open"`
	Leaks        []leakJSON `json:"leaks"`
	Note         string     `json:"note,omitempty"`
}

func (r *leakReport) json() leaksJSON {
	j := leaksJSON{Milliseconds: r.since.Milliseconds(), Open: r.open, Leaks: []leakJSON{}, Note: r.watch.note}
	for _, g := range r.leaks {
		x := leakJSON{
			PID: g.PID, Command: jsonText(g.Name), Type: string(g.Kind), Pattern: jsonText(g.Pattern),
			First: g.First, Last: g.Last, Most: g.Most, Rises: g.Rises, Falls: g.Falls, Name: jsonText(g.Now), Unknown: g.unknown,
		}
		if g.Example >= 0 {
			x.Example = &g.Example
		}
		for _, l := range g.lines {
			x.Lines = append(x.Lines, leakLineJSON{jsonText(l.frame.Func), jsonText(l.frame.File), l.frame.Line, l.count})
		}
		j.Leaks = append(j.Leaks, x)
	}
	return j
}
