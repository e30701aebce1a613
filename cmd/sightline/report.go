package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

// An outcomeJSON is what test and record print with --json.
type outcomeJSON struct {
	Capture  store.ID      `json:"capture"`
	Target   string        `json:"target"`
	Failed   bool          `json:"failed"`
	Message  string        `json:"message,omitempty"`
	Engine   string        `json:"engine"`
	Kind     profile.Kind  `json:"kind"`
	Unit     profile.Unit  `json:"unit"`
	Samples  int64         `json:"samples"`
	Total    int64         `json:"total"`
	Length   int64         `json:"length"`
	Broken   float64       `json:"broken"`
	Warnings []warningJSON `json:"warnings,omitempty"`
	Lines    []hotLine     `json:"lines"`
}

func (o *opened) outcome(workspace string, top int, result lspserver.Result) outcomeJSON {
	total := o.profile.Total()
	lines := o.ownLines(workspace)
	return outcomeJSON{
		Capture: o.meta.ID, Target: o.capture.Target.String(), Failed: result.Failed, Message: result.Message,
		Engine: o.capture.Engine, Kind: o.profile.Kind, Unit: o.profile.Unit,
		Samples: total.Count, Total: total.Weight, Length: int64(o.capture.Length), Broken: o.profile.Broken(),
		Warnings: warningsToJSON(o.capture.Warnings), Lines: lines[:min(top, len(lines))],
	}
}

// Summary prints what a capture is and what is missing from it.
func (o *opened) summary(out io.Writer, message string) {
	p := paletteFor(out)
	head := p.bold(cut(expand(o.capture.Target.String()), max(width(out)-20, 40)))
	if message != "" {
		head += " · " + message
	}
	fmt.Fprintln(out, head)
	facts := append(o.amounts(),
		lspserver.Duration(o.capture.Length)+" long",
	)
	if o.capture.Engine != "" {
		facts = append(facts, o.capture.Engine+" engine")
	}
	if b := o.profile.Broken(); b >= 0.0005 {
		facts = append(facts, fmt.Sprintf("%.1f%% broken stacks", 100*b))
	}
	facts = append(facts, "capture "+string(o.meta.ID))
	fmt.Fprintln(out, p.dim(strings.Join(facts, " · ")))
	if at, most, ok := peak(o.capture); ok {
		fmt.Fprintln(out, p.dim(fmt.Sprintf("most was in use after %s: %s; `sightline stacks %s --kind in-use --end %d` shows what",
			lspserver.Duration(at), lspserver.Weight(most, profile.Bytes), o.meta.ID, at.Milliseconds()+1)))
	}
	if note := brokenNote(o.profile, string(o.meta.ID)); note != "" {
		fmt.Fprintln(out, p.dim("note: "+note))
	}
	for _, w := range o.capture.Warnings {
		if w.Kind == profile.WarnBroken {
			continue
		}
		text := w.Text
		if w.Count > 0 && w.Kind == profile.WarnLost {
			text = fmt.Sprintf("%s (%s)", text, lspserver.Count(w.Count))
		}
		fmt.Fprintln(out, p.dim("note: "+text))
	}
}

// Amounts are how much of each kind was measured: "812 samples", "812 ms on the CPU", "2.1 MiB allocated".
func (o *opened) amounts() []string {
	var out []string
	for i := range o.capture.Series {
		s := &o.capture.Series[i]
		total := s.Samples.Sum()
		if s.Kind == profile.CPU {
			out = append(out, lspserver.Samples(total.Count))
		}
		out = append(out, lspserver.Weight(total.Weight, s.Unit)+" "+lspserver.KindWords(s.Kind))
	}
	return out
}

// HotLines prints the workspace's costliest lines of each kind that was measured. What is left of
// allocated memory at the end says little of a test, so that is left to those who ask for it.
func (o *opened) hotLines(out io.Writer, workspace string, top int) {
	p := paletteFor(out)
	several := len(o.capture.Series) > 1
	for _, s := range slices.Clone(o.capture.Series) {
		if _, _, followed := peak(o.capture); s.Kind == profile.InUse && several && !followed {
			continue
		}
		if err := o.take(string(s.Kind)); err != nil {
			continue
		}
		if several {
			total := o.profile.Total()
			fmt.Fprintf(out, "\n%s\n", p.bold(lspserver.Weight(total.Weight, s.Unit)+" "+lspserver.KindWords(s.Kind)))
		}
		o.hotLinesOfKind(out, workspace, top)
	}
}

// HotLinesOfKind prints the lines of the profile that is taken. What was sampled has how exactly it is
// known, what was counted has the amount and how often.
func (o *opened) hotLinesOfKind(out io.Writer, workspace string, top int) {
	lines := o.ownLines(workspace)
	kind, unit, whole := o.profile.Kind, o.profile.Unit, o.profile.Total().Weight
	for len(lines) > 0 && lines[len(lines)-1].Total*200 < whole { // less than half a percent
		lines = lines[:len(lines)-1]
	}
	lines = lines[:min(top, len(lines))]
	if len(lines) == 0 {
		fmt.Fprintf(out, "\nNo line of this workspace was seen. `sightline stacks %s --kind %s` shows whose it was.\n", o.meta.ID, kind)
		return
	}
	p := paletteFor(out)
	place := make([]string, len(lines))
	longest := 0
	for i, l := range lines {
		place[i] = fmt.Sprintf("%s:%d", shortPath(workspace, l.local), l.Line)
		longest = max(longest, len(place[i]))
	}
	room := width(out) - longest - 30
	exact := func(l *hotLine) string { return fmt.Sprintf("%8s", lspserver.Margin(l.Count)) }
	head := fmt.Sprintf("%8s", "error")
	if kind != profile.CPU {
		room -= 12
		head = fmt.Sprintf("%10s %9s", "amount", lspserver.CountWord(kind))
		exact = func(l *hotLine) string {
			return fmt.Sprintf("%10s %9s", lspserver.Weight(l.Total, unit), lspserver.Count(l.Count))
		}
	}
	fmt.Fprintln(out)
	fmt.Fprintln(out, p.dim(fmt.Sprintf("%7s %7s %s  %-*s  %s", "total", "self", head, longest, "line", "")))
	for i, l := range lines {
		fmt.Fprintf(out, "%s %7s %s  %-*s  %s\n",
			p.heat(fmt.Sprintf("%7s", lspserver.Percent(l.Total, whole)), l.Total, whole),
			blankZero(lspserver.Percent(l.Self, whole), l.Self),
			exact(&lines[i]),
			longest, place[i],
			cut(strings.TrimSpace(expand(l.Text)), room))
	}
}

func blankZero(text string, n int64) string {
	if n == 0 {
		return ""
	}
	return text
}

// ShortPath is a file as a person who stands in the current folder would name it: relative to it
// where it lies in it or near it in the workspace, else in full.
func shortPath(workspace, file string) string {
	file = canonical(file)
	dir, err := os.Getwd()
	if err != nil {
		return file
	}
	dir = canonical(dir)
	if inside(dir, file) || inside(canonical(workspace), file) && inside(canonical(workspace), dir) {
		if rel, err := filepath.Rel(dir, file); err == nil {
			return rel
		}
	}
	return file
}

func age(t time.Time) string {
	if t.IsZero() { // an import that does not tell
		return ""
	}
	return lspserver.Age(time.Since(t))
}
