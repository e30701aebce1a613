package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/process"
)

// oddly is a copy of sleep with a name that is hard to print.
func oddly(t *testing.T, name string) int {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "600")
	cmd.Args[0] = name
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd.Process.Pid
}

func TestPs(t *testing.T) {
	odd := oddly(t, "a\nb\xff")
	dashed := oddly(t, "-zzy")
	if status, out, errs := sightline(t, "ps", strconv.Itoa(odd)); status != exitDone || errs != "" ||
		!strings.Contains(out, `a\nb\xff 600`) || len(strings.Split(strings.TrimSpace(out), "\n")) != 2 {
		t.Errorf("status %d, %q, %q", status, out, errs)
	}
	status, out, errs := sightline(t, "ps", "--interval", "1ms", "--json", strconv.Itoa(odd), strconv.Itoa(os.Getpid()))
	var list processesJSON
	if err := json.Unmarshal([]byte(out), &list); status != exitDone || err != nil || len(list.Processes) != 2 {
		t.Fatalf("status %d, %v, %q, %q", status, err, out, errs)
	}
	for _, p := range list.Processes {
		if p.UID == nil || *p.UID != os.Geteuid() || p.RSS == 0 || p.Files == nil || p.PSS == nil || p.Private == nil || p.State == "" || p.Started.After(time.Now()) {
			t.Errorf("%+v", p)
		}
		if p.PID == odd && p.Name != `a\nb\xff` || p.PID == os.Getpid() && (p.Go == nil || p.Go.Version == "") {
			t.Errorf("%+v", p)
		}
	}
	if status, out, errs = sightline(t, "ps", "--interval", "1ms", "--", "-zzy"); status != exitDone || !strings.Contains(out, strconv.Itoa(dashed)) {
		t.Errorf("by a name that looks like a flag: status %d, %q, %q", status, out, errs)
	}
	if status, out, _ = sightline(t, "ps", "--interval", "1ms", "--tree", strconv.Itoa(os.Getpid())); status != exitDone || !strings.Contains(out, "─ a\\nb\\xff") {
		t.Errorf("as a tree: status %d, %q", status, out)
	}
	if status, out, _ = sightline(t, "ps", "--interval", "1ms", "--columns", "pid,name,start,go", strconv.Itoa(odd)); status != exitDone || !strings.HasPrefix(strings.TrimSpace(out), "PID  NAME") {
		t.Errorf("columns: status %d, %q", status, out)
	}
	if status, out, _ = sightline(t, "ps", "--interval", "1ms", "--threads", "--json", strconv.Itoa(odd)); status != exitDone {
		t.Errorf("threads: status %d, %q", status, out)
	} else if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Processes) != 1 || len(list.Processes[0].ThreadList) != 1 || list.Processes[0].ThreadList[0].Wait == "" {
		t.Errorf("threads: %v, %q", err, out)
	}
	if status, out, _ = sightline(t, "ps", "--interval", "1ms", "--threads", strconv.Itoa(odd)); status != exitDone || !strings.Contains(out, "WAITS IN") || !strings.Contains(out, "nanosleep") {
		t.Errorf("threads: status %d, %q", status, out)
	}
	for _, by := range psSorts {
		if status, out, errs = sightline(t, "ps", "--interval", "1ms", "--top", "3", "--sort", by); status != exitDone || strings.Count(out, "\n") < 3 {
			t.Errorf("by %s: status %d, %q, %q", by, status, out, errs)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := fmt.Sprintf(":%d", l.Addr().(*net.TCPAddr).Port)
	if status, out, errs = sightline(t, "ps", "--interval", "1ms", port); status != exitDone || !strings.Contains(out, strconv.Itoa(os.Getpid())) {
		t.Errorf("by port: status %d, %q, %q", status, out, errs)
	}
}

func TestPsRefuses(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"nobody-is-called-this"}, "none is called so"}, {[]string{"999999999"}, "there is none of this number"},
		{[]string{":"}, "neither a port"}, {[]string{":99999"}, "neither a port"}, {[]string{""}, "none is called so"},
		{[]string{"--sort", "size"}, "sorted by cpu, rss"}, {[]string{"--columns", "nose"}, `there is no column "nose"`},
		{[]string{"--interval", "-1s"}, "up to an hour"}, {[]string{"--tree", "--threads"}, "two views"}, {[]string{"--top", "-1"}, "number of processes"},
		{[]string{"a\nb"}, `process a\nb: `},
	} {
		status, out, errs := sightline(t, append([]string{"ps"}, c.args...)...)
		if status != exitUsage || out != "" || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: status %d, %q, %q", c.args, status, out, errs)
		}
	}
}

