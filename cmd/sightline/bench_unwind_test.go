package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A bareProgram is one whose code keeps no frame pointers, and how to build it, with "@" for where it
// goes.
type bareProgram struct {
	name    string
	build   []string
	command []string // of what was built, "@", or what is installed
}

// BarePrograms are native programs and runtimes. SQLite, Python and Node.js are those of this machine.
func barePrograms() []bareProgram {
	const (
		sql = "create table t(a integer primary key, b text, c real);" +
			"with recursive n(x) as (select 1 union all select x+1 from n where x<300000) insert into t select x, 'name'||(x*7919%100003), x*1.5 from n;" +
			"create index i on t(b); select count(*), sum(c) from t where b like 'name1%';" +
			"select a.b, count(*) from t a join t b on a.b=b.b group by a.b order by 2 desc limit 3;"
		python = "import hashlib,json,time,zlib\nd=[{'k':i,'v':str(i)*3} for i in range(2000)]\n" +
			"while time.process_time()<2: s=json.dumps(d); sorted(json.loads(s),key=lambda x:x['v']); hashlib.sha256(s.encode()).digest(); zlib.compress(s.encode())"
		node = "const z=require('zlib');function fib(n){return n<2?n:fib(n-1)+fib(n-2)};let t=Date.now();" +
			"while(Date.now()-t<2000){fib(22);const a=[];for(let i=0;i<20000;i++)a.push({k:(i*7919)%10007});a.sort((p,q)=>p.k-q.k);JSON.stringify(a);z.deflateSync(Buffer.alloc(50000,'abc'))}"
	)
	return []bareProgram{
		{"c", []string{"gcc", "-O2", "-fomit-frame-pointer", "-o", "@", "../../profiler/testdata/bare.c", "-lpthread"}, []string{"@", "2"}},
		{"c++", []string{"g++", "-O2", "-fomit-frame-pointer", "-o", "@", "testdata/bench/shapes.cc"}, []string{"@", "2"}},
		{"cgo", []string{"go", "build", "-o", "@", "../../profiler/testdata/crossing"}, []string{"@", "2"}},
		{"rust", []string{"rustc", "-O", "-o", "@", "testdata/bench/maps.rs"}, []string{"@"}},
		{"sqlite", nil, []string{"sqlite3", ":memory:", sql}},
		{"python", nil, []string{"python3", "-c", python}},
		{"node", nil, []string{"node", "--perf-basic-prof", "-e", node}},
	}
}

