package daemon

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Witness writes down what a process does, so that a report can be made of its end, should that come
// without warning. Two files stand for a process that runs:
//
//	running-PID.txt       a header; the Go runtime adds what it says of a crash (runtime/debug.SetCrashOutput)
//	running-PID.requests  the last requests, in memory that the file shares: nothing is lost with the process
//
// A process that ends well removes both. Of one that crashed, whoever notices first makes
// crash-TIME-PID.txt (see Bury). A report has names of requests and the stacks of the program, and of
// the sources and captures that it worked on nothing: neither has it the text of a panic, which may quote
// them, unless it is one of the runtime's own.
type Witness struct {
	dir    string
	report string
	ring   []byte

	mu   sync.Mutex
	next uint64 // number of the next request
}

const (
	slots    = 64
	slotSize = 128 // number 8 · time 8 · length 2 · text

	runningPrefix = "running-"
	crashPrefix   = "crash-"
	endOfHeader   = "--\n"

	maxReports = 20      // crash reports that are kept
	maxReport  = 1 << 20 // bytes of a report
)

// StartWitness begins to write down what this process does, in files in dir. Header tells of the
// process, such as its version.
func StartWitness(dir, header string) (*Witness, error) {
	w := &Witness{dir: dir, report: filepath.Join(dir, fmt.Sprintf("%s%d.txt", runningPrefix, os.Getpid())), next: 1}
	f, err := os.OpenFile(w.report, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("prepare the report of a crash: %w", err)
	}
	_, err = io.WriteString(f, strings.TrimRight(header, "\n")+"\n"+endOfHeader)
	if err == nil {
		err = debug.SetCrashOutput(f, debug.CrashOptions{})
	}
	f.Close()
	if err == nil {
		err = w.share()
	}
	if err != nil {
		w.Close()
		return nil, fmt.Errorf("prepare the report of a crash: %w", err)
	}
	return w, nil
}