func TestFilesCommand(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "x\ny\xff")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gone, err := os.Create(filepath.Join(dir, "gone"))
	if err != nil {
		t.Fatal(err)
	}
	defer gone.Close()
	os.Remove(gone.Name())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	self := strconv.Itoa(os.Getpid())
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	for _, c := range []struct {
		args []string
		want []string
		not  string
	}{
		{[]string{self}, []string{"COMMAND", `x\ny\xff`, "cwd", "txt", "(LISTEN)"}, ""},
		{[]string{"-p", self, "-a", "-d", "^cwd,^mem,^txt,^rtd"}, []string{`x\ny\xff`}, "cwd"},
		{[]string{"-p" + self, "-a", "-d0-2"}, []string{"COMMAND"}, "LISTEN"},
		{[]string{name}, []string{self, `x\ny\xff`}, "LISTEN"},
		{[]string{"+D", dir}, []string{`x\ny\xff`, "gone (deleted)"}, "LISTEN"},
		{[]string{"+L1", "-a", "-p", self}, []string{"gone (deleted)"}, `x\ny`},
		{[]string{":" + port}, []string{self, "127.0.0.1:" + port + " (LISTEN)"}, "cwd"},
		{[]string{"-i:" + port}, []string{"(LISTEN)"}, "cwd"},
		{[]string{"-nP", "-i4TCP@127.0.0.1:" + port, "-sTCP:LISTEN"}, []string{"(LISTEN)"}, "cwd"},
		{[]string{"-i", "TCP:" + port, "-s", "TCP:listen"}, []string{"(LISTEN)"}, "cwd"},
		{[]string{"-t", ":" + port}, []string{self}, "COMMAND"},
		{[]string{"-o", "-p", self}, []string{"OFFSET"}, "SIZE"},
		{[]string{"-c", "/^sight.*test/", "-a", "-i"}, []string{"LISTEN"}, "cwd"},
		{[]string{"--", self}, []string{"cwd"}, ""},
	} {
		status, out, errs := sightline(t, append([]string{"files"}, c.args...)...)
		if status != exitDone || errs != "" && !strings.HasPrefix(errs, "note: ") {
			t.Errorf("%q: status %d, %q", c.args, status, errs)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%q lacks %q:\n%s", c.args, want, out)
			}
		}
		if c.not != "" && strings.Contains(out, c.not) {
			t.Errorf("%q has %q:\n%s", c.args, c.not, out)
		}
	}
	status, out, _ := sightline(t, "files", "--json")
	var list filesJSON
	if err := json.Unmarshal([]byte(out), &list); status != exitDone || err != nil || len(list.Files) < 20 {
		t.Fatalf("status %d, %v, %d files", status, err, len(list.Files))
	}
	if !slices.ContainsFunc(list.Files, func(f fileJSON) bool {
		return f.PID == os.Getpid() && strings.HasSuffix(f.Name, `/x\ny\xff`) || strings.HasSuffix(f.Name, "/x\ny\\xff")
	}) {
		t.Error("the odd file is not among them")
	}
	// A watch ends with its time and says what grew: nothing of a process that does nothing.
	odd := oddly(t, "idler")
	status, out, errs := sightline(t, "files", strconv.Itoa(odd), "--watch", "--interval", "20ms", "--for", "60ms", "--json")
	var leaks leaksJSON
	if err := json.Unmarshal([]byte(out), &leaks); status != exitDone || err != nil || len(leaks.Leaks) != 0 || leaks.Milliseconds < 60 {
		t.Errorf("status %d, %v, %q, %q", status, err, out, errs)
	}
}

