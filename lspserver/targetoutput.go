package lspserver

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// A tail keeps the end of what a target wrote.
type tail struct{ kept []byte }

const (
	tailBytes = 64 << 10 // kept for the log
	tailLines = 10       // shown in a message
	tailWidth = 200      // bytes of a line in a message
)

func (t *tail) write(b []byte) {
	t.kept = append(t.kept, b...)
	if len(t.kept) > 2*tailBytes {
		t.kept = slices.Clone(t.kept[len(t.kept)-tailBytes:])
	}
}

func (t *tail) String() string {
	b := t.kept[max(0, len(t.kept)-tailBytes):]
	return strings.TrimSpace(strings.ToValidUTF8(string(b), "\ufffd"))
}

// last is the last lines, for a message.
func (t *tail) last() string {
	lines := strings.Split(t.String(), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	for i, l := range lines {
		lines[i] = shortened(l)
	}
	return strings.Join(lines, "\n")
}

// A goError is a line of t.Error and its like.
var goError = regexp.MustCompile(`^\s*\S+\.go:\d+: \S`)

// A nativeFailure is how a failure begins that GoogleTest, Catch2 or a Rust test tells: its place, and on
// the next line what was wrong.
var nativeFailure = regexp.MustCompile(`^\S+:\d+: (Failure|FAILED:?)\s*$|^thread '.*' .*panicked at .*:$`)

// why is what says best why a target failed, in at most two lines: a panic, or the first test that
// failed and its first message, or else the last lines.
func (t *tail) why() string {
	lines := strings.Split(t.String(), "\n")
	var fail, message string
	var rest []string
	for i, l := range lines {
		text := strings.TrimSpace(l)
		switch {
		case nativeFailure.MatchString(l):
			if i+1 < len(lines) {
				text += "\n" + shortened(strings.TrimSpace(lines[i+1]))
			}
			return shortened(text)
		case strings.HasPrefix(l, "panic: "), strings.HasPrefix(l, "fatal error: "):
			return shortened(text)
		case strings.HasPrefix(text, "--- FAIL: "):
			if fail == "" {
				fail = text
			}
		case message == "" && goError.MatchString(l):
			message = text
		case text != "" && text != "FAIL" && !strings.HasPrefix(l, "FAIL\t") && !strings.HasPrefix(l, "exit status "):
			rest = append(rest, text)
		}
	}
	if fail == "" && message == "" {
		rest = rest[max(0, len(rest)-2):]
		for i := range rest {
			rest[i] = shortened(rest[i])
		}
		return strings.Join(rest, "\n")
	}
	return strings.TrimSpace(shortened(fail) + "\n" + shortened(message))
}

// shortened is a line that fits into a message.
func shortened(l string) string {
	if len(l) <= tailWidth {
		return l
	}
	end := tailWidth
	for end > 0 && !utf8.RuneStart(l[end]) {
		end--
	}
	return l[:end] + "…"
}
