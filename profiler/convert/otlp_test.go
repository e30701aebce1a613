package convert

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// pb writes messages: field and value in turn; a number is a varint, a fixed8 is eight bytes, a list is
// packed, a string or message is bytes.
type fixed8 uint64

func pb(fields ...any) []byte {
	var b []byte
	for i := 0; i < len(fields); i += 2 {
		key := uint64(fields[i].(int)) << 3
		switch v := fields[i+1].(type) {
		case int:
			b = binary.AppendUvarint(binary.AppendUvarint(b, key), uint64(int64(v)))
			continue
		case fixed8:
			b = binary.LittleEndian.AppendUint64(binary.AppendUvarint(b, key|1), uint64(v))
			continue
		case string:
			b = append(binary.AppendUvarint(binary.AppendUvarint(b, key|2), uint64(len(v))), v...)
		case []byte:
			b = append(binary.AppendUvarint(binary.AppendUvarint(b, key|2), uint64(len(v))), v...)
		case []int:
			var p []byte
			for _, n := range v {
				p = binary.AppendUvarint(p, uint64(int64(n)))
			}
			b = append(binary.AppendUvarint(binary.AppendUvarint(b, key|2), uint64(len(p))), p...)
		case []fixed8:
			var p []byte
			for _, n := range v {
				p = binary.LittleEndian.AppendUint64(p, uint64(n))
			}
			b = append(binary.AppendUvarint(binary.AppendUvarint(b, key|2), uint64(len(p))), p...)
		default:
			panic(fmt.Sprintf("%T", v))
		}
	}
	return b
}

const otlpEpoch = 1_700_000_000_000_000_000

// otlpFile is the same profile in a numbering: main → (inlined) work at a line, in two threads, and an
// address without a name. It weighs values of 5 and 7 ms at 1 ms and 2 ms, and one of 11.
func otlpFile(v otlpVersion, shape string) []byte {
	strings := []string{"", "wall", "milliseconds", "main", "work", "a.go", "/bin/prog", "thread.name", "thread.id", "process.executable.build_id.gnu", "sched", "profile.frame.type"}
	var dictionary []byte
	for _, s := range strings {
		dictionary = append(dictionary, pb(5, s)...)
	}
	mapping := 1
	if v == otlp17 {
		mapping = 0
		dictionary = append(dictionary, pb(1, pb(4, 6, 5, []int{3}), 7, pb(1, 7, 2, 2))...)
	} else {
		dictionary = append(dictionary, pb(1, pb(), 1, pb(4, 6, 5, []int{3}))...)
	}
	dictionary = append(dictionary, pb(3, pb(), 3, pb(1, 3, 3, 5, 4, 10), 3, pb(2, 4, 3, 5), 3, pb(1, 10))...)
	attributes := 4
	if v == otlp17 {
		attributes = 5
	}
	dictionary = append(dictionary, pb(
		2, pb(), // zero
		2, pb(1, mapping, 2, 0x10, 3, pb(1, 2, 2, 20, 3, 3), 3, pb(1, 1, 2, 12)), // work inlined into main
		2, pb(1, mapping, 2, 0x99),
		2, pb(3, pb(1, 3), attributes, []int{4}),
	)...)
	attribute := func(key int, value []byte) {
		if v == otlp17 {
			dictionary = append(dictionary, pb(6, pb(1, strings[key], 2, value))...)
		} else {
			dictionary = append(dictionary, pb(6, pb(1, key, 2, value))...)
		}
	}
	attribute(0, nil)
	attribute(7, pb(1, "worker"))
	attribute(8, pb(3, 72))
	attribute(9, pb(1, "abcd"))
	attribute(11, pb(1, "kernel"))
	if v != otlp17 {
		dictionary = append(dictionary, pb(7, pb(), 7, pb(1, []int{1}), 7, pb(1, []int{2, 1}), 7, pb(1, []int{3}))...)
	}

	a, b := fixed8(otlpEpoch+1e6), fixed8(otlpEpoch+2e6)
	var samples []byte
	sample := func(stack, start, length int, values, attributes []int, times []fixed8) {
		var s []byte
		switch v {
		case otlp17:
			s = pb(1, start, 2, length, 3, values[:1], 4, attributes)
			if len(times) > 0 {
				s = append(s, pb(6, []int{int(times[0])})...)
			}
			samples = append(samples, pb(2, s)...)
			for i := 1; i < len(times); i++ {
				samples = append(samples, pb(2, pb(1, start, 2, length, 3, values[i:i+1], 4, attributes, 6, []int{int(times[i])}))...)
			}
			return
		case otlp18:
			s = pb(1, stack, 2, values)
			if len(attributes) > 0 {
				s = append(s, pb(3, attributes)...)
			}
		default:
			s = pb(1, stack)
			if len(attributes) > 0 {
				s = append(s, pb(2, attributes)...)
			}
			s = append(s, pb(4, values)...)
		}
		if len(times) > 0 {
			s = append(s, pb(5, times)...)
		}
		samples = append(samples, pb(2, s)...)
	}
	sample(2, 0, 2, []int{5, 7}, []int{1, 2}, []fixed8{a, b})
	sample(1, 1, 1, []int{11}, nil, nil)
	sample(3, 2, 1, []int{13}, []int{1, 2}, []fixed8{b})

	var p []byte
	if v == otlp17 {
		p = pb(1, pb(1, 1, 2, 2), 3, []int{2, 1, 3}, 4, otlpEpoch, 5, 10_000_000)
	} else {
		p = pb(1, pb(1, 1, 2, 2), 3, fixed8(otlpEpoch), 4, 10_000_000)
	}
	p = append(p, samples...)
	resource := pb(1, pb(1, pb(1, "process.pid", 2, pb(3, 71)), 1, pb(1, "process.executable.name", 2, pb(1, "prog"))), 2, pb(1, pb(1, "scope"), 2, p), 3, "schema")
	data := append(pb(1, resource), pb(2, dictionary)...)
	if shape == "first" {
		data = append(pb(2, dictionary), pb(1, resource)...)
	}
	if shape == "stream" {
		n := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
		data = append(append(append(n, data...), n...), data...)
	}
	return data
}

