package lspserver

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver/rpc"
)

type profileTestArgs struct {
	URI   string   `json:"uri,omitempty"`   // a file of the package, or of a C++ or Rust test; or
	Dir   string   `json:"dir,omitempty"`   // the package's folder
	Test  string   `json:"test,omitempty"`  // name of a C++ or Rust test of the file
	Run   string   `json:"run,omitempty"`   // as for go test -run
	Bench string   `json:"bench,omitempty"` // as for go test -bench
	Args  []string `json:"args,omitempty"`  // further go test flags
	// Kinds are what a Go test measures: "cpu", "heap", "block", "mutex"; none is "cpu".
	Kinds []string `json:"kinds,omitempty"`
}

// profileTest records a Go test to its end and answers a recordingResult.
func (s *server) profileTest(c call, a profileTestArgs) (any, error) {
	const name = "sightline.profileTest"
	dir, tags := a.Dir, ""
	if a.Test != "" {
		return s.profileNative(c, a)
	}
	switch {
	case (a.URI == "") == (dir == ""):
		return nil, rpc.ErrParams("%s needs either \"uri\" (a file of the package) or \"dir\" (its folder)", name)
	case a.URI != "":
		u, err := uri.Parse(a.URI)
		path, ok := filePath(u)
		if err != nil || !ok {
			return nil, rpc.ErrParams("%s: %.80q is no file on this machine: give a file of the package", name, a.URI)
		}
		dir = filepath.Dir(path)
		tags = s.constraintOf(c.ctx, u, path)
	}
	if err := checkFolder(name, dir); err != nil {
		return nil, err
	}
	for _, p := range []struct{ arg, pattern string }{{"run", a.Run}, {"bench", a.Bench}} {
		if _, err := regexp.Compile(p.pattern); err != nil {
			return nil, rpc.ErrParams("%s: argument %q is no regular expression (%v): give one as go test -%s takes", name, p.arg, err, p.arg)
		}
	}
	for _, k := range a.Kinds {
		if !slices.Contains(testKinds, k) {
			return nil, rpc.ErrParams("%s: a test tells nothing of kind %.40q: give %s as \"kinds\"", name, k, strings.Join(testKinds, ", "))
		}
	}
	dir = filepath.Clean(dir)
	test := &TestRequest{Package: dir, Run: a.Run, Bench: a.Bench, Args: a.Args, Kinds: a.Kinds}
	if _, set := s.shown(); len(set.testFlags) > 0 {
		test.Args = slices.Concat(a.Args, set.testFlags)
	}
	r := newRecording(Request{Dir: dir, Test: test}, s)
	r.name, r.dir, r.test, r.tags, r.builds = r.req.title(), dir, test, tags, true
	return s.runRecording(c, r)
}

// testKinds are what the test of a Go package can measure.
var testKinds = []string{"cpu", "heap", "block", "mutex"}

type profilePackageArgs struct {
	URI string `json:"uri"` // a file of the package
}

func (a *profilePackageArgs) setShort(s string) { a.URI = s }

// profilePackage records all tests of a document's package and answers as profileTest does.
func (s *server) profilePackage(c call, a profilePackageArgs) (any, error) {
	if a.URI == "" {
		return nil, rpc.ErrParams("sightline.profilePackage needs the argument \"uri\": give a file of the package")
	}
	return s.profileTest(c, profileTestArgs{URI: a.URI})
}

// testTitle is the name of a test that a pattern of ours stands for, or the pattern itself.
func testTitle(run, bench string) string {
	pattern := cmp.Or(bench, run)
	parts := strings.Split(pattern, "/")
	for i, p := range parts {
		inner, ok := strings.CutPrefix(p, "^")
		inner, ok2 := strings.CutSuffix(inner, "$")
		if !ok || !ok2 {
			return pattern
		}
		parts[i] = unquoteMeta.ReplaceAllString(inner, "$1")
	}
	return strings.Join(parts, "/")
}

var unquoteMeta = regexp.MustCompile(`\\([\\.+*?()|\[\]{}^$])`)

func checkFolder(command, dir string) error {
	if !filepath.IsAbs(dir) {
		return rpc.ErrParams("%s: %.80q is no absolute path: give the folder's full path", command, dir)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return rpc.ErrParams("%s: there is no folder %.200q: give one that exists", command, dir)
	}
	return nil
}

type recordArgs struct {
	Command []string `json:"command,omitempty"` // program and arguments; or
	PID     int      `json:"pid,omitempty"`     // a process; or
	Machine bool     `json:"machine,omitempty"` // every process
	Dir     string   `json:"dir,omitempty"`     // folder the command runs in; "" is the first root folder
	Seconds float64  `json:"seconds,omitempty"` // how long at most; 0 is until it ends or is stopped
}

// record records a command, a process or the machine to its end and answers a recordingResult.
func (s *server) record(c call, a recordArgs) (any, error) {
	const name = "sightline.record"
	targets := 0
	for _, given := range []bool{len(a.Command) > 0, a.PID != 0, a.Machine} {
		if given {
			targets++
		}
	}
	switch {
	case targets != 1:
		return nil, rpc.ErrParams("%s needs exactly one of \"command\", \"pid\" and \"machine\"", name)
	case a.PID < 0:
		return nil, rpc.ErrParams("%s: there is no process %d: give the id of a running one", name, a.PID)
	case a.Seconds < 0 || a.Seconds > 86400:
		return nil, rpc.ErrParams("%s: %g seconds are too many or too few: give up to 86400, or 0 for no limit", name, a.Seconds)
	case len(a.Command) > 0 && a.Command[0] == "":
		return nil, rpc.ErrParams("%s: the command has no program: give it as the first of \"command\"", name)
	}
	if a.Dir == "" {
		if all := s.allWorkspaces(); len(all) > 0 {
			a.Dir = all[0].root
		} else if len(a.Command) > 0 {
			return nil, rpc.ErrParams("%s: no folder is open to run the command in: give \"dir\"", name)
		} else {
			a.Dir = "/"
		}
	}
	if err := checkFolder(name, a.Dir); err != nil {
		return nil, err
	}
	req := Request{
		Dir: filepath.Clean(a.Dir), Command: a.Command, PID: a.PID, Machine: a.Machine,
		For: time.Duration(a.Seconds * float64(time.Second)),
	}
	r := newRecording(req, s)
	r.name = req.title()
	return s.runRecording(c, r)
}

// title is a short name of what is recorded, for people.
func (req Request) title() string {
	switch {
	case req.Test != nil:
		return cmp.Or(testTitle(req.Test.Run, req.Test.Bench), "the tests of "+filepath.Base(req.Dir))
	case req.Native != nil:
		return req.Native.Name
	case req.Name != "":
		return req.Name
	case req.PID != 0:
		return fmt.Sprintf("process %d", req.PID)
	case len(req.Command) > 0:
		return filepath.Base(req.Command[0])
	}
	return "the machine"
}
