package sourcemap

import (
	"cmp"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Paths leads from build paths, which binaries record, to files of this machine, and from a document
// back to the sources of a capture.
//
// The exported fields are set before the first call and not changed after it; the zero Paths knows
// only files that are where the build says. Any goroutine may ask. Answers are remembered: files
// that were not found are looked for again after some seconds, the workspace's Go modules are listed
// once, until Refresh.
type Paths struct {
	Workspace   []string // folders open in the editor, absolute, as the editor spells them
	GOROOT      string   // Go's own folder; "" for none
	ModCache    string   // Go's module cache; "" for none
	RustSource  string   // folder that holds "library" of Rust's sources; "" for none
	CargoSource []string // folders of unpacked crates: $CARGO_HOME/registry/src/*
	Prefixes    []Prefix // the user's own rules, which come before all others

	mu      sync.Mutex
	local   map[string]knownPath // by build path
	real    map[string]knownPath // canonical form by path
	modules []workModule         // of the workspace, longest path first
	indexed bool                 // modules is filled
}

// A Prefix says that build paths beginning with the folder From are found under the folder To. Of
// several that apply, the longest From that leads to a file wins. A From of "." stands for all
// relative paths, which compilers write with -ffile-prefix-map=FOLDER=. and alike.
type Prefix struct{ From, To string }

// A knownPath is a remembered answer; path is "" where there is none.
type knownPath struct {
	path  string
	until time.Time
}

// remember is how long an answer about the file system holds.
const remember = 5 * time.Second

// Local is the file of this machine that a build path means, with false if none is found. It is
// spelled through a workspace folder where it lies in one, symbolic links or not, so that an editor
// knows it for its own document.
//
// The rules, in their order; the first that leads to a regular file wins:
//
//   - a user's prefix;
//   - the absolute path itself;
//   - the module cache: "/any/pkg/mod/m@v1.2.3/f.go", and "m@v1.2.3/f.go" as -trimpath writes it;
//   - a module of the workspace: "m/pkg/f.go" as -trimpath writes it, or a path with "/m/pkg/f.go" in
//     it; of modules within each other the innermost;
//   - GOROOT: "runtime/proc.go", and "/any/go1.26/src/runtime/proc.go";
//   - packages vendored in a module of the workspace;
//   - Rust's library, "/rustc/HASH/library/…", and crates, "/any/registry/src/INDEX/crate-1.0/…";
//   - a workspace folder that was elsewhere when it was built but had the same name;
//   - relative paths: from the workspace's folders.
//
// A path that only ends like one of the workspace ("/other/src/main.c") is never taken for it: it
// takes a Prefix to say so.
func (p *Paths) Local(buildPath string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.find(buildPath)
}

// find is Local under p.mu.
func (p *Paths) find(buildPath string) (string, bool) {
	if known, ok := p.local[buildPath]; ok && (known.path != "" || time.Now().Before(known.until)) {
		return known.path, known.path != ""
	}
	found := ""
	for candidate := range p.candidates(buildPath) {
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() {
			found = p.respell(filepath.Clean(candidate))
			break
		}
	}
	if p.local == nil {
		p.local = map[string]knownPath{}
	}
	p.local[buildPath] = knownPath{found, time.Now().Add(remember)}
	return found, found != ""
}

// Refresh forgets what is remembered: files or Go modules may have come, gone or moved.
func (p *Paths) Refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.local, p.real, p.modules, p.indexed = nil, nil, nil, false
}

// Canonical is a path without symbolic links, also where its last parts do not exist (yet, or any
// more). Two spellings of one file have the same canonical form.
func (p *Paths) Canonical(path string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.canonical(path)
}

func (p *Paths) canonical(path string) string {
	if known, ok := p.real[path]; ok && time.Now().Before(known.until) {
		return known.path
	}
	if p.real == nil {
		p.real = map[string]knownPath{}
	}
	real := canonical(path)
	p.real[path] = knownPath{real, time.Now().Add(remember)}
	return real
}

func canonical(path string) string {
	path = filepath.Clean(path)
	rest := ""
	for at := path; ; {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(real, rest)
		}
		parent := filepath.Dir(at)
		if parent == at {
			return path
		}
		rest = filepath.Join(filepath.Base(at), rest)
		at = parent
	}
}

// Same says whether two paths are one file: through symbolic links, hard links or bind mounts.
func (p *Paths) Same(a, b string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.same(a, b)
}

