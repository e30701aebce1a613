// Command run runs the benchmarks of cmd/sightline and those of the stack viewer, adds what they print to out/bench/history, and
// shows the figures that the project promises as a table.
//
//	run [FLAG…]         FLAG is for go test, such as -bench Overhead or -args -rounds 5
//	run -show FILE      only shows the table of what was printed before
//
// It is run in the root of the project. The history is in the format of Go benchmarks, as benchstat
// reads it (https://golang.org/design/14313-benchmark-format); each run begins with lines of
// configuration: date, commit, machine.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 2 && args[0] == "-show" {
		text, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		show(os.Stdout, parse(string(text)))
		return nil
	}
	if _, err := os.Stat("cmd/sightline/bench_test.go"); err != nil {
		return fmt.Errorf("run it in the root of the project: %w", err)
	}
	var out bytes.Buffer
	head := configuration()
	out.WriteString(head)
	test := func(flags ...string) error {
		cmd := exec.Command("go", append([]string{"test", "-run", "^$", "-timeout", "60m"}, flags...)...)
		cmd.Stdout = io.MultiWriter(&out, &steps{to: os.Stderr})
		cmd.Stderr = os.Stderr
		return cmd.Run()
	}
	failed := test(append([]string{"-bench", ".", "-benchtime", "1x", "./cmd/sightline"}, args...)...)
	if chosen := strings.Join(args, " "); !strings.Contains(chosen, "-bench ") || strings.Contains(chosen, "Stacks") {
		failed = errors.Join(failed,
			test("-bench", "^BenchmarkStacks$", "-benchtime", "20x", "./profiler/view"),
			test("-bench", "^BenchmarkStacksPeer$", "-benchtime", "3x", "./profiler/view"))
	}
	if chosen := strings.Join(args, " "); !strings.Contains(chosen, "-bench ") || strings.Contains(chosen, "Allocations") {
		failed = errors.Join(failed, test("-bench", "^BenchmarkAllocations$", "-benchtime", "1x", "./profiler"))
	}
	if err := appendHistory(out.Bytes()); err != nil {
		return err
	}
	fmt.Print(head)
	show(os.Stdout, parse(out.String()))
	if failed != nil {
		os.Stdout.WriteString("\n" + out.String())
		return fmt.Errorf("the benchmarks did not all run: %w", failed)
	}
	return nil
}

func appendHistory(text []byte) error {
	path := filepath.Join("out", "bench", "history")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	return errors.Join(err, f.Close())
}

// Configuration is when, of what and on what the figures were taken.
func configuration() string {
	said := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).Output()
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(out))
	}
	commit := said("git", "rev-parse", "--short", "HEAD")
	if said("git", "status", "--porcelain", "--untracked-files=no") != "" {
		commit += "+changes"
	}
	load, _, _ := strings.Cut(said("cat", "/proc/loadavg"), " ")
	return fmt.Sprintf("date: %s\ncommit: %s\nmachine: Linux %s %s, %d CPUs, load %s, %s\n",
		time.Now().UTC().Format(time.RFC3339), commit, said("uname", "-r"), said("uname", "-m"), runtime.NumCPU(), load, runtime.Version())
}

// Steps tells on a terminal which benchmark has ended, while the whole takes minutes.
type steps struct {
	to   *os.File
	rest string
}

func (s *steps) Write(p []byte) (int, error) {
	s.rest += string(p)
	for {
		line, after, whole := strings.Cut(s.rest, "\n")
		if !whole {
			return len(p), nil
		}
		s.rest = after
		if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "Benchmark") && strings.Contains(line, "\t") {
			fmt.Fprintln(s.to, strings.TrimPrefix(strings.TrimSpace(name), "Benchmark"))
		}
	}
}
