package main

import (
	"crypto/md5"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/lspserver/lsptest"
)

// Spin is a C program whose hot takes four fifths of the time and cold one.
const spin = `
-- spin.c --
volatile unsigned long sink;
static unsigned long __attribute__((noinline)) spin(long n) {
	unsigned long x = 1;
	for (long i = 0; i < n; i++) x = x * 6364136223846793005ul + 1442695040888963407ul; // spin
	return x;
}
static void __attribute__((noinline)) hot(long n) { sink += spin(4 * n); __asm__(""); } // hot
static void __attribute__((noinline)) cold(long n) { sink += spin(n); __asm__(""); } // cold
int main(void) {
	for (int i = 0; i < 20; i++) {
		hot(1500000);
		cold(1500000);
	}
	return 0;
}
`

// Tool runs a build tool in the current folder.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s, which .ci/packages test installs: %v", name, err)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// InSpin writes spin into a folder of its own and makes it the current one.
func inSpin(t *testing.T) string {
	t.Helper()
	t.Setenv("DEBUGINFOD_URLS", "")
	dir, err := filepath.EvalSymlinks(inModule(t, spin))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir) // compilers write the path that PWD has
	return dir
}

// CheckSpin tests that the lines of spin.c have the costs that they have.
func checkSpin(t *testing.T, args ...string) {
	t.Helper()
	share := shares(t, "spin.c", args...)
	for _, x := range []struct {
		comment   string
		which     int
		low, high float64
	}{{"hot", 1, 0.6, 0.95}, {"cold", 1, 0.08, 0.35}, {"spin", 0, 0.6, 1}} {
		if got := share[lineOf(t, "spin.c", x.comment)][x.which]; got < x.low || got > x.high {
			t.Errorf("line %q has %.3f, want between %.2f and %.2f; all: %v", x.comment, got, x.low, x.high, share)
		}
	}
}

// Warnings are those of the newest capture.
func warnings(t *testing.T) string {
	t.Helper()
	var all []string
	for _, w := range decode[struct{ Warnings []warningJSON }](t, mustRun(t, "show", "@", "--json")).Warnings {
		all = append(all, w.Text)
	}
	return strings.Join(all, "\n")
}

// A program's sources are found where the build has not left their paths as they are, and a rule of the
// user leads to them from any other.
func TestSourcesOfRemappedBuilds(t *testing.T) {
	for _, c := range []struct {
		name  string
		flags []string // DIR is the folder
		args  []string
	}{
		{"relative", []string{"-ffile-prefix-map=DIR=."}, nil},
		{"relative, of a debugger's option", []string{"-fdebug-prefix-map=DIR=."}, nil},
		{"remapped, and the longest rule wins", []string{"-ffile-prefix-map=DIR=/build/src"}, []string{"--map-path", "/build=/usr", "--map-path", "/build/src=DIR"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := inSpin(t)
			place := func(list []string) (out []string) {
				for _, x := range list {
					out = append(out, strings.ReplaceAll(x, "DIR", dir))
				}
				return out
			}
			tool(t, "gcc", append([]string{"-O1", "-g", "-o", "spin", "spin.c"}, place(c.flags)...)...)
			mustRun(t, append(append([]string{"record"}, place(c.args)...), "--", "./spin")...)
			checkSpin(t)
			if text := warnings(t); strings.Contains(text, "spin.c") {
				t.Errorf("warned: %s", text)
			}
			checkStore(t)
		})
	}
}

// A capture of a build whose paths lead nowhere is shown on the sources that a rule leads to later.
func TestMapPathAtViewTime(t *testing.T) {
	dir := inSpin(t)
	tool(t, "gcc", "-O1", "-g", "-ffile-prefix-map="+dir+"=/build/src", "-o", "spin", "spin.c")
	mustRun(t, "record", "--", "./spin")
	checkSpin(t, "--map-path", "/build/src="+dir)
	status, out, _ := sightline(t, "lines", "spin.c", "--json")
	if a := decode[annotated](t, out); status != exitDone || len(a.Lines) == 0 || a.File != "/build/src/spin.c" {
		t.Errorf("without the rule: exit %d, %+v", status, a)
	}
	for _, bad := range []string{"nothing", "=/tmp", "/build=", "/build=/no/such/folder"} {
		for _, command := range [][]string{{"lines", "spin.c"}, {"record", "--", "./spin"}} {
			status, _, stderr := sightline(t, append([]string{command[0], "--map-path", bad}, command[1:]...)...)
			if status != exitUsage || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "--map-path "+bad) {
				t.Errorf("%s --map-path %s: exit %d: %s", command[0], bad, status, stderr)
			}
		}
	}
	if status, _, stderr := sightline(t, "record", "--debug-folder", "/no/such/folder", "--", "./spin"); status != exitUsage || !strings.Contains(stderr, "no such folder") {
		t.Errorf("--debug-folder: exit %d: %s", status, stderr)
	}
}