func (p *Paths) same(a, b string) bool {
	if a == b || p.canonical(a) == p.canonical(b) {
		return true
	}
	if filepath.Base(a) != filepath.Base(b) {
		return false
	}
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// SourcesOf tells which of a capture's sources are a document: indices into sources, ascending,
// more than one where binaries of differing builds recorded the file under several names. Where a
// source was found when it was recorded, that decides; else Local does, which serves captures of
// other machines.
func (p *Paths) SourcesOf(document string, sources []profile.Source) []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := filepath.Base(document)
	realName := filepath.Base(p.canonical(document))
	named := func(path string) bool {
		base := filepath.Base(path)
		return base == name || base == realName
	}
	var found []int
	for i := range sources {
		s := &sources[i]
		if s.Local != "" && (named(s.Local) || named(s.Path)) && p.same(s.Local, document) {
			found = append(found, i)
		}
	}
	if found != nil {
		return found
	}
	for i := range sources {
		if s := &sources[i]; named(s.Path) {
			if local, ok := p.find(s.Path); ok && p.same(local, document) {
				found = append(found, i)
			}
		}
	}
	return found
}

// respell is a path through a workspace folder's own spelling, if the file lies in one.
func (p *Paths) respell(path string) string {
	for _, folder := range p.Workspace {
		if _, ok := within(path, folder); ok {
			return path
		}
	}
	real := p.canonical(path)
	for _, folder := range p.Workspace {
		if rest, ok := within(real, p.canonical(folder)); ok {
			return filepath.Join(folder, rest)
		}
	}
	return path
}

// within is the rest of a path below a folder.
func within(path, folder string) (rest string, ok bool) {
	folder = strings.TrimSuffix(folder, "/")
	if !strings.HasPrefix(path, folder+"/") {
		return "", false
	}
	return path[len(folder)+1:], true
}

// candidates are the files that a build path may mean, the likeliest first; most do not exist.
func (p *Paths) candidates(build string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if build == "" || strings.ContainsRune(build, 0) || strings.HasPrefix(build, "<") { // <autogenerated>
			return
		}
		if !p.byPrefix(build, yield) {
			return
		}
		if filepath.IsAbs(build) {
			_ = yield(build) && p.absolute(build, yield)
		} else {
			p.relative(build, yield)
		}
	}
}

// remapped are the files that the user's own rules make of a build path.
func (p *Paths) remapped(build string) []string {
	var paths []string
	p.byPrefix(build, func(path string) bool {
		paths = append(paths, path)
		return true
	})
	return paths
}

// byPrefix and its like yield candidates and say whether more are wanted.
func (p *Paths) byPrefix(build string, yield func(string) bool) bool {
	rules := slices.Clone(p.Prefixes)
	slices.SortStableFunc(rules, func(a, b Prefix) int { return cmp.Compare(len(b.From), len(a.From)) })
	for _, rule := range rules {
		from := strings.TrimSuffix(rule.From, "/")
		if from == "." && !filepath.IsAbs(build) { // as -ffile-prefix-map=FOLDER=. makes them
			if !yield(filepath.Join(rule.To, build)) {
				return false
			}
		} else if build == from && from != "" {
			if !yield(rule.To) {
				return false
			}
		} else if rest, ok := within(build, from); ok && (from != "" || rule.From == "/") {
			if !yield(filepath.Join(rule.To, rest)) {
				return false
			}
		}
	}
	return true
}

// absolute serves absolute paths of builds on another machine, or in a folder that was moved.
func (p *Paths) absolute(build string, yield func(string) bool) bool {
	if i := strings.LastIndex(build, "/pkg/mod/"); i >= 0 {
		rest := build[i+len("/pkg/mod/"):]
		if p.ModCache != "" && !yield(filepath.Join(p.ModCache, rest)) {
			return false
		}
		if toolchain, rest, ok := strings.Cut(rest, "/src/"); ok && strings.HasPrefix(toolchain, "golang.org/toolchain@") {
			return p.inGOROOT(rest, yield)
		}
		return true
	}
	for _, m := range p.workModules() {
		// A path of one element would be found in too many others.
		if i := strings.LastIndex(build, "/"+m.path+"/"); i >= 0 && strings.Contains(m.path, "/") {
			if !yield(filepath.Join(m.dir, build[i+len(m.path)+2:])) {
				return false
			}
		}
	}
	for i := range indices(build, "/src/") {
		if isGOROOT(build[:i]) && !p.inGOROOT(build[i+len("/src/"):], yield) {
			return false
		}
	}
	if i := strings.LastIndex(build, "/vendor/"); i >= 0 {
		if !p.vendored(build[i+len("/vendor/"):], yield) {
			return false
		}
	}
	if hash, ok := strings.CutPrefix(build, "/rustc/"); ok {
		if _, rest, ok := strings.Cut(hash, "/"); ok && p.RustSource != "" {
			return yield(filepath.Join(p.RustSource, rest))
		}
		return true
	}
	if _, crate, ok := strings.Cut(build, "/registry/src/"); ok {
		if _, rest, ok := strings.Cut(crate, "/"); ok {
			for _, folder := range p.CargoSource {
				if !yield(filepath.Join(folder, rest)) {
					return false
				}
			}
		}
		return true
	}
	for _, folder := range p.Workspace {
		if commonNames[filepath.Base(folder)] {
			continue
		}
		element := "/" + filepath.Base(folder) + "/"
		for i := range indices(build, element) {
			if !yield(filepath.Join(folder, build[i+len(element):])) {
				return false
			}
		}
	}
	return true
}

