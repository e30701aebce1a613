package convert

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sightline-dev/sightline/profiler/profile"
)

type straceKind int

const (
	straceOther  straceKind = iota // no line that strace begins
	straceBlank                    // nothing
	straceNote                     // strace: Process 7 attached
	straceCall                     // a system call, its beginning or its end
	straceSignal                   // --- SIGCHLD {…} ---
	straceGone                     // +++ exited with 0 +++
)

// A straceLine is one line, taken apart.
type straceLine struct {
	kind       straceKind
	tid        int // 0: none is printed
	stamped    bool
	at         time.Duration // the stamp: seconds, relative or of the clock
	day        bool          // at is a time of day
	name       string        // of the call
	args       string        // without the parentheses; the part that the line has
	result     string        // "" where the line ends before it
	took       time.Duration // -1: not known
	unfinished bool
	resumed    bool
	rest       []byte // without number and stamp
}

// parseStraceLine takes a line apart. It keeps no part of it but rest.
func parseStraceLine(text []byte) straceLine {
	l := straceLine{took: -1}
	if len(bytes.TrimSpace(text)) == 0 {
		l.kind = straceBlank
		return l
	}
	if bytes.HasPrefix(text, []byte("strace: ")) {
		l.kind = straceNote
		return l
	}
	rest := l.number(text)
	rest = l.stamp(rest)
	for bytes.HasPrefix(rest, []byte("[")) { // -n and -i
		end := bytes.IndexByte(rest, ']')
		if end < 0 || end > 24 {
			return l
		}
		rest = bytes.TrimLeft(rest[end+1:], " ")
	}
	l.rest = rest
	switch {
	case bytes.HasPrefix(rest, []byte("--- ")):
		l.kind = straceSignal
	case bytes.HasPrefix(rest, []byte("+++ ")):
		if l.kind = straceSignal; bytes.Contains(rest, []byte("exited with")) || bytes.Contains(rest, []byte("killed by")) {
			l.kind = straceGone
		}
	case bytes.HasPrefix(rest, []byte("<... ")):
		name, after, ok := bytes.Cut(rest[len("<... "):], []byte(" resumed>"))
		if ok && isCallName(name) {
			l.kind, l.resumed, l.name = straceCall, true, string(name)
			l.call(after)
		}
	default:
		if open := bytes.IndexByte(rest, '('); open > 0 && isCallName(rest[:open]) {
			l.kind, l.name = straceCall, string(rest[:open])
			l.call(rest[open+1:])
		}
	}
	return l
}

