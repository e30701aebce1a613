package memmap

import (
	"cmp"
	"context"
	"io"
	"os"
	"regexp"
	"sort"

	"github.com/sightline-dev/sightline/heap/goruntime"
)

// A Memory is the memory of a process or of a core file, to be searched.
type Memory struct {
	r       io.ReaderAt
	pages   pages
	runtime *goruntime.Runtime // nil where there is none
	close   func()
}

// Memory gives access to the process's memory until Close of the process. It knows the Go runtime once a
// snapshot was taken.
func (p *Process) Memory() *Memory {
	m := p.pages()
	return &Memory{r: p.live, pages: m, runtime: p.goRuntime, close: m.close}
}

// CoreMemory gives access to the memory in a core file; Close it.
func CoreMemory(path string, o CoreOptions) (*Memory, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	c, err := parseCore(f, info.Size())
	if err != nil {
		f.Close()
		return nil, err
	}
	m := &Memory{r: c, pages: c, close: func() { f.Close() }}
	if exe, err := openRegular(cmp.Or(o.Exe, c.exe)); err == nil {
		defer exe.Close()
		m.runtime, _ = goruntime.Open(exe, biasOf(exe, c.exe, c.mappings), c)
	}
	return m, nil
}

// Close gives back what the memory is read through.
func (m *Memory) Close() { m.close() }

// StringOptions say which strings are looked for. The zero value takes all of 6 characters and more.
type StringOptions struct {
	Shortest int            // characters; 0 is 6
	Pattern  *regexp.Regexp // that a string must match; nil takes all
	Kinds    []Kind         // of regions that are searched; nil is all
}

// A String is text in memory.
type String struct {
	Address uint64 `json:"address"`
	Text    string `json:"text"`
	UTF16   bool   `json:"utf16"`  // little-endian, of characters below U+0100
	Region  int    `json:"region"` // index into Snapshot.Regions
	// Owner is the object or block that it begins in, in the heaps of Go and malloc; nil elsewhere, and where
	// it cannot be told.
	Owner *Owner `json:"object,omitempty"`
	// More says that the string is longer than what is kept of it.
	More bool `json:"more,omitempty"`
}

// maxString is how much of a string is kept and matched.
const maxString = 64 << 10

// Strings calls yield for the strings in the memory that is resident, in order of address, until it
// returns false. Memory that is swapped or was never touched is not brought in. A string ends with its
// region. It fails with the context's error, or with that of the list of resident pages.
func (m *Memory) Strings(ctx context.Context, s *Snapshot, o StringOptions, yield func(String) bool) error {
	shortest := o.Shortest
	if shortest <= 0 {
		shortest = 6
	}
	want := map[Kind]bool{}
	for _, k := range o.Kinds {
		want[k] = true
	}
	owners := m.owners(s)
	found := func(x String) bool {
		x.Owner = owners.of(x.Address, &s.Regions[x.Region])
		return yield(x)
	}
	buf := make([]byte, 1<<20)
	for i := range s.Regions {
		r := &s.Regions[i]
		if len(want) > 0 && !want[r.Kind] || r.Resident == 0 {
			continue
		}
		resident, _, err := m.pages.present(r.Start, r.End)
		if err != nil {
			return err
		}
		f := finder{shortest: shortest, region: i, pattern: o.Pattern}
		for _, run := range resident {
			for at := run.start; at < run.end; {
				if err := ctx.Err(); err != nil {
					return err
				}
				n, _ := m.r.ReadAt(buf[:min(uint64(len(buf)), run.end-at)], int64(at))
				if n <= 0 {
					at += pageSize
					continue
				}
				if !f.feed(buf[:n], at, found) {
					return nil
				}
				at += uint64(n)
			}
		}
		if !f.end(found) {
			return nil
		}
	}
	return nil
}

// RegionOf is the index of the region that has an address, -1 where none has.
func (s *Snapshot) RegionOf(address uint64) int {
	i := sort.Search(len(s.Regions), func(i int) bool { return s.Regions[i].End > address })
	if i == len(s.Regions) || s.Regions[i].Start > address {
		return -1
	}
	return i
}

// A finder looks for strings in bytes that it is fed in order of address: runs of printable bytes, and
// runs of printable bytes each followed by a zero, which begin at even addresses.
type finder struct {
	shortest, region int
	pattern          *regexp.Regexp
	next             uint64 // address that follows what was fed
	plain            run
	wide             run
	low              byte // the first half of a unit
	half             bool
}

// A run is a string that has not ended yet.
type run struct {
	start  uint64
	length int // characters
	text   []byte
}

func (r *run) add(c byte, at uint64) {
	if r.length == 0 {
		r.start, r.text = at, r.text[:0]
	}
	r.length++
	if len(r.text) < maxString {
		r.text = append(r.text, c)
	}
}

func printable(c byte) bool { return c >= ' ' && c < 0x7f || c == '\t' }

func (f *finder) feed(b []byte, at uint64, yield func(String) bool) bool {
	if at != f.next {
		if !f.end(yield) {
			return false
		}
	}
	f.next = at + uint64(len(b))
	for i, c := range b {
		address := at + uint64(i)
		if printable(c) {
			f.plain.add(c, address)
		} else if f.plain.length > 0 && !f.finish(&f.plain, false, yield) {
			return false
		}
		if address%2 == 0 {
			f.low, f.half = c, true
			continue
		}
		if !f.half {
			continue
		}
		f.half = false
		if c == 0 && printable(f.low) {
			f.wide.add(f.low, address-1)
		} else if f.wide.length > 0 && !f.finish(&f.wide, true, yield) {
			return false
		}
	}
	return true
}

func (f *finder) end(yield func(String) bool) bool {
	f.half = false
	return f.finish(&f.plain, false, yield) && f.finish(&f.wide, true, yield)
}

func (f *finder) finish(r *run, wide bool, yield func(String) bool) bool {
	n := r.length
	r.length = 0
	if n < f.shortest || f.pattern != nil && !f.pattern.Match(r.text) {
		return true
	}
	return yield(String{Address: r.start, Text: string(r.text), UTF16: wide, Region: f.region, More: n > len(r.text)})
}
