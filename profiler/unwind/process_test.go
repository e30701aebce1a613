package unwind

import (
	"bufio"
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// compile builds a program of testdata, once for each set of flags.
func compile(t testing.TB, compiler, source string, flags ...string) string {
	t.Helper()
	if _, err := exec.LookPath(compiler); err != nil {
		t.Skipf("%s, which the program to walk is built with, is not installed", compiler)
	}
	out := filepath.Join(t.TempDir(), strings.TrimSuffix(source, filepath.Ext(source)))
	args := append([]string{"-O2", "-fomit-frame-pointer", "-o", out, filepath.Join("testdata", source)}, flags...)
	if b, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", compiler, err, b)
	}
	return out
}

// A process is a stopped one, which this thread traces.
type process struct {
	t    testing.TB
	pid  int
	out  *bufio.Reader
	cmd  *exec.Cmd
	maps space
}

// start runs a program until it stops itself for the first time. It locks the goroutine to its
// thread, which alone may trace.
func start(t testing.TB, args ...string) *process {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, pid: cmd.Process.Pid, out: bufio.NewReader(out), cmd: cmd}
	t.Cleanup(func() {
		cmd.Process.Kill()
		for { // each traced thread has to be waited for, before the process ends
			if _, err := unix.Wait4(-1, nil, unix.WALL|unix.WNOTHREAD, nil); err != nil && err != unix.EINTR {
				break
			}
		}
		cmd.Wait()
	})
	p.wait(p.pid)
	if err := unix.PtraceSetOptions(p.pid, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		t.Fatal(err)
	}
	p.next()
	return p
}

// wait waits for a stop of a thread, or of any (-1), and gives who and by which signal.
func (p *process) wait(tid int) (int, unix.Signal) {
	p.t.Helper()
	var s unix.WaitStatus
	for {
		who, err := unix.Wait4(tid, &s, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || !s.Stopped() {
			p.t.Fatalf("wait for the program to stop: %v, status %#x", err, s)
		}
		return who, s.StopSignal()
	}
}

// next goes on until a thread stops itself, and makes it the one that is looked at.
func (p *process) next() {
	p.t.Helper()
	who, sig := p.pid, unix.Signal(0)
	for {
		if err := unix.PtraceCont(who, int(sig)); err != nil {
			p.t.Fatal(err)
		}
		who, sig = p.wait(-1)
		if sig == unix.SIGTRAP || sig == unix.SIGSTOP && !slices.Contains(p.threads(), who) {
			sig = 0
			continue
		}
		if sig != unix.SIGSTOP {
			continue
		}
		if p.stopsItself(who) {
			p.pid = who
			p.readMaps()
			return
		}
		sig = 0 // a new thread's first stop
	}
}

func (p *process) threads() []int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid))
	var ids []int
	for _, e := range entries {
		n, _ := strconv.Atoi(e.Name())
		ids = append(ids, n)
	}
	return ids
}

// piece copies up to n bytes at an address.
func (p *process) piece(addr uint64, n int) Stack {
	b := make([]byte, n)
	local := []unix.Iovec{{Base: &b[0], Len: uint64(n)}}
	for size := n; size > 0; size -= min(size, 4096) {
		got, err := unix.ProcessVMReadv(p.pid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: size}}, 0)
		if err == nil {
			return Stack{addr, b[:got]}
		}
	}
	return Stack{Addr: addr}
}

// lines reads the program's output up to "stop": the addresses that backtrace(3) found.
func (p *process) lines() []uint64 {
	p.t.Helper()
	var all []uint64
	for {
		line, err := p.out.ReadString('\n')
		if err != nil {
			p.t.Fatalf("read what the program found: %v", err)
		}
		if line == "stop\n" {
			return all
		}
		v, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		all = append(all, v)
	}
}

// A mapped is a mapping with what is known of its file.
type mapped struct {
	start, end, offset uint64
	path               string
	code               Code
	symbols            []elf.Symbol // by address
}

// A space is a process's code, by its mappings.
type space []mapped

