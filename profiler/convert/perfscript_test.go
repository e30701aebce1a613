package convert

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// renderScript is a line for each sample: "kind time weight pid/tid comm: root … leaf".
func renderScript(c *profile.Capture) []string {
	var lines []string
	for _, s := range c.Series {
		for i := range s.Samples.Len() {
			x := s.Samples.At(i)
			task := c.Tasks[x.Task]
			var b strings.Builder
			fmt.Fprintf(&b, "%s %d %d %d/%d %q:", s.Kind, x.Time, x.Weight, task.PID, task.TID, task.Comm)
			for _, id := range c.Stacks.RootFirst(x.Stack, nil) {
				b.WriteString(" ")
				for j, f := range c.Symbols.Of[id] {
					frame := c.Symbols.Frames[f]
					if j > 0 {
						b.WriteString("<")
					}
					fmt.Fprintf(&b, "%s!%s", frame.Module, frame.Func)
					if frame.File != "" {
						fmt.Fprintf(&b, "@%s:%d", frame.File, frame.Line)
					}
					if frame.Inlined {
						b.WriteString("(inlined)")
					}
				}
			}
			lines = append(lines, b.String())
		}
	}
	return lines
}

func TestPerfScript(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string
		warnings   int
	}{
		{"names that look like other fields", strings.Join([]string{
			"a b c  1/2 [003] 1.000001:  10 page-faults: ", "\t 55e302c77159 f+0x10 (/bin/x)", "",
			"k/2    3/4 [000] 1.000002:  10 page-faults: ", "",
			"k/[2]  5   [000] 1.000003:  10 page-faults: ", "",
			"k:2    6 1.000004: page-faults: ", "",
			" 7/8 [000] 1.000005: page-faults: ", "",
			"6  9/9 [000] 1.000006123: 11 page-faults:u: ", "",
			"gone -1/-1 [000] 1.000007: page-faults: ", "",
		}, "\n"), []string{
			`page-faults 0 10 1/2 "a b c": /bin/x!f`,
			`page-faults 1000 10 3/4 "k/2":`,
			`page-faults 2000 10 5/5 "k/[2]":`,
			`page-faults 3000 1 6/6 "k:2":`,
			`page-faults 4000 1 7/8 "":`,
			`page-faults 6000 1 0/0 "gone":`,
			`page-faults:u 5123 11 9/9 "6":`,
		}, 0},
		{"frames", strings.Join([]string{
			"# a comment: with a colon", "#",
			"prog  7 1.0: 500000 cpu-clock:ppp: ",
			"\t    1ce18 std::vector<int, (anonymous namespace)::A (*)(int)>::at(unsigned long) const+0xe58 (/tmp/a (b)/prog (deleted))",
			"\t    1 _Z5gammav+0x1 (inlined)",
			"\t    1 outer(int)+0x1 (/bin/x)",
			"  x.cc:12",
			"\t    2 operator+0x3 (/bin/x)",
			"  /src/x.cc:13 (discriminator 2)",
			"\t    2 [unknown] (/bin/x)",
			"\tffffffff81000000 [unknown] ([kernel.kallsyms])",
			"\tffffffffc0000000 nft_do_chain+0x1 ([nf_tables])",
			"\t55e302c77159 [unknown] ([unknown])",
			"\t    3 main",
			"\t    0 [unknown] ([unknown])",
			"", "",
		}, "\n"), []string{
			`cpu 0 500000 7/7 "prog": !main ![unknown] [nf_tables]!nft_do_chain [kernel]![unknown] /bin/x![unknown] ` +
				`/bin/x!operator@/src/x.cc:13 /bin/x!gamma()(inlined)</bin/x!outer(int)@x.cc:12 ` +
				`/tmp/a (b)/prog!std::vector<int, (anonymous namespace)::A (*)(int)>::at(unsigned long) const`,
		}, 0},
		{"single lines, aligned right", strings.Join([]string{
			"             add  8505 13277.690319:    2000000 cpu-clock:ppp:      55e302c77159 leaf+0x10 (/tmp/prog)",
			"         bad dad  8505/8506 13277.692313:    2000000 cpu-clock:ppp:      55e302c77163 leaf+0x1a (/tmp/prog)",
			"            fio   236193 [021] 13277.7: block:block_rq_issue: 259,76 R 4096 () 57622160 + 8 [fio] ffffffff8beead90 blk_mq_start_request ([kernel.kallsyms])",
			"            prog  1 13277.7: PERF_RECORD_COMM exec: prog:1/1",
		}, "\n"), []string{
			`cpu 0 2000000 8505/8505 "add": /tmp/prog!leaf`,
			`cpu 1994000 2000000 8505/8506 "bad dad": /tmp/prog!leaf`,
			`block:block_rq_issue 9681000 1 236193/236193 "fio": [kernel]!blk_mq_start_request`,
		}, 0},
		{"no period: gaps on the same processor", strings.Join([]string{
			"a 1 [000] 1.000: cpu-clock: ", "", "a 1 [000] 1.001: cpu-clock: ", "",
			"b 2 [001] 1.001: cpu-clock: ", "", "b 2 [001] 1.002: cpu-clock: ", "",
			"a 1 [000] 1.0025: cpu-clock: ", "", "a 1 [000] 1.9: cpu-clock: ", "",
		}, "\n"), []string{
			`cpu 0 1000000 1/1 "a":`, `cpu 1000000 1500000 1/1 "a":`, `cpu 1000000 1000000 2/2 "b":`,
			`cpu 2000000 1500000 2/2 "b":`, `cpu 2500000 1500000 1/1 "a":`, `cpu 900000000 1500000 1/1 "a":`,
		}, 0},
		{"switches", strings.Join([]string{
			"a 1 [000] 1.0: sched:sched_switch: prev_comm=a prev_pid=1 prev_prio=120 prev_state=S ==> next_comm=b c next_pid=2 next_prio=120",
			"\tffffffff821f8298 __schedule+0x618 ([kernel.kallsyms])", "\t 1 wait (/bin/a)", "",
			"b c 2 [000] 3.0: sched:sched_switch: b c:2 [120] R+ ==> a:1 [120]", "\t 1 spin (/bin/b)", "",
			"a 1 [000] 4.0: sched:sched_switch: a:1 [120] D ==> b c:2 [120]", "\t 1 write (/bin/a)", "",
			"b c 2 [000] 6.0: cycles: ", "", "b c 2 [000] 6.0: cycles:u: ",
		}, "\n"), []string{
			`sched:sched_switch 0 1 1/1 "a": /bin/a!wait [kernel]!__schedule`,
			`sched:sched_switch 2000000000 1 2/2 "b c": /bin/b!spin`,
			`sched:sched_switch 3000000000 1 1/1 "a": /bin/a!write`,
			`cpu 5000000000 1 2/2 "b c":`,
			`cycles:u 5000000000 1 2/2 "b c":`,
			`blocked 0 2000000000 1/1 "a": /bin/a!wait [kernel]!__schedule`,
			`blocked 3000000000 2000000000 1/1 "a": /bin/a!write`,
		}, 0},
		{"without times", "java 25607/25608 [000] 2500 cycles: \n\t 1 f (/a)\n\njava 25607 cycles:\n\t 2 g (/a)\n", []string{
			`cpu 0 2500 25607/25608 "java": /a!f`, `cpu 0 1 25607/25607 "java": /a!g`,
		}, 0},
		{"neither times nor periods", strings.Join([]string{
			"java  3244 cpu-clock: ", "\t    7f1e214c24d9 SpinPause (/x/libjvm.so)", "\t    7f1e21c41e9a start_thread (/lib/x.so)", "",
			"java  3245 cpu-clock: ", "\t    7f1e216ccd20 Term::offer(Term*) (/x/libjvm.so)", "",
			"java  3245 cycles:u: ", "\t    7f1e216ccd20 f (/x/libjvm.so)", "",
		}, "\n"), []string{
			`cpu-clock 0 1 3244/3244 "java": /lib/x.so!start_thread /x/libjvm.so!SpinPause`,
			`cpu-clock 0 1 3245/3245 "java": /x/libjvm.so!Term::offer(Term*)`,
			`cycles:u 0 1 3245/3245 "java": /x/libjvm.so!f`,
		}, 0},
		{"some periods, no times", "a 1 3000 cpu-clock: \n\t 1 f (/a)\n\na 1 cpu-clock:\n\t 2 g (/a)\n", []string{
			`cpu 0 3000 1/1 "a": /a!f`, `cpu 0 3000 1/1 "a": /a!g`,
		}, 0},
		{"single lines without times", strings.Join([]string{
			"             add  8505/8506 cpu-clock:ppp:      55e302c77159 ns::leaf+0x10 (/tmp/prog)",
			"         bad dad  8505 cpu-clock:ppp:      55e302c77163 leaf+0x1a (/tmp/prog)",
		}, "\n"), []string{
			`cpu-clock:ppp 0 1 8505/8506 "add": /tmp/prog!ns::leaf`,
			`cpu-clock:ppp 0 1 8505/8505 "bad dad": /tmp/prog!leaf`,
		}, 0},
		{"threads and frames alone", "a b 1/2 \n\t    7f1e214c24d9 f (/a)\n\nc 3\n\t    7f1e214c24da g (/a)\n\nTotal 5\n", []string{
			`samples 0 1 1/2 "a b": /a!f`, `samples 0 1 3/3 "c": /a!g`,
		}, 1},
		{"frames that are not indented", strings.Join([]string{
			"java 19983 cycles:", "ffffffff8103d0ca native_write ([kernel.kallsyms])", "7f7241fbe6d8 base(Type) const (/x.so)",
			"7f722d119786 Ljava/io/F;::write (/tmp/perf-1.map)", "", "java 19983 cycles:", "7f722d119786 Ljava/io/F;::write (/tmp/perf-1.map)", "",
		}, "\n"), []string{
			`cycles 0 1 19983/19983 "java": /tmp/perf-1.map!Ljava/io/F;::write /x.so!base(Type) const [kernel]!native_write`,
			`cycles 0 1 19983/19983 "java": /tmp/perf-1.map!Ljava/io/F;::write`,
		}, 0},
		{"frames alone", "\n\t    55e302c77159 f+0x1 (/a)\n\t    55e302c77159 g (/a)\n\n\n\t    55e302c77151 g (/a)\n\n", []string{
			`samples 0 1 0/0 "": /a!g /a!f`, `samples 0 1 0/0 "": /a!g`,
		}, 0},
		{"frames alone, without callers", "     55e302c77159 f+0x1 (/a)\n     55e302c77159 g (/a)\n ffffffff8103d0ca h ([kernel.kallsyms])\n", []string{
			`samples 0 1 0/0 "": /a!f`, `samples 0 1 0/0 "": /a!g`, `samples 0 1 0/0 "": [kernel]!h`,
		}, 0},
		{"cycles with times and without periods", "a 1 1.0: cycles: \n\t 1 f (/a)\n\n", []string{`cpu 0 1 1/1 "a": /a!f`}, 0},
		{"noise", "Warning: something\n\na 1 1.0: 5 faults:\n\tABI:2 AX:0x1\n\t 1 f (/a)\n\nmore noise\n", []string{
			`faults 0 5 1/1 "a": /a!f`,
		}, 2},
	} {
		for _, ending := range []string{"\n", "\r\n"} {
			t.Run(test.name+fmt.Sprintf("%q", ending), func(t *testing.T) {
				text := "\xef\xbb\xbf" + strings.ReplaceAll(test.text, "\n", ending)
				c, f, err := Read(t.Context(), strings.NewReader(text), Options{Name: "perf.txt"})
				if err != nil || f != PerfScript {
					t.Fatalf("taken for %q: %v", f, err)
				}
				if diff := cmp.Diff(test.want, renderScript(c)); diff != "" {
					t.Errorf("samples (-want +got):\n%s", diff)
				}
				lost := int64(0)
				for _, w := range c.Warnings {
					lost += w.Count
				}
				if lost != int64(test.warnings) {
					t.Errorf("warnings %v, want %d lines", c.Warnings, test.warnings)
				}
			})
		}
	}
}

