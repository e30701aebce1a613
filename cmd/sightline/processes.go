package main

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/profile"
)

const (
	// BusyFor is how long processes are watched to tell which are busy: so short that a person who
	// opens a list does not wait, and long enough for a tenth of a percent.
	busyFor = 200 * time.Millisecond
	// CommandBytes bounds a command line that is told; some have a hundred kilobytes.
	commandBytes = 512
)

// A process is one that was seen twice, busyFor apart.
type process struct {
	processStat
	uid     int
	command string
	cpu     time.Duration // that it used in between
	isGo    bool
	guarded bool // it keeps others, and others of its own user, from looking into it
}

// Processes lists what runs a program on this machine: the processes of this user first, then by how
// busy they are. Kernel threads, the dead and this process are left out. What keeps one from being
// recorded is found out by trying (profiler.Probe) while their time is taken.
func processes(ctx context.Context) ([]rpc.ProcessInfo, error) {
	abilities := make(chan []profiler.Ability, 1)
	go func() { abilities <- profiler.Probe() }()
	before, begun := map[int]time.Duration{}, time.Now()
	pids, err := processIDs()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		if used, ok := processTime(pid); ok {
			before[pid] = used
		}
	}
	select {
	case <-time.After(busyFor):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var seen []process
	goFiles := map[[2]uint64]bool{}
	for _, pid := range pids {
		was, ok := before[pid]
		used, still := processTime(pid)
		if !ok || !still || pid == os.Getpid() {
			continue
		}
		if p, ok := readProcess(pid, goFiles); ok {
			p.cpu = max(0, used-was)
			seen = append(seen, p)
		}
	}
	passed := time.Since(begun)
	var able recordability
	select {
	case all := <-abilities:
		able = recordabilityOf(all)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	self := os.Geteuid()
	slices.SortFunc(seen, func(a, b process) int {
		return cmp.Or(-compareBool(a.uid == self, b.uid == self), cmp.Compare(b.cpu, a.cpu),
			cmp.Compare(b.resident, a.resident), cmp.Compare(a.pid, b.pid))
	})
	names := map[int]string{}
	infos := make([]rpc.ProcessInfo, 0, len(seen))
	for i := range seen {
		p := &seen[i]
		name, known := names[p.uid]
		if !known {
			name = nameOfUser(p.uid)
			names[p.uid] = name
		}
		infos = append(infos, rpc.ProcessInfo{
			PID: p.pid, Name: p.name, Command: cmp.Or(p.command, p.name), User: name,
			CPU:     lspserver.Percent(int64(p.cpu), int64(passed)),
			Memory:  lspserver.Weight(p.resident*int64(os.Getpagesize()), profile.Bytes),
			Go:      p.isGo,
			Refused: able.refusal(p, self, name),
		})
	}
	return infos, nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// processIDs are the processes of this machine, or of this container.
func processIDs() ([]int, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w; mount the proc file system", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes in /proc: %w; mount the proc file system", err)
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// processTime is how much processor time a process has used, all its threads together, to the
// nanosecond; /proc counts in hundredths of a second. Anybody may ask it of any process. The clock's
// number is as clock_getcpuclockid(3) makes it: the process id inverted, above three bits of which 2
// says scheduler time.
func processTime(pid int) (used time.Duration, ok bool) {
	var now unix.Timespec
	if unix.ClockGettime(int32(^pid)<<3|2, &now) != nil {
		return 0, false
	}
	return time.Duration(now.Nano()), true
}

// readProcess reads what /proc says of a process; false where it is none that runs a program. goFiles
// remembers which files are Go programs, by device and inode.
func readProcess(pid int, goFiles map[[2]uint64]bool) (p process, ok bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return p, false // it has ended
	}
	if p.processStat, err = parseProcessStat(stat); err != nil || p.kernel || p.dead {
		return p, false
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return p, false
	}
	// The folder's owner is root where a process guards itself, so the owner is read.
	if p.uid, ok = parseProcessOwner(status); !ok {
		return p, false
	}
	if line, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil {
		p.command = commandText(line)
	}
	exe := filepath.Join(dir, "exe")
	// Reading the link takes the permission that opening perf events on the process takes, but for
	// capabilities (ptrace_may_access, PTRACE_MODE_READ; proc(5)).
	if _, err := os.Readlink(exe); errors.Is(err, fs.ErrPermission) {
		p.guarded = true
	}
	p.isGo = isGoProgram(exe, goFiles)
	return p, true
}

// A processStat is what is used of /proc/PID/stat, as proc_pid_stat(5) has it.
type processStat struct {
	pid      int
	name     string
	dead     bool  // a zombie, or on its way to be gone
	kernel   bool  // a kernel thread
	resident int64 // pages
}

// kernelThread is PF_KTHREAD of include/linux/sched.h.
const kernelThread = 0x00200000

var errNoStat = errors.New("it is not as proc_pid_stat(5) has it")

func parseProcessStat(text []byte) (s processStat, err error) {
	// The name is in parentheses and may have any byte in it, parentheses too.
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return processStat{}, errNoStat
	}
	rest := bytes.Fields(text[end+1:]) // from the third field on
	if len(rest) < 22 || len(rest[0]) != 1 {
		return processStat{}, errNoStat
	}
	pid, errPID := strconv.Atoi(string(bytes.TrimSpace(text[:open])))
	flags, errFlags := strconv.ParseUint(string(rest[9-3]), 10, 32)
	resident, errResident := strconv.ParseInt(string(rest[24-3]), 10, 64)
	if errors.Join(errPID, errFlags, errResident) != nil || pid <= 0 || resident < 0 || resident > 1<<46 {
		return processStat{}, errNoStat
	}
	state := rest[0][0]
	return processStat{
		pid: pid, name: printable(string(text[open+1 : end])), resident: resident,
		kernel: flags&kernelThread != 0, dead: state == 'Z' || state == 'X' || state == 'x',
	}, nil
}

