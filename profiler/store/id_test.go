package store

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

func TestIDs(t *testing.T) {
	at := time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)
	id := nextID("", at)
	if len(id) != idLength || strings.ToLower(string(id)) != string(id) || !id.Time().Equal(at) {
		t.Errorf("id %q of %v", id, id.Time())
	}
	if later := nextID("", at.Add(time.Millisecond)); later <= id {
		t.Errorf("%s does not sort before %s", id, later)
	}
	for _, now := range []time.Time{at, at.Add(-time.Hour), {}} {
		if bumped := nextID(id, now); bumped <= id || bumped.Time().Sub(at) != time.Millisecond {
			t.Errorf("after %s comes %s", id, bumped)
		}
	}
	for _, bad := range []ID{"", "1", "1kx5r0000u", "UPPER0000", "i00000000"} {
		if _, ok := bad.parse(); ok || !bad.Time().IsZero() {
			t.Errorf("%q is an id", bad)
		}
	}
}

func TestResolve(t *testing.T) {
	s := open(t, Options{})
	for _, ref := range []string{"@", "abc"} {
		if _, err := s.Resolve(ref); !errors.Is(err, ErrNoCapture) || !strings.Contains(err.Error(), "record one first") {
			t.Errorf("%s in an empty store: %v", ref, err)
		}
	}
	c := profile.NewCapture(profile.Target{}, time.Now())
	var all []ID
	for _, ms := range []int64{1_800_000_000_000, 1_800_000_000_001, 1_900_000_000_000} {
		s.now = func() time.Time { return time.UnixMilli(ms) }
		all = append(all, must[Meta](t)(s.Put(c)).ID)
	}
	for ref, want := range map[string]ID{
		"@": all[2], "@1": all[2], "@2": all[1], "@3": all[0],
		string(all[0]):                      all[0],
		string(all[2][:4]):                  all[2],
		strings.ToUpper(string(all[2][:5])): all[2],
		"l" + string(all[2][1:4]):           all[2], // read aloud
	} {
		if got, err := s.Resolve(ref); got != want || err != nil {
			t.Errorf("%s is %s, want %s: %v", ref, got, want, err)
		}
	}
	for ref, want := range map[string]string{
		"@4":                     "the store has only 3; @3 is the oldest",
		"@0":                     "a number from 1 belongs after the @",
		"@x":                     "a number from 1 belongs after the @",
		"zz":                     "the nearest are " + string(all[2]),
		"":                       "the nearest are",
		string(all[0][:7]) + "z": "the nearest are " + string(all[1]) + ", " + string(all[0]),
		string(all[0][:8]):       "2 captures begin so: " + string(all[0]) + ", " + string(all[1]) + "; give more of the id",
	} {
		_, err := s.Resolve(ref)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: no %q in %v", ref, want, err)
		}
		if ambiguous := strings.Contains(want, "begin so: "); errors.Is(err, ErrAmbiguous) != ambiguous || errors.Is(err, ErrNoCapture) == ambiguous {
			t.Errorf("%q is of the wrong kind: %v", ref, err)
		}
	}
}

func TestNoSuchCapture(t *testing.T) {
	s := open(t, Options{})
	for range 2 { // without a file, and with one
		_, load := s.Load("000000000")
		_, meta := s.LoadMeta("000000000")
		_, source := s.Source("000000000", "a")
		_, replace := s.Replace("000000000", profile.NewCapture(profile.Target{}, time.Now()))
		for what, err := range map[string]error{
			"load": load, "meta": meta, "source": source, "replace": replace,
			"remove": s.Remove("000000000"), "pin": s.Pin("000000000", true), "note": s.SetNote("000000000", ""),
		} {
			if !errors.Is(err, ErrNoCapture) {
				t.Errorf("%s: %v", what, err)
			}
		}
		must[Meta](t)(s.Put(profile.NewCapture(profile.Target{}, time.Now())))
	}
}

func TestNewest(t *testing.T) {
	metas := []Meta{
		{ID: "3", Recording: true, Files: []FileMeta{{Local: "/a"}}},
		{ID: "2", Files: []FileMeta{{Path: "/a", Local: "/b"}}},
		{ID: "1", Files: []FileMeta{{Local: ""}, {Local: "/a"}}},
	}
	if id, ok := Newest(metas, "/a"); id != "1" || !ok {
		t.Error(id)
	}
	if id, ok := Newest(metas, ""); ok {
		t.Error(id)
	}
}

