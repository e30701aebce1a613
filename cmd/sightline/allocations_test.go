package main

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// keeping is a C++ program that keeps 1 MiB and gives back another.
const keeping = `
-- keeping.cc --
#include <string>
#include <vector>

static std::vector<std::string *> kept;

static void __attribute__((noinline)) keep() {
	for (int i = 0; i < 1024; i++) kept.push_back(new std::string(1023, 'x')); // keeps
}

static void __attribute__((noinline)) pass() {
	for (int i = 0; i < 1024; i++) delete new std::string(1023, 'y'); // gives back
}

int main() {
	keep();
	pass();
	return 3;
}
`

func TestRecordAllocations(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("BPF needs root")
	}
	inModule(t, keeping)
	tool(t, "g++", "-O1", "-g", "-o", "keeping", "keeping.cc")
	status, out, stderr := sightline(t, "record", "--kind", "alloc", "--every-bytes", "1", "--", "./keeping")
	if status != exitFailed || !strings.Contains(out, "exit status 3") {
		t.Fatalf("exit %d: %s%s", status, out, stderr)
	}
	for _, want := range []string{"allocated", "in use", "most was in use after"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	cost := func(comment string, kind profile.Kind) (int64, int64) {
		a := decode[annotated](t, mustRun(t, "lines", "keeping.cc", "--json", "--kind", string(kind)))
		for _, l := range a.Lines {
			if l.Line == lineOf(t, "keeping.cc", comment) {
				return l.Total, l.Count
			}
		}
		return 0, 0
	}
	// A string of 1,023 letters is 1,024 bytes and the 32 of itself.
	for _, x := range []struct {
		comment     string
		kind        profile.Kind
		least, most int64
	}{
		{"keeps", profile.Alloc, 1024 * 1056, 1024 * 1100}, {"keeps", profile.InUse, 1024 * 1056, 1024 * 1080},
		{"gives back", profile.Alloc, 1024 * 1056, 1024 * 1056}, {"gives back", profile.InUse, 0, 0},
	} {
		if got, _ := cost(x.comment, x.kind); got < x.least || got > x.most {
			t.Errorf("%s has %d bytes of %s, want %d to %d", x.comment, got, x.kind, x.least, x.most)
		}
	}
	if _, n := cost("gives back", profile.Alloc); n != 2048 {
		t.Errorf("what is given back was %d objects, want 2048", n)
	}
}

func TestRecordAllocationsRefused(t *testing.T) {
	inModule(t, keeping)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-a"}, "not of the machine"},
		{[]string{"--every-bytes", "none", "-p", "1"}, "is no number of bytes"},
		{[]string{"--every-bytes", "0", "-p", "1"}, "is no number of bytes"},
		{[]string{"--most-slowdown", "-1", "-p", "1"}, "is no percentage"},
		{[]string{"-p", strconv.Itoa(1<<22 + 1)}, "there is no such process"},
	} {
		status, _, stderr := sightline(t, append([]string{"record", "--kind", "alloc"}, c.args...)...)
		if status != exitUsage || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, %s; want %q", c.args, status, stderr, c.want)
		}
	}
}
