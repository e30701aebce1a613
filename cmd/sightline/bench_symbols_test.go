package main

import (
	"bytes"
	"debug/elf"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/sourcemap"
)

var (
	benchBinary      = flag.String("symbols", "", "a binary to name addresses of, besides those that are built for it")
	benchDifferences = flag.Int("differences", 1, "examples of each class of differences to llvm-symbolizer and addr2line that are printed")
	benchUnits       = flag.Int("units", 64, "units of the C++ program whose addresses are named; each has some 3 MB of DWARF")
)

var (
	llvmSymbolizerPeer = peer{"llvm-symbolizer", "the package llvm has it", []string{"llvm-symbolizer", "--version"}}
	addr2linePeer      = peer{"addr2line", "the package binutils has it", []string{"addr2line", "--version"}}
)

// How long it takes to name 10,000 addresses all over a large binary: that of a first recording, and
// that of a later view of it with as many locations that are new but lie at the same addresses. Beside
// it the peers' whole runs on the same addresses, and the share of addresses for which llvm-symbolizer
// says the same functions, files and lines for all inlined calls.
//
// Budgets: 1 s, 50 ms, 300 MB.
func BenchmarkSymbols(b *testing.B) {
	for _, program := range []struct {
		name string
		path func(*testing.B) string
	}{
		{"go", goCompiler},
		{"c++", templates},
		{"given", func(b *testing.B) string {
			if *benchBinary == "" {
				b.Skip("-symbols names no binary")
			}
			return *benchBinary
		}},
	} {
		b.Run("binary="+program.name, func(b *testing.B) { benchSymbols(b, program.path(b)) })
	}
}

const benchAddresses = 10_000

func benchSymbols(b *testing.B, path string) {
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	addrs := codeSpread(b, path)
	var cold, coldCPU, warm time.Duration
	var memory float64
	var c *profile.Capture
	rounds := 0
	for b.Loop() {
		c = nil
		before := resetPeak()
		file, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		c = profile.NewCapture(profile.Target{}, time.Time{})
		c.Mappings = append(c.Mappings, profile.Mapping{Kind: profile.FileCode, Path: path})
		s := sourcemap.NewSymbolizer(sourcemap.Config{})
		name := func(isReturn bool) time.Duration {
			for _, a := range addrs {
				if isReturn {
					a++
				}
				c.Locations = append(c.Locations, profile.Location{Mapping: 1, Addr: a, Return: isReturn})
			}
			start := time.Now()
			if err := s.Symbolize(b.Context(), c, func(profile.MappingID) (io.ReaderAt, error) { return file, nil }); err != nil {
				b.Fatal(err)
			}
			return time.Since(start)
		}
		cpu := ownTime()
		took := name(false)
		cpu = ownTime() - cpu
		memory = max(memory, peakMemory()-before)
		again := name(true)
		if rounds++; rounds == 1 || took < cold {
			cold, coldCPU = took, cpu
		}
		if rounds == 1 || again < warm {
			warm = again
		}
		s.Close()
		file.Close()
	}
	figures := []figure{
		{float64(cold.Microseconds()) / 1e3, "cold-ms"},
		{milliseconds(coldCPU), "cold-cpu-ms"},
		{float64(cold.Nanoseconds()) / float64(len(addrs)), "ns/address"},
		{float64(warm.Microseconds()) / 1e3, "again-ms"},
		{memory, "MB-peak"},
		{float64(info.Size()) / 1e6, "MB-binary"},
	}
	if llvmSymbolizerPeer.there(b) {
		out, took, cpu := runPeer(b, addrs, "llvm-symbolizer", "--obj="+path, "--inlines", "--no-demangle")
		different := differences(c, out)
		same, identical := agreement(len(addrs), different)
		figures = append(figures, figure{took, "llvm-symbolizer-ms"}, figure{cpu, "llvm-symbolizer-cpu-ms"}, figure{100 * same, "%-same"}, figure{100 * identical, "%-to-the-letter"})
		tellDifferences(filepath.Base(path), "llvm-symbolizer", different)
	}
	if addr2linePeer.there(b) {
		_, took, _ := runPeer(b, addrs, "addr2line", "-i", "-f", "-e", path)
		figures = append(figures, figure{took, "addr2line-ms"})
	}
	report(b, figures...)
}

// resetPeak has the kernel measure this process's peak of memory from now on, and returns what it
// takes now, in MB (proc(5), clear_refs).
func resetPeak() float64 {
	debug.FreeOSMemory()
	os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	return peakMemory()
}

// peakMemory is the most memory that this process has taken, in MB.
func peakMemory() float64 {
	text, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kb, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, _ := strconv.ParseFloat(kb, 64)
	return n * 1024 / 1e6
}

