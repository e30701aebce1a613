package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/process"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/sourcemap"
)

// Debuginfod makes the client of the debuginfod servers that the environment names; nil where it names
// none. The variables are those of the other clients (debuginfod-client-config(7)); what cannot be read
// counts as not set.
func debuginfod(around *surroundings) *sourcemap.Debuginfod {
	d := &sourcemap.Debuginfod{}
	for word := range strings.FieldsSeq(around.getenv("DEBUGINFOD_URLS")) {
		if !strings.HasPrefix(word, "ima:") { // how signatures are to be checked
			d.Servers = append(d.Servers, word)
		}
	}
	if len(d.Servers) == 0 {
		return nil
	}
	d.Cache = around.getenv("DEBUGINFOD_CACHE_PATH")
	if d.Cache == "" {
		dir := around.cache()
		if dir == "" {
			return nil // nowhere to keep what is fetched
		}
		d.Cache = filepath.Join(dir, "debuginfod_client")
	}
	if n, err := strconv.Atoi(around.getenv("DEBUGINFOD_TIMEOUT")); err == nil && n > 0 && n < 1<<20 {
		d.Timeout = time.Duration(n) * time.Second
	}
	if n, err := strconv.ParseInt(around.getenv("DEBUGINFOD_MAXSIZE"), 10, 64); err == nil && n > 0 {
		d.MaxSize = n
	}
	return d
}

// FetchWords tells of a fetch: "fetching symbols of libc.so.6 from debuginfod.debian.net: 3.0 MB of 12.0 MB".
func fetchWords(c *profile.Capture, x sourcemap.Download) string {
	name := "build ID " + cut(x.BuildID, 12)
	for _, m := range c.Mappings {
		if m.BuildID == x.BuildID {
			name = filepath.Base(m.Path)
		}
	}
	server := x.Server
	if u, err := url.Parse(server); err == nil && u.Host != "" {
		server = u.Host
	}
	text := fmt.Sprintf("fetching symbols of %s from %s", process.Printable(name), process.Printable(server))
	switch size := lspserver.Weight(x.Size, profile.Bytes); {
	case x.Done == 0:
		return text
	case x.Size > 0:
		return fmt.Sprintf("%s: %s of %s", text, lspserver.Weight(min(x.Done, x.Size), profile.Bytes), size)
	}
	return fmt.Sprintf("%s: %s", text, lspserver.Weight(x.Done, profile.Bytes))
}

// TellAgain is how often what is fetched is told, also while nothing comes: updates may be dropped.
const tellAgain = 250 * time.Millisecond

// Fetching is the client that a session fetches debug files with, and what ends its use: nil, where no
// servers are named. While it is used, Stop gives the fetches up, and so does a Ctrl-C of the command
// line, which would end the program else.
func (s *session) fetching(c *profile.Capture) (client *sourcemap.Debuginfod, over func()) {
	d := debuginfod(s.recorder.around)
	if d == nil {
		return nil, func() {}
	}
	giveUp, ended := make(chan struct{}), make(chan struct{})
	d.GiveUp = giveUp
	samples := sampleCount(c)
	var note atomic.Pointer[string] // the latest
	tell := func() {
		if n := note.Load(); n != nil {
			s.tell(lspserver.Update{Phase: lspserver.PhaseSymbolizing, Samples: samples, Note: *n})
		}
	}
	d.Progress = func(x sourcemap.Download) bool {
		words := fetchWords(c, x)
		note.Store(&words)
		tell()
		return true
	}
	interrupts := make(chan os.Signal, 1)
	if s.recorder.interruptible {
		signal.Notify(interrupts, os.Interrupt)
	}
	stop := make(chan struct{}, 1)
	s.mu.Lock()
	s.skip = stop
	s.mu.Unlock()
	go func() {
		again := time.NewTicker(tellAgain)
		defer again.Stop()
		for {
			select {
			case <-interrupts:
				close(giveUp)
				return
			case <-stop:
				close(giveUp)
				return
			case <-ended:
				return
			case <-again.C:
				tell()
			}
		}
	}()
	return d, func() {
		close(ended)
		signal.Stop(interrupts)
		s.mu.Lock()
		s.skip = nil
		s.mu.Unlock()
	}
}

