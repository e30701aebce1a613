package freeze

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A process is held by a guardian: this program, executed once more in a session of its own, that heeds no
// signal which can be blocked. So nothing that ends the program that a person sees, Ctrl-C or kill -9, ends
// what holds the process: the guardian notices that nobody listens any more, undoes what it did, and ends.
// And when somebody kills the guardian, the kernel lets go of the process and kills its child, and the program
// here starts another guardian to clear up. Only who kills both at the same instant leaves something: a
// process that has ended, without memory, until the next image is taken or the process ends.
//
// The two speak over a socket (descriptor 3): a request, then messages, each a line of JSON. The core file is
// descriptor 4.

// guardianName is the first argument of a guardian, by which it knows what it is. The second is the process
// that it holds, for people who look at a list of processes.
const guardianName = "sightline-guardian"

// The guardian takes over before main, so that whatever program takes images can be one, tests too.
func init() {
	if len(os.Args) == 2 && os.Args[0] == guardianName {
		guard(3, 4)
	}
}

// A request says what a guardian is to do.
type request struct {
	PID    int
	How    How
	Memory bool     // the file is in memory: map it
	Notes  []string // that go into the file
	Reap   bool     // only clear up after a guardian that was killed
}

// A message tells what happens.
type message struct {
	Held        bool   // the process stands now
	Free        bool   // it runs again
	Done, Total int64  // bytes
	Error       string // why it ended
	Ended       bool   // the process did, meanwhile
	Forbidden   bool   // no other way will work
	Full        bool   // the file could not be written, Errno says why
	Errno       int
	OK          bool  // all is done, and the process is as it was
	Meta        *meta // what the core file tells
}

// guard is the guardian's main function.
func guard(socket, file int) {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGXFSZ)
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	name := append([]byte(guardianName[:15]), 0) // in place of exe, which it was started as
	unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&name[0])), 0, 0, 0)
	conn := os.NewFile(uintptr(socket), "socket")
	out := os.NewFile(uintptr(file), "core file")
	in := bufio.NewReader(conn)
	line, err := in.ReadBytes('\n')
	var q request
	if err != nil || json.Unmarshal(line, &q) != nil {
		os.Exit(2)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		// Nothing more is sent: what comes is the end of who asked, or of their wish.
		io.Copy(io.Discard, in)
		cancel()
	}()
	var mu sync.Mutex
	send := func(m message) {
		mu.Lock()
		defer mu.Unlock()
		b, _ := json.Marshal(m)
		conn.Write(append(b, '\n')) // nobody may listen any more
	}
	h := &hold{request: q, send: send, out: out, notes: q.Notes}
	err = h.run(ctx)
	m := message{OK: err == nil, Meta: h.meta}
	if h.meta != nil {
		h.meta.Stopped, h.meta.Notes, h.meta.Maps = h.stopped, h.notes, ""
	}
	if err != nil {
		var full *writeError
		if errors.As(err, &full) {
			m.Full, m.Errno = true, int(unix.EIO)
			var errno unix.Errno
			if errors.As(err, &errno) {
				m.Errno = int(errno)
			}
		}
		var traced *tracedError
		m.Error, m.Ended, m.Forbidden = err.Error(), errors.Is(err, ErrNoProcess), h.forbidden && !errors.As(err, &traced)
	}
	send(m)
	os.Exit(0)
}

// A hold is one process held once.
type hold struct {
	request   request
	send      func(message)
	out       *os.File
	p         *process
	meta      *meta
	stopped   time.Duration
	notes     []string
	forbidden bool // nothing can be done with the process

	from  uint64 // of the first segment in the file
	room  []byte // the file, mapped
	began time.Time
	last  time.Time // of a message on progress
}

func (h *hold) run(ctx context.Context) (err error) {
	h.forbidden = true
	if h.p, err = openProcess(h.request.PID); err != nil {
		return err
	}
	defer h.p.close()
	if err := h.p.suitable(); err != nil {
		return err
	}
	h.forbidden = false
	if h.request.Reap {
		return h.reap(0)
	}
	if h.request.How == Forked {
		return h.fork(ctx)
	}
	return h.copy(ctx)
}

func (h *hold) begin() {
	h.send(message{Held: true})
	// A moment's precedence, where that is allowed: others wait for us now.
	unix.Setpriority(unix.PRIO_PROCESS, 0, -15)
	h.began = time.Now()
}

func (h *hold) end(t *tracer) {
	t.letGo()
	h.stopped += time.Since(h.began)
	unix.Setpriority(unix.PRIO_PROCESS, 0, 0)
	h.send(message{Free: true})
}

func (h *hold) progress(done, total int64) {
	if now := time.Now(); done == total || now.Sub(h.last) > 50*time.Millisecond {
		h.last = now
		h.send(message{Done: done, Total: total})
	}
}