// One event each is a count, whatever the event counts.
func TestPerfScriptUnits(t *testing.T) {
	for text, want := range map[string]profile.Unit{
		"a 1 cpu-clock: \n\t 1 f (/a)\n":          profile.Number,
		"a 1 cycles: \n\t 1 f (/a)\n":             profile.Number,
		"a 1 1.0: cycles: \n\t 1 f (/a)\n":        profile.Number,
		"a 1 1.0: 500 cycles: \n\t 1 f (/a)\n":    profile.Cycles,
		"a 1 500000 cpu-clock: \n\t 1 f (/a)\n":   profile.Nanoseconds,
		"a 1 1.0: cpu-clock: \n\t 1 f (/a)\n":     profile.Nanoseconds,
		"\t    55e302c77159 f (/a)\n":             profile.Number,
		"a 1 1 cpu-clock: \n\t 1 f (/a)\n":        profile.Number,
		"a 1 1000 page-faults: \n\t 1 f (/a)\n":   profile.Number,
		"a 1 2.0: page-faults: \n\t 1 f (/a)\n\n": profile.Number,
	} {
		c := readAs(t, []byte(text), PerfScript)
		if s := c.Series[0]; s.Unit != want || s.Samples.Weight[0] == 0 || s.Samples.Time[0] != 0 || c.Length != 0 {
			t.Errorf("%q: %s %d at %v of %v, want %s", text, s.Unit, s.Samples.Weight[0], s.Samples.Time[0], c.Length, want)
		}
	}
}