// SymbolConfig is how a recording's locations are named.
func (s *session) symbolConfig(k *keeper, client *sourcemap.Debuginfod) sourcemap.Config {
	return sourcemap.Config{
		Paths: k.paths, DebugFolders: s.req.DebugFolders, Debuginfod: client, Root: k.rec.Root, AnswersDir: s.recorder.around.cacheDir("frames"),
		Process: func(id profile.MappingID) (sourcemap.Process, bool) {
			p, ok := k.rec.Process(id)
			return sourcemap.Process{PID: p.PID, Own: p.Own, UID: p.UID, Root: p.Root, Tmp: p.Tmp, Begun: p.Begun, Dumps: p.Dumps}, ok
		},
	}
}

// Preview names what is new in a view of the recording and reads its sources. It fetches nothing: the
// recording does not wait for servers.
func (s *session) preview(ctx context.Context, k *keeper, view *profile.Capture) error {
	if k.symbols == nil {
		s.findPaths(ctx, k)
		k.symbols = sourcemap.NewSymbolizer(s.symbolConfig(k, nil))
	}
	if err := k.symbols.Symbolize(ctx, view, k.rec.Binary); err != nil {
		return err
	}
	return k.symbols.Sources(ctx, view)
}

// Symbolize names the finished capture and reads its sources. What was named for a preview is taken,
// unless more can be known now: from servers, or of code made at run time, whose names many programs
// write when they end.
func (s *session) symbolize(ctx context.Context, k *keeper, c *profile.Capture) error {
	s.findPaths(ctx, k)
	client, over := s.fetching(c)
	defer over()
	final := k.symbols
	if final == nil || client != nil || hasMadeCode(c) {
		final = sourcemap.NewSymbolizer(s.symbolConfig(k, client))
		defer final.Close()
	}
	if err := final.Symbolize(ctx, c, k.rec.Binary); err != nil {
		return err
	}
	if s.own != nil {
		if err := s.own.adopt(ctx, c); err != nil {
			return err
		}
		if cpu := c.Of(profile.CPU); len(c.Series) > 1 && cpu != nil && cpu.Samples.Len() == 0 {
			c.Series = slices.DeleteFunc(c.Series, func(x profile.Series) bool { return x.Kind == profile.CPU })
			c.Warn(profile.WarnLost, 0, "no sample of the CPU was taken: the test computes for too short a time")
		}
	}
	// Texts are those of when the recording had them first.
	return cmp.Or(k.symbols, final).Sources(ctx, c)
}

func (s *session) findPaths(ctx context.Context, k *keeper) {
	if k.paths == nil {
		// An error is a tool that did not answer; the paths found without it are good.
		k.paths, _ = s.recorder.around.findPaths(ctx, []string{workspaceOf(s.folder())})
		k.paths.Prefixes = append(k.paths.Prefixes, s.req.Prefixes...)
	}
}

// HasMadeCode says whether code that was made at run time has samples.
func hasMadeCode(c *profile.Capture) bool {
	for _, m := range c.Mappings {
		if m.Kind == profile.Anonymous {
			return true
		}
	}
	return false
}

// MapPaths are the rules of --map-path: FROM=TO, each once.
func mapPaths(rules []string) ([]sourcemap.Prefix, error) {
	var prefixes []sourcemap.Prefix
	for _, rule := range rules {
		from, to, ok := strings.Cut(rule, "=")
		if !ok || from == "" || to == "" {
			return nil, fmt.Errorf("--map-path %s is not of the form FROM=TO, as in --map-path /build/src=/home/me/src", rule)
		}
		to, err := filepath.Abs(to)
		if err != nil {
			return nil, err
		}
		if info, err := os.Stat(to); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("--map-path %s: there is no folder %s", rule, to)
		}
		prefixes = append(prefixes, sourcemap.Prefix{From: from, To: to})
	}
	return prefixes, nil
}

// DebugFolders are those of --debug-folder.
func debugFolders(given []string) ([]string, error) {
	folders := make([]string, 0, len(given))
	for _, folder := range given {
		abs, err := filepath.Abs(folder)
		if err != nil {
			return nil, err
		}
		if info, err := os.Stat(abs); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("--debug-folder %s: there is no such folder", folder)
		}
		folders = append(folders, abs)
	}
	return folders, nil
}
