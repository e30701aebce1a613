package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fatih/color"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/sightline-dev/sightline/lspserver"
)

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Width is how many columns a line may have: those of the terminal, else 120.
func width(out io.Writer) int {
	if f, ok := out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			return w
		}
	}
	return 120
}

// A palette colours text for one writer: not at all where it is no terminal or NO_COLOR is set.
type palette struct{ on bool }

func paletteFor(out io.Writer) palette {
	_, no := os.LookupEnv("NO_COLOR")
	return palette{on: isTerminal(out) && !no && os.Getenv("TERM") != "dumb"}
}

func (p palette) paint(text string, attributes ...color.Attribute) string {
	if !p.on || text == "" {
		return text
	}
	c := color.New(attributes...)
	c.EnableColor()
	return c.Sprint(text)
}

func (p palette) bold(text string) string { return p.paint(text, color.Bold) }
func (p palette) dim(text string) string  { return p.paint(text, color.Faint) }
func (p palette) good(text string) string { return p.paint(text, color.FgGreen) }
func (p palette) bad(text string) string  { return p.paint(text, color.FgRed) }

// Heat colours text by its share of the whole: red from a fifth on, yellow from a twentieth.
func (p palette) heat(text string, part, whole int64) string {
	switch {
	case whole <= 0:
		return text
	case part*5 >= whole:
		return p.paint(text, color.FgRed, color.Bold)
	case part*20 >= whole:
		return p.paint(text, color.FgYellow)
	}
	return text
}

// Cut shortens text to n columns, with an ellipsis in place of what is left out.
func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	if n < 1 {
		return ""
	}
	r := []rune(text)
	return string(r[:n-1]) + "…"
}

// Expand writes tabs as the four columns that terminals and this project's output give them, and
// drops what would move the cursor.
func expand(text string) string {
	text = strings.ReplaceAll(strings.TrimRight(text, "\r\n"), "\t", "    ")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '·'
		}
		return r
	}, text)
}

// ShowProgress follows a recording until its updates end: the target's output to where it belongs,
// and on a terminal a line that tells how far it is.
func showProgress(io streams, req lspserver.Request, quiet bool, updates <-chan lspserver.Update) {
	var bar *progressbar.ProgressBar
	target := -1
	if req.Test != nil {
		target = req.Test.Samples
	} else if req.Native != nil {
		target = req.Native.Samples
	}
	show := func() {
		bar = newBar(io, target)
	}
	// A command that talks to the terminal itself would be written over while it runs.
	if isTerminal(io.err) && len(req.Command) == 0 {
		show()
	}
	defer func() {
		if bar != nil {
			bar.Finish()
		}
	}()
	output := io.out
	if quiet {
		output = io.err
	}
	for u := range updates {
		if u.Output != nil {
			if bar != nil {
				bar.Clear()
			}
			output.Write(u.Output)
		}
		if bar == nil && u.Note != "" && isTerminal(io.err) {
			show()
		}
		if bar == nil || u.Output != nil {
			continue
		}
		words := u.Phase
		if u.Note != "" {
			words = cut(u.Note, max(width(io.err)-48, 20)) + " · Ctrl-C goes on without"
		}
		if u.Phase == lspserver.PhaseRecording {
			words = fmt.Sprintf("recording %s · %s", lspserver.Duration(u.Elapsed.Round(100*time.Millisecond)), lspserver.Samples(int64(u.Samples)))
		}
		bar.Describe(words)
		if target > 0 {
			bar.Set(min(u.Samples, target-1)) // full is finished
		} else {
			bar.Add(0)
		}
	}
}

// NewBar is a line that tells how far something is; -1 is not known how far.
func newBar(io streams, target int) *progressbar.ProgressBar {
	return progressbar.NewOptions(target,
		progressbar.OptionSetWriter(io.err),
		progressbar.OptionSetWidth(24),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
		progressbar.OptionClearOnFinish(),
		progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "━", SaucerHead: "━", SaucerPadding: "╌", BarStart: " ", BarEnd: " "}),
	)
}

func writeJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
