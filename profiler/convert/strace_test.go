package convert

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// taskNames are a profile's samples as "TID/PID comm: time weight stack".
func taskNames(p *profile.Profile) []string {
	lines := namesOf(p)
	for i := range lines {
		t := p.Tasks[p.Samples.Task[i]]
		lines[i] = fmt.Sprintf("%d/%d<%d %s: %s", t.TID, t.PID, t.Parent, t.Comm, lines[i])
	}
	return lines
}

func TestStraceCalls(t *testing.T) {
	for name, x := range map[string]struct {
		text string
		want []string
	}{
		"strings": {
			`     0.000000 write(1, "a) = 2 <0.5> \"\\", 6) = 6 <0.000010>
     1.000001 openat(AT_FDCWD, "/a (b), c\303\274\\", O_RDWR|O_CREAT, 0666) = 3 <0.5>
     0.1 read(3, ")]}\"= ", 7)             = 7 <0.000000001>
     0.1 readlink("/x/"..., 0x7ffc /* 9 ) entries */, 9) = -1 EINVAL (Invalid (argument) <0.1>
     0.1 getcwd("/", 4096)             = 2 <0.1>
`,
			[]string{
				`0s 10µs Path: <Unknown>;Syscall: write;Arguments: 1, "a) = 2 <0.5> \"\\", 6;Return Code: 6`,
				`1.000001s 500ms Path: /a (b), cü\;Syscall: openat;Arguments: AT_FDCWD, "/a (b), c\303\274\\", O_RDWR|O_CREAT, 0666;Return Code: 3`,
				`1.100001s 1ns Path: /a (b), cü\;Syscall: read;Arguments: 3, ")]}\"= ", 7;Return Code: 7`,
				`1.200001s 100ms Path: /x/;Syscall: readlink;Arguments: "/x/"..., 0x7ffc /* 9 ) entries */, 9;Return Code: -1 EINVAL (Invalid (argument)`,
				`1.300001s 100ms Raw Syscalls;Syscall: getcwd;Arguments: "/", 4096;Return Code: 2`,
			},
		},
		"files": {
			`0.0 open("/a", O_RDONLY) = 3 <0.001>
0.0 fcntl(3, F_DUPFD_CLOEXEC, 10) = 10 <0.001>
0.0 dup2(3, 1) = 1 <0.001>
0.0 fcntl(1, F_GETFL) = 0x8000 (flags O_RDONLY) <0.001>
0.0 close(3) = 0 <0.001>
0.0 fstat(3, {}) = -1 EBADF (Bad file descriptor) <0.001>
0.0 newfstatat(10, "", {}, AT_EMPTY_PATH) = 0 <0.001>
0.0 newfstatat(AT_FDCWD, "/b", {}, 0) = 0 <0.001>
0.0 socket(AF_UNIX, SOCK_STREAM, 0) = 10 <0.001>
0.0 read(10, "", 1) = 0 <0.001>
0.0 openat(AT_FDCWD, "/no", O_RDONLY) = -1 ENOENT (No such file or directory) <0.001>
0.0 openat(AT_FDCWD</r>, "x", O_RDONLY) = 4</r/x(=)> <0.001>
0.0 read(4</r/x(=)>, "", 1) = 0 <0.001>
0.0 stat(0x1, 0x2) = -1 EFAULT (Bad address) <0.001>
`,
			[]string{
				"0s 1ms Path: /a;Syscall: open", "0s 1ms Path: /a;Syscall: fcntl", "0s 1ms Path: /a;Syscall: dup2", "0s 1ms Path: /a;Syscall: fcntl",
				"0s 1ms Path: /a;Syscall: close", "0s 1ms Path: <Unknown>;Syscall: fstat", "0s 1ms Path: /a;Syscall: newfstatat", "0s 1ms Path: /b;Syscall: newfstatat",
				"0s 1ms Raw Syscalls;Syscall: socket", "0s 1ms Path: <Unknown>;Syscall: read", "0s 1ms Path: /no;Syscall: openat",
				"0s 1ms Path: /r/x(=);Syscall: openat", "0s 1ms Path: /r/x(=);Syscall: read", "0s 1ms Path: <Unknown>;Syscall: stat",
			},
		},
		"signals and ends": {
			`0.5 nanosleep({tv_sec=1}, {tv_nsec=5}) = ? ERESTART_RESTARTBLOCK (Interrupted by signal) <0.25>
0.5 --- SIGINT {si_signo=SIGINT, si_code=SI_USER, si_pid=1, si_uid=0} ---
0.5 restart_syscall(<... resuming interrupted nanosleep ...>) = 0 <0.25>
0.5 exit_group(0) = ?
0.5 +++ killed by SIGKILL (core dumped) +++
`,
			[]string{
				"500ms 250ms Raw Syscalls;Syscall: nanosleep;Arguments: {tv_sec=1}, {tv_nsec=5};Return Code: ? ERESTART_RESTARTBLOCK (Interrupted by signal)",
				"1.5s 250ms Raw Syscalls;Syscall: restart_syscall;Arguments: <... resuming interrupted nanosleep ...>;Return Code: 0",
			},
		},
		"output between": {
			`0.1 write(1, "x\n", 2x
hello foo(1) = 2
)  = 2 <0.5>
  Version: 6
0.1 close(1) = 0 <0.5>
`,
			[]string{
				`100ms 500ms Path: <Unknown>;Syscall: write;Arguments: 1, "x\n", 2xhello foo(1) = 2;Return Code: 2`,
				"200ms 500ms Path: <Unknown>;Syscall: close;Arguments: 1;Return Code: 0",
			},
		},
		"clock": {
			strings.Repeat("23:59:59.500000 brk(NULL) = 0 <0.000001>\n00:00:01 brk(NULL) = 0 <0.000001>\n", 2),
			[]string{
				"0s 1µs Raw Syscalls;Syscall: brk", "1.5s 1µs Raw Syscalls;Syscall: brk",
				"24h0m0s 1µs Raw Syscalls;Syscall: brk", "24h0m1.5s 1µs Raw Syscalls;Syscall: brk",
			},
		},
		"clock and relative": {
			"1700000000.250000 (+     0.000000) brk(NULL) = 0 <0.000001>\n1700000001.000000 (+     0.750000) brk(NULL) = 0 <0.000001>\n",
			[]string{"0s 1µs Raw Syscalls;Syscall: brk", "750ms 1µs Raw Syscalls;Syscall: brk"},
		},
		"no durations": {
			"     0.000000 brk(NULL) = 0x1\n     0.000002 brk(NULL) = 0x2\n     0.1 exit_group(1) = ?\n",
			[]string{"0s 1 Raw Syscalls;Syscall: brk", "2µs 1 Raw Syscalls;Syscall: brk"},
		},
		"number and pointer": {
			"[ 12] [00007f0000000001] brk(NULL) = 0x1 <0.5>\n",
			[]string{"0s 500ms Raw Syscalls;Syscall: brk"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, format, err := Read(t.Context(), strings.NewReader(x.text), Options{Format: Strace})
			if err != nil || format != Strace {
				t.Fatal(format, err)
			}
			got := namesOf(only(t, c))
			for i := range min(len(got), len(x.want)) {
				if strings.Count(x.want[i], ";") == 1 { // only the first two frames matter
					got[i] = strings.Join(strings.Split(got[i], ";")[:2], ";")
				}
			}
			if diff := cmp.Diff(x.want, got); diff != "" {
				t.Errorf("samples (-want +got):\n%s", diff)
			}
			for _, w := range c.Warnings {
				if w.Kind == profile.WarnLost && name != "output between" {
					t.Errorf("warning %+v", w)
				}
			}
		})
	}
}

