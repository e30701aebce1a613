package sourcemap

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A debugServer answers as a debuginfod server, or as it is told.
func debugServer(t *testing.T, answer http.HandlerFunc) (url string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

// debugPair is a stripped program, its debug file and their build ID.
func debugPair(t *testing.T) (prog, id string, debug []byte) {
	t.Helper()
	dir := testDir(t)
	prog = filepath.Join(dir, "prog")
	copyFile(t, build(t, "gcc", "-g", "-O2", "-Wl,--build-id=sha1", "-o", "OUT", "shapes.c"), prog)
	run(t, dir, "objcopy", "--only-keep-debug", "prog", "debug")
	debug, err := os.ReadFile(filepath.Join(dir, "debug"))
	if err != nil {
		t.Fatal(err)
	}
	return prog, buildID(openELF(t, prog)), debug
}

// What a server has names a stripped program's lines, is fetched once and kept; what it sends in the
// place of it never is, whatever that is, and one sentence names server and remedy.
func TestDebuginfod(t *testing.T) {
	prog, id, debug := debugPair(t)
	addrs := codeAddresses(t, prog)
	want, _ := named(t, prog, addrs, Config{})
	run(t, filepath.Dir(prog), "strip", "prog")
	path := "/buildid/" + id + "/debuginfo"

	t.Run("serves", func(t *testing.T) {
		url, asked := debugServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != path {
				t.Errorf("asked for %s", r.URL)
			}
			w.Header().Set("X-DEBUGINFOD-SIZE", fmt.Sprint(len(debug)))
			w.Write(debug)
		})
		var last atomic.Pointer[Download]
		cache := testDir(t)
		for range 2 {
			d := &Debuginfod{Servers: []string{url}, Cache: cache, Progress: func(x Download) bool { last.Store(&x); return true }}
			got, warned := named(t, prog, addrs, Config{Debuginfod: d})
			if warned != "" {
				t.Errorf("warned: %s", warned)
			}
			sameFrames(t, addrs, want, got)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		if x := last.Load(); x == nil || *x != (Download{id, url, int64(len(debug)), int64(len(debug))}) {
			t.Errorf("progress %+v", x)
		}
	})

	hang := make(chan struct{})
	defer close(hang)
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		set    func(*Debuginfod)
		want   string // in the error; "" for ErrNoDebugFile
	}{
		{"has not", http.NotFound, nil, ""},
		{"fails", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 500) }, nil, `answers "500`},
		{"hangs", func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}, func(d *Debuginfod) { d.Timeout = 50 * time.Millisecond }, "nothing, or next to nothing, came for 50ms"},
		{"drips", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write([]byte{0x7f})
				w.(http.Flusher).Flush()
				time.Sleep(time.Millisecond)
			}
		}, func(d *Debuginfod) { d.Timeout = 100 * time.Millisecond }, "next to nothing"},
		{"lies", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>please log in</html>") }, nil, "not an ELF file"},
		{"truncates", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(debug)))
			w.Write(debug[:len(debug)/2])
		}, nil, "ends after"},
		{"truncates quietly", func(w http.ResponseWriter, r *http.Request) { w.Write(debug[:len(debug)/2]) }, nil, "truncated"},
		{"another build", func(w http.ResponseWriter, r *http.Request) {
			raw := strings.Replace(string(debug), string(unhex(id)), strings.Repeat("\x42", 20), 1)
			w.Write([]byte(raw))
		}, nil, "another build (build ID 4242"},
		{"too large", func(w http.ResponseWriter, r *http.Request) { w.Write(debug) }, func(d *Debuginfod) { d.MaxSize = 1000 }, "more than the 1000"},
		{"endless", func(w http.ResponseWriter, r *http.Request) {
			for {
				if _, err := w.Write(debug); err != nil {
					return
				}
			}
		}, func(d *Debuginfod) { d.MaxSize = 1 << 20 }, "more than the 1048576"},
		{"redirects in circles", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, nil, "in circles"},
		{"is told to stop", func(w http.ResponseWriter, r *http.Request) { w.Write(debug) },
			func(d *Debuginfod) { d.Progress = func(x Download) bool { return x.Done == 0 } }, ErrGivenUp.Error()},
		{"is told not to begin", http.NotFound, func(d *Debuginfod) { d.Progress = func(Download) bool { return false } }, ErrGivenUp.Error()},
		{"hangs and is given up", func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}, func(d *Debuginfod) {
			over := make(chan struct{})
			d.GiveUp, d.Timeout = over, time.Hour
			d.Progress = func(Download) bool {
				time.AfterFunc(10*time.Millisecond, sync.OnceFunc(func() { close(over) }))
				return true
			}
		}, ErrGivenUp.Error()},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, asked := debugServer(t, c.answer)
			d := &Debuginfod{Servers: []string{url}, Cache: testDir(t)}
			if c.set != nil {
				c.set(d)
			}
			_, err := d.Fetch(t.Context(), id)
			switch {
			case err == nil:
				t.Fatal("it is used")
			case c.want == "" && !errors.Is(err, ErrNoDebugFile), !strings.Contains(err.Error(), c.want):
				t.Errorf("error %v", err)
			case c.want == ErrGivenUp.Error() && !errors.Is(err, ErrGivenUp):
				t.Errorf("error %v", err)
			case c.want != "" && c.want != ErrGivenUp.Error() && !strings.Contains(err.Error(), url):
				t.Errorf("no server in %v", err)
			}
			if c.want == ErrGivenUp.Error() {
				if got, warned := named(t, prog, addrs[:1], Config{Debuginfod: d}); len(got) != 1 || !strings.Contains(warned, "was cancelled") {
					t.Errorf("named %+v; warned: %s", got, warned)
				}
				return
			}
			// Symbols are what there is without it.
			got, warned := named(t, prog, addrs[:1], Config{Debuginfod: d})
			if len(got) != 1 || got[0][0].File != "" {
				t.Errorf("named %+v; warned: %s", got, warned)
			}
			if n := asked.Load(); n > 2 && !strings.Contains(c.name, "circles") {
				t.Errorf("asked %d times", n)
			}
			left, err := filepath.Glob(filepath.Join(d.Cache, id, "*.part"))
			if err != nil || len(left) > 0 {
				t.Errorf("left %q, %v", left, err)
			}
		})
	}

	t.Run("redirects", func(t *testing.T) {
		url, _ := debugServer(t, func(w http.ResponseWriter, r *http.Request) { w.Write(debug) })
		first, _ := debugServer(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, url+r.URL.Path, http.StatusFound) })
		missing, _ := debugServer(t, http.NotFound)
		d := &Debuginfod{Servers: []string{missing, first}, Cache: testDir(t)}
		if path, err := d.Fetch(t.Context(), id); err != nil || checkFetched(path, id) != nil {
			t.Errorf("%s, %v", path, err)
		}
	})

	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		url, _ := debugServer(t, func(w http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		})
		r := newRecording()
		m := r.file(t, prog)
		r.add(m, addrs[0])
		d := &Debuginfod{Servers: []string{url}, Cache: testDir(t)}
		s := NewSymbolizer(Config{Debuginfod: d})
		if err := s.Symbolize(ctx, r.Capture, r.open); !errors.Is(err, context.Canceled) || r.Symbols.Of != nil {
			t.Errorf("error %v, symbols %v", err, r.Symbols.Of)
		}
	})

	t.Run("no build ID", func(t *testing.T) {
		d := &Debuginfod{Servers: []string{"http://127.0.0.1:1"}, Cache: testDir(t)}
		for _, id := range []string{"", "../../etc", "ABCDEF0123456789", "abc"} {
			if _, err := d.Fetch(t.Context(), id); !errors.Is(err, ErrNoDebugFile) {
				t.Errorf("%q: %v", id, err)
			}
		}
	})

	t.Run("no URL", func(t *testing.T) {
		d := &Debuginfod{Servers: []string{"file:///etc"}, Cache: testDir(t)}
		if _, err := d.Fetch(t.Context(), id); err == nil || !strings.Contains(err.Error(), "DEBUGINFOD_URLS") {
			t.Errorf("%v", err)
		}
	})

	t.Run("spoiled cache", func(t *testing.T) {
		url, asked := debugServer(t, func(w http.ResponseWriter, r *http.Request) { w.Write(debug) })
		d := &Debuginfod{Servers: []string{url}, Cache: testDir(t)}
		at := filepath.Join(d.Cache, id, "debuginfo")
		copyFile(t, "debuginfod.go", at)
		if path, err := d.Fetch(t.Context(), id); err != nil || path != at || checkFetched(path, id) != nil || asked.Load() != 1 {
			t.Errorf("%s, %v", path, err)
		}
	})
}

// unhex are the bytes of a build ID.
func unhex(id string) []byte {
	var b []byte
	fmt.Sscanf(id, "%x", &b)
	return b
}
