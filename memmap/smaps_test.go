package memmap

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const smapsText = `55d000000000-55d000004000 r-xp 00001000 fd:00 1234                       /bin/a b
Size:                 16 kB
Rss:                   8 kB
Pss:                   4 kB
Shared_Clean:          8 kB
Anonymous:             0 kB
THPeligible:           0
VmFlags: rd ex mr mw me
7f0000000000-7f0000001000 rw-p 00000000 00:00 0 
Rss:                   4 kB
Private_Dirty:         4 kB
Anonymous:             4 kB
7f0000002000-7f0000003000 rw-s 00000000 00:01 9                          /memfd:x\012y (deleted)
Rss:                   4 kB
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
Rss:                   0 kB
`

func TestParseSmaps(t *testing.T) {
	all, err := parseSmaps([]byte(smapsText))
	if err != nil {
		t.Fatal(err)
	}
	want := []mapping{
		{start: 0x55d000000000, end: 0x55d000004000, protection: "r-xp", offset: 0x1000, device: "fd:00", inode: 1234, path: "/bin/a b", rss: 8192, pss: 4096, sharedClean: 8192},
		{start: 0x7f0000000000, end: 0x7f0000001000, protection: "rw-p", device: "00:00", rss: 4096, privateDirty: 4096, anonymous: 4096},
		{start: 0x7f0000002000, end: 0x7f0000003000, protection: "rw-s", device: "00:01", inode: 9, path: "/memfd:x\ny", deleted: true, rss: 4096},
	}
	if diff := cmp.Diff(want, all, cmp.AllowUnexported(mapping{})); diff != "" {
		t.Error(diff)
	}
	for name, text := range map[string]string{
		"cut":           smapsText[:100],
		"no number":     "55d0-55d1 rw-p 0 0:0 0 \nRss: much kB\n",
		"measure first": "Rss: 4 kB\n",
		"protection":    "1000-2000 rwzp 0 0:0 0 \n",
		"end before":    "2000-1000 rw-p 0 0:0 0 \n",
		"no inode":      "1000-2000 rw-p 0 0:0 x\n",
		"empty line":    "\n",
		"huge number":   "1000-2000 rw-p 0 0:0 0 \nRss: 99999999999999999999999 kB\n",
		"out of order":  "3000-4000 rw-p 0 0:0 0 \n1000-2000 rw-p 0 0:0 0 \n2000-3000 rw-p 0 0:0 0\n1000-9000 rw-p 0 0:0 0\n1000-2000 rw-p 0 0:0 0\nX\n",
	} {
		if _, err := parseSmaps([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A mapping that grew while the text was written comes twice.
	all, err = parseSmaps([]byte("1000-3000 rw-p 0 0:0 0 \n2000-5000 rw-p 0 0:0 0 \n"))
	if err != nil || len(all) != 2 || all[0].end != 0x2000 {
		t.Errorf("%+v %v", all, err)
	}
}

func FuzzSmaps(f *testing.F) {
	f.Add([]byte(smapsText))
	f.Add([]byte("1000-3000 rw-p 0 0:0 0 \n2000-5000 rw-p 0 0:0 0 \n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parseSmaps(text)
		if err != nil {
			if all != nil {
				t.Fatal("a value and an error")
			}
			return
		}
		s := &Snapshot{Version: formatVersion}
		a := analysis{snapshot: s, mappings: all, memory: bytes.NewReader(nil), pages: nothing{}}
		if err := a.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.check(); err != nil && !strings.Contains(err.Error(), "no size of memory") {
			t.Fatal(err)
		}
		if len(text) < 1<<16 {
			if err := s.Capture().Check(); err != nil {
				t.Fatal(err)
			}
		}
		var status Status
		parseStatus(text, &status)
		parseStackPointer(text)
		parseOwnID(text, 1)
	})
}

type nothing struct{}

func (nothing) present(start, end uint64) (a, b []pageRange, err error) { return nil, nil, nil }

// TestSaved saves a snapshot with names that are hard to write, and loads it again.
func TestSaved(t *testing.T) {
	s := take(t, os.Getpid())
	s.Time = s.Time.Round(0).UTC()
	s.Name = "a\nb\"\\"
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	if !Sniff(b.Bytes()) || !Sniff(append([]byte(" \n"), b.Bytes()...)) || Sniff([]byte(`{"a":"sightlineMemoryMap"}`)) {
		t.Error("it is not recognized, or something else is")
	}
	back, err := Read(bytes.NewReader(b.Bytes()), "x.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, back, cmpopts.IgnoreUnexported(Snapshot{})); diff != "" {
		t.Error(diff)
	}
	for i := range s.Regions {
		s.Regions[i].Path = "/a\xff\nb,\"c"
	}
	b.Reset()
	if err := s.Write(&b); err != nil || !utf8.Valid(b.Bytes()) || !json.Valid(b.Bytes()) {
		t.Errorf("with a path of any bytes: %v", err)
	}
	b.Reset()
	if err := s.WriteCSV(&b); err != nil || !utf8.Valid(b.Bytes()) {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) < len(s.Regions)+1 || strings.Join(rows[0], ",") != strings.Join(csvTitles, ",") {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	for text, want := range map[string]string{
		"": "no memory map", "{}": "no memory map", `{"sightlineMemoryMap":7}`: "format 7", `{"sightlineMemoryMap":1`: "unexpected end",
		`{"sightlineMemoryMap":1,"regions":[{"start":5,"end":5}]}`:                                                         "region 0 begins",
		`{"sightlineMemoryMap":1,"regions":[{"start":0,"end":5,"kind":"Image","protection":"rw-p","resident":-1}]}`:        "no size of memory",
		`{"sightlineMemoryMap":1,"regions":[{"start":0,"end":5,"kind":"Free","protection":"rw-p"}]}`:                       `the kind "Free"`,
		`{"sightlineMemoryMap":1,"regions":[{"start":0,"end":5,"kind":"Heap","protection":"rw-p","parts":[{"start":1}]}]}`: "part",
	} {
		if _, err := Read(strings.NewReader(text), "x.json"); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "x.json") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"sightlineMemoryMap":1,"regions":[{"start":4096,"end":8192,"kind":"Heap","protection":"rw-p","size":4096,"resident":4096,"parts":[{"start":4096,"end":8192,"protection":"rw-p"}]}],"terms":[{"name":"garbage","bytes":-5}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Read(bytes.NewReader(text), "fuzzed")
		if (s == nil) == (err == nil) {
			t.Fatalf("value %v, error %v", s != nil, err)
		}
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := s.Write(&b); err != nil {
			// A year beyond 9999 is read and not written.
			if s.Time.Year() <= 9999 && s.Time.Year() >= 0 {
				t.Fatal(err)
			}
			return
		}
		again, err := Read(&b, "again")
		if err != nil {
			t.Fatal(err)
		}
		if again.Total() != s.Total() {
			t.Fatalf("total %+v, then %+v", s.Total(), again.Total())
		}
		if err := s.Capture().Check(); err != nil {
			t.Fatal(err)
		}
		s.Clusters(50)
		Compare(s, again)
		MomentOf(s, again)
	})
}

func TestFinder(t *testing.T) {
	wide := func(s string) string {
		b := ""
		for _, c := range s {
			b += string(c) + "\x00"
		}
		return b
	}
	type found struct {
		at   uint64
		text string
		wide bool
	}
	for _, x := range []struct {
		name, memory string
		want         []found
	}{
		{"plain", "\x01hello world\x02", []found{{0x1001, "hello world", false}}},
		{"short", "\x01hello\x02", nil},
		{"wide", "\x01\x01" + wide("hello world"), []found{{0x1002, "hello world", true}}},
		{"odd", "\x01" + wide("hello world"), nil},
		{"at the end", "abcdefgh", []found{{0x1000, "abcdefgh", false}}},
		{"two", "abcdef\x00ghijkl\x00", []found{{0x1000, "abcdef", false}, {0x1007, "ghijkl", false}}},
	} {
		for _, step := range []int{1, 3, 100} {
			var got []found
			f := finder{shortest: 6}
			yield := func(s String) bool { got = append(got, found{s.Address, s.Text, s.UTF16}); return true }
			for i := 0; i < len(x.memory); i += step {
				f.feed([]byte(x.memory[i:min(i+step, len(x.memory))]), 0x1000+uint64(i), yield)
			}
			f.end(yield)
			if diff := cmp.Diff(x.want, got, cmp.AllowUnexported(found{})); diff != "" {
				t.Errorf("%s in steps of %d: %s", x.name, step, diff)
			}
		}
	}
	long := strings.Repeat("x", 3*maxString)
	f := finder{shortest: 6}
	f.feed([]byte(long), 0, func(String) bool { return true })
	f.end(func(s String) bool {
		if len(s.Text) != maxString || !s.More {
			t.Errorf("%d bytes of a long text, %v", len(s.Text), s.More)
		}
		return true
	})
}

func TestNamesOfMemory(t *testing.T) {
	for name, want := range map[string]Kind{
		" Go: heap": ManagedHeap, " Go: heap reservation": ManagedHeap, " Go: page summary": RuntimeMetadata, " Go: OS thread stack": Stack,
		"glibc: malloc arena": Heap, "jemalloc_pg": Heap, "tcmalloc_region_NORMAL": Heap, "libc_malloc": Heap, "glibc: pthread stack: 71": Stack,
		"v8": ManagedHeap, "mine": PrivateData,
	} {
		if got, _ := kindOfName(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

func TestExplained(t *testing.T) {
	if len(KindExplanations()) != len(Kinds) {
		t.Errorf("%d explanations of %d kinds", len(KindExplanations()), len(Kinds))
	}
	for i, e := range KindExplanations() {
		if e.Name != string(Kinds[i]) || e.Text == "" || e.Source == "" {
			t.Errorf("%+v is not of %s", e, Kinds[i])
		}
	}
	if len(Explanations()) != 14 {
		t.Errorf("%d columns are explained", len(Explanations()))
	}
}