// Threads in a file (-f -o), with calls that begin and end apart; a child that runs before its parent's
// call returns.
const straceThreads = `100   0.000000 execve("/usr/bin/prog", ["prog", "-x \"y\""], 0x7ffc /* 3 vars */) = 0 <0.001>
100   0.001000 openat(AT_FDCWD, "/shared", O_RDONLY) = 3 <0.001>
100   0.001000 clone3({flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_THREAD, exit_signal=0} <unfinished ...>
101   0.001000 read(3,  <unfinished ...>
100   0.001000 <... clone3 resumed> => {parent_tid=[101]}, 88) = 101 <0.002>
101   0.001000 <... read resumed>"abc", 3) = 3 <0.003>
101   0.001000 close(3) = 0 <0.001>
101   0.001000 prctl(PR_SET_NAME, "worker"...) = 0 <0.001>
100   0.001000 read(3, 0x1, 1) = -1 EBADF (Bad file descriptor) <0.001>
100   0.001000 open("/own", O_RDONLY) = 4 <0.001>
100   0.001000 vfork( <unfinished ...>
102   0.001000 close(4) = 0 <0.001>
102   0.001000 execve("/bin/a-name-that-is-too-long", ["a"], 0x7ffc /* 0 vars */) = 0 <0.001>
100   0.001000 <... vfork resumed>) = 102 <0.005>
100   0.001000 read(4, "", 1) = 0 <0.001>
102   0.001000 write(9, "", 0 <unfinished ...>
102   0.001000 <... exit_group resumed>) = ?
102   0.001000 +++ exited with 0 +++
101   0.001000 futex(0x1, FUTEX_WAIT <unfinished ...>
100   0.001000 <... wait4 resumed>0x1) = 102 <0.5>
`