func TestPath(t *testing.T) {
	state, work := t.TempDir(), t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	dir := filepath.Join(work, "my project (ü)")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(work, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	path := must[string](t)(Path(dir))
	name := filepath.Base(filepath.Dir(path))
	if !strings.HasPrefix(name, "my_project__ü_-") || len(name) != len("my_project__ü_-")+8 || filepath.Dir(filepath.Dir(path)) != filepath.Join(state, "sightline") || filepath.Base(path) != "captures.db" {
		t.Errorf("path is %s", path)
	}
	if other := must[string](t)(Path(link)); other != path {
		t.Errorf("through a link the path is %s", other)
	}
	t.Chdir(work)
	if other := must[string](t)(Path("./link/../link/.")); other != path {
		t.Errorf("relative, the path is %s", other)
	}
	if root := must[string](t)(Path("/")); !strings.HasPrefix(filepath.Base(filepath.Dir(root)), "root-") {
		t.Errorf("the root's path is %s", root)
	}
	if entries := must[[]os.DirEntry](t)(os.ReadDir(state)); len(entries) != 0 {
		t.Errorf("asking made %v", entries)
	}

	s := must[*Store](t)(OpenWorkspace(link, Options{}))
	if list := must[[]Meta](t)(s.List()); list != nil {
		t.Errorf("captures %v", list)
	}
	if entries := must[[]os.DirEntry](t)(os.ReadDir(state)); len(entries) != 0 {
		t.Errorf("reading made %v", entries)
	}
	must[Meta](t)(s.Put(generate(small, 1)))
	if got := must[[]byte](t)(os.ReadFile(filepath.Join(filepath.Dir(path), WorkspaceFile))); string(got) != dir+"\n" {
		t.Errorf("the workspace is told as %q", got)
	}
	for p, want := range map[string]os.FileMode{
		filepath.Join(state, "sightline"): os.ModeDir | 0o700, filepath.Dir(path): os.ModeDir | 0o700,
		path: 0o600, filepath.Join(filepath.Dir(path), WorkspaceFile): 0o600,
	} {
		if info := must[os.FileInfo](t)(os.Stat(p)); info.Mode() != want {
			t.Errorf("%s has mode %v", p, info.Mode())
		}
	}

	for _, bad := range []string{filepath.Join(work, "none"), path} {
		if _, err := Path(bad); err == nil || !strings.Contains(err.Error(), bad) || !strings.Contains(err.Error(), "name ") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	home := t.TempDir()
	t.Setenv("XDG_STATE_HOME", "relative/is/not/valid")
	t.Setenv("HOME", home)
	if p := must[string](t)(Path(dir)); !strings.HasPrefix(p, filepath.Join(home, ".local", "state", "sightline")) {
		t.Errorf("path is %s", p)
	}
	t.Setenv("HOME", "")
	if _, err := Path(dir); err == nil || !strings.Contains(err.Error(), "neither XDG_STATE_HOME nor HOME") {
		t.Errorf("without a home: %v", err)
	}
}

func TestLockOwners(t *testing.T) {
	const locks = `1: FLOCK  ADVISORY  WRITE 71 fd:01:131 0 EOF
1: -> FLOCK  ADVISORY  WRITE 72 fd:01:131 0 EOF
2: POSIX  ADVISORY  WRITE 73 fd:01:131 0 EOF
3: FLOCK  ADVISORY  READ 74 fd:01:132 0 EOF
4: FLOCK  ADVISORY  READ 75 fd:01:131 0 EOF
5: FLOCK  ADVISORY  READ 0 fd:01:131 0 EOF
6: FLOCK  ADVISORY  READ 76 fd:00:131 0 EOF
7: FLOCK
8: FLOCK ADVISORY READ x fd:01:131 0 EOF
9: FLOCK ADVISORY READ 77 fd:01 0 EOF
`
	if got := lockOwners([]byte(locks), 0xfd, 1, 131); !slices.Equal(got, []int{71, 75}) {
		t.Errorf("owners are %v", got)
	}
}

func TestProcess(t *testing.T) {
	me := self()
	if me.started == 0 || me.boot == "" || me.namespace == "" {
		t.Errorf("this process is %+v", me)
	}
	for _, test := range []struct {
		what         string
		change       func(p *process)
		alive, known bool
	}{
		{"this", func(*process) {}, true, true},
		{"a number used again", func(p *process) { p.started-- }, false, true},
		{"no number", func(p *process) { p.pid = 1 << 30 }, false, true},
		{"before a restart", func(p *process) { p.boot = "x" }, false, false},
		{"another namespace", func(p *process) { p.namespace = "pid:[1]" }, false, false},
	} {
		p := me
		test.change(&p)
		if alive, known := p.alive(); alive != test.alive || known != test.known {
			t.Errorf("%s: alive %v, known %v", test.what, alive, known)
		}
	}
	now := time.Now()
	m := Meta{Interrupted: true, writer: me}
	m.writer.namespace = "pid:[1]"
	for age, want := range map[time.Duration]bool{0: true, heartbeat: true, 2 * silence: false, -2 * silence: false} {
		if m.flushed = now.Add(-age); m.recording(now) != want {
			t.Errorf("silent for %v: recording is %v", age, !want)
		}
	}
}
