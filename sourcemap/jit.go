package sourcemap

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// JIT is the Module of frames of code made at run time.
const JIT = "[jit]"

// A Process says whose code made at run time is, and where it tells the names.
type Process struct {
	PID int // as this machine numbers it
	// Own is the PID that its own PID namespace numbers it by, and which it calls its files by. 0: it is
	// PID.
	Own int
	// UID is the user the process runs as, as this process sees it. Files that neither this user nor
	// root owns are not believed: anybody can write to /tmp.
	UID uint32
	// Root is the folder its paths begin at, "/proc/7/root" while it runs in a container; "" for this
	// process's root.
	Root string
	// Tmp is what it sees as /tmp, where that is not found below Root; "" where it is.
	Tmp string
	// Begun is when it was started. A file that was last written before is of an earlier process with its
	// number, and is passed over. The zero time: every file is good.
	Begun time.Time
	// Dumps are the paths of the jitdumps that it had mapped (jit-PID.dump), which is how a process
	// tells of them. /tmp/jit-PID.dump is looked at anyway.
	Dumps []string
}

// Bounds of what is read of one process's files. Large Java programs write some ten megabytes of
// names.
const (
	maxJIT      = 256 << 20 // bytes
	maxJITCode  = 16 << 20  // bytes of one function: more is not code of one
	maxJITCodes = 4 << 20   // functions
	maxJITName  = 4096
)

// A jitTable names the code that one process made at run time, by its perf map and its jitdumps. Its
// addresses are runtime addresses. Where functions overlap, the one that was told last is there now.
type jitTable struct {
	codes  []jitCode
	pieces []piece
}

// A jitCode is one function.
type jitCode struct {
	addr, size uint64
	name       string
	lines      []jitLine // ascending by address; nil where they are not known
}

// A jitLine says that from an address on the code is of a line.
type jitLine struct {
	addr uint64
	file string
	line int
}

// openJIT reads what a process has written about its code, nil where it has written nothing that can
// be used. Notes are what is wrong with it, a sentence each.
func openJIT(p Process) (t *jitTable, notes []string) {
	t = &jitTable{}
	paths := []string{
		fmt.Sprintf("/tmp/perf-%d.map", cmp.Or(p.Own, p.PID)),
		fmt.Sprintf("/tmp/jit-%d.dump", cmp.Or(p.Own, p.PID)),
	}
	for _, dump := range p.Dumps {
		if dump = path.Clean(dump); dump != paths[1] {
			paths = append(paths, dump)
		}
	}
	for i, path := range paths {
		data, err := readJIT(p, path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errEarlier) {
			continue
		}
		var codes []jitCode
		var bad int
		if err == nil && i == 0 {
			codes, bad = parsePerfMap(data)
		} else if err == nil {
			codes, err = parseJITDump(data)
		}
		switch {
		case err != nil:
			notes = append(notes, fmt.Sprintf("%s is not used: %v", path, err))
		case bad > 0:
			notes = append(notes, fmt.Sprintf("%s: %d of its lines are damaged or claim more than %d bytes for one function; they are left out", path, bad, maxJITCode))
		}
		t.codes = append(t.codes, codes...)
	}
	if len(t.codes) == 0 {
		return nil, notes
	}
	t.index()
	return t, notes
}

// index finds out which function is where.
func (t *jitTable) index() {
	pieces := make([]piece, len(t.codes))
	last := make([]int32, len(t.codes))
	for i, c := range t.codes {
		pieces[i] = piece{c.addr, c.addr + c.size, int32(i)}
		last[i] = int32(i)
	}
	t.pieces = flatten(pieces, last)
}

// errEarlier says that a file is of a process that had the number before.
var errEarlier = errors.New("it was written before the process began")

// clockSlack is how much a file's time may seem to be before its process's: file systems take the time
// of the last timer tick, and /proc tells hundredths of a second.
const clockSlack = time.Second

// readJIT reads a file that a process has written, if it was the process.
func readJIT(p Process, path string) ([]byte, error) {
	root := p.Root
	if inTmp, ok := within(path, "/tmp"); ok && p.Tmp != "" {
		root, path = p.Tmp, "/"+inTmp
	}
	if root == "/" {
		root = ""
	}
	file, err := openIn(root, path, unix.O_NOFOLLOW)
	if errors.Is(err, unix.ELOOP) {
		return nil, errors.New("it is a symbolic link, which anybody may have put there")
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if owner := ownerOf(info); owner != p.UID && owner != 0 {
		return nil, fmt.Errorf("it belongs to user %d and not to that of the process, %d; if it is right, change its owner", owner, p.UID)
	}
	if !p.Begun.IsZero() && info.ModTime().Before(p.Begun.Add(-clockSlack)) {
		return nil, errEarlier
	}
	if info.Size() > maxJIT {
		return nil, fmt.Errorf("it has more than the %d bytes that are read", maxJIT)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxJIT)) // it may grow meanwhile
	return data, err
}

