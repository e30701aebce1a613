package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func framed(body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body) }

// frames reads a stream as a connection does: bodies that are no JSON are rejected.
func frames(r io.Reader, limit int) (seen []string) {
	f := frameReader{src: r, limit: limit}
	for {
		body, err := f.next()
		var fault *badFrame
		switch {
		case errors.As(err, &fault):
			seen = append(seen, "bad: "+fault.reason)
		case err != nil:
			return append(seen, err.Error())
		case !bytes.HasPrefix(body, []byte("{")) || !bytes.HasSuffix(body, []byte("}")) || bytes.Count(body, []byte("{")) != 1:
			seen = append(seen, "rejected")
			f.reject()
		default:
			seen = append(seen, string(body))
		}
	}
}

func TestFrames(t *testing.T) {
	const noLength = "bad: a message header has no Content-Length above 0"
	long := "{" + strings.Repeat("x", 50_000) + "}"
	for name, c := range map[string]struct {
		stream string
		want   []string
	}{
		"nothing":              {"", []string{"EOF"}},
		"frames":               {framed("{a}") + framed("{b}") + framed(long) + framed("{c}"), []string{"{a}", "{b}", long, "{c}", "EOF"}},
		"other fields":         {"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\ncontent-length:3 \r\nX: \r\n\r\n{a}" + framed("{b}"), []string{"{a}", "{b}", "EOF"}},
		"no CR":                {"Content-Length: 3\n\n{a}" + framed("{b}"), []string{"{a}", "{b}", "EOF"}},
		"half a header":        {framed("{a}") + "Content-Len", []string{"{a}", "unexpected EOF"}},
		"header, no body":      {framed("{a}") + "Content-Length: 3\r\n\r\n", []string{"{a}", "unexpected EOF"}},
		"half a body":          {"Content-Length: 9\r\n\r\n{a}", []string{"unexpected EOF"}},
		"no length":            {"X: 1\r\n\r\n{x}" + framed("{a}"), []string{noLength, "{a}", "EOF"}},
		"length 0":             {"Content-Length: 0\r\n\r\n" + framed("{a}"), []string{noLength, "{a}", "EOF"}},
		"negative length":      {"Content-Length: -3\r\n\r\n{x}" + framed("{a}"), []string{"bad: the Content-Length of a message is not a number of bytes", "{a}", "EOF"}},
		"length of words":      {"Content-Length: three\r\n\r\n{x}" + framed("{a}"), []string{"bad: the Content-Length of a message is not a number of bytes", "{a}", "EOF"}},
		"no header":            {"hello world\n" + framed("{a}"), []string{"bad: a message header line is not of the form Name: value", "{a}", "EOF"}},
		"bare JSON":            {`{"jsonrpc":"2.0"}` + framed("{a}") + framed("{b}"), []string{noLength, "{b}", "EOF"}},
		"too long":             {"Content-Length: 100001\r\n\r\n{x}" + framed("{a}"), []string{"bad: the message has 100001 bytes; 100000 are the limit", "{a}", "EOF"}},
		"beyond all":           {"Content-Length: 99999999999999999999999\r\n\r\n{x}" + framed("{a}"), []string{"bad: the message has 9223372036854775807 bytes; 100000 are the limit", "{a}", "EOF"}},
		"too long and really":  {framed("{"+strings.Repeat("x", 200_000)+"}") + framed("{a}"), []string{"bad: the message has 200002 bytes; 100000 are the limit", "{a}", "EOF"}},
		"length too great":     {"Content-Length: 20\r\n\r\n{x}" + framed("{a}") + framed("{b}"), []string{"rejected", "{a}", "{b}", "EOF"}},
		"length too small":     {"Content-Length: 3\r\n\r\n{xxxxxxxx}" + framed("{a}") + framed("{b}"), []string{"rejected", noLength, "{b}", "EOF"}},
		"a header too long":    {"X: " + strings.Repeat("y", 20_000) + "\r\n" + framed("{a}"), []string{"bad: a message header has more than 8192 bytes", "{a}", "EOF"}},
		"endless header":       {strings.Repeat("X: y\r\n", 5_000) + framed("{a}"), []string{"bad: a message header has more than 8192 bytes", "{a}", "EOF"}},
		"garbage without end":  {strings.Repeat("Cc: content-length", 5_000), []string{"bad: a message header has more than 8192 bytes", "unexpected EOF"}},
		"a length in the body": {framed("{Content-Length: 5}") + framed("{a}"), []string{"{Content-Length: 5}", "{a}", "EOF"}},
	} {
		for how, r := range map[string]io.Reader{
			"at once":      strings.NewReader(c.stream),
			"byte by byte": iotest.OneByteReader(strings.NewReader(c.stream)),
			"in halves":    iotest.HalfReader(strings.NewReader(c.stream)),
		} {
			got := frames(r, 100_000)
			// "bare JSON" is read as a header line, which swallows the next header.
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s, %s: %s", name, how, diff)
			}
		}
	}
}

// TestFrameBuffer sees that memory follows what has come, not what was announced, and is given back.
func TestFrameBuffer(t *testing.T) {
	f := frameReader{src: io.MultiReader(strings.NewReader("Content-Length: 1000000000\r\n\r\n{"), iotest.ErrReader(io.EOF)), limit: 1 << 30}
	if _, err := f.next(); err != io.ErrUnexpectedEOF {
		t.Errorf("%v", err)
	}
	if cap(f.buf) > 1<<16 {
		t.Errorf("a buffer of %d bytes for an announcement", cap(f.buf))
	}
	f = frameReader{src: strings.NewReader(framed("{"+strings.Repeat("x", 5<<20)+"}") + framed("{}")), limit: 1 << 30}
	for range 2 {
		if _, err := f.next(); err != nil {
			t.Fatal(err)
		}
	}
	f.next()
	if cap(f.buf) > 2*keepBuffer {
		t.Errorf("a buffer of %d bytes is kept", cap(f.buf))
	}
}

// FuzzFrames reads any bytes with good frames behind them. Whatever the bytes are, the last of the
// good frames is found: nothing in a stream can make it deaf.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("Content-Length: 20\r\n\r\n{x}"))
	f.Add([]byte("Content-Length: 3"))
	f.Add([]byte("Content-Length: 64\r\n\r\nContent-Length: 3\r"))
	f.Add([]byte("CCCContent-lenContent-Length : 09\n"))
	f.Add([]byte("X: y\r\n"))
	f.Fuzz(func(t *testing.T, garbage []byte) {
		const limit = 64
		var good strings.Builder
		for range 2 + (limit+maxHeader)/len(framed("{good}")) {
			good.WriteString(framed("{good}"))
		}
		good.WriteString(framed("{last}"))
		stream := append(bytes.Clone(garbage), good.String()...)
		got := frames(bytes.NewReader(stream), limit)
		if n := len(got); n < 2 || got[n-1] != "EOF" || got[n-2] != "{last}" {
			t.Fatalf("of %q and good frames: %q", garbage, got[max(0, len(got)-4):])
		}
		if slow := frames(iotest.OneByteReader(bytes.NewReader(stream)), limit); cmp.Diff(got, slow) != "" {
			t.Fatalf("of %q, byte by byte: %s", garbage, cmp.Diff(got, slow))
		}
	})
}
