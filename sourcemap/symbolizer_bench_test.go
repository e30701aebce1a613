package sourcemap

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// compiler builds Go's compiler with all of its DWARF in plain form: a Go binary of some 50 MB.
func compiler(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "compile")
	cmd := exec.Command("go", "build", "-ldflags=-compressdwarf=false", "-o", path, "cmd/compile")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%s is of %d MB", path, info.Size()>>20)
	return path
}

// How long from a finished recording to its frames: 20,000 locations spread over the whole code of
// a large Go binary, which is opened anew each time. Budget: 100 ms.
func BenchmarkSymbolize(b *testing.B) {
	path := compiler(b)
	_, f := openGo(b, path)
	text := f.Section(".text")
	const locations = 20_000
	r := newRecording()
	m := r.file(b, path)
	for i := range uint64(locations) {
		// Not in the order of addresses, as locations are not.
		at := i * 7919 % locations
		r.add(m, text.Addr+at*(text.Size/locations))
	}
	b.ReportAllocs()
	var frames int
	start := cpuTime()
	for b.Loop() {
		c := r.View()
		c.Symbols = profile.Symbols{}
		if err := NewSymbolizer(Config{}).Symbolize(b.Context(), c, r.open); err != nil {
			b.Fatal(err)
		}
		frames = 0
		for _, of := range c.Symbols.Of {
			frames += len(of)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/locations, "ns/location")
	b.ReportMetric(float64((cpuTime()-start).Microseconds())/float64(b.N)/1000, "cpu-ms/op")
	b.ReportMetric(float64(frames)/locations, "frames/location")
}

// How long until the first frame of a large Go binary.
func BenchmarkOpenBinary(b *testing.B) {
	path := compiler(b)
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	b.ReportAllocs()
	start := cpuTime()
	for b.Loop() {
		table, err := openBinary(file)
		if err != nil {
			b.Fatal(err)
		}
		if _, ok := table.frames(table.goes.text+1<<20, nil); !ok {
			b.Fatal("the address is not known")
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "ms/open")
	b.ReportMetric(float64((cpuTime()-start).Microseconds())/float64(b.N)/1000, "cpu-ms/op")
}

// cpuTime is the processor time this process has used, which a busy machine does not falsify.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
