package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/convert"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/sourcemap"
)

// A goProfile is what a Go test binary writes of itself when it ends, asked for by a flag.
type goProfile struct {
	name   string // as people ask for it
	flag   string // of the test binary; its value is a file
	series []goSeries
}

// A goSeries is a series of the file, by the type that the file has for it.
type goSeries struct {
	from profile.Kind
	as   profile.Kind
	once bool // what is left at the end of a process: of many the first counts
}

// GoProfiles are those that --kind knows beside cpu, which is the recorder's.
var goProfiles = []goProfile{
	{"heap", "memprofile", []goSeries{{"alloc_space", profile.Alloc, false}, {"inuse_space", profile.InUse, true}}},
	{"block", "blockprofile", []goSeries{{"delay", profile.Blocked, false}}},
	{"mutex", "mutexprofile", []goSeries{{"delay", profile.Contention, false}}},
}

// KindCPU is the kind that is recorded where nobody says which.
const kindCPU = "cpu"

// CheckKinds answers the kinds that a person asks for, each once and cpu first.
func checkKinds(given []string) ([]string, error) {
	all := []string{kindCPU}
	for _, p := range goProfiles {
		all = append(all, p.name)
	}
	var kinds []string
	for _, known := range all {
		if slices.Contains(given, known) {
			kinds = append(kinds, known)
		}
	}
	for _, k := range given {
		if !slices.Contains(all, k) {
			return nil, fmt.Errorf("--kind %s is nothing that a test tells; use %s, or several with commas between", k, strings.Join(all, ", "))
		}
	}
	if len(kinds) == 0 {
		return []string{kindCPU}, nil
	}
	return kinds, nil
}

// AlonePeriod is how many bytes are allocated between two that a heap profile takes down, where no
// CPU time is measured that this would cost: small enough for the test of a moment. Go's own default is
// 512 KiB.
const alonePeriod = 4096

// ProfileFlags has the next process of the test write the profiles that are wanted.
func (t *goTest) profileFlags() []string {
	var flags []string
	t.processes++
	for _, p := range t.profiles() {
		flags = append(flags, "-test."+p.flag+"="+t.profilePath(p, t.processes))
		if p.flag == "memprofile" && !t.measuresCPU() && !hasFlag(t.Args, "memprofilerate") {
			flags = append(flags, "-test.memprofilerate="+strconv.Itoa(alonePeriod))
		}
	}
	return flags
}

func hasFlag(args []string, name string) bool {
	return slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "-test."+name+"=") })
}

func (t *goTest) measuresCPU() bool { return len(t.kinds) == 0 || slices.Contains(t.kinds, kindCPU) }

// Profiles are those that the test writes itself.
func (t *goTest) profiles() []goProfile {
	var wanted []goProfile
	for _, p := range goProfiles {
		if slices.Contains(t.kinds, p.name) {
			wanted = append(wanted, p)
		}
	}
	return wanted
}

func (t *goTest) profilePath(p goProfile, process int) string {
	return filepath.Join(t.temp, fmt.Sprintf("%s.%d", p.name, process))
}

// HasProfiles says whether a process of the test has written one.
func (t *goTest) hasProfiles() bool {
	for _, p := range t.profiles() {
		for n := 1; n <= t.processes; n++ {
			if st, err := os.Stat(t.profilePath(p, n)); err == nil && st.Size() > 0 {
				return true
			}
		}
	}
	return false
}