// fork stops the process, makes it fork, lets it run, and writes what the child has.
func (h *hold) fork(ctx context.Context) (err error) {
	need := h.p.ownMemory()
	if free, who := h.p.room(); need > free {
		return fmt.Errorf("a fork of process %d (%s) may take %s more while its child is read, and %s %s are free", h.p.pid, h.p.name, bytesText(need), bytesText(free), who)
	}
	in, err := newInjector(h.p)
	if err != nil {
		return h.cannot("fork", err)
	}
	defer in.close()
	t := &tracer{p: h.p}
	taken := time.Now()
	h.begin()
	child, threads, err := h.forkStopped(t, in)
	h.end(t)
	if child != 0 {
		defer func() {
			unix.Kill(child, unix.SIGKILL)
			waitFor(child)
			if rerr := h.reap(child); rerr != nil && err == nil && !errors.Is(rerr, ErrNoProcess) {
				h.notes = append(h.notes, fmt.Sprintf("the child %d, which has ended, stays in the list of processes: %v", child, rerr))
			}
		}()
	}
	if err != nil {
		return h.cannot("fork", err)
	}
	source, err := openProcess(child)
	if err != nil {
		return err
	}
	defer source.close()
	if mem, err := source.openWrite("mem"); err == nil {
		in.erase(mem)
		mem.Close()
	}
	return h.write(ctx, source, threads, taken, nil)
}

// cannot says what a process could not be held for, unless it was that it ended.
func (h *hold) cannot(what string, err error) error {
	if !h.p.alive() {
		return h.p.gone(unix.ESRCH)
	}
	if strings.HasPrefix(err.Error(), "process ") || strings.HasPrefix(err.Error(), "thread ") {
		return err
	}
	return fmt.Errorf("process %d (%s) cannot %s: %w", h.p.pid, h.p.name, what, err)
}

func (h *hold) forkStopped(t *tracer, in *injector) (child int, threads []Thread, err error) {
	if err := t.stopAll(); err != nil {
		return 0, nil, err
	}
	t.look()
	if err := in.check(); err != nil {
		return 0, nil, err
	}
	th, err := in.choose(t.threads)
	if err != nil {
		return 0, nil, err
	}
	threads = t.describe()
	child, err = in.fork(th)
	return child, threads, err
}

// copy stops the process for as long as its memory is copied.
func (h *hold) copy(ctx context.Context) error {
	if h.request.Memory {
		h.makeReady()
	}
	t := &tracer{p: h.p}
	taken := time.Now()
	h.begin()
	err := t.stopAll()
	if err != nil {
		h.end(t)
		return err
	}
	t.look()
	return h.write(ctx, h.p, t.describe(), taken, t)
}

// makeReady has memory ready for the copy. What it cannot do now happens while the process stands.
func (h *hold) makeReady() {
	ids, err := h.p.threadIDs()
	if err != nil {
		return
	}
	threads := make([]Thread, len(ids))
	w, err := h.p.prepare(&meta{Version: 1}, threads, h.p, 0)
	if err != nil {
		return
	}
	defer w.close()
	// All registers of a thread, and some more threads and mappings than now.
	h.from = up(uint64(len(w.layout.head)) + uint64(len(ids)+16)*(maxRegset+4096) + 256<<10)
	w.layout = lay(w.layout.loads, nil, h.from)
	h.room, _ = w.makeReady(h.out)
}

// write writes the core file. T, if any, is let go once the memory was copied.
func (h *hold) write(ctx context.Context, source *process, threads []Thread, taken time.Time, t *tracer) (err error) {
	free := func() {
		if t != nil {
			h.end(t)
			t = nil
		}
	}
	defer free()
	h.meta = &meta{Version: 1, PID: h.p.pid, Name: h.p.name, How: h.request.How, Taken: taken, Stood: true, Notes: h.notes}
	w, err := source.prepare(h.meta, threads, h.p, h.from)
	if err != nil {
		return err
	}
	defer w.close()
	w.room = h.room
	if err = w.write(ctx, h.out, h.request.Memory, h.progress); err != nil {
		return err
	}
	if !source.alive() {
		return source.gone(unix.ESRCH)
	}
	free()
	h.meta.Stopped = h.stopped // known only now
	return w.rewrite(h.out)
}

// reapLimit is for how long a thread is looked for that can wait for a child. The process runs meanwhile.
const reapLimit = 30 * time.Second

