package process

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/procfs"
)

const statRest = " S 1 2 3 4 5 %s 7 8 9 10 40 2 14 15 16 17 6 19 777 21 321 22 23 24 25 26 27 28 29 30 31 32 33 34 35 1 37"

func TestParseStat(t *testing.T) {
	line := func(name, state, flags string) []byte {
		return []byte("7 (" + name + ")" + strings.Replace(strings.Replace(statRest, "%s", flags, 1), "S", state, 1) + "\n")
	}
	base := procStat{pid: 7, parent: 1, user: 40, system: 2, threads: 6, start: 777, resident: 321, processor: 1}
	for _, c := range []struct {
		name, state, flags string
		kernel             bool
	}{
		{"a) b(c)", "S", "4194560", false}, {"kthreadd", "S", "2129984", true}, {"x\n y", "Z", "0", false}, {"\xff", "R", "0", false}, {"", "t", "0", false},
	} {
		want := base
		want.name, want.state, want.kernel = c.name, State(c.state[0]), c.kernel
		got, err := parseStat(line(c.name, c.state, c.flags))
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", c.name, got, err, want)
		}
	}
	for _, text := range []string{"", "7", "7 (x", ")(", "7 (x) S 1", "x (y)" + statRest, "-7 (y)" + strings.Replace(statRest, "%s", "0", 1), "7 (y) SS" + statRest[2:]} {
		if got, err := parseStat([]byte(text)); err == nil || got != (procStat{}) {
			t.Errorf("%q: %+v, %v; want an error", text, got, err)
		}
	}
}