func ownerOf(info os.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return ^uint32(0)
}

// believable says whether code can be where a file says that it is.
func believable(addr, size uint64) bool {
	return size > 0 && size <= maxJITCode && addr > 0 && addr+size > addr && addr+size < 1<<63
}

// parsePerfMap reads a perf map: a line "START SIZE NAME" for each function, both in hexadecimal
// (tools/perf/Documentation/jit-interface.txt of Linux). Bad counts the lines that are not of the
// form or claim what cannot be; a last line without its end is being written.
func parsePerfMap(data []byte) (codes []jitCode, bad int) {
	for len(data) > 0 && len(codes) < maxJITCodes {
		line, rest, ended := bytes.Cut(data, []byte("\n"))
		if !ended {
			break
		}
		data = rest
		line = bytes.TrimRight(line, "\r")
		if len(line) == 0 {
			continue
		}
		first, more, ok := bytes.Cut(line, []byte(" "))
		second, name, ok2 := bytes.Cut(more, []byte(" "))
		addr, err := parseHex(first)
		size, err2 := parseHex(second)
		if !ok || !ok2 || err != nil || err2 != nil || len(name) == 0 {
			bad++
			continue
		}
		if size == 0 {
			continue // a place and not a function: some write them
		}
		if !believable(addr, size) {
			bad++
			continue
		}
		codes = append(codes, jitCode{addr: addr, size: size, name: jitName(name)})
	}
	return codes, bad
}

func parseHex(b []byte) (uint64, error) {
	s := strings.TrimPrefix(strings.TrimPrefix(string(b[:min(len(b), 20)]), "0x"), "0X")
	if len(b) > 20 {
		return 0, strconv.ErrRange
	}
	return strconv.ParseUint(s, 16, 64)
}

// jitName is a name as it may be printed.
func jitName(b []byte) string {
	b = b[:min(len(b), maxJITName)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(b), "\uFFFD"))
}

// frames implements table; addr is a runtime address.
func (t *jitTable) frames(addr uint64, buf []profile.Frame) ([]profile.Frame, bool) {
	p, ok := find(t.pieces, addr)
	if !ok {
		return buf, false
	}
	c := &t.codes[p.id]
	f := jitFrame(c.name)
	f.Module = JIT
	for _, l := range c.lines {
		if l.addr > addr {
			break
		}
		if f.File != l.file {
			f.StartLine = 0 // of another file
		}
		f.File, f.Line = l.file, l.line
	}
	return append(buf, f), true
}

// jitFrame takes apart the names that some runtimes write, so that all forms of a function are one
// function and its source is known:
//
//   - V8 (src/logging/log.cc): "JS:*fib /app/main.js:12:3", where the mark tells which compiler made
//     the code, and "LazyCompile:", "Function:", "Script:", "Eval:" and alike for "JS:" before;
//   - Python (Python/perf_trampoline.c): "py::fib:/app/main.py".
//
// All others are names as they stand, demangled.
func jitFrame(name string) profile.Frame {
	if rest, ok := strings.CutPrefix(name, "py::"); ok {
		if fn, file, ok := strings.Cut(rest, ":"); ok && fn != "" {
			return profile.Frame{Func: fn, File: pythonFile(file)}
		}
	}
	kind, rest, ok := strings.Cut(name, ":")
	if !ok || !scriptCode[kind] {
		return profile.Frame{Func: cmp.Or(Demangle(name), profile.Unknown)}
	}
	rest = strings.TrimLeft(rest, "*~^+'") // optimized by TurboFan, interpreted, by Sparkplug, by Maglev
	at := strings.Index(rest, " /")
	if url := strings.Index(rest, " file://"); at < 0 || url >= 0 && url < at {
		at = url
	}
	if at < 0 {
		at = strings.LastIndexByte(rest, ' ')
	}
	if at < 0 {
		return profile.Frame{Func: cmp.Or(rest, "(anonymous)")}
	}
	f := profile.Frame{Func: cmp.Or(rest[:at], "(anonymous)")}
	file, line := rest[at+1:], 0
	for range 2 { // the column, the line
		colon := strings.LastIndexByte(file, ':')
		if colon < 0 {
			break
		}
		n, err := strconv.Atoi(file[colon+1:])
		if err != nil || n < 0 {
			break
		}
		file, line = file[:colon], n
	}
	file = strings.TrimPrefix(file, "file://")
	if filepath.IsAbs(file) {
		f.File, f.StartLine = path.Clean(file), line
	}
	return f
}

// pythonFile is a module's file, "" for what is none ("<frozen importlib._bootstrap>", "<string>").
func pythonFile(file string) string {
	if file == "" || file[0] == '<' {
		return ""
	}
	return path.Clean(file)
}

// scriptCode are V8's names of kinds of code that belong to a script.
var scriptCode = map[string]bool{"JS": true, "LazyCompile": true, "Function": true, "Script": true, "Eval": true}