// reap has the process wait for its child that has ended, or, of 0, for all that guardians left. It waits for
// a thread to be where it can make a system call.
func (h *hold) reap(child int) error {
	children := []int{child}
	deadline := time.Now().Add(reapLimit)
	if child == 0 {
		for {
			var living int
			children, living = leftovers(h.p.pid)
			if living == 0 || time.Now().After(deadline) {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if len(children) == 0 {
			return nil
		}
	}
	in, err := newInjector(h.p)
	if err != nil {
		return err
	}
	defer in.close()
	for {
		err := h.reapNow(in, children)
		if err == nil || errors.Is(err, ErrNoProcess) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
		in.close()
		if in, err = newInjector(h.p); err != nil {
			return err
		}
	}
}

func (h *hold) reapNow(in *injector, children []int) error {
	ids, err := h.p.threadIDs()
	if err != nil {
		return h.p.gone(err)
	}
	for _, id := range ids {
		var done bool
		if done, err = h.reapWith(in, id, children); done {
			return err
		}
	}
	return err
}

// reapWith tries one thread.
func (h *hold) reapWith(in *injector, tid int, children []int) (done bool, err error) {
	t := &tracer{p: h.p}
	h.send(message{Held: true})
	defer func() {
		t.letGo()
		h.send(message{Free: true})
	}()
	th, err := t.stopOne(tid)
	if err != nil {
		return false, err
	}
	t.look()
	if err := in.check(); err != nil {
		return false, err
	}
	if _, err := in.choose(t.threads); err != nil {
		return false, err
	}
	for _, c := range children {
		if err := in.wait(th, c); err != nil {
			return true, err
		}
	}
	return true, nil
}

// mark makes a child known as ours, and the first to go where memory is short.
func mark(child int) {
	os.WriteFile("/proc/"+strconv.Itoa(child)+"/oom_score_adj", []byte(ourScore), 0)
}

const ourScore = "997"

// leftovers are children of a process that guardians had it make: those that have ended and wait to be asked
// for, and how many are about to end.
func leftovers(pid int) (ended []int, living int) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, 0
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		id, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		// The 4th is the parent, the 9th flags, the 38th the signal at its end.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 36 || fields[1] != strconv.Itoa(pid) || fields[35] != "0" {
			continue
		}
		const neverExecuted = 0x40 // PF_FORKNOEXEC
		flags, _ := strconv.ParseUint(fields[6], 10, 64)
		score, _ := os.ReadFile("/proc/" + name + "/oom_score_adj")
		if flags&neverExecuted == 0 || strings.TrimSpace(string(score)) != ourScore {
			continue
		}
		if fields[0] == "Z" {
			ended = append(ended, id)
		} else {
			living++
		}
	}
	slices.Sort(ended)
	return ended, living
}

// A guardianError is what a guardian could not do.
type guardianError struct {
	message
	killed bool
}

func (e *guardianError) Error() string { return e.message.Error }

func (e *guardianError) Unwrap() error {
	if e.Ended {
		return ErrNoProcess
	}
	return nil
}

// employ starts a guardian and follows it to its end. Out is the file that it writes to.
func employ(ctx context.Context, q request, out *os.File, report func(done, total int64)) (message, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return message{}, fmt.Errorf("make a socket: %w", err)
	}
	here, there := os.NewFile(uintptr(pair[0]), "socket"), os.NewFile(uintptr(pair[1]), "socket")
	defer here.Close()
	var said strings.Builder
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{guardianName, strconv.Itoa(q.PID)}
	cmd.Env = append(os.Environ(), "GOGC=off", "GODEBUG=", "GOTRACEBACK=single")
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{there, out}
	cmd.Stderr = &limited{w: &said, left: 4 << 10}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	there.Close()
	if err != nil {
		return message{}, fmt.Errorf("start the guardian, this program once more: %w", err)
	}
	// Who is told to stop closes its end: the guardian clears up and ends.
	stop := context.AfterFunc(ctx, func() { unix.Shutdown(pair[0], unix.SHUT_WR) })
	defer stop()
	line, _ := json.Marshal(q)
	here.Write(append(line, '\n'))
	// A guardian that hangs may not hold the process: it is killed, and the process goes on.
	watch := time.AfterFunc(time.Hour, func() { cmd.Process.Kill() })
	watch.Stop()
	defer watch.Stop()
	limit := holdLimit + time.Duration(holdPerByte*float64(memoryOf(q.PID)))
	var last message
	ended := false
	for d := json.NewDecoder(here); ; {
		var m message
		if err := d.Decode(&m); err != nil {
			break
		}
		switch {
		case m.Held:
			watch.Reset(limit)
		case m.Free:
			watch.Stop()
		case m.OK || m.Error != "":
			last, ended = m, true
		case report != nil && ctx.Err() == nil:
			report(m.Done, m.Total)
		}
	}
	status := cmd.Wait()
	switch {
	case !ended:
		text := fmt.Sprintf("the guardian that held process %d ended early (%v)", q.PID, status)
		if s := strings.TrimSpace(said.String()); s != "" {
			first, _, _ := strings.Cut(s, "\n")
			text += ": " + first
		}
		return last, &guardianError{message{Error: text}, true}
	case last.Error != "" && ctx.Err() != nil:
		return last, ctx.Err()
	case last.Error != "":
		return last, &guardianError{last, false}
	}
	return last, nil
}

// A process is not held longer than this, and a second more for each 250 MB of it.
const (
	holdLimit   = 10 * time.Second
	holdPerByte = float64(time.Second) / 250e6
)

func memoryOf(pid int) int64 {
	p, err := openProcess(pid)
	if err != nil {
		return 0
	}
	defer p.close()
	return p.ownMemory()
}

type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	k := min(len(b), l.left)
	l.left -= k
	l.w.Write(b[:k])
	return len(b), nil
}
