package main

import (
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Results are what benchmarks printed: by name without "Benchmark" and the number of processors, and
// then by unit. What a later line says of a benchmark replaces what an earlier one did.
type results struct {
	figures map[string]map[string]float64
	notes   []string
}

var processors = regexp.MustCompile(`-\d+$`)

// Parse reads the output of go test -bench. Lines of other sorts are skipped, but for notes.
func parse(text string) results {
	r := results{figures: map[string]map[string]float64{}}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if note, ok := strings.CutPrefix(line, "note: "); ok {
			r.notes = append(r.notes, note)
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		if _, err := strconv.Atoi(fields[1]); err != nil {
			continue
		}
		units := map[string]float64{}
		for i := 2; i+1 < len(fields); i += 2 {
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				units[fields[i+1]] = v
			}
		}
		r.figures[processors.ReplaceAllString(strings.TrimPrefix(fields[0], "Benchmark"), "")] = units
	}
	return r
}

// Of is a figure; NaN where it was not measured.
func (r results) of(benchmark, unit string) float64 {
	if v, ok := r.figures[benchmark][unit]; ok {
		return v
	}
	return math.NaN()
}

// A promise is one line of the table: a figure, its peer and what it must reach.
type promise struct {
	name         string
	benchmark    string // ours
	unit         string
	peer         string // benchmark of the peer, with unit peerUnit; "" where there is none
	peerUnit     string
	peerName     string
	format       string
	budget       float64 // ours at most, as an absolute value
	budgetText   string
	notAbovePeer bool    // ours is at most that of the peer, too
	faster       float64 // the peer takes at least that many times ours
	least        float64 // ours at least, for rates
}