func TestFilesRefuses(t *testing.T) {
	for _, c := range []struct {
		args   []string
		want   string
		status int
	}{
		{[]string{"-Z"}, "unknown flag: -Z", exitUsage}, {[]string{"--nose"}, "unknown flag: --nose", exitUsage},
		{[]string{"-p"}, "-p needs", exitUsage}, {[]string{"-p", "x"}, "no number of a process", exitUsage}, {[]string{"-u", "no such user"}, "there is no user", exitUsage},
		{[]string{"-i", "-sTCP:NAP"}, "TCP has no state", exitUsage}, {[]string{"-sTCP"}, "say a protocol", exitUsage}, {[]string{"-i@1.2.3"}, "no address", exitUsage},
		{[]string{"-d", "1-"}, "neither a number", exitUsage}, {[]string{"-d", "1,^2"}, "one or the other", exitUsage}, {[]string{"-c", "/x"}, "second slash", exitUsage},
		{[]string{"-c", "/(/"}, "no regular expression", exitUsage}, {[]string{"+L0"}, "links from 1", exitUsage}, {[]string{"+D", "/nonesuch"}, "no such file", exitUsage},
		{[]string{"+D", "/dev/null"}, "no folder", exitUsage}, {[]string{"/none\nsuch"}, `/none\nsuch`, exitUsage}, {[]string{"no-such-thing"}, "neither a process", exitUsage},
		{[]string{"999999999"}, "none of this number", exitUsage}, {[]string{":port!"}, "neither a port", exitUsage}, {[]string{""}, "an empty word", exitUsage},
		{[]string{"-r", "x", "-p", "1"}, "neither a process", exitUsage}, {[]string{"-r0"}, "seconds between", exitUsage}, {[]string{"--interval", "soon"}, "no time such as", exitUsage},
		{[]string{"--interval"}, "needs a time", exitUsage}, {[]string{"/dev/full", "--watch"}, "name processes", exitUsage}, {[]string{"--json=x"}, "neither true nor false", exitUsage},
		{[]string{"-p", "999999999"}, "nothing that is selected is open", exitFailed}, {[]string{"/dev/full"}, "nothing that is selected is open", exitFailed},
	} {
		status, out, errs := sightline(t, append([]string{"files"}, c.args...)...)
		if status != c.status || out != "" || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: status %d, %q, %q", c.args, status, out, errs)
		}
	}
	if status, out, _ := sightline(t, "files", "--help"); status != exitDone || !strings.Contains(out, "+D DIR") {
		t.Errorf("the help is %d, %q", status, out)
	}
}

func FuzzFilesArgs(f *testing.F) {
	f.Add("-iTCP@[::1]:80-90 -sTCP:LISTEN -p 1,^2 -c /x/ -r2 +L1 -t")
	f.Add("--json=true -- -p")
	f.Add("+D / -d 0-2,^txt --for 1s")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := parseFilesArgs(strings.Split(line, " "))
		if (err == nil) != (o != nil) {
			t.Errorf("%q: %+v, %v", line, o, err)
		}
		if err != nil && strings.Contains(err.Error(), "\n") && !strings.Contains(line, "\n") {
			t.Errorf("%q: %q", line, err)
		}
		if o != nil {
			o.selection.Matches(&process.File{Owner: &process.Owner{Name: line}})
		}
	})
}

// leakProgram opens what it never closes, and says so.
const leakProgram = `package main

import (
	"fmt"
	"os"
	"time"
)

var keep []*os.File

func leak() {
	f, err := os.Open("/dev/null") // the leak
	if err != nil {
		panic(err)
	}
	keep = append(keep, f)
}

func main() {
	fmt.Println("ready")
	for range 4000 {
		leak()
		time.Sleep(5 * time.Millisecond)
	}
}
`

