package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/lsptest"
	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/profiler/view"
	"github.com/sightline-dev/sightline/sourcemap"
)

const (
	// A hundred thousand samples and some more: that many times a second, for so much CPU time.
	largeFrequency = 10_000
	largeCPU       = "11s"
)

// HintRefresh is what a server calls to have a client ask for hints again.
const hintRefresh = "workspace/inlayHint/refresh"

// LargeRuns is how often the large program is recorded for one figure.
func largeRuns() int { return max(1, *benchRounds/3) }

// A firstHint is one recording on its way into an editor. All times are since the program's end.
type firstHint struct {
	symbolizing time.Duration // the server says that it reads symbols: it has all samples
	storing     time.Duration // it says that it stores
	answered    time.Duration // the command's answer
	refresh     time.Duration // the request to ask for hints again, which may come before that
	hints       time.Duration // the hints of the end, asked for at that request
	samples     int
	shown       int // hints
}

// BenchmarkFirstHint is from the end of a recorded program of 50 MB to the hints of the finished
// capture in an editor, with 100,000 samples; peers make text of the same samples.
func BenchmarkFirstHint(b *testing.B) {
	large := makeLarge(b)
	b.Setenv("XDG_STATE_HOME", workDir(b))
	for _, engine := range benchEngines(b) {
		b.Run("ours/engine="+engine, func(b *testing.B) {
			var runs []firstHint
			e := lsptest.Start(b, lsptest.Spawn(b, serveCommand(b, large.dir)), lsptest.Options{
				Folders: []string{large.dir}, Timeout: 5 * time.Minute, Settings: largeSettings(engine),
			})
			e.Open(large.file)
			for range largeRuns() {
				runs = append(runs, recordToHint(b, e, large))
			}
			e.Close()
			of := func(f func(r firstHint) time.Duration) float64 {
				var all []float64
				for _, r := range runs {
					all = append(all, milliseconds(f(r)))
				}
				return median(all)
			}
			var samples, shown []float64
			for _, r := range runs {
				samples, shown = append(samples, float64(r.samples)), append(shown, float64(r.shown))
			}
			report(b,
				figure{of(func(r firstHint) time.Duration { return r.hints }), "first-hint-ms"},
				figure{of(func(r firstHint) time.Duration { return r.answered }), "answer-ms"},
				figure{of(func(r firstHint) time.Duration { return r.symbolizing }), "drain-ms"},
				figure{of(func(r firstHint) time.Duration { return r.storing - r.symbolizing }), "symbolize-ms"},
				figure{of(func(r firstHint) time.Duration { return r.answered - r.storing }), "store+load-ms"},
				figure{of(func(r firstHint) time.Duration { return r.refresh }), "refresh-ms"},
				figure{of(func(r firstHint) time.Duration { return r.hints - r.refresh }), "hints-ms"},
				figure{median(samples), "samples"},
				figure{median(shown), "hints"},
				figure{float64(len(runs)), "runs"},
			)
		})
	}
	b.Run("stages/live=true", func(b *testing.B) { stages(b, large, true) })
	b.Run("stages/live=false", func(b *testing.B) { stages(b, large, false) })
	b.Run("stages/live=true/spread=even", func(b *testing.B) { stages(b, large, true, "even") })
	b.Run("peer=pprof", func(b *testing.B) { pprofList(b, large) })
	b.Run("peer=perf-script", func(b *testing.B) { perfScript(b, large) })
}

func serveCommand(b *testing.B, dir string) *exec.Cmd {
	cmd := exec.Command(sightlineBinary(b), "serve")
	cmd.Dir = dir
	return cmd
}

func largeSettings(engine string) map[string]any {
	return map[string]any{"sightline": map[string]any{
		"recording": map[string]any{"frequency": largeFrequency, "engine": engine},
		"hints":     map[string]any{"threshold": 0}, // all lines that cost anything
	}}
}

