package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Jitter is a C program that runs a function it has made at run time, and tells of it as it is asked to:
// in a perf map, in one that lies, in one that is not its own, in a jitdump.
const jitter = `
-- jitter.c --
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static unsigned long __attribute__((noinline, aligned(64))) template(unsigned long n) {
	unsigned long x = 1;
	for (unsigned long i = 0; i < n; i++) x = x * 6364136223846793005ul + 1442695040888963407ul;
	return x;
}

volatile unsigned long sink;

int main(int argc, char **argv) {
	char *mode = argv[1], path[200];
	unsigned char *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(code, (void *)template, 256);
	__builtin___clear_cache((char *)code, (char *)code + 256);
	unsigned long addr = (unsigned long)code;
	if (!strcmp(mode, "link")) {
		snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
		unlink(path);
		if (symlink(argv[2], path)) return 3;
	} else if (!strcmp(mode, "dump")) {
		snprintf(path, sizeof path, "%s/jit-%d.dump", argv[2], getpid());
		int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
		if (fd < 0) return 3;
		mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
		FILE *f = fdopen(fd, "w");
		uint32_t head[10] = {0x4A695444, 1, 40, 62, 0, (uint32_t)getpid()};
		fwrite(head, 1, 40, f);
		const char *file = argv[3], *name = "made";
		uint32_t size = 16 + 16 + 16 + strlen(file) + 1;
		uint32_t lines[4] = {2, size};
		uint64_t at[3] = {addr, 1, addr};
		uint32_t entry[2] = {7, 0};
		fwrite(lines, 1, 16, f), fwrite(at, 1, 24, f), fwrite(entry, 1, 8, f), fwrite(file, 1, strlen(file) + 1, f);
		uint32_t load[6] = {0, 16 + 8 + 32 + 5 + 256, 0, 0, (uint32_t)getpid(), (uint32_t)getpid()};
		uint64_t what[4] = {addr, addr, 256, 1};
		fwrite(load, 1, 24, f), fwrite(what, 1, 32, f), fwrite(name, 1, 5, f), fwrite(code, 1, 256, f);
		fclose(f);
	} else if (strcmp(mode, "silent")) {
		snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
		unlink(path);
		FILE *f = fopen(path, "w");
		if (!f) return 3;
		if (!strcmp(mode, "lies")) fprintf(f, "1000 7fffffffffff liar\n%lx ffffffffffffffff liar\nffffffffffffff00 1000 liar\n\xff\xfe not a line\n", addr - 16);
		fprintf(f, "%lx 100 made\n", addr);
		fclose(f);
		if (!strcmp(mode, "foreign") && chown(path, 12345, 12345)) return 3;
	}
	char *rounds = getenv("ROUNDS");
	for (int i = 0, n = rounds ? atoi(rounds) : 100; i < n; i++) sink += ((unsigned long (*)(unsigned long))code)(1500000);
	if (!strcmp(mode, "last")) unlink(path);
	return 0;
}
-- maker.js --
1
2
3
4
5
6
7
8
`

// InJitter builds jitter in a folder of its own and makes that the current one.
func inJitter(t *testing.T) string {
	t.Helper()
	t.Setenv("DEBUGINFOD_URLS", "")
	dir, err := filepath.EvalSymlinks(inModule(t, jitter))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	tool(t, "gcc", "-O1", "-g", "-fno-omit-frame-pointer", "-o", "jitter", "jitter.c")
	return dir
}

// RecordMade records a command and tells the share that a function made at run time has, and its place.
// The perf maps that were written go.
func recordMade(t *testing.T, name string, command ...string) (share float64, place string) {
	t.Helper()
	mustRun(t, append([]string{"record", "--"}, command...)...)
	st := checkStore(t)
	id, err := st.Resolve("@")
	if err != nil {
		t.Fatal(err)
	}
	c, err := st.Load(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range c.Tasks[1:] {
		os.Remove(fmt.Sprintf("/tmp/perf-%d.map", task.PID))
	}
	rows := decode[rowsOut](t, mustRun(t, "stacks", "--json"))
	total := 0.0
	for _, r := range rows.Rows {
		total = max(total, r.Total)
	}
	for _, r := range rows.Rows {
		if r.Name == "[jit]!"+name {
			share, place = r.Self/total, fmt.Sprintf("%s:%d", filepath.Base(r.File), r.Line)
		}
	}
	return share, place
}

// Code made at run time has the name that its process tells, if it may be believed.
func TestCodeMadeAtRunTime(t *testing.T) {
	dir := inJitter(t)
	for _, c := range []struct {
		name, warned string
		named, root  bool
		args         []string
	}{
		{name: "map", named: true, args: []string{"map"}},
		{name: "lies", named: true, warned: "of its lines are damaged or claim more", args: []string{"lies"}},
		{name: "silent", warned: "has no names; start it so that it tells them", args: []string{"silent"}},
		{name: "gone", warned: "has no names; start it so that it tells them", args: []string{"last"}},
		{name: "symbolic link", warned: "it is a symbolic link", args: []string{"link", filepath.Join(dir, "maker.js")}},
		{name: "of another user", warned: "it belongs to user 12345 and not to that of the process", root: true, args: []string{"foreign"}},
		{name: "jitdump", named: true, args: []string{"dump", dir, filepath.Join(dir, "maker.js")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("only root can give a file to another user")
			}
			share, place := recordMade(t, "made", append([]string{"./jitter"}, c.args...)...)
			if c.named && share < 0.6 || !c.named && share != 0 {
				t.Errorf("made has %.3f of the time", share)
			}
			text := warnings(t)
			if c.warned == "" && strings.Contains(text, "made at run time") || !strings.Contains(text, c.warned) {
				t.Errorf("warned %q, want %q", text, c.warned)
			}
			if c.name == "jitdump" {
				if place != "maker.js:0" && place != "maker.js:7" {
					t.Errorf("made is at %s", place)
				}
				a := decode[annotated](t, mustRun(t, "lines", "maker.js", "--json"))
				if len(a.Lines) != 1 || a.Lines[0].Line != 7 {
					t.Errorf("lines %+v", a.Lines)
				}
			}
			checkStore(t)
		})
	}
}