// commonNames are names of folders that do not tell one project from another.
var commonNames = map[string]bool{
	"/": true, "app": true, "build": true, "cmd": true, "code": true, "include": true, "lib": true, "local": true, "main": true,
	"pkg": true, "project": true, "source": true, "src": true, "test": true, "tests": true, "tmp": true, "work": true, "workspace": true,
}

// relative serves paths that go build -trimpath writes, and DWARF paths without a folder.
func (p *Paths) relative(build string, yield func(string) bool) bool {
	if module, rest, ok := strings.Cut(build, "@"); ok {
		version, file, ok := strings.Cut(rest, "/")
		if ok && p.ModCache != "" {
			if !yield(filepath.Join(p.ModCache, escapeModule(module)+"@"+escapeModule(version), file)) {
				return false
			}
		}
		// A module that was replaced by a folder keeps the version that go.mod requires.
		for _, m := range p.workModules() {
			if m.path == module && !yield(filepath.Join(m.dir, file)) {
				return false
			}
		}
		return p.vendored(module+"/"+file, yield)
	}
	for _, m := range p.workModules() {
		if rest, ok := within(build, m.path); ok && !yield(filepath.Join(m.dir, rest)) {
			return false
		}
	}
	if !strings.HasPrefix(build, ".") && !p.inGOROOT(build, yield) {
		return false
	}
	if rest, ok := strings.CutPrefix(build, "vendor/"); ok && !p.vendored(rest, yield) {
		return false
	}
	// Files given to go build by name belong to a package of this name.
	build = strings.TrimPrefix(build, "command-line-arguments/")
	build = filepath.Clean(build)
	for strings.HasPrefix(build, "../") {
		build = build[len("../"):]
	}
	for _, folder := range p.Workspace {
		if !yield(filepath.Join(folder, build)) {
			return false
		}
	}
	return true
}

// vendored serves a package copied into a module of the workspace: path is without "vendor/".
func (p *Paths) vendored(path string, yield func(string) bool) bool {
	for _, m := range p.workModules() {
		if !yield(filepath.Join(m.dir, "vendor", path)) {
			return false
		}
	}
	return true
}

func (p *Paths) inGOROOT(path string, yield func(string) bool) bool {
	return p.GOROOT == "" || yield(filepath.Join(p.GOROOT, "src", path))
}

// isGOROOT says whether a folder looks like a GOROOT of some machine: one of its last three
// elements is go, go1.26.0, go-1.26, golang or alike ("/usr/local/go", "/usr/lib/go-1.22",
// "/opt/hostedtoolcache/go/1.26.0/x64", "/nix/store/…-go-1.26/share/go").
func isGOROOT(folder string) bool {
	elements := strings.Split(folder, "/")
	for _, e := range elements[max(0, len(elements)-3):] {
		if rest, ok := strings.CutPrefix(e, "go"); ok {
			if rest == "" || rest[0] == '-' || rest[0] == '.' || rest[0] >= '0' && rest[0] <= '9' || strings.HasPrefix(rest, "lang") {
				return true
			}
		}
	}
	return false
}

// indices are where sep begins in s, from the left; they may overlap.
func indices(s, sep string) iter.Seq[int] {
	return func(yield func(int) bool) {
		for at := 0; ; {
			i := strings.Index(s[at:], sep)
			if i < 0 || !yield(at+i) {
				return
			}
			at += i + 1
		}
	}
}

// escapeModule spells a module path or version as the module cache does, for file systems that do
// not tell upper from lower case: "Azure" is "!azure" (module.EscapePath of golang.org/x/mod).
func escapeModule(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b.WriteByte('!')
			b.WriteByte(c + 'a' - 'A')
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