func TestStraceThreads(t *testing.T) {
	c := mustRead(t, straceThreads, Options{Name: "x.strace"})
	var got []string
	for _, line := range taskNames(only(t, c)) {
		got = append(got, strings.Join(strings.Split(line, ";")[:2], ";"))
	}
	want := []string{
		"100/100<0 prog: 0s 1ms Raw Syscalls;Syscall: execve",
		"100/100<0 prog: 1ms 1ms Path: /shared;Syscall: openat",
		"100/100<0 prog: 2ms 2ms Raw Syscalls;Syscall: clone3",
		"101/100<0 prog: 3ms 3ms Path: /shared;Syscall: read",
		"101/100<0 prog: 6ms 1ms Path: /shared;Syscall: close",
		"101/100<0 worker: 7ms 1ms Raw Syscalls;Syscall: prctl",
		"100/100<0 prog: 8ms 1ms Path: <Unknown>;Syscall: read",
		"100/100<0 prog: 9ms 1ms Path: /own;Syscall: open",
		"100/100<0 prog: 10ms 5ms Raw Syscalls;Syscall: vfork",
		"102/102<100 prog: 11ms 1ms Path: /own;Syscall: close",
		"102/102<100 a-name-that-is-: 12ms 1ms Raw Syscalls;Syscall: execve",
		"100/100<0 prog: 14ms 1ms Path: /own;Syscall: read",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"prog", `-x "y"`}, c.Target.Command); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
	lost := map[string]int64{}
	for _, w := range c.Warnings {
		lost[w.Text] = w.Count
	}
	if diff := cmp.Diff(map[string]int64{straceNoReturn: 1, straceNoStart: 1}, lost); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	for _, call := range only(t, c).Frames {
		if call.Func == `Arguments: 3, "abc", 3` {
			return
		}
	}
	t.Error("the parts of an unfinished call are not joined")
}

// On a terminal (-f without -o) numbers come and go, and notes cut lines.
func TestStraceTerminal(t *testing.T) {
	text := `     0.000000 openat(AT_FDCWD, "/a", O_RDONLY) = 3 <0.001>
     0.000000 clone(child_stack=NULL, flags=SIGCHLDstrace: Process 8 attached
, child_tidptr=0x7) = 8 <0.001>
[pid     8]      0.001000 read(3, "", 1) = 0 <0.001>
[pid     7]      0.001000 read(3, "", 1) = 0 <0.001>
[pid     7]      0.001000 vfork(strace: Process 9 attached
 <unfinished ...>
[pid     9]      0.001000 read(3, "", 1) = 0 <0.001>
[pid     7]      0.001000 <... vfork resumed>) = 9 <0.002>
[pid     8]      0.000000 +++ exited with 0 +++
[pid     9]      0.000000 +++ exited with 0 +++
     0.001000 close(3) = 0 <0.001>
`
	c := mustRead(t, text, Options{})
	got := taskNames(only(t, c))
	want := []string{
		`7/7<0 : 0s 1ms Path: /a;Syscall: openat;Arguments: AT_FDCWD, "/a", O_RDONLY;Return Code: 3`,
		`7/7<0 : 0s 1ms Raw Syscalls;Syscall: clone;Arguments: child_stack=NULL, flags=SIGCHLD, child_tidptr=0x7;Return Code: 8`,
		`8/8<7 : 1ms 1ms Path: /a;Syscall: read;Arguments: 3, "", 1;Return Code: 0`,
		`7/7<0 : 2ms 1ms Path: /a;Syscall: read;Arguments: 3, "", 1;Return Code: 0`,
		`7/7<0 : 3ms 2ms Raw Syscalls;Syscall: vfork;Arguments: ;Return Code: 9`,
		`9/9<7 : 4ms 1ms Path: /a;Syscall: read;Arguments: 3, "", 1;Return Code: 0`,
		`7/7<0 : 6ms 1ms Path: /a;Syscall: close;Arguments: 3;Return Code: 0`,
	}
	if diff := cmp.Diff(want, got); diff != "" || len(c.Warnings) != 0 {
		t.Errorf("warnings %v, samples (-want +got):\n%s", c.Warnings, diff)
	}
}

func TestStraceStacks(t *testing.T) {
	text := `0.0 write(1, "", 0) = 0 <0.001>
 > /usr/lib/libc.so.6(__write+0x14) [0x10e0f4]
 > /bin/a b(main.(*T).Run(int)+0x3) [0x1139] /src/a.go:12
 > /bin/a b() [0x1000]
 > unexpected_backtracing_error [0x7ff]
0.0 exit_group(0) = ?
 > /usr/lib/libc.so.6(_exit+0x1) [0x1]
`
	p := only(t, mustRead(t, text, Options{}))
	want := []string{`0s 1ms [unknown];/bin/a b![unknown];/bin/a b!main.(*T).Run(int);/usr/lib/libc.so.6!__write;Path: <Unknown>;Syscall: write;Arguments: 1, "", 0;Return Code: 0`}
	if diff := cmp.Diff(want, namesOf(p)); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if i := slices.IndexFunc(p.Frames, func(f profile.Frame) bool { return f.File == "/src/a.go" && f.Line == 12 }); i < 0 {
		t.Error("the line that strace knows is lost")
	}
}