func TestOTLPVersions(t *testing.T) {
	want := []string{
		"0s 11000000 1 {PID:71 TID:71 Parent:0 Comm:prog} | main a.go:12<10 /bin/prog | work+ a.go:20:3<0 /bin/prog",
		"1ms 5000000 1 {PID:71 TID:72 Parent:0 Comm:worker} | main a.go:12<10 /bin/prog | work+ a.go:20:3<0 /bin/prog | [unknown] :0<0 /bin/prog",
		"2ms 7000000 1 {PID:71 TID:72 Parent:0 Comm:worker} | main a.go:12<10 /bin/prog | work+ a.go:20:3<0 /bin/prog | [unknown] :0<0 /bin/prog",
		"2ms 13000000 1 {PID:71 TID:72 Parent:0 Comm:worker} | sched :0<0 [kernel]",
	}
	for _, v := range []otlpVersion{otlp17, otlp18, otlp110} {
		for _, shape := range []string{"", "first", "stream"} {
			t.Run(fmt.Sprintf("v1.%d %s", v, shape), func(t *testing.T) {
				c, format, err := Read(t.Context(), bytes.NewReader(otlpFile(v, shape)), Options{Experimental: true})
				if err != nil || format != OTLP {
					t.Fatal(format, err)
				}
				p := only(t, c)
				var got []string
				for i := range p.Samples.Len() {
					s := p.Samples.At(i)
					line := fmt.Sprintf("%v %d %d %+v", s.Time, s.Weight, s.Count, p.Tasks[s.Task])
					for _, id := range p.Stacks.RootFirst(s.Stack, nil) {
						f := p.Frames[id]
						line += " | " + f.Func
						if f.Inlined {
							line += "+"
						}
						line += fmt.Sprintf(" %s:%d", f.File, f.Line)
						if f.Column > 0 {
							line += fmt.Sprintf(":%d", f.Column)
						}
						line += fmt.Sprintf("<%d %s", f.StartLine, f.Module)
					}
					if shape != "stream" || i%2 == 0 {
						got = append(got, line)
					}
				}
				if shape == "stream" { // the message twice; equal times keep their order, so pairs differ only at 2 ms
					if p.Samples.Len() != 2*len(want) || p.Total().Weight != 72_000_000 {
						t.Errorf("%d samples of %d ns, want %d of 72 ms", p.Samples.Len(), p.Total().Weight, 2*len(want))
					}
				} else if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("samples (-want +got):\n%s", diff)
				}
				if p.Kind != "wall" || p.Unit != profile.Nanoseconds || p.Source != profile.Milliseconds || !p.Start.Equal(time.Unix(0, otlpEpoch)) || p.Length != 10*time.Millisecond {
					t.Errorf("%s %s %s %v %v", p.Kind, p.Unit, p.Source, p.Start, p.Length)
				}
				if c.Mappings[1] != (profile.Mapping{Kind: profile.FileCode, Path: "/bin/prog", BuildID: "abcd"}) {
					t.Errorf("mapping %+v", c.Mappings[1])
				}
			})
		}
	}
}