// A process page tells what grows, and the line that opens it.
func TestInspectLeak(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("which line opens descriptors takes root or CAP_BPF and CAP_PERFMON")
	}
	dir, pid := buildProgram(t, "leak", leakProgram)
	n := newInspector(func() string { return "." })
	defer n.close()
	want := 0
	for i, line := range strings.Split(leakProgram, "\n") {
		if strings.Contains(line, "// the leak") {
			want = i
		}
	}
	var r *rpc.ProcessResult
	var start string
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		var err error
		if r, err = n.process(t.Context(), rpc.ProcessParams{PID: pid, Leaks: true, Start: start, Limit: 10}, ""); err != nil {
			t.Fatal(err)
		}
		start = r.Start
		if len(r.Leaks) > 0 && r.Leaks[0].Grew > 20 && len(r.Leaks[0].Lines) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing has grown: %+v", r)
		}
	}
	l := r.Leaks[0]
	if l.Type != "CHR" || l.Name != "/dev/null" || l.Lines[0].Location == nil || l.Lines[0].Location.Line != want ||
		!strings.HasSuffix(l.Lines[0].Location.URI, "/main.go") || l.Lines[0].Stale || !strings.Contains(l.Lines[0].Text, "main.leak") {
		t.Errorf("it grows by %+v at %+v, want line %d", l, l.Lines[0].Location, want)
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil && l.Lines[0].Location.URI != string(uri.File(filepath.Join(real, "main.go"))) {
		t.Errorf("it lies in %s", l.Lines[0].Location.URI)
	}
	if r.MoreFiles == 0 || len(r.Files) != 10 || r.Memory == 0 || len(r.Threads) == 0 || r.Name != "leak" || r.Note != "" {
		t.Errorf("%+v", r)
	}
	for _, fact := range []string{"CPU", "resident", "private", "PSS", "goroutines", "Go heap", "open files", "architecture"} {
		if !slices.ContainsFunc(r.Facts, func(f rpc.ProcessFact) bool { return f.Name == fact && f.Text != "" && f.Detail != "" }) {
			t.Errorf("%s is not among %+v", fact, r.Facts)
		}
	}
	if _, err := n.process(t.Context(), rpc.ProcessParams{PID: pid, Start: "1"}, ""); err == nil || !strings.Contains(err.Error(), "another has its number") {
		t.Errorf("by a number that was another's: %v", err)
	}
	if len(n.watched) != 0 {
		t.Errorf("it is watched still")
	}

	status, out, errs := sightline(t, "files", strconv.Itoa(pid), "--watch", "--interval", "100ms", "--for", "500ms")
	if status != exitDone || !strings.Contains(out, "main.leak") || !strings.Contains(out, fmt.Sprintf("main.go:%d", want+1)) {
		t.Errorf("status %d, %s%s", status, out, errs)
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	x := table{width: 41, columns: []tableColumn{{title: "A"}, {title: "RARE", rank: 2}, {title: "EMPTY", optional: true}, {title: "L", left: true, rank: 1}, {title: "TEXT", left: true}},
		rows: [][]string{{"1", "12345", "", "é", strings.Repeat("x", 50)}, {"100", "1", "", "long", "y"}}}
	x.print(&out)
	want := "  A  L     TEXT\n  1  é     " + strings.Repeat("x", 29) + "…\n100  long  y\n"
	if out.String() != want {
		t.Errorf("it is\n%s, want\n%s", out.String(), want)
	}
	out.Reset()
	x.uncut = true
	if x.print(&out); !strings.Contains(out.String(), "RARE") || !strings.Contains(out.String(), strings.Repeat("x", 50)) || strings.Contains(out.String(), "EMPTY") {
		t.Errorf("it is\n%s", out.String())
	}
}