// RecordToHint has the server record the program and behaves as an editor does: it asks for hints
// whenever the server says that they have changed.
func recordToHint(b *testing.B, e *lsptest.Editor, large largeProgram) firstHint {
	b.Helper()
	endFile := filepath.Join(b.TempDir(), "end")
	var symbolizing, storing, answered time.Time
	stamp := func(t *time.Time) {
		if t.IsZero() {
			*t = time.Now()
		}
	}
	asked := 0
	e.Look(func(s *lsptest.State) { asked = s.Refreshes[hintRefresh] })
	call := e.StartCommand("sightline.record", map[string]any{
		"command": []string{large.binary, largeCPU, endFile}, "dir": large.dir,
	})
	over := false // the work has ended, which is told right before the answer
	event := lsptest.Expect("hints have changed, or the recording is over", func(s *lsptest.State) lsptest.Verdict {
		if n := len(s.Work); n > 0 {
			switch message := s.Work[n-1].Message; {
			case strings.HasPrefix(message, "reading symbols"):
				stamp(&symbolizing)
			case strings.HasPrefix(message, "storing"):
				stamp(&symbolizing)
				stamp(&storing)
			}
			if s.Work[n-1].Ended && !over {
				over = true
				stamp(&answered)
				return lsptest.Met
			}
		}
		if s.Refreshes[hintRefresh] > asked {
			return lsptest.Met
		}
		return lsptest.Unmet
	})
	// What the editor showed, and when. Those of the end are the first that show what is shown when
	// all is over: the server may well show the last numbers before it has stored them.
	type showing struct {
		asked, shown time.Time
		text         string
		hints        int
	}
	var showings []showing
	stored := "" // capture of the latest; "" while it is being recorded
	for {
		e.Await(event)
		changed := false
		e.Look(func(s *lsptest.State) {
			changed = s.Refreshes[hintRefresh] > asked
			asked = s.Refreshes[hintRefresh]
		})
		if changed {
			at := time.Now()
			hints := e.Hints(large.file)
			var text strings.Builder
			for _, h := range hints {
				fmt.Fprintf(&text, "%d %s\n", h.Line, h.Text)
			}
			showings = append(showings, showing{at, time.Now(), text.String(), len(hints)})
			stored = captureOf(b, hints)
		}
		if !over {
			continue
		}
		var result struct {
			Capture string
			Samples int
		}
		raw, err := call.Wait()
		if err != nil {
			b.Fatal(err)
		}
		if err := json.Unmarshal(raw, &result); err != nil {
			b.Fatal(err)
		}
		if stored != result.Capture {
			continue // the last refresh has to come yet
		}
		end := endOf(b, endFile)
		since := func(t time.Time) time.Duration { return t.Round(0).Sub(end) } // by the clock on the wall, which the program has too
		final := showings[len(showings)-1]
		for _, s := range showings {
			if s.text == final.text && since(s.asked) > 0 {
				final = s
				break
			}
		}
		e.Forget()
		return firstHint{
			symbolizing: since(symbolizing), storing: since(storing), answered: since(answered),
			refresh: since(final.asked), hints: since(final.shown), samples: result.Samples, shown: final.hints,
		}
	}
}

// CaptureOf is the stored capture that hints are of; "" where there are none and while it is recorded.
func captureOf(b *testing.B, hints []lsptest.Hint) string {
	b.Helper()
	if len(hints) == 0 {
		return ""
	}
	var data struct{ Capture string }
	if err := json.Unmarshal(hints[0].Raw.Data, &data); err != nil {
		b.Fatal(err)
	}
	return data.Capture
}

// EndOf is the time that the large program has written as its last act.
func endOf(b *testing.B, file string) time.Time {
	b.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	ns, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Unix(0, ns)
}

// Stages takes the way of a recording in this process, to see where its time goes. A live one has
// named its locations each second, as the server has it do; another names all at the end.
func stages(b *testing.B, large largeProgram, live bool, args ...string) {
	b.Setenv("XDG_STATE_HOME", workDir(b))
	st := openBenchStore(b, large.dir)
	names := []string{"exit-ms", "stop-ms", "paths-ms", "symbolize-ms", "sources-ms", "finish-ms", "load-ms", "profile-ms", "lines+names-ms"}
	times := make([][]float64, len(names))
	var capture *profile.Capture
	for range max(1, largeRuns()/2) {
		last := time.Now()
		stage := 0
		lap := func() {
			now := time.Now()
			times[stage] = append(times[stage], milliseconds(now.Sub(last)))
			last, stage = now, stage+1
		}
		endFile := filepath.Join(b.TempDir(), "end")
		cmd := exec.Command(large.binary, append([]string{largeCPU, endFile}, args...)...)
		ctx := context.Background()
		rec, err := profiler.Start(ctx, profiler.Target{Command: cmd}, profiler.Options{Freq: largeFrequency, FrameTable: frameTable})
		if err != nil {
			b.Fatal(err)
		}
		keep, err := beginKeeping(st, rec)
		if err != nil {
			b.Fatal(err)
		}
		s := &session{recorder: &recorder{live: live}, req: lspserver.Request{Dir: large.dir}, updates: make(chan lspserver.Update, 16), stop: make(chan struct{})}
		over, followed := make(chan struct{}), make(chan struct{})
		go func() { defer close(followed); s.follow(ctx, keep, over) }()
		if err := rec.Wait(); err != nil {
			b.Fatal(err)
		}
		last = endOf(b, endFile)
		close(over)
		<-followed
		lap() // exit: until the recorder knows, and has ended what it did meanwhile
		if capture, err = rec.Stop(); err != nil {
			b.Fatal(err)
		}
		lap()
		if keep.symbols == nil { // as session.symbolize does it
			paths, _ := sourcemap.FindPaths(ctx, []string{workspaceOf(large.dir)})
			keep.symbols = sourcemap.NewSymbolizer(sourcemap.Config{Paths: paths})
		}
		lap()
		if err := keep.symbols.Symbolize(ctx, capture, rec.Binary); err != nil {
			b.Fatal(err)
		}
		lap()
		if err := keep.symbols.Sources(ctx, capture); err != nil {
			b.Fatal(err)
		}
		lap()
		meta, err := keep.writer.Finish(capture)
		if err != nil {
			b.Fatal(err)
		}
		lap()
		rec.Close()
		last = time.Now()
		loaded, err := st.LoadWithoutSources(meta.ID)
		if err != nil {
			b.Fatal(err)
		}
		lap()
		p, err := loaded.Profile(profile.CPU)
		if err != nil {
			b.Fatal(err)
		}
		lap()
		sums := view.NewSums(p)
		sums.Lines()
		sums.ByName()
		lap()
	}
	figures := make([]figure, len(names))
	for i, name := range names {
		figures[i] = figure{median(times[i]), name}
	}
	report(b, append(figures,
		figure{float64(sampleCount(capture)), "samples"},
		figure{float64(capture.Stacks.Len()), "stacks"},
		figure{float64(len(capture.Locations)), "locations"},
		figure{float64(len(capture.Symbols.Frames)), "frames"},
		figure{float64(len(capture.Symbols.Sources)), "sources"},
		figure{float64(large.size) / (1 << 20), "binary-MB"},
	)...)
}