// BenchmarkWholeStacks is the share of the weight on stacks that reach a root, in programs that keep no
// frame pointers. The peer is perf record --call-graph dwarf with copies of 16 KiB, whose stacks are taken
// for whole where perf script shows a function that nothing calls.
//
// by-name-points is the largest difference between what a function has in total with the BPF engine and with
// the peer, in one run that both record, of those that have 2 % with either, in points. noise-points is one
// standard deviation of that for a function with half of the samples, which each has taken at instants of its
// own. Differences above 3 points are printed.
func BenchmarkWholeStacks(b *testing.B) {
	for _, p := range barePrograms() {
		b.Run("program="+p.name, func(b *testing.B) {
			dir := workDir(b)
			command := p.command
			if p.build != nil {
				to := filepath.Join(dir, "program")
				if _, err := exec.LookPath(p.build[0]); err != nil {
					b.Skipf("%s is missing", p.build[0])
				}
				build := append([]string(nil), p.build...)
				for i := range build {
					if build[i] == "@" {
						build[i] = to
					}
				}
				mustOutput(b, packageDir, build[0], build[1:]...)
				command = append([]string{to}, command[1:]...)
			} else if _, err := exec.LookPath(command[0]); err != nil {
				b.Skipf("%s is missing", command[0])
			}
			var figures []figure
			store, data := filepath.Join(dir, "captures"), filepath.Join(dir, "perf.data")
			record := func(engine string, command ...string) (whole float64, ok bool) {
				args := append([]string{"record", "--json", "--store", store, "--engine", engine, "--"}, command...)
				out, _, err := output(dir, sightlineBinary(b), args...)
				if err != nil {
					first, _, _ := strings.Cut(err.Error(), "\n")
					note("engine %s on %s: %s", engine, p.name, first)
					return 0, false
				}
				var outcome struct{ Broken float64 }
				if err := json.Unmarshal([]byte(out[strings.LastIndex(out, "\n{\n")+1:]), &outcome); err != nil {
					b.Fatal(err)
				}
				return 100 * (1 - outcome.Broken), true
			}
			for _, engine := range []string{"bpf", "perf"} {
				if whole, ok := record(engine, command...); ok {
					figures = append(figures, figure{whole, engine + "-whole-%"})
				}
			}
			perf := []string{"perf", "record", "-q", "-e", "cpu-clock", "-F", "999", "--call-graph", "dwarf,16384", "-o", data, "--"}
			if perfPeer.there(b) {
				if _, ok := record("bpf", append(perf, command...)...); ok {
					ours := collapsedStacks(mustOutput(b, dir, sightlineBinary(b), "export", "--store", store, "--format", "collapsed"))
					theirs, err := perfStacks(dir, data)
					if err != nil {
						b.Fatalf("%s: %v", p.name, err)
					}
					whole := 100 * float64(theirs.whole()) / float64(theirs.count())
					if whole < 90 {
						note("%s: perf has lost the callers in %.0f%% of its stacks, so that they have less in total there", p.name, 100-whole)
					}
					figures = append(figures,
						figure{whole, "perf-dwarf-whole-%"},
						figure{nameDifference(p.name, ours.totals(), theirs.totals()), "by-name-points"},
						figure{100 * math.Sqrt(0.25/float64(ours.count())+0.25/float64(theirs.count())), "noise-points"})
				}
			}
			report(b, figures...)
		})
	}
}

// NamedStacks are the stacks of samples, each as the names of its functions, outermost first, without the
// kernel's.
type namedStacks [][]string

func (s namedStacks) count() int { return max(len(s), 1) }

// Whole is how many have an outermost function that nothing calls.
func (s namedStacks) whole() (n int) {
	for _, names := range s {
		if len(names) == 0 {
			continue
		}
		switch f := names[0]; {
		case f == "start", f == "dl_start_user", f == "start_thread", strings.Contains(f, "clone"), f == "start_main",
			f == "runtime.goexit", f == "runtime.mstart", f == "runtime.mstart0", f == "runtime.mcall", f == "runtime.morestack":
			n++
		}
	}
	return n
}

// Totals are the shares of samples with a function in their stacks.
func (s namedStacks) totals() map[string]float64 {
	totals := map[string]float64{}
	for _, names := range s {
		for i, n := range names {
			if !slices.Contains(names[:i], n) {
				totals[n] += 100 / float64(len(s))
			}
		}
	}
	return totals
}

// NameDifference is the largest one, in points, of functions that have 2 % in one of them.
func nameDifference(program string, ours, theirs map[string]float64) float64 {
	const listed, least = 3, 2
	largest := 0.0
	names := slices.Sorted(maps.Keys(theirs))
	for _, n := range names {
		if max(ours[n], theirs[n]) < least || n == "" {
			continue
		}
		// Functions that only we show were inlined, which perf was not asked for, or are other names of
		// the same place, as are those that only perf shows.
		if ours[n] == 0 {
			note("%s: %s has %.1f%% with perf, and another name here", program, n, theirs[n])
			continue
		}
		d := math.Abs(ours[n] - theirs[n])
		largest = max(largest, d)
		if d > listed {
			note("%s: %s has %.1f%% here and %.1f%% with perf", program, n, ours[n], theirs[n])
		}
	}
	return largest
}

