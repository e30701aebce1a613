package convert

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

const perfProgram = `
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
volatile unsigned long sink;
__attribute__((noinline)) void leaf(int n) { for (int i = 0; i < n; i++) sink += i * i; }
__attribute__((noinline)) void hot(int n) { leaf(3 * n); sink++; }
__attribute__((noinline)) void cold(int n) { leaf(n); sink++; }
__attribute__((noinline)) void work(int n) { for (int i = 0; i < n; i++) { hot(100000); cold(100000); } }
int main(int argc, char **argv) {
	pid_t child = argc > 2 ? fork() : 0;
	char *p = malloc(1 << 20);
	for (int i = 0; i < 1 << 20; i += 4096) p[i] = 1;
	work(atoi(argv[1]));
	if (child > 0) waitpid(child, 0, 0);
	return 0;
}
`

// perfTool is a folder with the program "prog" in it, where perf can record.
func perfTool(t testing.TB) string {
	t.Helper()
	for _, tool := range []string{"perf", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v; `.ci/packages test` installs it", err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "prog.c"), []byte(perfProgram), 0o644); err != nil {
		t.Fatal(err)
	}
	runTool(t, dir, "gcc", "-O1", "-g", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-o", "prog", "prog.c")
	if out, err := exec.Command("perf", "record", "-o", filepath.Join(dir, "try.data"), "-e", "cpu-clock", "true").CombinedOutput(); err != nil {
		t.Skipf("perf cannot record here: %v: %s", err, out)
	}
	return dir
}

func runTool(t testing.TB, dir, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v: %s", cmd.Args, err, stderr.String())
	}
	return out
}

// perfSays is what perf itself says of a file: of each event, by the name of its series here, the
// samples and the sum of their periods.
func perfSays(t *testing.T, dir, file string) map[string]profile.Measure {
	t.Helper()
	says := map[string]profile.Measure{}
	for line := range strings.Lines(string(runTool(t, dir, "perf", "script", "-i", file, "-G", "-F", "event,period"))) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		period, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			t.Fatalf("perf script says %q", line)
		}
		name := strings.TrimSuffix(f[1], ":")
		if strings.HasPrefix(name, "cpu-clock") {
			name = "cpu"
		}
		m := says[name]
		m.Add(profile.Measure{Weight: period, Count: 1})
		says[name] = m
	}
	return says
}

func seriesOf(c *profile.Capture) map[string]profile.Measure {
	all := map[string]profile.Measure{}
	for _, s := range c.Series {
		all[string(s.Kind)] = s.Samples.Sum()
	}
	return all
}

// symbolsOf are the functions of an executable as ranges of file offsets.
func symbolsOf(t *testing.T, path string) func(offset uint64) string {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	return func(offset uint64) string {
		for _, p := range f.Progs {
			if p.Type == elf.PT_LOAD && offset >= p.Off && offset < p.Off+p.Filesz {
				addr := offset - p.Off + p.Vaddr
				for _, s := range symbols {
					if elf.ST_TYPE(s.Info) == elf.STT_FUNC && addr >= s.Value && addr < s.Value+s.Size {
						return s.Name
					}
				}
			}
		}
		return ""
	}
}