// Samples that are counted every so often are time; the count stays. One has a list that is not packed,
// which a number of v1.7 is alike.
func TestOTLPPeriod(t *testing.T) {
	var dictionary []byte
	for _, s := range []string{"", "samples", "count", "cpu", "nanoseconds", "f"} {
		dictionary = append(dictionary, pb(5, s)...)
	}
	dictionary = append(dictionary, pb(3, pb(), 3, pb(1, 5), 2, pb(), 2, pb(3, pb(1, 1)), 7, pb(), 7, pb(1, []int{1}))...)
	p := pb(1, pb(1, 1, 2, 2), 3, fixed8(otlpEpoch), 5, pb(1, 3, 2, 4), 6, 50_000_000,
		2, pb(1, 1, 2, 0, 4, []int{3}), 2, pb(1, 1, 5, []fixed8{otlpEpoch + 5, otlpEpoch + 9}))
	data := pb(1, pb(2, pb(2, p)), 2, dictionary)
	c, _, err := Read(t.Context(), bytes.NewReader(data), Options{Experimental: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"0 150000000 3", "5 50000000 1", "9 50000000 1",
	}
	q := only(t, c)
	var got []string
	for i := range q.Samples.Len() {
		s := q.Samples.At(i)
		got = append(got, fmt.Sprintf("%d %d %d", s.Time, s.Weight, s.Count))
	}
	if diff := cmp.Diff(want, got); diff != "" || q.Kind != profile.CPU || c.Series[0].Period != 50_000_000 {
		t.Errorf("%s with period %d, samples (-want +got):\n%s", q.Kind, c.Series[0].Period, diff)
	}
	_, _, err = Read(t.Context(), bytes.NewReader(data), Options{Experimental: true, Kind: "wall"})
	if err == nil || !strings.Contains(err.Error(), "it has cpu") {
		t.Errorf("kind wall: %v", err)
	}
}

func TestOTLPRefused(t *testing.T) {
	whole := otlpFile(otlp110, "")
	for name, x := range map[string]struct {
		data []byte
		o    Options
		want string
	}{
		"not allowed":    {whole, Options{}, "experimental"},
		"cut":            {whole[:len(whole)-10], Options{Experimental: true}, "ends early"},
		"no dictionary":  {pb(1, pb(2, pb(2, pb(2, pb(1, 1))))), Options{Experimental: true}, "1.6"},
		"amplified":      {otlpAmplified(), Options{Experimental: true}, "damaged"},
		"amplified name": {otlpLongName(), Options{Experimental: true}, "damaged"},
	} {
		x.o.Format = OTLP
		_, _, err := Read(t.Context(), bytes.NewReader(x.data), x.o)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
	stream := otlpFile(otlp110, "stream")
	c, _, err := Read(t.Context(), bytes.NewReader(stream[:len(stream)-10]), Options{Experimental: true})
	if err != nil || len(c.Warnings) != 1 || c.Series[0].Samples.Len() != 4 {
		t.Errorf("a stream that is cut: %v", err)
	}
}

// otlpAmplified has thousands of samples that each ask for other 100,000 frames.
func otlpAmplified() []byte {
	locations := make([]int, 100_000)
	p := pb(3, locations)
	for i := range 5000 {
		p = append(p, pb(2, pb(1, i, 2, len(locations)-i, 3, []int{1}))...)
	}
	return pb(1, pb(2, pb(2, p)), 2, pb(2, pb(), 5, ""))
}

// otlpLongName has 100,000 lines of a function with a name of a million bytes.
func otlpLongName() []byte {
	dictionary := pb(5, "", 5, strings.Repeat("x", 1_000_000), 3, pb(1, 1), 7, pb(1, []int{0}))
	var lines []byte
	for i := range 100_000 {
		lines = append(lines, pb(3, pb(2, i))...)
	}
	return pb(1, pb(2, pb(2, pb(2, pb(1, 0, 4, []int{1})))), 2, append(dictionary, pb(2, lines)...))
}

func TestOTLPSniff(t *testing.T) {
	for _, v := range []otlpVersion{otlp17, otlp18, otlp110} {
		for _, shape := range []string{"", "first", "stream"} {
			if data := otlpFile(v, shape); !sniffOTLP(data) {
				t.Errorf("v1.%d %s is not recognized", v, shape)
			}
		}
	}
	big := append(pb(1, pb(2, pb(2, make([]byte, 200_000)))), pb(2, pb(5, ""))...)
	if !sniffOTLP(big[:sniffLen]) {
		t.Error("a large file is not recognized by its head")
	}
	for _, data := range []string{
		"", "\n", "\n\n", "\n\nmain;a 5\n", "\x0a\x04\x08\x01\x10\x02\x0a\x04\x08\x03\x10\x04\x12\x03\x0a\x01\x01", // pprof
		"\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00", "main;a 5\n", "{}", "\x12\x05hello",
	} {
		if sniffOTLP([]byte(data)) {
			t.Errorf("%q is recognized", data)
		}
	}
}

// An example of OpenTelemetry's own, of v1.8 or v1.9.
func TestAcceptanceOTLP(t *testing.T) {
	const name = "open-telemetry+sig-profiling+profile.otlp"
	c := foreign(t, name, Options{Experimental: true})
	data, err := os.ReadFile(os.Getenv("SIGHTLINE_ACCEPTANCE") + "/" + name)
	if err != nil {
		t.Fatal(err)
	}
	m := &otlpMessage{data: data}
	if err := m.tables(); err != nil {
		t.Fatal(err)
	}
	resources := 0
	if err := m.resources(func([]byte) error { resources++; return nil }); err != nil {
		t.Fatal(err)
	}
	got := []int{resources, len(m.locations), len(m.strings), len(m.functions), len(m.attributes), len(m.stacks), len(m.mappings)}
	if diff := cmp.Diff([]int{4, 301, 284, 191, 67, 50, 11}, got); diff != "" {
		t.Errorf("resources, locations, strings, functions, attributes, stacks, mappings (-want +got):\n%s", diff)
	}
	p := only(t, c)
	if p.Kind != profile.CPU || p.Unit != profile.Nanoseconds || c.Series[0].Period != 50_000_000 || len(c.Warnings) != 0 {
		t.Errorf("%s in %s every %d, warnings %v", p.Kind, p.Unit, c.Series[0].Period, c.Warnings)
	}
	java := false
	for i, id := range p.Samples.Stack {
		task := p.Tasks[p.Samples.Task[i]]
		if task.PID == 0 || task.Comm == "" {
			t.Fatalf("sample %d has no process: %+v", i, task)
		}
		for f := range p.Stacks.LeafFirst(id) {
			java = java || p.Frames[f].Func == "int java.util.Random.next(int)" && p.Frames[f].File == "Random.java"
		}
	}
	if !java {
		t.Error("no Java frame is found")
	}
	t.Logf("%d samples in %d tasks, %v", p.Samples.Len(), len(p.Tasks)-1, p.Length)
}

func FuzzOTLP(f *testing.F) {
	for _, v := range []otlpVersion{otlp17, otlp18, otlp110} {
		f.Add(otlpFile(v, ""))
	}
	f.Add(otlpFile(otlp110, "stream"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := Read(context.Background(), bytes.NewReader(data), Options{Format: OTLP, Experimental: true})
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