// isCallName says whether a name can be a system call's: they are made of lower case letters, digits
// and _, and strace writes those it does not know as syscall_0x1b1.
func isCallName(b []byte) bool {
	if len(b) == 0 || len(b) > 40 || b[0] < 'a' || b[0] > 'z' {
		return b != nil && bytes.HasPrefix(b, []byte("_")) && len(b) > 1 && len(b) < 40 && isCallName(b[1:])
	}
	for _, c := range b {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

// number reads the process number that -f prints: `[pid 71] ` on a terminal, `71 ` in a file; with
// the command behind it where that was asked for.
func (l *straceLine) number(text []byte) []byte {
	digits, ok := bytes.CutPrefix(text, []byte("[pid "))
	digits = bytes.TrimLeft(digits, " ")
	if !ok {
		digits = text
	}
	n := 0
	for n < len(digits) && digits[n] >= '0' && digits[n] <= '9' {
		n++
	}
	rest := digits[n:]
	if bytes.HasPrefix(rest, []byte("<")) {
		if end := bytes.IndexByte(rest, '>'); end > 0 && end < 40 {
			rest = rest[end+1:]
		}
	}
	if ok {
		rest, ok = bytes.CutPrefix(rest, []byte("] "))
	} else {
		ok = bytes.HasPrefix(rest, []byte(" "))
	}
	// More than seven digits are a stamp in seconds: PIDs are below 2²². proc(5), pid_max.
	if tid, err := strconv.Atoi(string(digits[:min(n, 8)])); ok && err == nil && n < 8 {
		l.tid = tid
		return rest
	}
	return text
}

// stamp reads the stamps of -r and -t, and goes to what is behind.
func (l *straceLine) stamp(text []byte) []byte {
	text = bytes.TrimLeft(text, " ")
	word, rest, ok := bytes.Cut(text, []byte(" "))
	if !ok || len(word) == 0 || word[0] < '0' || word[0] > '9' {
		return text
	}
	seconds := word
	if len(word) >= 8 && word[2] == ':' && word[5] == ':' && isDigits(word[:2]) && isDigits(word[3:5]) {
		h, _ := strconv.Atoi(string(word[:2]))
		m, _ := strconv.Atoi(string(word[3:5]))
		l.at, l.day = time.Duration(h)*time.Hour+time.Duration(m)*time.Minute, true
		seconds = word[6:]
	}
	whole, part, _ := bytes.Cut(seconds, []byte("."))
	ns, err := decimal(seconds, 9)
	if err != nil || !isDigits(whole) || !isDigits(part) {
		*l = straceLine{tid: l.tid, took: -1}
		return text
	}
	if l.stamped = true; l.day {
		ns = min(ns, int64(time.Minute))
	}
	l.at += time.Duration(ns)
	rest = bytes.TrimLeft(rest, " ")
	if bytes.HasPrefix(rest, []byte("(+")) { // -r beside -t says nothing new
		if end := bytes.IndexByte(rest, ')'); end > 0 {
			rest = bytes.TrimLeft(rest[end+1:], " ")
		}
	}
	return rest
}

// straceTook reads the duration at the end of a line: `<0.000354>`.
func straceTook(text []byte) (before []byte, took time.Duration) {
	text = bytes.TrimRight(text, " \r")
	open := bytes.LastIndexByte(text, '<')
	if open < 0 || len(text)-open < 3 || text[len(text)-1] != '>' {
		return text, -1
	}
	number := text[open+1 : len(text)-1]
	whole, part, _ := bytes.Cut(number, []byte("."))
	ns, err := decimal(number, 9)
	if err != nil || !isDigits(whole) || !isDigits(part) {
		return text, -1
	}
	return text[:open], time.Duration(ns)
}

// call reads what is behind the parenthesis that opens, or behind `resumed>`.
func (l *straceLine) call(text []byte) {
	if args, ok := bytes.CutSuffix(text, []byte(" <unfinished ...>")); ok && !l.resumed {
		l.args, l.unfinished = string(args), true
		return
	}
	text, l.took = straceTook(text)
	args, result, ok := splitResult(text)
	if !ok {
		l.took = -1
		args = text
	}
	l.args, l.result = string(args), string(bytes.TrimSpace(result))
	if ok && l.result == "" {
		l.result = "?"
	}
}

// splitResult splits `arguments) = result` at the `=` that is outside of all parentheses, seen from
// the end; where that finds none, at the parenthesis that closes, seen from the beginning.
func splitResult(text []byte) (args, result []byte, ok bool) {
	level := 0
	for i := len(text) - 1; i >= 0 && level >= 0; i-- {
		switch text[i] {
		case ')':
			level++
		case '(':
			level--
		case '=':
			if level != 0 || i+1 < len(text) && text[i+1] != ' ' {
				continue
			}
			if before := bytes.TrimRight(text[:i], " "); bytes.HasSuffix(before, []byte(")")) {
				return before[:len(before)-1], text[i+1:], true
			}
		}
	}
	end := closing(text)
	if end < 0 {
		return nil, nil, false
	}
	after, ok := bytes.CutPrefix(bytes.TrimLeft(text[end+1:], " "), []byte("="))
	return text[:end], after, ok
}

// closing is the index of the parenthesis that ends the arguments, -1 for none. Strings and comments
// hold any.
func closing(text []byte) int {
	level := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '/':
			if bytes.HasPrefix(text[i:], []byte("/*")) {
				end := bytes.Index(text[i:], []byte("*/"))
				if end < 0 {
					return -1
				}
				i += end + 1
			}
		case '(', '[', '{':
			level++
		case ')', ']', '}':
			if level == 0 {
				return i
			}
			level--
		}
	}
	return -1
}