// Adopt adds what the test's processes wrote to the capture of the same run, which is symbolized. What
// is missing is a warning: a test that crashes or is ended writes nothing.
func (t *goTest) adopt(ctx context.Context, c *profile.Capture) error {
	for _, p := range t.profiles() {
		read := 0
		for n := 1; n <= t.processes; n++ {
			other, err := readProfile(ctx, t.profilePath(p, n))
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, errNoProfile):
				continue
			case err != nil:
				return fmt.Errorf("the %s profile that the test wrote: %w", p.name, err)
			}
			read++
			for _, s := range p.series {
				if s.once && read > 1 || other.Of(s.from) == nil {
					continue
				}
				if err := c.Adopt(other, s.from, s.as); err != nil {
					return fmt.Errorf("the %s profile that the test wrote: %w", p.name, err)
				}
			}
		}
		if read == 0 {
			c.Warn(profile.WarnUnreadable, 0, fmt.Sprintf("there is no %s profile: the test ended before it wrote one", p.name))
		}
	}
	// A series without samples is nothing to look at, but where it was asked for it says just that.
	c.Series = slices.DeleteFunc(c.Series, func(s profile.Series) bool { return s.Kind == profile.InUse && s.Samples.Len() == 0 })
	return nil
}

var errNoProfile = errors.New("nothing was written")

// ReadProfile reads a profile that a test binary wrote; errNoProfile where it wrote none.
func readProfile(ctx context.Context, path string) (*profile.Capture, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoProfile
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() == 0 {
		return nil, errNoProfile
	}
	c, _, err := convert.Read(ctx, f, convert.Options{Format: convert.Pprof})
	return c, err
}

// RunProfiles runs a test once and keeps what it writes of itself. Nothing is asked of the kernel, so it
// works where nothing may be recorded.
func (s *session) runProfiles(ctx context.Context, st *store.Store, test *goTest) (lspserver.Result, error) {
	s.begun = time.Now()
	c := profile.NewCapture(test.target(), s.begun)
	c.Engine, c.Machine = "runtime", runtime.GOOS+" "+runtime.GOARCH
	c.Symbols.Frames, c.Symbols.Of = make([]profile.Frame, 1), make([][]profile.FrameID, 1)

	cmd := test.command(1, s)
	cmd.SysProcAttr = endsWithUs()
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the command ends with the thread that starts it
		defer runtime.UnlockOSThread()
		ended <- cmd.Run()
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var o outcome
	for running := true; running; {
		select {
		case <-tick.C:
			s.tell(lspserver.Update{Phase: lspserver.PhaseRecording})
		case <-s.stop:
			if cmd.Process != nil {
				cmd.Process.Kill()
			}
			<-ended
			return lspserver.Result{Message: "stopped; a test tells what it allocated and waited for when it ends, so nothing was kept"}, nil
		case err := <-ended:
			if cmd.ProcessState == nil {
				return lspserver.Result{}, fmt.Errorf("start the test of %s: %w", test.Package, err)
			}
			if !cmd.ProcessState.Success() {
				o = outcome{failed: true, text: cmd.ProcessState.String()}
			}
			running = false
		}
	}
	c.Length = time.Since(s.begun)
	if !test.hasProfiles() {
		text := fmt.Sprintf("%s ended before it wrote a profile", cut(expand(c.Target.String()), 100))
		if o.failed {
			return lspserver.Result{Failed: true, Message: o.text + ", and " + text}, nil
		}
		return lspserver.Result{}, errors.New(text)
	}
	s.tell(lspserver.Update{Phase: lspserver.PhaseSymbolizing})
	if err := test.adopt(ctx, c); err != nil {
		return lspserver.Result{}, err
	}
	paths, _ := s.recorder.around.findPaths(ctx, []string{workspaceOf(s.folder())})
	paths.Prefixes = append(paths.Prefixes, s.req.Prefixes...)
	symbols := sourcemap.NewSymbolizer(sourcemap.Config{Paths: paths})
	defer symbols.Close()
	if err := symbols.Sources(ctx, c); err != nil {
		return lspserver.Result{}, err
	}
	if o.failed {
		c.Warn(profile.WarnTarget, 0, "the test failed: "+o.text)
	}
	writer, err := st.Begin(c)
	if err != nil {
		return lspserver.Result{}, err
	}
	return s.keep(&keeper{writer: writer, paths: paths}, c, o)
}