func TestPerfScriptSniff(t *testing.T) {
	for _, text := range []string{
		"main;f;g 12\n", "12:00:01.5: started\n", "{\"a\": 1.5}\n", "3.5 read(3, \"a 1 1.0: x\", 3) = 3\n", "bash-1977  [000] .... 17284.993652: sys_close <-x\n", "",
		"Total 5\n  abcd x (y)\n", "java 5 cycles\n", "deadbeef cafe\n", "  main (a)\n",
	} {
		if sniffPerfScript([]byte(text)) {
			t.Errorf("%q is taken for the text of perf script", text)
		}
	}
}

// FuzzPerfScript asks that a text gives a capture that keeps its laws, or an error.
func FuzzPerfScript(f *testing.F) {
	f.Add([]byte("a b  1/2 [003] 1.000001:  10 cpu-clock: \n\t 55e302c77159 f+0x10 (/bin/x)\n\t 1 g (inlined)\n\t 1 h (/b (deleted))\n  x.c:3\n\n"))
	f.Add([]byte("a 1 [000] 1.0: sched:sched_switch: prev_comm=a prev_pid=1 prev_state=S ==> next_comm=b next_pid=2\n\t 1 f (b)\n\nb 2 [000] 3.0: sched:sched_switch: b:2 [120] R ==> a:1 [120]\n"))
	f.Add([]byte("java 19983 cycles:\nffffffff8103d0ca f ([kernel.kallsyms])\n\n  add 1/2 7 x:  55e302c77159 f (/a)\nb 3\n\t    55e302c77159 f (/a)\n"))
	f.Add([]byte("     55e302c77159 f+0x1 (/a)\n     55e302c77159 g (/a)\n"))
	f.Add([]byte("# cmdline : /usr/bin/perf record -g ls\n add 1 1.0: cpu-clock: 5555 f (/x)\njava 1 cycles:\n\t 1 f (/a)\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, _, err := Read(context.Background(), bytes.NewReader(b), Options{Format: PerfScript})
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