// quotedIn is the first string in arguments, with its escapes undone where that gives text.
func quotedIn(args string) (string, bool) {
	s, _, ok := cutQuoted(args)
	return s, ok
}

func cutQuoted(args string) (s, rest string, ok bool) {
	open := strings.IndexByte(args, '"')
	if open < 0 {
		return "", "", false
	}
	for i := open + 1; i < len(args); i++ {
		switch args[i] {
		case '\\':
			i++
		case '"':
			raw := args[open+1 : i]
			if text := unescape(raw); utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl) {
				return text, args[i+1:], true
			}
			return raw, args[i+1:], true
		}
	}
	return "", "", false
}

// unescape undoes the escapes of strace's strings, which are C's. src/util.c of strace, string_quote.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		i++
		switch c := s[i]; {
		case c >= '0' && c <= '7':
			n, k := 0, 0
			for ; k < 3 && i+k < len(s) && s[i+k] >= '0' && s[i+k] <= '7'; k++ {
				n = 8*n + int(s[i+k]-'0')
			}
			i += k - 1
			out = append(out, byte(n))
		case c == 'x' && i+2 < len(s):
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return s
			}
			out = append(out, byte(n))
			i += 2
		default:
			if k := strings.IndexByte("ntrvf", c); k >= 0 {
				c = "\n\t\r\v\f"[k]
			}
			out = append(out, c)
		}
	}
	return string(out)
}

// commandIn is the argument vector of an execve: `"/usr/bin/ls", ["ls", "-l"], 0x7ffc…`.
func commandIn(args string) []string {
	_, list, ok := strings.Cut(args, ", [")
	var command []string
	for ok && len(command) < 100 {
		var s string
		if s, list, ok = cutQuoted(list); ok {
			command = append(command, clean(s))
			list = strings.TrimPrefix(list, "...")
			ok = strings.HasPrefix(list, ", ")
		}
	}
	return command
}

// A straceUse says which file a call is about.
type straceUse int

const (
	usesFD     straceUse = iota + 1 // the descriptor that is its first argument
	usesPath                        // its first string; its first argument's where that is empty
	opensPath                       // the same, and its result is a descriptor of it
	closesFD                        // its first argument
	copiesFD                        // its first argument, and its result is another of the same file
	controlsFD                      // copies with the commands F_DUPFD, uses otherwise
	makesFD                         // no file, but the result is a descriptor
)

// straceUses are the calls that are about a file, all others being raw: those that PerfView knows, and
// those that are the same under another name. statfs, getcwd, mmap and the like are raw to it too.
var straceUses = map[string]straceUse{
	"open": opensPath, "openat": opensPath, "openat2": opensPath, "creat": opensPath,
	"close": closesFD, "dup": copiesFD, "dup2": copiesFD, "dup3": copiesFD, "fcntl": controlsFD, "fcntl64": controlsFD,
	"read": usesFD, "readv": usesFD, "pread64": usesFD, "preadv": usesFD, "preadv2": usesFD,
	"write": usesFD, "writev": usesFD, "pwrite64": usesFD, "pwritev": usesFD, "pwritev2": usesFD,
	"lseek": usesFD, "_llseek": usesFD, "getdents": usesFD, "getdents64": usesFD, "fstat": usesFD, "fstat64": usesFD,
	"flock": usesFD, "fadvise64": usesFD, "ioctl": usesFD, "fsync": usesFD, "fdatasync": usesFD, "ftruncate": usesFD, "fallocate": usesFD,
	"access": usesPath, "faccessat": usesPath, "faccessat2": usesPath, "stat": usesPath, "lstat": usesPath, "stat64": usesPath, "lstat64": usesPath,
	"newfstatat": usesPath, "fstatat64": usesPath, "statx": usesPath, "readlink": usesPath, "readlinkat": usesPath,
	"unlink": usesPath, "unlinkat": usesPath, "mknod": usesPath, "mknodat": usesPath,
	"socket": makesFD, "accept": makesFD, "accept4": makesFD, "epoll_create": makesFD, "epoll_create1": makesFD, "eventfd": makesFD, "eventfd2": makesFD,
	"timerfd_create": makesFD, "signalfd4": makesFD, "inotify_init1": makesFD, "memfd_create": makesFD, "pidfd_open": makesFD, "perf_event_open": makesFD,
}