// A source that is not the one that the program was built from is said to be so: in the capture, and
// where its lines are shown.
func TestSourceOfAnotherBuild(t *testing.T) {
	inSpin(t)
	text, err := os.ReadFile("spin.c")
	if err != nil {
		t.Fatal(err)
	}
	// GCC 12 writes no checksums; the assembler does.
	tool(t, "gcc", "-O1", "-g", "-gdwarf-5", "-S", "spin.c")
	code, err := os.ReadFile("spin.s")
	if err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile(`(?m)^(\s*\.file\s+\d+\s.*"spin\.c").*$`)
	code = file.ReplaceAll(code, fmt.Appendf(nil, "$1 md5 %#x", md5.Sum(text)))
	if err := os.WriteFile("spin.s", code, 0o644); err != nil {
		t.Fatal(err)
	}
	tool(t, "gcc", "-g", "-gdwarf-5", "-o", "spin", "spin.s")

	mustRun(t, "record", "--", "./spin")
	if text := warnings(t); strings.Contains(text, "spin.c") {
		t.Errorf("warned of the right source: %s", text)
	}
	checkSpin(t)
	if err := os.WriteFile("spin.c", append([]byte("// A comment that moves all lines.\n"), text...), 0o644); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes("spin.c", past, past); err != nil {
		t.Fatal(err)
	}
	mustRun(t, "record", "--", "./spin")
	const says = "not the text that spin was built from"
	if text := warnings(t); !strings.Contains(text, "spin.c") || !strings.Contains(text, says) {
		t.Errorf("warned: %q", text)
	}
	_, _, stderr := sightline(t, "lines", "spin.c")
	if !strings.Contains(stderr, says) {
		t.Errorf("lines says %q", stderr)
	}
	if a := decode[annotated](t, mustRun(t, "lines", "spin.c", "--json")); !strings.Contains(a.Note, says) {
		t.Errorf("lines --json notes %q", a.Note)
	}
}

// A debugServer serves files by build ID, or answers as it is told, and counts what it is asked.
type debugServer struct {
	url string

	mu    sync.Mutex
	asked []string
}

func startDebugServer(t *testing.T, answer http.HandlerFunc) *debugServer {
	t.Helper()
	s := &debugServer{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked = append(s.asked, r.URL.Path)
		s.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	t.Setenv("DEBUGINFOD_URLS", "ima:ignore "+s.url)
	t.Setenv("DEBUGINFOD_CACHE_PATH", t.TempDir())
	// What a debug file said is kept in the user's cache, where the next recording would find it.
	if cache, err := os.UserCacheDir(); err == nil && os.Getenv("GOCACHE") == "" {
		t.Setenv("GOCACHE", filepath.Join(cache, "go-build"))
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	return s
}

func (s *debugServer) requests(path string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.asked {
		if p == path {
			n++
		}
	}
	return n
}

// Stripped makes the program spin without symbols, and tells where servers have its debug file.
func stripped(t *testing.T) (path string, debug []byte) {
	t.Helper()
	tool(t, "gcc", "-O1", "-g", "-Wl,--build-id=sha1", "-o", "spin", "spin.c")
	tool(t, "objcopy", "--only-keep-debug", "spin", "spin.debug")
	tool(t, "strip", "spin")
	debug, err := os.ReadFile("spin.debug")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename("spin.debug", filepath.Join(t.TempDir(), "spin.debug")); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("spin")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return "/buildid/" + gnuBuildID(f) + "/debuginfo", debug
}

// The debug file of a stripped program comes from a server, once; what a server sends in its place, or
// does not send, is a warning that names file, server and remedy, and never a name.
func TestDebuginfodNamesARecording(t *testing.T) {
	inSpin(t)
	path, debug := stripped(t)
	serve := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		w.Write(debug)
	}
	t.Run("served", func(t *testing.T) {
		s := startDebugServer(t, serve)
		for range 2 {
			mustRun(t, "record", "--", "./spin")
			checkSpin(t)
		}
		if n := s.requests(path); n != 1 {
			t.Errorf("asked %d times", n)
		}
		if text := warnings(t); strings.Contains(text, "debuginfod") || strings.Contains(text, "debug file") {
			t.Errorf("warned: %s", text)
		}
	})
	hang := make(chan struct{})
	defer close(hang)
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   []string // of the warning; none: nothing is warned
	}{
		{"missing", http.NotFound, nil},
		{"hangs", func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}, []string{"came for 1s", "DEBUGINFOD_URLS"}},
		{"lies", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>Please log in.</html>") }, []string{"not an ELF file"}},
		{"another build", func(w http.ResponseWriter, r *http.Request) {
			id := strings.Split(path, "/")[2]
			var raw []byte
			fmt.Sscanf(id, "%x", &raw)
			w.Write([]byte(strings.Replace(string(debug), string(raw), strings.Repeat("\x42", len(raw)), 1)))
		}, []string{"another build (build ID 4242"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startDebugServer(t, c.answer)
			t.Setenv("DEBUGINFOD_TIMEOUT", "1")
			mustRun(t, "record", "--", "./spin")
			rows := decode[rowsOut](t, mustRun(t, "stacks", "--json"))
			if r := rows.Rows[0]; !strings.HasSuffix(r.Name, "!"+"[unknown]") && r.Name != "[unknown]" || r.File != "" {
				t.Errorf("the first function is %+v", r)
			}
			text := warnings(t)
			if len(c.want) == 0 && strings.Contains(text, s.url) {
				t.Errorf("warned: %s", text)
			}
			for _, want := range append(c.want, s.url, "/spin: ") {
				if len(c.want) > 0 && !strings.Contains(text, want) {
					t.Errorf("warned %q, want %q in it", text, want)
				}
			}
			checkStore(t)
		})
	}
}

