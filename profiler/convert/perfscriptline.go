package convert

import (
	"bytes"
	"math"
	"strconv"
	"time"
)

// A scriptHeader is the line that begins a sample in the text of `perf script`
// (perf_sample__fprintf_start in tools/perf/builtin-script.c):
//
//	comm  pid/tid [cpu] 13194.615104:     500000 cpu-clock:ppp:  what follows
//
// The name may have blanks and anything else; of pid and tid one may be missing, and so may the
// processor, the time, the period and the event (perf script -F says what is printed).
type scriptHeader struct {
	who      []byte // name, pid and tid as they stand
	comm     []byte
	pid, tid int
	cpu      int // -1: not told
	time     time.Duration
	timed    bool  // the time is told
	period   int64 // -1: not told
	event    []byte
	rest     []byte // behind the event: a frame, or what a tracepoint says
}

func scriptDigits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

func isHex(b []byte) bool {
	for _, c := range b {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(b) > 0 && len(b) <= 16
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

func trimBlanks(b []byte) []byte { return bytes.Trim(b, " \t") }

// lastToken takes the last token off.
func lastToken(b []byte) (before, token []byte) {
	b = bytes.TrimRight(b, " \t")
	i := len(b)
	for i > 0 && !isBlank(b[i-1]) {
		i--
	}
	return b[:i], b[i:]
}

// firstToken takes the first token off.
func firstToken(b []byte) (token, after []byte) {
	b = bytes.TrimLeft(b, " \t")
	i := 0
	for i < len(b) && !isBlank(b[i]) {
		i++
	}
	return b[:i], b[i:]
}

// parseScriptTime reads "13194.615104", or with nanoseconds.
func parseScriptTime(b []byte) (time.Duration, bool) {
	whole, fraction, ok := bytes.Cut(b, []byte("."))
	if !ok || !scriptDigits(whole) || !scriptDigits(fraction) || len(fraction) > 9 || len(whole) > 18 {
		return 0, false
	}
	var s, ns int64
	for _, c := range whole {
		s = s*10 + int64(c-'0')
	}
	for i := range 9 {
		ns *= 10
		if i < len(fraction) {
			ns += int64(fraction[i] - '0')
		}
	}
	if s > math.MaxInt64/2/int64(time.Second) {
		return maxTime + 1, true // is left out, and counted
	}
	return time.Duration(s*int64(time.Second) + ns), true
}

// parseScriptHeader reads a line that may begin a sample. The time is what tells it from all others:
// the first that follows numbers of a thread. Where no line has times, one that is not indented and
// ends with an event is taken.
func parseScriptHeader(line []byte, timeless bool) (h scriptHeader, ok bool) {
	for from := 0; ; {
		i := bytes.IndexByte(line[from:], ':')
		if i < 0 {
			break
		}
		i += from
		from = i + 1
		if i+1 < len(line) && !isBlank(line[i+1]) || i < 3 || line[i-1] < '0' || line[i-1] > '9' {
			continue
		}
		before, token := lastToken(line[:i])
		at, isTime := parseScriptTime(token)
		if !isTime {
			continue
		}
		if h, ok = parseScriptWho(before); ok {
			h.time, h.timed = at, true
			h.parseEvent(line[i+1:])
			return h, true
		}
	}
	return parseScriptTimeless(line, timeless)
}

// parseScriptTimeless reads a header without a time: a thread, perhaps a period, and the event. What
// follows on the line must be a frame, or what a tracepoint says. Where threads are all that is told,
// the line is nothing else. Lines that are indented must have all of it, where bare is false or not.
func parseScriptTimeless(line []byte, bare bool) (h scriptHeader, ok bool) {
	if len(line) == 0 {
		return h, false
	}
	bare = bare && !isBlank(line[0])
	for from := 0; ; {
		i := bytes.IndexByte(line[from:], ':')
		if i < 0 {
			break
		}
		i += from
		from = i + 1
		if i+1 < len(line) && !isBlank(line[i+1]) {
			continue
		}
		before, event := lastToken(line[:i])
		if len(event) == 0 {
			continue
		}
		rest := trimBlanks(line[i+1:])
		if address, _ := firstToken(rest); len(address) >= 8 && isHex(address) && rest[len(rest)-1] == ')' {
			// A sample on a line of its own.
		} else if !bare || len(rest) > 0 && bytes.IndexByte(event, ':') < 0 {
			continue
		}
		period := int64(-1)
		if b, token := lastToken(before); scriptDigits(token) {
			if _, ok := parseScriptWho(b); ok {
				before = b
				period = parseScriptPeriod(token)
			}
		}
		if h, ok = parseScriptWho(before); ok {
			h.period, h.event, h.rest = period, event, rest
			return h, true
		}
	}
	if !bare {
		return h, false
	}
	if h, ok = parseScriptWho(line); ok {
		ok = len(h.comm) > 0
	}
	return h, ok
}

// parseScriptWho reads what stands before the time.
func parseScriptWho(b []byte) (h scriptHeader, ok bool) {
	h.cpu, h.period = -1, -1
	before, token := lastToken(b)
	if n := len(token); n > 2 && token[0] == '[' && token[n-1] == ']' && scriptDigits(token[1:n-1]) {
		h.cpu, _ = strconv.Atoi(string(token[1 : n-1]))
		b = bytes.TrimRight(before, " \t")
		before, token = lastToken(b)
	}
	first, second, both := bytes.Cut(token, []byte("/"))
	if h.pid, ok = parseScriptID(first); !ok {
		return h, false
	}
	h.tid = h.pid
	if both {
		if h.tid, ok = parseScriptID(second); !ok {
			return h, false
		}
	}
	h.who = bytes.TrimLeft(b, " \t")
	h.comm = trimBlanks(before)
	return h, true
}

func parseScriptID(b []byte) (int, bool) {
	digits := bytes.TrimPrefix(b, []byte("-"))
	if !scriptDigits(digits) || len(digits) > 10 {
		return 0, false
	}
	n, _ := strconv.Atoi(string(b))
	return max(n, 0), true // -1: a thread that had ended
}

func parseScriptPeriod(b []byte) int64 {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return math.MaxInt64 // is left out, and counted
	}
	return n
}

// parseEvent reads what stands behind the time: the event ends at the first colon before a blank.
func (h *scriptHeader) parseEvent(b []byte) {
	if token, after := firstToken(b); scriptDigits(token) && len(trimBlanks(after)) > 0 {
		h.period, b = parseScriptPeriod(token), after
	}
	token, after := firstToken(b)
	if n := len(token); n > 1 && token[n-1] == ':' {
		h.event, h.rest = token[:n-1], trimBlanks(after)
		return
	}
	h.rest = trimBlanks(b)
}

// A scriptFrame is a row of a stack: "55e302c77159 leaf+0x10 (/tmp/prog)".
type scriptFrame struct {
	symbol, module []byte // "" where not told
	inlined        bool   // into the next row that is not
	zero           bool   // the address is 0
}

// parseScriptFrame reads a row. The module is in the parentheses at its end, which may contain others.
func parseScriptFrame(row []byte) (f scriptFrame, ok bool) {
	row = trimBlanks(row)
	address, rest := firstToken(row)
	rest = trimBlanks(rest)
	if n := len(rest); n > 0 && rest[n-1] == ')' {
		depth, i := 0, n-1
		for ; i >= 0; i-- {
			if rest[i] == ')' {
				depth++
			} else if rest[i] == '(' {
				if depth--; depth == 0 {
					break
				}
			}
		}
		if i == 0 || i > 0 && isBlank(rest[i-1]) {
			f.symbol, f.module, ok = bytes.TrimRight(rest[:i], " \t"), rest[i+1:n-1], true
		}
	}
	f.zero = string(address) == "0"
	hex := isHex(bytes.TrimPrefix(address, []byte("0x")))
	switch {
	case ok && !hex && len(f.symbol) == 0: // no address is printed
		f.symbol = address
	case !ok && hex:
		f.symbol, ok = rest, true
	}
	switch {
	case string(f.module) == "inlined":
		f.module, f.inlined = nil, true
	case bytes.HasPrefix(f.module, []byte("discriminator ")):
		return f, false // a source line
	}
	f.symbol = cutScriptOffset(f.symbol)
	return f, ok
}

// isFlatFrame tells whether a line that is not indented can only be a row of a stack: it has an address
// and a module.
func isFlatFrame(line []byte) bool {
	address, rest := firstToken(line)
	rest = trimBlanks(rest)
	return len(address) >= 4 && isHex(address) && len(rest) > 2 && rest[len(rest)-1] == ')' && bytes.IndexByte(rest, '(') >= 0
}

// cutScriptOffset removes "+0x10" from the end of a symbol.
func cutScriptOffset(symbol []byte) []byte {
	if i := bytes.LastIndex(symbol, []byte("+0x")); i > 0 && isHex(symbol[i+3:]) {
		return symbol[:i]
	}
	return symbol
}

// parseScriptSource reads the row below a frame that tells its source: "prog.c:6".
func parseScriptSource(row []byte) (file []byte, line int, ok bool) {
	row = trimBlanks(row)
	if i := bytes.Index(row, []byte(" (discriminator ")); i > 0 {
		row = row[:i]
	}
	i := bytes.LastIndexByte(row, ':')
	if i <= 0 || !scriptDigits(row[i+1:]) || len(row)-i > 10 {
		return nil, 0, false
	}
	line, _ = strconv.Atoi(string(row[i+1:]))
	return row[:i], line, true
}

// A scriptSwitch is what sched:sched_switch says, in the kernel's words or in those of perf's plugin:
//
//	prev_comm=perf prev_pid=7594 prev_prio=120 prev_state=D ==> next_comm=swapper/0 next_pid=0 next_prio=120
//	perf:7594 [120] D ==> swapper/0:0 [120]
type scriptSwitch struct {
	prev, next int // threads
	runnable   bool
}

func parseScriptSwitch(text []byte) (s scriptSwitch, ok bool) {
	prev, next, ok := bytes.Cut(text, []byte(" ==> "))
	if !ok {
		return s, false
	}
	var state []byte
	if i := bytes.LastIndex(prev, []byte(" prev_pid=")); i >= 0 {
		id, _ := firstToken(prev[i+len(" prev_pid="):])
		s.prev, ok = parseScriptID(id)
		if j := bytes.LastIndex(prev, []byte(" prev_state=")); j >= 0 {
			state = prev[j+len(" prev_state="):]
		}
		i = bytes.LastIndex(next, []byte(" next_pid="))
		if i < 0 || !ok {
			return s, false
		}
		id, _ = firstToken(next[i+len(" next_pid="):])
		s.next, ok = parseScriptID(id)
	} else {
		var a, b bool
		prev, state = lastToken(prev)
		s.prev, a = parseScriptPlugin(prev)
		s.next, b = parseScriptPlugin(next)
		ok = a && b
	}
	s.runnable = bytes.HasPrefix(state, []byte("R"))
	return s, ok
}

// parseScriptPlugin reads the thread of "comm:7594 [120]".
func parseScriptPlugin(b []byte) (int, bool) {
	b, _ = lastToken(b)
	b = bytes.TrimRight(b, " \t")
	i := bytes.LastIndexByte(b, ':')
	if i < 0 {
		return 0, false
	}
	return parseScriptID(b[i+1:])
}
