package sourcemap

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A goBuild is one way to build the program in testdata/gotables.
type goBuild struct {
	name    string
	version string // of the toolchain; "" for the one that runs the tests
	cgo     bool
	args    []string
	shared  bool // -buildmode=c-shared; a C program asks it
}

func (b goBuild) env() []string {
	env := append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=0")
	if b.cgo {
		env = append(env, "CGO_ENABLED=1")
	}
	if b.version != "" {
		env = append(env, "GOTOOLCHAIN=go"+b.version)
	}
	return env
}

// keepsOuter tells that the runtime's answer still has the outermost function where it is a wrapper:
// the way in which it is asked did not look at it then.
func (b goBuild) keepsOuter() bool { return strings.HasPrefix(b.version, "1.20.") }

// offline matches what the go command says where a toolchain cannot be fetched because there is no
// network, and nothing else.
var offline = regexp.MustCompile(`dial tcp|no such host|GOPROXY=off|toolchain not available|network is unreachable`)

// builds are the programs of testdata/gotables that were built, by goBuild; TestMain removes them.
var builds struct {
	dir  string
	made sync.Map // from a goBuild's text to func() (string, error)
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gotables")
	if err != nil {
		panic(err)
	}
	builds.dir = dir
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// errNoToolchain says why a build cannot be had here, through no fault of ours.
var errNoToolchain = errors.New("not to be had here")

// build makes the program in testdata/gotables, or takes the one made before, and is its path.
func (b goBuild) build(t testing.TB) string {
	t.Helper()
	b.name = ""
	key := fmt.Sprintf("%+v", b)
	once, _ := builds.made.LoadOrStore(key, sync.OnceValues(func() (string, error) { return b.make() }))
	path, err := once.(func() (string, error))()
	if errors.Is(err, errNoToolchain) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (b goBuild) make() (string, error) {
	if b.cgo {
		if _, err := exec.LookPath("gcc"); err != nil {
			return "", fmt.Errorf("a C compiler for cgo is %w: %v", errNoToolchain, err)
		}
	}
	if b.version != "" {
		cmd := exec.Command("go", "version")
		cmd.Env = b.env()
		if out, err := cmd.CombinedOutput(); offline.Match(out) {
			return "", fmt.Errorf("go%s is %w: %s", b.version, errNoToolchain, out)
		} else if err != nil {
			return "", fmt.Errorf("go%s: %v\n%s", b.version, err, out)
		}
	}
	dir, err := os.MkdirTemp(builds.dir, "")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "program")
	cmd := exec.Command("go", append([]string{"build", "-o", path}, b.args...)...)
	cmd.Env, cmd.Dir = b.env(), "testdata/gotables"
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %v\n%s", cmd, err, out)
	}
	return path, nil
}

// ask runs the program and returns what its runtime says about each address.
func (b goBuild) ask(t *testing.T, path string, addrs []uint64) []string {
	t.Helper()
	cmd := exec.Command(path, path)
	if b.shared {
		host := filepath.Join(t.TempDir(), "host")
		out, err := exec.Command("gcc", "-o", host, "-xc", "testdata/gotables/host.c.txt", "-ldl").CombinedOutput()
		if err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
		cmd = exec.Command(host, path)
	}
	var in bytes.Buffer
	for _, a := range addrs {
		fmt.Fprintf(&in, "%x\n", a)
	}
	cmd.Stdin = &in
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.Bytes())
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(addrs) {
		t.Fatalf("the program answered %d of %d questions", len(lines), len(addrs))
	}
	return lines
}

// spell is a place's frames as the program in testdata/gotables writes them.
func spell(frames []profile.Frame) string {
	var b strings.Builder
	for _, f := range frames {
		file := f.File
		if file == "" {
			file = "?"
		}
		fmt.Fprintf(&b, "%s\t%s\t%d\t%d;", f.Func, file, f.Line, f.StartLine)
	}
	return b.String()
}

var nameless = regexp.MustCompile(`(^|;)\t`)

func openGo(t testing.TB, path string) (*goTable, *elf.File) {
	t.Helper()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	f, err := elf.NewFile(r)
	if err != nil {
		t.Fatal(err)
	}
	table, err := openGoTable(newImage(r, f), f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return table, f
}

// codeOf is every step'th address of a binary's code.
func codeOf(f *elf.File, step uint64) []uint64 {
	var addrs []uint64
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_X != 0 {
			for a := p.Vaddr; a < p.Vaddr+p.Filesz; a += step {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// The runtime of each program is asked about its own addresses, and must say what we say.
func TestGoTableAgainstRuntime(t *testing.T) {
	strip := []string{"-trimpath", "-ldflags=-s -w"}
	builds := []goBuild{
		{name: "plain"},
		{name: "stripped", args: strip},
		{name: "unoptimized", args: []string{"-gcflags=all=-N -l"}},
		{name: "pie", args: []string{"-buildmode=pie"}},
		{name: "cgo", cgo: true},
		{name: "cgo-internal", cgo: true, args: []string{"-ldflags=-linkmode=internal"}},
		{name: "cgo-pie-stripped", cgo: true, args: append([]string{"-buildmode=pie"}, strip...)},
		{name: "race", cgo: true, args: []string{"-race"}},
		{name: "c-shared", cgo: true, shared: true, args: []string{"-buildmode=c-shared"}},
	}
	for _, v := range []string{"1.20.14", "1.21.13", "1.22.12", "1.23.12", "1.24.9", "1.25.4"} {
		builds = append(builds,
			goBuild{name: "go" + v + "/stripped", version: v, args: strip},
			goBuild{name: "go" + v + "/cgo-pie", version: v, cgo: true, args: []string{"-buildmode=pie"}},
		)
	}
	for _, b := range builds {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			path := b.build(t)
			table, f := openGo(t, path)
			addrs := codeOf(f, 53)
			want := b.ask(t, path, addrs)
			// The runtime takes offset 0 into the names for no name, but a name is there.
			first := table.name(0)
			var wrong, known, inlined int
			for i, addr := range addrs {
				if want[i] == "last" {
					continue
				}
				want := nameless.ReplaceAllString(want[i], "${1}"+first+"\t")
				frames, ok := table.frames(addr, nil)
				if ok != (want != "") {
					t.Errorf("%#x: known is %v, the runtime says %q", addr, ok, want)
					wrong++
				} else if got := spell(frames); got != want && !(b.keepsOuter() && strings.HasPrefix(want, got)) {
					t.Errorf("%#x:\n got %s\nwant %s", addr, got, want)
					wrong++
				}
				if ok {
					known++
				}
				if len(frames) > 1 {
					inlined++
				}
				if wrong > 5 {
					t.Fatal("and so on")
				}
			}
			if known < 3000 || inlined < known/20 && b.name != "unoptimized" {
				t.Errorf("of %d addresses %d are known and %d of them have inlined calls: too few to be a test", len(addrs), known, inlined)
			}
		})
	}
}