func TestParseStatus(t *testing.T) {
	got, ok := parseStatus([]byte("Name:\tUid:\t9\nUid:\t5\t6\t7\t8\nRssAnon:\t     12 kB\nVmSwap:\t       3 kB\nVmLck:\tx\n"))
	if want := (procStatus{ruid: 5, uid: 6, anonymous: 12 << 10, swap: 3 << 10, memory: true}); !ok || got != want {
		t.Errorf("%+v, %t; want %+v", got, ok, want)
	}
	for _, text := range []string{"", "Uid:\n", "Uid:\t1\n", "Uid:\t-1\t-1\n", "Uid:\t1\tx\n"} {
		if got, ok := parseStatus([]byte(text)); ok || got != (procStatus{}) {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// What is read here and what the library reads is the same.
func TestStatAgreesWithProcfs(t *testing.T) {
	text, err := os.ReadFile("/proc/1/stat")
	if err != nil {
		t.Fatal(err)
	}
	ours, err := parseStat(text)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := procfs.NewProc(1)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := proc.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if ours.name != theirs.Comm || ours.start != theirs.Starttime || ours.parent != theirs.PPID || ours.pid != theirs.PID {
		t.Errorf("ours is %+v, theirs %+v", ours, theirs)
	}
}

func FuzzProcess(f *testing.F) {
	for _, file := range []string{"stat", "status", "cmdline", "io"} {
		if text, err := os.ReadFile("/proc/self/" + file); err == nil {
			f.Add(text)
		}
	}
	f.Add([]byte("7 (a) b(c))" + statRest))
	f.Add([]byte("Uid:\t-1\t99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseStat(text)
		if (err == nil) != (s.pid > 0) || err != nil && s != (procStat{}) || s.resident < 0 {
			t.Errorf("%+v and %v", s, err)
		}
		if x, ok := parseStatus(text); !ok && x != (procStatus{}) || x.uid < 0 || x.anonymous < 0 || x.swap < 0 {
			t.Errorf("%+v and %t", x, ok)
		}
		if r, w, ok := parseIO(text); r < 0 || w < 0 || !ok && r+w != 0 {
			t.Errorf("%d and %d, %t", r, w, ok)
		}
		p := Process{Name: s.name, Args: splitArgs(text)}
		if line := Printable(p.CommandLine()); strings.ContainsAny(line, "\n\x1b\x00") || !cmp.Equal(line, strings.ToValidUTF8(line, "")) {
			t.Errorf("the command line is %q", line)
		}
		p.Called(string(text))
	})
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"":                 "",
		"plain é \uFFFD":   "plain é \uFFFD",
		"a\nb\tc":          `a\nb\tc`,
		"\xff\xc3\xa9\x1b": `\xffé\x1b`,
		"r\u202etl":        `r\u202etl`,
		`back\slash`:       `back\slash`,
		"\x80":             `\x80`,
		"a\uFFFD\n":        "a\uFFFD" + `\n`,
	} {
		if got := Printable(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestContainers(t *testing.T) {
	id := strings.Repeat("3f2a9c0d1e4b5678", 4)
	for path, want := range map[string]string{
		"/": "", "/user.slice/user-0.slice/session-1.scope": "",
		"/docker/" + id:                                     "docker 3f2a9c0d1e4b",
		"/system.slice/docker-" + id + ".scope":             "docker 3f2a9c0d1e4b",
		"/machine.slice/libpod-" + id + ".scope/container":  "podman 3f2a9c0d1e4b",
		"/kubepods/burstable/pod1/" + id:                    "kubernetes 3f2a9c0d1e4b",
		"/kubepods.slice/x/cri-containerd-" + id + ".scope": "containerd 3f2a9c0d1e4b",
		"/kubepods.slice/x/crio-" + id + ".scope":           "cri-o 3f2a9c0d1e4b",
		"/lxc/web\x1b1/init.scope":                          `lxc web\x1b1`,
		"/lxc.payload.web2":                                 "lxc web2",
		"/machine.slice/machine-build.scope":                "nspawn build",
		"/docker/" + id[:63] + "G":                          "",
		"/x/" + id:                                          "",
	} {
		if got := containerOf([]byte("0::/\n9:name=systemd:" + path + "\n")); got != want {
			t.Errorf("%s is in %q, want %q", path, got, want)
		}
	}
}

func FuzzContainer(f *testing.F) {
	f.Add("/docker/" + strings.Repeat("0", 64))
	f.Add("/lxc/\xff/machine-.scope")
	f.Fuzz(func(t *testing.T, path string) {
		if c := containerOfPath(path); strings.ContainsAny(c, "\n\x00") || len(c) > 6*len(path)+20 {
			t.Errorf("%q is in %q", path, c)
		}
	})
}

func TestCalled(t *testing.T) {
	for _, c := range []struct {
		p    Process
		name string
		want bool
	}{
		{Process{Name: "sh"}, "sh", true}, {Process{Name: "sh"}, "s", false}, {Process{Name: "sh"}, "", false},
		{Process{Name: "verylongnameofa", Args: []string{"/opt/verylongnameofaprogram", "x"}}, "verylongnameofaprogram", true},
		{Process{Name: "bash", Args: []string{"-bash"}}, "bash", true}, {Process{Name: "x", Args: []string{"-zsh"}}, "zsh", true},
		{Process{Name: "x", Args: []string{"-zsh"}}, "-zsh", true}, {Process{Name: "x", Args: []string{"/bin/y"}}, "/bin/y", true},
		{Process{Name: "x", Args: []string{"-"}}, "", false},
	} {
		if got := c.p.Called(c.name); got != c.want {
			t.Errorf("%+v is called %q: %t", c.p, c.name, got)
		}
	}
}

func TestChildren(t *testing.T) {
	p := func(pid, parent int, start uint64) Process { return Process{ID: ID{pid, start}, Parent: parent} }
	all := []Process{
		p(1, 0, 1), p(5, 1, 2), p(6, 5, 3), p(7, 1, 2), p(8, 99, 1), // its parent is not seen
		p(20, 21, 5), p(21, 20, 5), // a circle: numbers were used again while they were read
		p(30, 31, 1), p(31, 1, 9), // a parent that is younger is another process
	}
	var got [][2]int
	for _, r := range Children(all) {
		got = append(got, [2]int{all[r.Index].PID, r.Depth})
		if len(r.Last) != r.Depth {
			t.Errorf("%+v", r)
		}
	}
	want := [][2]int{{1, 0}, {5, 1}, {6, 2}, {7, 1}, {31, 1}, {8, 0}, {30, 0}, {20, 0}, {21, 1}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