func (s space) at(pc uint64) *mapped {
	i, ok := slices.BinarySearchFunc(s, pc, func(m mapped, pc uint64) int {
		switch {
		case m.end <= pc:
			return -1
		case m.start > pc:
			return 1
		}
		return 0
	})
	if !ok {
		return nil
	}
	return &s[i]
}

func (s space) Code(pc uint64) (Code, bool) {
	m := s.at(pc)
	if m == nil {
		return Code{}, false
	}
	return m.code, true
}

// name is the function at an address.
func (s space) name(f Frame) string {
	pc := f.PC
	if f.Return && !f.Signal {
		pc--
	}
	m := s.at(pc)
	if m == nil {
		return "?"
	}
	addr := pc - m.code.Bias
	best := ""
	for i := len(m.symbols) - 1; i >= 0; i-- {
		if y := m.symbols[i]; y.Value <= addr {
			if addr < y.Value+max(y.Size, 1) {
				best = y.Name
			}
			break
		}
	}
	return cmp.Or(best, filepath.Base(m.path))
}

func (s space) names(frames []Frame) []string {
	var all []string
	for _, f := range frames {
		all = append(all, s.name(f))
	}
	return all
}

type loaded struct {
	table   *Table
	symbols []elf.Symbol
	loads   []elf.ProgHeader
	isGo    bool
}

var (
	loadMu   sync.Mutex
	loadFile = map[string]loaded{}
)

func load(t testing.TB, path string, r io.ReaderAt) loaded {
	loadMu.Lock()
	defer loadMu.Unlock()
	if l, ok := loadFile[path]; ok {
		return l
	}
	f, err := elf.NewFile(r)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var l loaded
	if l.table, err = ReadELF(r); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	sym, _ := f.Symbols()
	dyn, _ := f.DynamicSymbols()
	for _, y := range append(sym, dyn...) {
		if elf.ST_TYPE(y.Info) == elf.STT_FUNC && y.Value != 0 {
			l.symbols = append(l.symbols, y)
		}
	}
	slices.SortStableFunc(l.symbols, func(a, b elf.Symbol) int { return cmp.Compare(a.Value, b.Value) })
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			l.loads = append(l.loads, p.ProgHeader)
		}
	}
	l.isGo = f.Section(".gopclntab") != nil
	loadFile[path] = l
	return l
}

func (p *process) readMaps() {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.pid))
	if err != nil {
		p.t.Fatal(err)
	}
	p.maps = nil
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if !strings.Contains(f[1], "x") {
			continue
		}
		m := mapped{}
		fmt.Sscanf(f[0], "%x-%x", &m.start, &m.end)
		fmt.Sscanf(f[2], "%x", &m.offset)
		if len(f) > 5 {
			m.path = f[5]
		}
		m.code = Code{Start: m.start, End: m.end}
		switch {
		case strings.HasPrefix(m.path, "/"):
			file, err := os.Open(m.path)
			if err != nil {
				break
			}
			l := load(p.t, m.path, file)
			file.Close()
			m.code.Table, m.symbols = l.table, l.symbols
			if l.isGo {
				m.code.Flags |= CodeGo
			}
			for _, h := range l.loads {
				if page := h.Off &^ 4095; page <= m.offset && m.offset < h.Off+h.Filesz {
					m.code.Bias = m.start - m.offset + h.Off - h.Vaddr
				}
			}
		case m.path == "[vdso]":
			image := p.piece(m.start, int(m.end-m.start))
			l := load(p.t, fmt.Sprintf("[vdso] at %x", m.start), bytes.NewReader(image.Data))
			m.code.Table, m.symbols = l.table, l.symbols
			m.code.Bias = m.start - l.loads[0].Vaddr
		}
		p.maps = append(p.maps, m)
	}
}

func newWalker(t testing.TB) *Walker {
	t.Helper()
	w, err := NewWalker(elf.EM_X86_64)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func onlyAMD64(t testing.TB) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("walks the registers of amd64")
	}
}