// parseProcessOwner is the effective user of /proc/PID/status.
func parseProcessOwner(text []byte) (uid int, ok bool) {
	for line := range bytes.Lines(text) {
		if rest, found := bytes.CutPrefix(line, []byte("Uid:")); found {
			ids := bytes.Fields(rest) // real, effective, saved, of file systems
			if len(ids) < 2 {
				return 0, false
			}
			if uid, err := strconv.Atoi(string(ids[1])); err == nil && uid >= 0 {
				return uid, true
			}
			return 0, false
		}
	}
	return 0, false
}

// commandText is the arguments of a process on one line; some write a text of their own over them.
func commandText(line []byte) string {
	cut := len(line) > commandBytes
	if cut {
		line = line[:commandBytes]
	}
	text := printable(strings.TrimSpace(string(bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '}))))
	if cut {
		text += "…"
	}
	return text
}

// printable is a foreign text without what would move a cursor or break a line.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(text, string(unicode.ReplacementChar)))
}

// isGoProgram looks for the section that Go's linker writes (cmd/link/internal/ld/data.go, buildinfo);
// stripping leaves it.
func isGoProgram(exe string, known map[[2]uint64]bool) bool {
	f, err := os.Open(exe)
	if err != nil {
		return false
	}
	defer f.Close()
	var key [2]uint64
	info, err := f.Stat()
	if err != nil {
		return false
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		key = [2]uint64{uint64(st.Dev), st.Ino}
		if is, ok := known[key]; ok {
			return is
		}
	}
	e, err := elf.NewFile(f)
	is := err == nil && e.Section(".go.buildinfo") != nil
	known[key] = is
	return is
}

func nameOfUser(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// A recordability is why processes cannot be recorded; "" where they can.
type recordability struct{ own, others string }

// The abilities that decide what can be recorded, as profiler.Probe names them.
const (
	abilityOwn    = "perf: own processes"
	abilityOthers = "perf: other users' processes"
	abilityBPF    = "bpf: kernel and user code"
)

func recordabilityOf(abilities []profiler.Ability) recordability {
	why := func(name string) string {
		for _, a := range abilities {
			switch {
			case a.Name != name || a.OK:
			case a.Remedy != "":
				return cmp.Or(a.Why, a.Detail) + "; what helps: " + a.Remedy
			default:
				return cmp.Or(a.Why, a.Detail)
			}
		}
		return ""
	}
	r := recordability{own: why(abilityOwn), others: why(abilityOthers)}
	if why(abilityBPF) == "" { // it samples what perf may not
		r.own = ""
	}
	return r
}

// refusal is why a process cannot be recorded.
func (r recordability) refusal(p *process, self int, owner string) string {
	switch {
	case p.uid == self && r.own != "":
		return r.own
	case p.uid == self && p.guarded && r.others != "":
		return "it guards itself from other processes of its user, and " + r.others
	case p.uid != self && r.others != "":
		return fmt.Sprintf("it belongs to %s, and %s", owner, r.others)
	}
	return ""
}