// A process in namespaces of its own calls itself by another number and writes into another /tmp, which
// are gone with it.
func TestCodeMadeInAContainer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may make namespaces everywhere")
	}
	inJitter(t)
	program := copyOutside(t, "jitter")
	// A process must live until the recorder has read its first sample, which a busy machine delays.
	for rounds := 100; ; rounds *= 10 {
		t.Setenv("ROUNDS", strconv.Itoa(rounds))
		share, _ := recordMade(t, "made", "unshare", "--mount", "--pid", "--fork", "sh", "-c",
			`mount -t tmpfs tmpfs /tmp && "$0" map && ls /tmp | grep -qx 'perf-[1-9].map'`, program)
		if share >= 0.6 {
			return
		}
		if rounds == 10000 {
			t.Fatalf("made has %.3f of the time; warned: %s", share, warnings(t))
		}
	}
}

// CopyOutside copies a program to where a mount on /tmp does not hide it.
func copyOutside(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "sightline-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// A program in a root of its own is named from the files there: itself, and its debug file.
func TestProgramInAContainer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may change its root")
	}
	inSpin(t)
	tool(t, "gcc", "-O1", "-g", "-static", "-Wl,--build-id=sha1", "-o", "spin", "spin.c")
	jail := t.TempDir()
	f, err := os.Open("spin")
	if err != nil {
		t.Fatal(err)
	}
	id := gnuBuildID(f)
	f.Close()
	debug := filepath.Join(jail, "usr/lib/debug/.build-id", id[:2], id[2:]+".debug")
	if err := os.MkdirAll(filepath.Dir(debug), 0o755); err != nil {
		t.Fatal(err)
	}
	tool(t, "objcopy", "--only-keep-debug", "spin", debug)
	tool(t, "strip", "-o", filepath.Join(jail, "spin"), "spin")
	mustRun(t, "record", "--", "unshare", "--mount", "chroot", jail, "/spin")
	checkSpin(t)
	for text := range strings.Lines(warnings(t)) {
		// A stack may be cut where the process begins or ends; what is read of files may lack nothing.
		if strings.Contains(text, "/spin") && !strings.Contains(text, "callers are missing") {
			t.Errorf("warned: %s", text)
		}
	}
}

// Node.js tells its functions in a perf map, and their lines in a jitdump.
func TestNodeFunctions(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skipf("needs Node.js, which .ci/packages test installs: %v", err)
	}
	dir, err := filepath.EvalSymlinks(inModule(t, `
-- hot.js --
function spin(n) {
	let x = 1;
	for (let i = 0; i < n; i++) {
		x = (x * 16807 + i) % 2147483647; // spin
	}
	return x;
}
let sum = 0;
for (let i = 0; i < 30; i++) sum += spin(1000000);
console.log(sum);
`))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("DEBUGINFOD_URLS", "")
	for _, c := range []struct {
		flag string
		line int
	}{{"--perf-basic-prof", 0}, {"--perf-prof", lineOf(t, "hot.js", "spin")}} {
		t.Run(c.flag, func(t *testing.T) {
			share, place := recordMade(t, "spin", node, c.flag, "hot.js")
			if share < 0.3 || place != "hot.js:1" {
				t.Errorf("spin has %.3f of the time and begins at %s; warned: %s", share, place, warnings(t))
			}
			if c.line > 0 {
				// Node.js 20 writes some names of files from memory that it has freed. Then a function may have no
				// lines, but never wrong ones.
				for line, share := range shares(t, "hot.js") {
					if line != c.line && share[0] > 0.25 {
						t.Errorf("line %d has %.3f, not line %d", line, share[0], c.line)
					}
				}
			}
		})
	}
}

// A number that is no process has no name of this machine's.
func TestPerfMapOfEarlierProcess(t *testing.T) {
	inJitter(t)
	// Whatever number the program gets, a file of that name lies there already, and is too old.
	script := `{ echo "1000 ff0000 old"; i=0; } >/tmp/perf-$$.map && touch -d @1000000000 /tmp/perf-$$.map && exec ./jitter silent`
	share, _ := recordMade(t, "old", "sh", "-c", script)
	if share != 0 {
		t.Errorf("a file from before the process began names %.3f of the time", share)
	}
}