// LargeCapture is the newest capture of the large program, recorded now where there is none.
func largeCapture(b *testing.B, large largeProgram, args ...string) (*store.Store, store.Meta) {
	b.Helper()
	st := openBenchStore(b, large.dir)
	list, err := st.List()
	if err != nil {
		b.Fatal(err)
	}
	if len(list) > 0 && !list[0].Interrupted {
		return st, list[0]
	}
	command := []string{"record", "--freq", strconv.Itoa(largeFrequency), "--", large.binary, largeCPU, filepath.Join(b.TempDir(), "end")}
	mustOutput(b, large.dir, sightlineBinary(b), append(command, args...)...)
	if list, err = st.List(); err != nil || len(list) == 0 {
		b.Fatalf("the recording is not in its store: %v", err)
	}
	return st, list[0]
}

// PprofList is `go tool pprof -list` of the same samples.
func pprofList(b *testing.B, large largeProgram) {
	st, meta := largeCapture(b, large)
	c, err := st.Load(meta.ID)
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(workDir(b), "large.pb.gz")
	writePprof(b, file, c)
	tool := strings.TrimSpace(mustOutput(b, large.dir, "go", "tool", "-n", "pprof"))
	var whole, alone []float64
	for i := range 4 {
		begin := time.Now()
		out := mustOutput(b, large.dir, "go", "tool", "pprof", "-list", large.fn, file)
		took := milliseconds(time.Since(begin))
		if !strings.Contains(out, "ROUTINE") || !strings.Contains(out, "func Fold0") {
			b.Fatalf("go tool pprof does not list %s: %s", large.fn, out)
		}
		begin = time.Now()
		mustOutput(b, large.dir, tool, "-list", large.fn, file)
		if i > 0 { // the first time the tool itself is built
			whole, alone = append(whole, took), append(alone, milliseconds(time.Since(begin)))
		}
	}
	report(b, figure{median(whole), "list-ms"}, figure{median(alone), "pprof-alone-ms"},
		figure{float64(meta.Kinds[0].Samples), "samples"}, figure{float64(len(whole)), "runs"})
}

// PerfScript is `perf script -F +srcline` of the same program with about as many samples.
func perfScript(b *testing.B, large largeProgram) {
	if !perfPeer.there(b) {
		b.Skip("no perf")
	}
	dir := workDir(b)
	file := filepath.Join(dir, "perf.data")
	samples, _ := perfRecord(b, large.dir, file, largeFrequency, large.binary, largeCPU, filepath.Join(dir, "end"))
	info, err := os.Stat(file)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *benchScript)
	defer cancel()
	cmd := exec.CommandContext(ctx, "perf", "script", "-i", file, "-F", "+srcline")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with the addr2line that it starts
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	begin := time.Now()
	err = cmd.Run()
	took := time.Since(begin)
	cut := 0.0
	switch {
	case ctx.Err() != nil:
		cut = 1
		note("perf script -F +srcline had not ended after %s", *benchScript)
	case err != nil:
		b.Fatal(fmt.Errorf("perf script: %w", err))
	}
	report(b, figure{milliseconds(took), "script-ms"}, figure{cut, "cut-off"},
		figure{float64(samples), "samples"}, figure{float64(info.Size()) / float64(max(1, samples)), "bytes/sample"})
}