// call is the path of the file that a call is about, "" where it is not known. It keeps the table.
func (f *straceFiles) call(l *straceLine) (path string, about bool) {
	use, about := straceUses[l.name]
	if !about {
		return "", false
	}
	fd, named := descriptor(l.args)
	if path = named; path == "" {
		path = f.path[fd]
	}
	switch use {
	case usesPath, opensPath:
		if quoted, ok := quotedIn(l.args); ok && quoted != "" {
			path = quoted
		} else if l.name == "stat" || l.name == "lstat" || l.name == "access" || !ok {
			path = ""
		}
		if use == opensPath {
			if fd, named := descriptor(l.result); fd != "" {
				if named != "" {
					path = named
				}
				f.path[fd] = path
			}
		}
	case closesFD:
		delete(f.path, fd)
	case controlsFD:
		if !strings.Contains(l.args, ", F_DUPFD") {
			break
		}
		fallthrough
	case copiesFD:
		if fd, _ := descriptor(l.result); fd != "" {
			delete(f.path, fd)
			if path != "" {
				f.path[fd] = path
			}
		}
	case makesFD:
		if fd, _ := descriptor(l.result); fd != "" {
			delete(f.path, fd)
		}
		return "", false
	}
	return path, true
}

// descriptor is the number that a text begins with, and the path that -y prints behind it; the number
// is "" where the text does not begin with one.
func descriptor(text string) (fd, path string) {
	n := 0
	for n < len(text) && text[n] >= '0' && text[n] <= '9' {
		n++
	}
	fd, rest := text[:n], text[n:]
	if n == 0 {
		rest = strings.TrimPrefix(text, "AT_FDCWD")
	}
	if strings.HasPrefix(rest, "<") {
		end := strings.Index(rest, ">,")
		if end < 0 && strings.HasSuffix(rest, ">") {
			end = len(rest) - 1
		}
		if end > 0 {
			if path = unescape(rest[1:end]); !utf8.ValidString(path) {
				path = rest[1:end]
			}
		}
	}
	return fd, path
}

// caller takes a line of -k: `/usr/lib/libc.so.6(__write+0x14) [0x10e0f4]`, with the file and line
// behind it where strace knows them (-kk).
func (r *straceReader) caller(text []byte) {
	if r.last == nil {
		return
	}
	s := string(bytes.TrimSpace(text))
	f := profile.Frame{Func: profile.Unknown}
	head, source, _ := strings.Cut(s, "] ")
	if at := strings.LastIndex(head, " [0x"); at >= 0 {
		head = head[:at]
	}
	if module, symbol, ok := strings.Cut(head, "("); ok && strings.HasSuffix(symbol, ")") {
		f.Module = module
		symbol = strings.TrimSuffix(symbol, ")")
		if at := strings.LastIndex(symbol, "+0x"); at > 0 {
			symbol = symbol[:at]
		}
		if symbol != "" {
			f.Func = demangled(symbol)
		}
	} else if !ok && strings.HasPrefix(head, "/") {
		f.Module = head
	}
	if at := strings.LastIndexByte(source, ':'); at > 0 {
		if line, err := strconv.Atoi(source[at+1:]); err == nil && line > 0 && line < 1<<31 {
			f.File, f.Line = source[:at], line
		}
	}
	r.lastOf = append(r.lastOf, r.b.location(f))
}
