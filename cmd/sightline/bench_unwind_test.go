package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
		{"rust", []string{"rustc", "-O", "-o", "@", "testdata/bench/maps.rs"}, []string{"@"}},
		{"sqlite", nil, []string{"sqlite3", ":memory:", sql}},
		{"python", nil, []string{"python3", "-c", python}},
		{"node", nil, []string{"node", "--perf-basic-prof", "-e", node}},
	}
}

// BenchmarkWholeStacks is the share of the weight on stacks that reach a root, in programs that keep no
// frame pointers. The peer is perf record --call-graph dwarf with copies of the same size, whose stacks
// are taken for whole where perf script shows a function that nothing calls.
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
			for _, engine := range []string{"bpf", "perf"} {
				args := append([]string{"record", "--json", "--store", filepath.Join(dir, "captures"), "--engine", engine, "--"}, command...)
				out, _, err := output(dir, sightlineBinary(b), args...)
				if err != nil {
					note("engine %s: %v", engine, err)
					continue
				}
				var outcome struct{ Broken float64 }
				if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &outcome); err != nil {
					b.Fatal(err)
				}
				figures = append(figures, figure{100 * (1 - outcome.Broken), engine + "-whole-%"})
			}
			if perfPeer.there(b) {
				if whole, err := perfWhole(dir, command); err != nil {
					note("perf on %s: %v", p.name, err)
				} else {
					figures = append(figures, figure{whole, "perf-dwarf-whole-%"})
				}
			}
			report(b, figures...)
		})
	}
}

// PerfWhole is the share of samples whose outermost function, as perf script has it, is one that nothing
// calls.
func perfWhole(dir string, command []string) (float64, error) {
	data := filepath.Join(dir, "perf.data")
	defer os.Remove(data)
	args := append([]string{"record", "-q", "-e", "cpu-clock", "-F", "999", "--call-graph", "dwarf,16384", "-o", data, "--"}, command...)
	if _, _, err := output(dir, "perf", args...); err != nil {
		return 0, err
	}
	script, _, err := output(dir, "perf", "script", "-i", data, "--no-inline", "-F", "comm,ip,sym")
	if err != nil {
		return 0, err
	}
	whole, all := 0, 0
	for stack := range strings.SplitSeq(script, "\n\n") {
		lines := strings.Split(strings.TrimSpace(stack), "\n")
		_, outermost, ok := strings.Cut(strings.TrimSpace(lines[len(lines)-1]), " ")
		if len(lines) < 2 || !ok {
			continue
		}
		all++
		switch {
		case outermost == "_start", outermost == "_dl_start_user", strings.Contains(outermost, "clone"), strings.Contains(outermost, "ret_from_fork"):
			whole++
		}
	}
	if all == 0 {
		return 0, fmt.Errorf("perf script shows no stack of %v", command)
	}
	return 100 * float64(whole) / float64(all), nil
}