// ownTime is the CPU time of this process.
func ownTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// codeSpread are addresses all over the functions of a binary.
func codeSpread(b *testing.B, path string) []uint64 {
	b.Helper()
	f, err := elf.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	symbols, _ := f.Symbols()
	var functions []elf.Symbol
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Size > 0 && s.Section != elf.SHN_UNDEF {
			functions = append(functions, s)
		}
	}
	var addrs []uint64
	seen := map[uint64]bool{}
	add := func(a uint64) {
		if !seen[a] {
			seen[a] = true
			addrs = append(addrs, a)
		}
	}
	if len(functions) == 0 {
		text := f.Section(".text")
		for i := range uint64(benchAddresses) {
			add(text.Addr + text.Size/benchAddresses*i)
		}
		return addrs
	}
	for i := 0; len(addrs) < benchAddresses && i < 50*benchAddresses; i++ {
		s := functions[i*7919%len(functions)]
		add(s.Value + uint64(i)*31%s.Size)
	}
	return addrs
}

// runPeer is what a peer prints for the addresses, and how many milliseconds it took by the clock and
// of CPU time.
func runPeer(b *testing.B, addrs []uint64, name string, args ...string) (said string, took, cpu float64) {
	b.Helper()
	var in, out bytes.Buffer
	for _, a := range addrs {
		fmt.Fprintf(&in, "%#x\n", a)
	}
	cmd := exec.CommandContext(b.Context(), name, args...)
	cmd.Stdin, cmd.Stdout = &in, &out
	start := time.Now()
	if err := cmd.Run(); err != nil {
		b.Fatalf("%v: %v", cmd, err)
	}
	took = milliseconds(time.Since(start))
	return out.String(), took, milliseconds(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime())
}

// goCompiler is Go's own compiler with its DWARF in plain form.
func goCompiler(b *testing.B) string {
	b.Helper()
	path := filepath.Join(benchDir(b, "cache"), "compile")
	mustOutput(b, packageDir, "go", "build", "-ldflags=-compressdwarf=false", "-o", path, "cmd/compile")
	return path
}

// templates is a C++ program of many units that all use the library's templates with types of their
// own, as large programs do.
func templates(b *testing.B) string {
	b.Helper()
	if _, err := exec.LookPath("g++"); err != nil {
		b.Skip("g++ is not installed")
	}
	dir := filepath.Join(benchDir(b, "cache"), "templates")
	program := filepath.Join(dir, fmt.Sprintf("templates%d", *benchUnits))
	if _, err := os.Stat(program); err == nil {
		return program
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	objects := []string{"-o", program}
	for i := range *benchUnits {
		source := filepath.Join(dir, fmt.Sprintf("u%d.cc", i))
		main := ""
		if i == 0 {
			main = "int main() { return (int)run0(7); }\n"
		}
		if err := os.WriteFile(source, []byte(strings.ReplaceAll(templatesSource, "@", fmt.Sprint(i))+main), 0o644); err != nil {
			b.Fatal(err)
		}
		object := strings.TrimSuffix(source, ".cc") + ".o"
		mustOutput(b, dir, "g++", "-std=c++17", "-g", "-O2", "-c", "-o", object, source)
		objects = append(objects, object)
	}
	mustOutput(b, dir, "g++", objects...)
	return program
}

const templatesSource = `
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>
namespace unit@ {
struct Key { int a; std::string b; bool operator<(const Key &k) const { return a != k.a ? a < k.a : b < k.b; } bool operator==(const Key &k) const { return a == k.a && b == k.b; } };
struct Hash { size_t operator()(const Key &k) const { return std::hash<std::string>()(k.b) ^ k.a; } };
struct Value { std::vector<Key> keys; std::map<Key, std::set<std::string>> sets; };
std::unordered_map<Key, Value, Hash> table;
std::map<Key, std::function<int(const Value &)>> calls;
}
long run@(int n) {
	using namespace unit@;
	for (int i = 0; i < n; i++) {
		Key k{i, std::to_string(i * n)};
		Value v;
		for (int j = 0; j < i; j++) { v.keys.push_back({j, k.b}); v.sets[{j, "x"}].insert(std::to_string(j)); }
		std::sort(v.keys.begin(), v.keys.end());
		std::stable_sort(v.keys.begin(), v.keys.end(), [](const Key &x, const Key &y) { return y < x; });
		table[k] = v;
		calls[k] = [i](const Value &v) { return (int)v.keys.size() + i; };
	}
	long total = 0;
	std::regex words("([a-z]+)@|([0-9]+)");
	for (auto &[k, v] : table) {
		std::smatch m;
		if (std::regex_search(k.b, m, words)) total += m.size();
		auto f = calls.find(k);
		if (f != calls.end()) total += f->second(v);
		std::ostringstream out;
		out << k.a << k.b << total;
		total += out.str().size();
	}
	return total;
}
`