func (w *Witness) share() error {
	f, err := os.OpenFile(w.requests(), os.O_CREATE|os.O_TRUNC|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	// Written and not only made longer: a disk that is full must be noticed now and not by a signal.
	if _, err := f.Write(make([]byte, slots*slotSize)); err != nil {
		return err
	}
	w.ring, err = unix.Mmap(int(f.Fd()), 0, slots*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return err
}

func (w *Witness) requests() string { return strings.TrimSuffix(w.report, ".txt") + ".requests" }

// Path is where the runtime's words on a crash go.
func (w *Witness) Path() string { return w.report }

// Note writes down a request. Text beyond some 100 bytes is cut.
func (w *Witness) Note(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ring == nil {
		return
	}
	slot := w.ring[(w.next%slots)*slotSize:][:slotSize]
	text = text[:min(len(text), slotSize-18)]
	binary.LittleEndian.PutUint64(slot, 0) // not whole until it has its number again
	binary.LittleEndian.PutUint64(slot[8:], uint64(time.Now().UnixNano()))
	binary.LittleEndian.PutUint16(slot[16:], uint16(len(text)))
	copy(slot[18:], text)
	binary.LittleEndian.PutUint64(slot, w.next)
	w.next++
}

// Fault makes a report of a panic that the process survives, and returns its path; "" where it cannot
// be written.
func (w *Witness) Fault(what string, value any, stack []byte) string {
	header, _, _ := readReport(w.report)
	w.mu.Lock()
	ring := bytes.Clone(w.ring)
	w.mu.Unlock()
	text := fmt.Sprintf("%s%spanic in %s: %s\n\n%s", header, endOfHeader, what, panicText(value), stack)
	path, err := writeReport(w.dir, os.Getpid(), text, ring)
	if err != nil {
		return ""
	}
	return path
}

// Close says that the process ends well: no report is needed.
func (w *Witness) Close() {
	_ = debug.SetCrashOutput(nil, debug.CrashOptions{})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ring != nil {
		_ = unix.Munmap(w.ring)
		w.ring = nil
	}
	_ = os.Remove(w.report)
	_ = os.Remove(w.requests())
}

// Bury makes the report of a process that has ended, of what its Witness left at path (Witness.Path).
// It returns the report's path, also where another process has made it already, or "" where the process
// did not crash: it was killed from outside, or ended well.
func Bury(path string) string {
	dir, base := filepath.Split(path)
	var pid int
	if _, err := fmt.Sscanf(base, runningPrefix+"%d.txt", &pid); err != nil {
		return ""
	}
	// Several may notice at once. The one that gets the requests makes the report.
	requests := strings.TrimSuffix(path, ".txt") + ".requests"
	mine := fmt.Sprintf("%s.%d", requests, os.Getpid())
	if err := os.Rename(requests, mine); err != nil {
		return reportOf(dir, pid)
	}
	defer os.Remove(mine)
	defer os.Remove(path)
	ring, _ := os.ReadFile(mine)
	header, crash, err := readReport(path)
	if err != nil || strings.TrimSpace(crash) == "" {
		return ""
	}
	report, err := writeReport(dir, pid, header+endOfHeader+withoutPanicText(crash), ring)
	if err != nil {
		return ""
	}
	return report
}

// panicText is what a report says of the value of a panic.
func panicText(value any) string {
	if err, ok := value.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("a %T, which is left out", value)
}

// withoutPanicText takes the texts of panics out of what the runtime says of a crash. That is, for each
// panic, "panic: " and the text (in further lines behind a tab), then "[signal …" or an empty line and
// stacks (runtime/panic.go, printpanics).
func withoutPanicText(crash string) string {
	var b strings.Builder
	inText, text := false, 0
	leftOut := func() {
		if text > 0 {
			fmt.Fprintf(&b, "panic: (a text of %d bytes is left out)\n", text)
		}
		text = 0
	}
	for line := range strings.Lines(crash) {
		value, begins := strings.CutPrefix(strings.TrimPrefix(line, "\t"), "panic: ")
		switch {
		case begins && strings.HasPrefix(value, "runtime error: "):
			leftOut()
			inText = false
			b.WriteString(line)
		case begins:
			leftOut()
			inText, text = true, len(value)
		case inText && (line == "\n" || strings.HasPrefix(line, "[signal ") || strings.HasPrefix(line, "goroutine ")):
			leftOut()
			inText = false
			b.WriteString(line)
		case inText:
			text += len(line)
		default:
			b.WriteString(line)
		}
	}
	leftOut()
	return b.String()
}

// reportOf waits a moment for the report that another process makes.
func reportOf(dir string, pid int) string {
	for range 20 {
		for _, r := range Reports(dir) {
			if info, err := os.Stat(r); err == nil && time.Since(info.ModTime()) < time.Minute && strings.HasSuffix(r, fmt.Sprintf("-%d.txt", pid)) {
				return r
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ""
}

// BuryAll makes the reports of all processes in dir that run no more.
func BuryAll(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, runningPrefix+"*.txt"))
	for _, path := range left {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(path), runningPrefix+"%d.txt", &pid); err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			Bury(path)
		}
	}
}

// Reports lists the crash reports in dir, the newest first.
func Reports(dir string) []string {
	all, _ := filepath.Glob(filepath.Join(dir, crashPrefix+"*.txt"))
	slices.Sort(all)
	slices.Reverse(all)
	return all
}

func readReport(path string) (header, crash string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxReport))
	if err != nil {
		return "", "", err
	}
	header, crash, found := strings.Cut(string(data), endOfHeader)
	if !found {
		return "", "", errors.New("it has no header")
	}
	return header, crash, nil
}

func writeReport(dir string, pid int, text string, ring []byte) (string, error) {
	text = strings.TrimRight(text, "\n") + "\n\nThe last requests, the newest first:\n" + requestsIn(ring)
	stamp := time.Now().UTC().Format("20060102-150405.000")
	path := filepath.Join(dir, fmt.Sprintf("%s%s-%d.txt", crashPrefix, stamp, pid))
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
		_ = os.Remove(temp)
		return "", err
	}
	if err := os.Rename(temp, path); err != nil {
		return "", err
	}
	if all := Reports(dir); len(all) > maxReports {
		for _, old := range all[maxReports:] {
			_ = os.Remove(old)
		}
	}
	return path, nil
}

// requestsIn is what a ring of requests holds, as text. Slots that make no sense are left out.
func requestsIn(ring []byte) string {
	type request struct {
		number uint64
		line   string
	}
	var all []request
	for ; len(ring) >= slotSize; ring = ring[slotSize:] {
		n := binary.LittleEndian.Uint64(ring)
		length := int(binary.LittleEndian.Uint16(ring[16:]))
		if n == 0 || length > slotSize-18 {
			continue
		}
		at := time.Unix(0, int64(binary.LittleEndian.Uint64(ring[8:]))).UTC()
		text := strings.ToValidUTF8(string(ring[18:18+length]), "?")
		all = append(all, request{n, at.Format("15:04:05.000") + "  " + strings.ReplaceAll(text, "\n", " ")})
	}
	slices.SortFunc(all, func(a, b request) int {
		if a.number > b.number {
			return -1
		}
		return 1
	})
	if len(all) == 0 {
		return "none\n"
	}
	var b strings.Builder
	for _, r := range all {
		b.WriteString(r.line + "\n")
	}
	return b.String()
}