// In an editor the fetch is a part of the recording's progress, and cancelling that goes on without it.
func TestEditorGivesUpFetching(t *testing.T) {
	w := lsptest.NewWorkspace(t, spin, lsptest.WorkspaceOptions{})
	t.Chdir(w.Root)
	path, debug := stripped(t)
	asked, answer := make(chan struct{}, 16), make(chan struct{})
	var hang atomic.Bool
	startDebugServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("X-DEBUGINFOD-SIZE", fmt.Sprint(len(debug)))
		w.Write(debug[:len(debug)/2])
		w.(http.Flusher).Flush()
		asked <- struct{}{}
		if hang.Load() {
			<-r.Context().Done()
			return
		}
		select {
		case <-answer:
		case <-r.Context().Done():
		}
		w.Write(debug[len(debug)/2:])
	})
	source := w.Path("spin.c")
	e := server(t, "vscode", w, nil, nil)
	e.Open(source)
	record := func() (end func() (message string)) {
		call := e.StartCommand("sightline.record", map[string]any{"command": []string{w.Path("spin")}})
		e.Await(lsptest.Expect("the fetch is told", func(s *lsptest.State) lsptest.Verdict {
			for _, work := range s.Work {
				for _, r := range work.Reports {
					if !work.Ended && strings.Contains(r.Message, "fetching symbols of spin from 127.0.0.1") {
						return lsptest.Met
					}
				}
			}
			return lsptest.Unmet
		}))
		<-asked
		return func() string {
			answer, err := call.Wait()
			if err != nil {
				t.Error(err)
			}
			return string(answer)
		}
	}
	end := record()
	close(answer)
	end()
	e.Await(lsptest.NoWork())
	if hints := e.Hints(source); len(hints) == 0 {
		t.Error("no hints with the debug file from the server")
	}
	// Functions of C have lenses and pages as those of Go.
	lenses := map[int]string{}
	for _, l := range e.Lenses(source) {
		lenses[l.Line] += l.Title
	}
	for comment, want := range map[string]string{"hot": "total ", "cold": "total "} {
		if line := lineOf(t, source, comment); !strings.HasPrefix(lenses[line], want) {
			t.Errorf("the lens of %s is %q; all: %v", comment, lenses[line], lenses)
		}
	}
	if hover := e.Hover(source, `hot\(long`); !strings.Contains(hover, "**hot**") || !strings.Contains(hover, "spin") {
		t.Errorf("hover is %q", hover)
	}
	hang.Store(true)
	for _, cache := range []string{"DEBUGINFOD_CACHE_PATH", "XDG_CACHE_HOME"} {
		if err := os.RemoveAll(os.Getenv(cache)); err != nil {
			t.Fatal(err)
		}
	}
	end = record()
	e.CancelWork("Profiling spin")
	if answer := end(); !strings.Contains(answer, `"capture":"`) {
		t.Errorf("cancelled while fetching: %s", answer)
	}
	e.Await(lsptest.NoWork(), lsptest.NoErrorShown())
}