func promises() []promise {
	var all []promise
	for _, engine := range []string{"bpf", "perf"} {
		all = append(all, promise{
			name: "taken from a busy thread at 999 Hz, " + engine + " engine", benchmark: "Taken/ours/engine=" + engine, unit: "taken-%",
			peer: "Taken/peer=perf", peerUnit: "taken-%", peerName: "perf record", format: "%+.1f%%",
			budget: 1, budgetText: "≤ 1 %, ≤ peer", notAbovePeer: true,
		}, promise{
			name: "  of which a bare timer of 999 Hz takes", benchmark: "Taken/floor=no-stacks", unit: "taken-%",
			format: "%+.1f%%", budget: math.Inf(1),
		}, promise{
			name: "overhead on the target at 999 Hz, " + engine + " engine", benchmark: "Overhead/ours/engine=" + engine, unit: "overhead-%",
			peer: "Overhead/peer=perf", peerUnit: "overhead-%", peerName: "perf record", format: "%+.1f%%",
			budget: 1, budgetText: "≤ 1 %, ≤ peer", notAbovePeer: true,
		}, promise{
			name: "  the same in CPU time", benchmark: "Overhead/ours/engine=" + engine, unit: "cpu-overhead-%",
			peer: "Overhead/peer=perf", peerUnit: "cpu-overhead-%", peerName: "perf record", format: "%+.1f%%",
			budget: 1, budgetText: "≤ 1 %, ≤ peer", notAbovePeer: true,
		})
	}
	for _, engine := range []string{"bpf", "perf"} {
		all = append(all, promise{
			name: "the same with 16 KiB of stack a sample, " + engine + " engine", benchmark: "Copies/ours/engine=" + engine, unit: "taken-%",
			peer: "Copies/peer=perf-dwarf", peerUnit: "taken-%", peerName: "perf --call-graph dwarf", format: "%+.1f%%",
			budget: 2, budgetText: "≤ 2 %",
		}, promise{
			name: "  beyond the bare timer", benchmark: "Copies/ours/engine=" + engine, unit: "beyond-timer-%",
			peer: "Copies/peer=perf-dwarf", peerUnit: "beyond-timer-%", peerName: "perf --call-graph dwarf", format: "%+.1f%%",
			budget: 2, budgetText: "≤ 2 %",
		}, promise{
			name: "  the recorder, of one core", benchmark: "Copies/ours/engine=" + engine, unit: "recorder-core-%",
			peer: "Copies/peer=perf-dwarf", peerUnit: "recorder-core-%", peerName: "perf --call-graph dwarf", format: "%.1f%%",
			budget: 10, budgetText: "≤ 10 %",
		})
	}
	for _, program := range []string{"c", "c++", "cgo", "rust", "sqlite", "python", "node"} {
		for _, engine := range []string{"bpf", "perf"} {
			all = append(all, promise{
				name: "whole stacks, " + program + ", " + engine + " engine", benchmark: "WholeStacks/program=" + program, unit: engine + "-whole-%",
				peer: "WholeStacks/program=" + program, peerUnit: "perf-dwarf-whole-%", peerName: "perf --call-graph dwarf", format: "%.1f%%",
				budget: math.Inf(1), budgetText: "≥ 99.5 %", least: 99.5,
			})
		}
		all = append(all, promise{
			name: "  by name: largest difference from perf", benchmark: "WholeStacks/program=" + program, unit: "by-name-points",
			peer: "WholeStacks/program=" + program, peerUnit: "noise-points", peerName: "one σ", format: "%.1f", budget: 3, budgetText: "≤ 3 points",
		})
	}
	for _, engine := range []string{"bpf", "perf"} {
		all = append(all, promise{
			name: "end of recording → first hint, " + engine + " engine", benchmark: "FirstHint/ours/engine=" + engine, unit: "first-hint-ms",
			peer: "FirstHint/peer=pprof", peerUnit: "list-ms", peerName: "pprof -list", format: "%.0f ms",
			budget: 300, budgetText: "≤ 300 ms, 10 × faster", faster: 10,
		}, promise{
			name: "", benchmark: "FirstHint/ours/engine=" + engine, unit: "first-hint-ms",
			peer: "FirstHint/peer=perf-script", peerUnit: "script-ms", peerName: "perf script +srcline", format: "%.0f ms",
			budget: 300, budgetText: "100 × faster", faster: 100,
		})
	}
	all = append(all,
		promise{
			name: "server start → initialize answered", benchmark: "Initialize/ours", unit: "initialize-ms",
			peer: "Initialize/peer=gopls", peerUnit: "initialize-ms", peerName: "gopls", format: "%.1f ms", budget: 50, budgetText: "≤ 50 ms",
		},
		promise{
			name: "", benchmark: "Initialize/ours", unit: "initialize-ms",
			peer: "Initialize/floor=sh", peerUnit: "process-ms", peerName: "bare process", format: "%.1f ms", budget: 50, budgetText: "≤ 50 ms",
		},
		promise{
			name: "  through a daemon that has to be started", benchmark: "DaemonStart/daemon=new", unit: "initialize-ms",
			format: "%.1f ms", budget: 150, budgetText: "≤ 150 ms",
		},
		promise{
			name: "  through a daemon that runs", benchmark: "DaemonStart/daemon=running", unit: "initialize-ms",
			format: "%.1f ms", budget: 30, budgetText: "≤ 30 ms",
		},
		promise{
			name: "daemon, 8 editors and 4 commands: p99 of hints", benchmark: "DaemonLoad", unit: "p99-hints-ms",
			format: "%.1f ms", budget: 20, budgetText: "≤ 20 ms",
		},
		promise{
			name: "  growth of its memory after warm-up", benchmark: "DaemonLoad", unit: "rss-growth-%",
			format: "%.0f%%", budget: math.Inf(1), budgetText: "≤ 10 % in make soak",
		},
		promise{
			name: "daemon, idle after 1,000 captures", benchmark: "DaemonIdle", unit: "idle-MB",
			format: "%.0f MB", budget: 40, budgetText: "≤ 40 MB",
		},
		promise{
			name: "all hints of 5,700 lines after an edit", benchmark: "HintsAfterEdit/ours/edit=letter", unit: "hints-ms",
			peer: "HintsAfterEdit/peer=gopls/edit=letter", peerUnit: "hints-ms", peerName: "gopls", format: "%.1f ms", budget: 5, budgetText: "≤ 5 ms",
		},
		promise{
			name: "  threshold 0: every line that cost anything", benchmark: "HintsAfterEdit/ours/edit=letter/threshold=0", unit: "hints-ms",
			format: "%.1f ms", budget: math.Inf(1),
		},
		promise{
			name: "  threshold 0, the 60 lines on the screen", benchmark: "HintsAfterEdit/ours/edit=letter/threshold=0/asked=60lines", unit: "hints-ms",
			peer: "HintsAfterEdit/peer=gopls/edit=letter/asked=60lines", peerUnit: "hints-ms", peerName: "gopls", format: "%.1f ms", budget: 5, budgetText: "≤ 5 ms",
		},
		promise{
			name: "bytes a sample, samples and stacks, 100,000", benchmark: "BytesPerSample/ours/target=large", unit: "bytes/sample",
			peer: "BytesPerSample/peer=perf/target=large", peerUnit: "bytes/sample", peerName: "perf.data", format: "%.1f", budget: 8, budgetText: "≤ 8",
		},
		promise{
			name: "  with symbols, without source texts", benchmark: "BytesPerSample/ours/target=large", unit: "capture-bytes/sample",
			format: "%.1f", budget: math.Inf(1),
		},
		promise{
			name: "  a test's 1,000 samples", benchmark: "BytesPerSample/ours/target=test", unit: "bytes/sample",
			peer: "BytesPerSample/peer=perf/target=test", peerUnit: "bytes/sample", peerName: "perf.data", format: "%.1f", budget: math.Inf(1),
		},
	)
	for _, v := range []struct {
		name, benchmark, peer string
		budget                float64
	}{
		{"1 M samples: group, fold, include, by name", "group+fold+include+by-name", "top", 50},
		{"  first level of a call tree", "call-tree-level-1", "top", 50},
		{"  caller-callee", "caller-callee", "peek", 50},
		{"  difference of two", "diff", "top", 150},
		{"  by name with when, first and last of every row", "group+fold+include+by-name+columns", "top", math.Inf(1)},
	} {
		p := promise{
			name: v.name, benchmark: "Stacks/view=" + v.benchmark, unit: "ms/view", format: "%.0f ms",
			peer: "StacksPeer/peer=pprof-" + v.peer, peerUnit: "ms/view", peerName: "pprof -" + v.peer, budget: v.budget,
		}
		if !math.IsInf(v.budget, 1) {
			p.budgetText = fmt.Sprintf("≤ %.0f ms", v.budget)
		}
		all = append(all, p)
	}
	for _, binary := range []string{"c++", "go", "given"} {
		benchmark := "Symbols/binary=" + binary
		all = append(all, promise{
			name: "naming 10,000 addresses, " + binary, benchmark: benchmark, unit: "cold-ms", format: "%.0f ms",
			peer: benchmark, peerUnit: "llvm-symbolizer-ms", peerName: "llvm-symbolizer", budget: 1000, budgetText: "≤ 1 s",
		}, promise{
			name: "  in the next recording of the same build", benchmark: benchmark, unit: "cached-ms", format: "%.0f ms",
			peer: benchmark, peerUnit: "addr2line-ms", peerName: "addr2line -i", budget: 50, budgetText: "≤ 50 ms",
		}, promise{
			name: "  memory", benchmark: benchmark, unit: "MB-peak", format: "%.0f MB",
			peer: benchmark, peerUnit: "MB-binary", peerName: "the binary", budget: 300, budgetText: "≤ 300 MB",
		}, promise{
			name: "  the same as llvm-symbolizer says", benchmark: benchmark, unit: "%-same", format: "%.2f%%",
			peer: benchmark, peerUnit: "%-to-the-letter", peerName: "to the letter", budget: math.Inf(1), budgetText: "≥ 99.9 %", least: 99.9,
		})
	}
	all = append(all, promise{
		name: "import of perf.data", benchmark: "Import/ours/format=perf.data", unit: "MB/s", format: "%.0f MB/s",
		peer: "Import/peer=perf-report", peerUnit: "MB/s", peerName: "perf report", budget: math.Inf(1), budgetText: "≥ 50 MB/s", least: 50,
	}, promise{
		name: "import of perf script's text", benchmark: "Import/ours/format=perf-script", unit: "MB/s", format: "%.0f MB/s",
		peer: "Import/peer=perf-script", peerUnit: "MB/s", peerName: "perf script", budget: math.Inf(1), budgetText: "≥ 20 MB/s", least: 20,
	})
	all = append(all, promise{
		name: "heap of 1 M Go objects: read, typed, linked", benchmark: "GoHeap/objects=1000000/ours", unit: "analyse-ms", format: "%.0f ms",
		budget: 1000, budgetText: "≤ 1.0 s",
	}, promise{
		name: "  the first time, with the program's debug information", benchmark: "GoHeap/objects=1000000/ours", unit: "first-ms", format: "%.0f ms",
		budget: math.Inf(1),
	}, promise{
		name: "  memory beyond the image, an object", benchmark: "GoHeap/objects=1000000/ours", unit: "bytes/object", format: "%.0f B",
		budget: 150, budgetText: "≤ 150",
	}, promise{
		name: "heap of 10 M Go objects: read, typed, linked", benchmark: "GoHeap/objects=10000000/ours", unit: "analyse-ms", format: "%.0f ms",
		budget: 12000, budgetText: "≤ 12 s",
	}, promise{
		name: "map of a process with 10,000 regions", benchmark: "Map/ours/target=10000", unit: "map-ms", format: "%.0f ms",
		peer: "Map/peer=pmap/target=10000", peerUnit: "map-ms", peerName: "pmap -X", budget: 100, budgetText: "≤ 100 ms",
	}, promise{
		name: "  of a Go program, by kind", benchmark: "Map/ours/target=go", unit: "map-ms", format: "%.0f ms",
		peer: "Map/peer=pmap/target=go", peerUnit: "map-ms", peerName: "pmap -X", budget: math.Inf(1),
	}, promise{
		name: "heap of 1 M Go objects, analysed", benchmark: "Heap/ours/objects=1M", unit: "analyse-ms", format: "%.0f ms",
		peer: "Heap/peer=goref/objects=1M", peerUnit: "heap-ms", peerName: "goref", budget: 1000, budgetText: "≤ 1.0 s",
	}, promise{
		name: "  dominators, tree and types alone", benchmark: "Heap/ours/objects=1M", unit: "ask-ms", format: "%.0f ms",
		peer: "Heap/ours/objects=1M", peerUnit: "heap-ms", peerName: "the command", budget: math.Inf(1),
	}, promise{
		name: "  the program stands still", benchmark: "Heap/ours/objects=1M", unit: "stop-ms", format: "%.1f ms",
		peer: "Heap/peer=goref/objects=1M", peerUnit: "heap-ms", peerName: "goref", budget: 10, budgetText: "≤ 10 ms",
	}, promise{
		name: "  memory beyond the copy", benchmark: "Heap/ours/objects=1M", unit: "B/object", format: "%.0f B",
		peer: "Heap/ours/objects=10M", peerUnit: "B/object", peerName: "with 10 M", budget: 150, budgetText: "≤ 150 B an object",
	}, promise{
		name: "  bytes of which the type is known", benchmark: "Heap/ours/objects=1M", unit: "%-typed", format: "%.2f%%",
		peer: "Heap/ours/objects=1M", peerUnit: "%-live", peerName: "of HeapAlloc", budget: math.Inf(1), budgetText: "≥ 99.9 %", least: 99.9,
	}, promise{
		name: "  opening it again", benchmark: "Heap/ours/objects=1M", unit: "open-ms", format: "%.0f ms",
		peer: "Heap/ours/objects=1M", peerUnit: "compare-ms", peerName: "comparing two", budget: 50, budgetText: "≤ 50 ms",
	}, promise{
		name: "heap of 10 M Go objects, analysed", benchmark: "Heap/ours/objects=10M", unit: "analyse-ms", format: "%.0f ms",
		peer: "Heap/peer=goref/objects=10M", peerUnit: "heap-ms", peerName: "goref", budget: 12000, budgetText: "≤ 12 s",
	}, promise{
		name: "ps of 1,000 processes, without the interval", benchmark: "Ps/ours", unit: "ps-ms",
		peer: "Ps/peer=ps", peerUnit: "ps-ms", peerName: "ps aux", format: "%.0f ms", budget: 50, budgetText: "≤ 50 ms",
	}, promise{
		name: "open files of the whole machine", benchmark: "Files", unit: "files-ms",
		peer: "Files", peerUnit: "lsof-ms", peerName: "lsof -n -P", format: "%.0f ms", budget: math.Inf(1), budgetText: "5 × faster", faster: 5,
	}, promise{
		name: "  without threads", benchmark: "Files", unit: "files-ms",
		peer: "Files", peerUnit: "lsof-without-threads-ms", peerName: "lsof -n -P -Ki", format: "%.0f ms", budget: math.Inf(1),
	}, promise{
		name: "  of lsof's rows not listed", benchmark: "Files", unit: "only-lsof",
		peer: "Files", peerUnit: "only-ours", peerName: "not listed by lsof", format: "%.0f", budget: 0, budgetText: "0",
	})
	all = append(all, promise{
		name: "core file of 100 MB: the process stands still", benchmark: "Dump/ours/target=c/how=fork", unit: "stop-ms",
		peer: "Dump/peer=gcore/target=c", peerUnit: "gap-ms", peerName: "gcore", format: "%.1f ms", budget: 20, budgetText: "≤ 20 ms",
	}, promise{
		name: "  as a thread of it notices", benchmark: "Dump/ours/target=c/how=fork", unit: "gap-ms",
		peer: "Dump/peer=gcore/target=c", peerUnit: "gap-ms", peerName: "gcore", format: "%.1f ms", budget: math.Inf(1),
	}, promise{
		name: "  of a Go program, for each 100 MB", benchmark: "Dump/ours/target=go/how=fork", unit: "stop-ms/100MB", format: "%.1f ms",
		budget: 10, budgetText: "≤ 10 ms",
	}, promise{
		name: "  without a fork, by a copy", benchmark: "Dump/ours/target=c/how=copy", unit: "stop-ms", format: "%.1f ms", budget: math.Inf(1),
	}, promise{
		name: "  whole command", benchmark: "Dump/ours/target=c/how=fork", unit: "dump-ms",
		peer: "Dump/peer=gcore/target=c", peerUnit: "dump-ms", peerName: "gcore", format: "%.0f ms", budget: math.Inf(1),
	}, promise{
		name: "  file on disk, of what is resident", benchmark: "Dump/ours/target=c/how=fork", unit: "disk-%-of-resident",
		peer: "Dump/peer=gcore/target=c", peerUnit: "disk-%-of-resident", peerName: "gcore", format: "%.1f%%", budget: 100, budgetText: "≤ 100 %",
	}, promise{
		name: "  the same of a Go program", benchmark: "Dump/ours/target=go/how=fork", unit: "disk-%-of-resident", format: "%.1f%%",
		budget: 100, budgetText: "≤ 100 %",
	})
	for _, target := range []string{"compute", "faults", "mmap"} {
		for _, every := range []string{"1s", "100ms"} {
			benchmark := "Timeline/target=" + target + "/every=" + every
			all = append(all, promise{
				name: "taken by map --every " + every + ", target: " + target, benchmark: benchmark, unit: "taken-%",
				peer: benchmark, peerUnit: "noise-%", peerName: "noise", format: "%+.2f%%", budget: 1, budgetText: "≤ 1 %",
			})
		}
	}
	for _, target := range []string{"example", "flate"} {
		for _, engine := range []string{"bpf", "perf", "perf/user=ordinary"} {
			benchmark := "Truth/ours/target=" + target + "/engine=" + engine
			all = append(all, promise{
				name: "largest difference of a line, " + target + ", " + strings.Replace(engine, "/user=", " ", 1), benchmark: benchmark, unit: "max-points",
				peer: benchmark, peerUnit: "noise-points", peerName: "one σ of pprof", format: "%.1f", budget: 3, budgetText: "≤ 3 points",
			}, promise{
				name: "  of lines below the test itself", benchmark: benchmark, unit: "test-max-points",
				format: "%.1f", budget: 3, budgetText: "≤ 3 points",
			}, promise{
				name: "  total against rusage", benchmark: benchmark, unit: "total-%",
				peer: benchmark, peerUnit: "pprof-total-%", peerName: "pprof", format: "%+.1f%%", budget: 3, budgetText: "within 3 %",
			})
		}
	}
	return all
}

