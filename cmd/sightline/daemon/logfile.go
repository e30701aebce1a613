package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Defaults of a log file.
const (
	LogBytes = 4 << 20 // how large it grows
	LogKept  = 3       // how many older ones stay, as FILE.1 (the newest) and so on
)

// A LogFile is a file that is put aside when it has grown, so that a log never takes more than
// (1+kept) times its size. It is an io.Writer for several goroutines; each Write is a whole line.
//
// What the Go runtime itself writes when the process ends badly goes to the file too, as descriptors 1
// and 2 follow it where Redirect asked for that.
type LogFile struct {
	path string
	size int64 // at which it is put aside
	kept int

	mu       sync.Mutex // guards what follows
	file     *os.File
	written  int64
	redirect bool
}

// OpenLog opens the log at path, and goes on where it ended. Zero values stand for the defaults.
func OpenLog(path string, size int64, kept int) (*LogFile, error) {
	if size <= 0 {
		size = LogBytes
	}
	if kept <= 0 {
		kept = LogKept
	}
	l := &LogFile{path: path, size: size, kept: kept}
	return l, l.open()
}

// open opens the file. A symbolic link is not followed: the file of another would be written.
func (l *LogFile) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("open the log %s: %w", l.path, cause(err))
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open the log %s: %w", l.path, cause(err))
	}
	if l.file != nil {
		l.file.Close()
	}
	l.file, l.written = f, info.Size()
	if l.redirect {
		l.redirectTo(f)
	}
	return nil
}

// Path is the file.
func (l *LogFile) Path() string { return l.path }

// Redirect has descriptors 1 and 2 of the process lead to the file, from now on.
func (l *LogFile) Redirect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.redirect = true
	l.redirectTo(l.file)
}

func (l *LogFile) redirectTo(f *os.File) {
	for _, fd := range []int{1, 2} {
		_ = unix.Dup3(int(f.Fd()), fd, 0)
	}
}

// Write adds to the log. Where the file cannot be put aside it goes on to grow, and where it cannot be
// written the bytes are lost: a log must not end what it tells of.
func (l *LogFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written > 0 && l.written+int64(len(p)) > l.size {
		l.rotate()
	}
	n, _ := l.file.Write(p)
	l.written += int64(n)
	return len(p), nil
}

func (l *LogFile) rotate() {
	for i := l.kept; i > 0; i-- {
		older := fmt.Sprintf("%s.%d", l.path, i)
		newer := l.path
		if i > 1 {
			newer = fmt.Sprintf("%s.%d", l.path, i-1)
		}
		if err := os.Rename(newer, older); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.written = 0 // not again for each line
			return
		}
	}
	if err := l.open(); err != nil {
		l.written = 0 // the old file, under its new name, has to do
	}
}

// Close closes the file.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