// What perf record writes with its usual flags, against what perf script says of the same file: the
// samples and their periods, and the shares of the program's functions.
func TestPerfDataOfPerf(t *testing.T) {
	dir := perfTool(t)
	function := symbolsOf(t, filepath.Join(dir, "prog"))
	for name, args := range map[string]string{
		"flat":       "-F 2000 -e cpu-clock",
		"graph":      "-F 2000 -e cpu-clock -g",
		"dwarf":      "-F 1000 -e cpu-clock --call-graph dwarf,4096",
		"compressed": "-F 2000 -e cpu-clock -g -z",
		"two events": "-F 2000 -e cpu-clock,page-faults -g",
		"group":      "-F 2000 -e {cpu-clock,page-faults}:S -g",
		"all fields": "-F 2000 -e cpu-clock,page-faults -g -d --phys-data -W --sample-cpu --switch-events --all-cgroups --namespaces --data --code-page-size --data-page-size --user-regs=ip,sp --intr-regs=ip",
		"fixed":      "-c 300000 -e cpu-clock -g -T",
		"build IDs":  "-F 2000 -e cpu-clock -g --buildid-mmap",
	} {
		for _, pipe := range []bool{false, true} {
			if pipe && name != "graph" && name != "compressed" && name != "two events" {
				continue
			}
			t.Run(fmt.Sprintf("%s/pipe=%v", name, pipe), func(t *testing.T) {
				file := strings.ReplaceAll(name, " ", "") + ".data"
				record := append([]string{"record"}, strings.Fields(args)...)
				if pipe {
					b := runTool(t, dir, "perf", append(record, "-o", "-", "./prog", "30", "fork")...)
					if err := os.WriteFile(filepath.Join(dir, file), b, 0o644); err != nil {
						t.Fatal(err)
					}
				} else {
					runTool(t, dir, "perf", append(record, "-o", file, "./prog", "30", "fork")...)
				}
				c, _ := readPerfFile(t, filepath.Join(dir, file))
				says := perfSays(t, dir, file)
				if says["cpu"].Count < 10 {
					t.Fatalf("perf has hardly recorded anything: %v", says)
				}
				if diff := cmp.Diff(says, seriesOf(c)); diff != "" {
					t.Fatalf("series (-perf +here):\n%s", diff)
				}
				if got := c.Target.Command; !cmp.Equal(got, []string{"./prog", "30", "fork"}) {
					t.Errorf("target %v", got)
				}
				for _, w := range c.Warnings {
					if w.Kind != profile.WarnCut || name != "dwarf" {
						t.Errorf("warning %+v", w)
					}
				}

				// perf names leaves; here they are offsets in the file, to be found in its symbol table.
				want, got := map[string]int{}, map[string]int{}
				leaf := regexp.MustCompile(`([0-9a-f]+) (\S+) \((\S+)\)$`)
				for line := range strings.Lines(string(runTool(t, dir, "perf", "script", "-i", file, "-G", "-F", "event,ip,sym,dso"))) {
					m := leaf.FindStringSubmatch(strings.TrimSpace(line))
					if m == nil || !strings.Contains(line, "cpu-clock") {
						continue
					}
					if strings.HasSuffix(m[3], "/prog") {
						want[m[2]]++
					} else if strings.HasPrefix(m[3], "[kernel") {
						want["kernel"]++
					}
				}
				s := c.Of(profile.CPU)
				callers := 0
				for i := range s.Samples.Len() {
					id := s.Samples.Stack[i]
					l := c.Locations[c.Stacks.Leaf(id)]
					switch m := c.Mappings[l.Mapping]; {
					case m.Kind == profile.KernelCode:
						got["kernel"]++
					case strings.HasSuffix(m.Path, "/prog"):
						fn := function(l.Addr)
						got[fn]++
						if m.BuildID == "" && !pipe && name != "compressed" { // into which perf writes none
							t.Fatalf("%+v has no build ID", m)
						}
						if up := c.Stacks.Parent(id); fn == "leaf" && up != 0 {
							if by := function(c.Locations[c.Stacks.Leaf(up)].Lookup()); by == "hot" || by == "cold" || by == "work" {
								callers++
							} else {
								t.Errorf("leaf is called by %q", by)
							}
						}
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("leaves (-perf +here):\n%s", diff)
				}
				if walked := name != "flat" && name != "dwarf"; walked != (callers > got["leaf"]/2) {
					t.Errorf("%d of %d samples of leaf have their caller", callers, got["leaf"])
				}
			})
		}
	}
}

// What perf script prints, against what it says in numbers and against the file it read.
func TestPerfScriptOfPerf(t *testing.T) {
	dir := perfTool(t)
	runTool(t, dir, "perf", "record", "-F", "2000", "-e", "cpu-clock,page-faults", "-g", "-o", "perf.data", "./prog", "30", "fork")
	says := perfSays(t, dir, "perf.data")
	data, _ := readPerfFile(t, filepath.Join(dir, "perf.data"))
	for name, args := range map[string]string{
		"plain":     "",
		"header":    "--header --show-mmap-events --show-task-events",
		"lines":     "-F +srcline",
		"no graph":  "-G",
		"pid":       "-F comm,pid,tid,time,period,event,ip,sym,symoff,dso",
		"nanos":     "--ns",
		"no offset": "-F -symoff",
	} {
		t.Run(name, func(t *testing.T) {
			text := runTool(t, dir, "perf", append(strings.Fields("script -i perf.data"), strings.Fields(args)...)...)
			c, f, err := Read(t.Context(), bytes.NewReader(text), Options{Name: "perf.txt"})
			if err != nil || f != PerfScript {
				t.Fatalf("taken for %q: %v", f, err)
			}
			if diff := cmp.Diff(says, seriesOf(c)); diff != "" {
				t.Fatalf("series (-perf +here):\n%s", diff)
			}
			if len(c.Warnings) > 0 {
				t.Errorf("warnings %v", c.Warnings)
			}
			a, b := data.Of(profile.CPU).Samples, c.Of(profile.CPU).Samples
			lines := 0
			for i := range a.Len() {
				if d := a.Time[i] - b.Time[i]; d < -1000 || d > 1000 {
					t.Fatalf("sample %d at %v, and at %v in the file", i, b.Time[i], a.Time[i])
				}
				for l := range c.Stacks.LeafFirst(b.Stack[i]) {
					for _, f := range c.Symbols.Of[l] {
						if f := c.Symbols.Frames[f]; f.Func == "leaf" && strings.HasSuffix(f.File, "prog.c") && f.Line == 6 {
							lines++
						}
					}
				}
			}
			if (lines > b.Len()/2) != (name == "lines") {
				t.Errorf("%d of %d samples have their line", lines, b.Len())
			}
		})
	}
}