// CollapsedStacks reads lines of "module!function;… weight".
func collapsedStacks(text string) (all namedStacks) {
	const period = 1001001 // ns at 999 Hz
	for line := range strings.Lines(text) {
		at := strings.LastIndexByte(line, ' ')
		if at < 0 {
			continue
		}
		weight, _ := strconv.Atoi(strings.TrimSpace(line[at+1:]))
		if strings.Contains(line, "/perf!") { // the peer, which was recorded as well
			continue
		}
		var names []string
		for f := range strings.SplitSeq(line[:at], ";") {
			if f == "[broken stack]" || strings.HasSuffix(f, "_[k]") {
				continue
			}
			if _, name, ok := strings.Cut(f, "!"); ok {
				f = name
			}
			names = append(names, plainName(strings.TrimSuffix(strings.TrimSuffix(f, "_[i]"), "_[j]")))
		}
		for range weight / period {
			all = append(all, names)
		}
	}
	return all
}

// PerfStacks walks what perf has recorded with perf script.
func perfStacks(dir, data string) (all namedStacks, err error) {
	script, _, err := output(dir, "perf", "script", "-i", data, "--no-inline", "-F", "comm,ip,sym")
	if err != nil {
		return nil, err
	}
	for stack := range strings.SplitSeq(script, "\n\n") {
		lines := strings.Split(strings.TrimSpace(stack), "\n")
		if len(lines) < 2 {
			continue
		}
		var names []string
		for _, line := range slices.Backward(lines[1:]) {
			ip, name, _ := strings.Cut(strings.TrimSpace(line), " ")
			if strings.HasPrefix(ip, "ffff") { // the kernel's
				continue
			}
			names = append(names, plainName(name))
		}
		all = append(all, names)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("perf script shows no stack in %s", data)
	}
	return all, nil
}

var (
	rustHash   = regexp.MustCompile(`::h[0-9a-f]{16}$`)
	compilers  = regexp.MustCompile(`\.(part|constprop|isra|cold|abi0|lto_priv)(\.\d+)?`)
	symbolKind = regexp.MustCompile(`^(LazyCompile|Function|Script|Builtin|BytecodeHandler|RegExp|JS|Eval|Stub|Handler):[*~^+]?|^[*~^+]`)
)

// PlainName is a function's name without what tools write in different ways: arguments of templates and of
// functions, the compiler's suffixes, versions, underscores of libraries' aliases.
func plainName(s string) string {
	if s == "[unknown]" {
		return ""
	}
	s = symbolKind.ReplaceAllString(s, "")
	s = rustHash.ReplaceAllString(s, "")
	s = compilers.ReplaceAllString(s, "")
	s, _, _ = strings.Cut(s, "@")
	var b strings.Builder
	depth := 0
	s = strings.ReplaceAll(s, "(anonymous namespace)", "anonymous")
	for _, r := range s {
		switch r {
		case '<':
			depth++
		case '>':
			depth--
		case '(':
			if b.Len() > 0 && depth <= 0 && !strings.HasPrefix(s, "runtime.(") && !strings.Contains(s, ".(*") {
				return strings.TrimSpace(aliasless(b.String()))
			}
			fallthrough
		default:
			if depth <= 0 {
				b.WriteRune(r)
			}
		}
	}
	return strings.TrimSpace(aliasless(b.String()))
}

// Aliasless leaves out the type of a template's result, and what libc puts before the other names of a
// function.
func aliasless(s string) string {
	s = strings.TrimSpace(s)
	if at := strings.LastIndexByte(s, ' '); at >= 0 && !strings.Contains(s, "operator") && !strings.Contains(s, "{") {
		s = s[at+1:]
	}
	s = strings.TrimLeft(strings.TrimPrefix(s, "__GI_"), "_")
	s = strings.TrimSuffix(strings.TrimPrefix(s, "libc_"), "_impl")
	if s == "cfree" {
		return "free"
	}
	return s
}