func TestStraceSniff(t *testing.T) {
	for text, want := range map[string]bool{
		straceThreads: true,
		"     0.000000 execve(\"/usr/bin/ls\", [\"ls\"], 0x7 /* 27 vars */) = 0 <0.001195>\n": true,
		"strace: Process 7 attached\n12:00:00 read(3,  <unfinished ...>\n":                    true,
		"read(3, \"\", 1) = 0 <0.1>\n":                                                        true,
		"read(3, \"\", 1) = 0\n":                                                              false, // could be anything
		"main;read(3) 5\n":                                                                    false,
		"prog 71 12.345678: cycles:\n":                                                        false,
		"":                                                                                    false,
		"\x00\x00":                                                                            false,
	} {
		if got := sniffStrace([]byte(text)); got != want {
			t.Errorf("%.60q: %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"", "a\nb\n", "0.1 exit(0) = ?\n"} {
		if _, _, err := Read(t.Context(), strings.NewReader(text), Options{Format: Strace}); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}

// A real strace, of a program that forks and opens a file.
func TestStraceReal(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	for _, args := range [][]string{{"-r"}, {"-tt"}, {"-ttt", "-r"}, {"-r", "-y"}, {"-r", "-k"}, nil} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			// With an empty list it is as on a terminal.
			file := filepath.Join(t.TempDir(), "out")
			all := append(slices.Clone(args), "-T", "-f", "-o", file)
			if args == nil {
				all = []string{"-r", "-T", "-f"}
			}
			cmd := exec.Command("strace", append(all, "sh", "-c", "cat /etc/passwd; (true); :")...)
			var out bytes.Buffer
			cmd.Stderr = &out
			if err := cmd.Run(); err != nil {
				if slices.Contains(args, "-k") || bytes.Contains(out.Bytes(), []byte("ptrace")) {
					t.Skipf("strace cannot do this here: %v: %s", err, &out)
				}
				t.Fatalf("%v: %s", err, &out)
			}
			if args == nil {
				if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, format, err := Read(t.Context(), bytes.NewReader(f), Options{})
			if err != nil || format != Strace {
				t.Fatal(format, err)
			}
			p := only(t, c)
			found := map[string]bool{}
			for i, line := range taskNames(p) {
				task := p.Tasks[p.Samples.Task[i]]
				if strings.Contains(line, "Path: /etc/passwd;Syscall: openat") && task.Comm == "cat" && task.Parent != 0 {
					found["open"] = true
				}
				if strings.Contains(line, "Path: /etc/passwd;Syscall: read") {
					found["read"] = true
				}
				if strings.Contains(line, "!") && strings.Contains(line, ";Path: ") {
					found["caller"] = true
				}
			}
			if !found["open"] || !found["read"] || found["caller"] != slices.Contains(args, "-k") {
				t.Errorf("found %v in %d calls:\n%s", found, p.Samples.Len(), f)
			}
			if p.Length <= 0 || p.Length > time.Minute || p.Total().Weight <= 0 {
				t.Errorf("length %v, total %v", p.Length, p.Total())
			}
			if diff := cmp.Diff([]string{"sh", "-c"}, c.Target.Command[:2]); diff != "" {
				t.Errorf("command (-want +got):\n%s", diff)
			}
			for _, w := range c.Warnings {
				t.Errorf("warning %+v", w)
			}
		})
	}
}

func FuzzStrace(f *testing.F) {
	for _, text := range []string{
		straceThreads,
		"     0.000000 write(1, \"a\\\"\\n\", 3x\nout\n) = 3 <0.000001>\n > /b(c+0x1) [0x1] /d:3\n",
		"12:00:00.5 dup(3</a>) = 4</a> <0.1>\n[pid 3] 11:00:00 fcntl(4, F_DUPFD, 1) = 5 <1>\n",
		"strace: Process 5 attached\n1700000000 (+ 0.1) --- SIGHUP ---\n1700000000.5 [ 1] read(0, \"\", 1) = ? ERESTARTSYS (To be restarted) <0.1>\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := Read(context.Background(), bytes.NewReader(data), Options{Format: Strace})
		if (c == nil) == (err == nil) {
			t.Fatalf("capture %v, error %v", c, err)
		}
		if err == nil {
			if err := c.Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