// Verdict says whether a promise is kept. What was not measured is no verdict.
func (p promise) verdict(ours, peer float64) string {
	switch {
	case math.IsNaN(ours):
		return ""
	case math.Abs(ours) > p.budget && (p.unit != "overhead-%" && p.unit != "cpu-overhead-%" && p.unit != "taken-%" && p.unit != "beyond-timer-%" || ours > 0):
		return "NOT MET"
	case p.notAbovePeer && ours > peer && ours > 0:
		return "NOT MET"
	case p.faster > 0 && peer < p.faster*ours:
		return "NOT MET"
	case ours < p.least:
		return "NOT MET"
	case p.least > 0:
		return "met"
	case math.IsInf(p.budget, 1):
		return ""
	}
	return "met"
}

func show(out io.Writer, r results) {
	fmt.Fprintf(out, "\n%-52s %10s   %-34s %-22s %s\n", "figure", "ours", "peer", "budget", "")
	for _, p := range promises() {
		ours, peer := r.of(p.benchmark, p.unit), math.NaN()
		if p.peer != "" {
			peer = r.of(p.peer, p.peerUnit)
		}
		if math.IsNaN(ours) || p.name == "" && math.IsNaN(peer) {
			continue
		}
		text := ""
		if !math.IsNaN(peer) {
			text = fmt.Sprintf(p.format, peer) + " " + p.peerName
			if r.of(p.peer, "cut-off") == 1 {
				text = "> " + text
			}
			if p.faster > 0 {
				text += fmt.Sprintf(" (%.0f ×)", peer/ours)
			}
		}
		fmt.Fprintf(out, "%-52s %10s   %-34s %-22s %s\n", p.name, fmt.Sprintf(p.format, ours), text, p.budgetText, p.verdict(ours, peer))
	}
	runs := []string{}
	for _, x := range []struct{ what, benchmark string }{
		{"overhead", "Overhead/plain"}, {"first hint", "FirstHint/ours/engine=bpf"}, {"initialize", "Initialize/ours"}, {"edits", "HintsAfterEdit/ours/edit=letter"},
	} {
		if n := r.of(x.benchmark, "runs"); !math.IsNaN(n) {
			runs = append(runs, fmt.Sprintf("%s %.0f", x.what, n))
		}
	}
	if len(runs) > 0 {
		fmt.Fprintf(out, "\nMedians; runs: %s. Ratios of overhead are of pairs within a round.\n", strings.Join(runs, ", "))
	}
	for _, engine := range []string{"bpf", "perf"} {
		b := "Overhead/ours/engine=" + engine
		if spread := r.of(b, "overhead-±%"); !math.IsNaN(spread) {
			fmt.Fprintf(out, "Overhead, %s engine: the median is sure to ±%.1f points on the clock, ±%.1f in CPU time; the recorder itself takes %.0f%% of the target's CPU time.\n",
				engine, spread, r.of(b, "cpu-overhead-±%"), r.of(b, "recorder-cpu-%"))
		}
		f := "FirstHint/ours/engine=" + engine
		if !math.IsNaN(r.of(f, "first-hint-ms")) {
			fmt.Fprintf(out, "First hint, %s engine: all samples in at %.0f ms, named in %.0f, stored and read back in %.0f, the command answered at %.0f; hints sent %.0f after the server said to ask.\n",
				engine, r.of(f, "drain-ms"), r.of(f, "symbolize-ms"), r.of(f, "store+load-ms"), r.of(f, "answer-ms"), r.of(f, "hints-ms"))
		}
	}
	for _, n := range r.notes {
		fmt.Fprintln(out, "note: "+n)
	}
}
