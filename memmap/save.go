package memmap

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// formatVersion is that of the file that Write writes. A reader refuses later ones; fields may be added
// without a new one.
const formatVersion = 1

// formatMark is what a saved snapshot has near its beginning.
const formatMark = `"sightlineMemoryMap"`

// maxFile bounds what Read takes: a snapshot of a million regions.
const maxFile = 512 << 20

// Sniff says whether a file that begins with head is a saved snapshot.
func Sniff(head []byte) bool {
	s := strings.TrimLeftFunc(string(head[:min(len(head), 512)]), unicode.IsSpace)
	rest, ok := strings.CutPrefix(s, "{")
	return ok && strings.HasPrefix(strings.TrimLeftFunc(rest, unicode.IsSpace), formatMark)
}

// Write saves a snapshot as JSON, for Read and for other programs. Bytes of paths that are no
// characters become U+FFFD.
func (s *Snapshot) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	return e.Encode(s)
}

// Read loads a snapshot that Write saved. It takes nothing for granted: what it returns has its regions
// in order, none overlapping, and sums that cannot overflow. Name is the file's, for errors.
func Read(r io.Reader, name string) (*Snapshot, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("read %s: it is larger than %d bytes, which no memory map is", name, int64(maxFile))
	}
	if !Sniff(text) {
		return nil, fmt.Errorf("read %s: it is no memory map that `sightline map -o` saved", name)
	}
	s := new(Snapshot)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("read %s as a memory map: %w", name, err)
	}
	if s.Version < 1 || s.Version > formatVersion {
		return nil, fmt.Errorf("read %s: it is a memory map of format %d; this version of sightline knows %d", name, s.Version, formatVersion)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("read %s as a memory map: %w", name, err)
	}
	return s, nil
}

// most bounds every measure, so that sums of a million of them do not overflow.
const most = 1 << 58

func (s *Snapshot) check() error {
	known := map[Kind]bool{}
	for _, k := range Kinds {
		known[k] = true
	}
	end, total := uint64(0), Columns{}
	for i := range s.Regions {
		r := &s.Regions[i]
		switch {
		case r.Start < end || r.End <= r.Start || r.End > 1<<63:
			return fmt.Errorf("region %d begins at %#x and ends at %#x, but the one before it ends at %#x", i, r.Start, r.End, end)
		case !known[r.Kind] || r.Kind == Free || r.Kind == PageTable:
			return fmt.Errorf("region %d has the kind %q", i, r.Kind)
		case protectionOf([]byte(r.Protection)) == "":
			return fmt.Errorf("region %d has the protection %q", i, r.Protection)
		}
		end = r.End
		if err := r.Columns.check(); err != nil {
			return fmt.Errorf("region %d: %w", i, err)
		}
		at := r.Start
		for _, p := range r.Parts {
			if p.Start != at || p.End <= p.Start || p.End > r.End || protectionOf([]byte(p.Protection)) == "" {
				return fmt.Errorf("region %d has a part from %#x to %#x with the protection %q", i, p.Start, p.End, p.Protection)
			}
			at = p.End
			if err := p.Columns.check(); err != nil {
				return fmt.Errorf("region %d: %w", i, err)
			}
		}
		if len(r.Parts) > 0 && at != r.End {
			return fmt.Errorf("region %d ends at %#x, its last part at %#x", i, r.End, at)
		}
		total.Add(r.Columns)
		if err := total.check(); err != nil {
			return err
		}
	}
	if s.PageTable < 0 || s.PageTable > most {
		return errors.New("its page table has an impossible size")
	}
	for _, t := range s.Terms {
		if abs(t.Bytes) > most || t.Number < 0 || t.Number > most {
			return fmt.Errorf("the term %q has an impossible size", t.Name)
		}
	}
	for _, g := range s.Goroutines {
		if g.Number < 0 || g.Number > 1<<32 || g.Stack > 1<<40 || g.Place.Line < 0 {
			return fmt.Errorf("%d goroutines with stacks of %d bytes are impossible", g.Number, g.Stack)
		}
	}
	for _, x := range s.Sites {
		if x.Objects < 0 || x.Objects > most || x.Bytes < 0 || x.Bytes > most || x.Place.Line < 0 {
			return fmt.Errorf("%d objects of together %d bytes are impossible", x.Objects, x.Bytes)
		}
	}
	return s.Free.check()
}

func (c *Columns) check() error {
	for _, n := range []int64{c.Size, c.Committed, c.Private, c.Resident, c.PrivateWS, c.ShareableWS, c.SharedWS, c.LockedWS, c.Pss, c.Swap, c.Huge, c.Dirty, c.Blocks, c.Largest} {
		if n < 0 || n > most {
			return fmt.Errorf("%d is no size of memory", n)
		}
	}
	return nil
}

// csvTitles are the columns of WriteCSV.
var csvTitles = []string{"start", "end", "kind", "part of", "protection", "path", "detail", "thread", "size", "committed", "private",
	"resident", "private ws", "shareable ws", "shared ws", "locked ws", "pss", "swap", "huge", "dirty", "blocks", "largest"}

// WriteCSV writes a line for each region, and after it one for each of its parts, whose column "part
// of" has the start of the region: sum those in which it is empty.
func (s *Snapshot) WriteCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	c.Write(csvTitles)
	row := func(start, end uint64, kind, of, protection, path, detail string, thread int, x Columns) {
		t := ""
		if thread != 0 {
			t = strconv.Itoa(thread)
		}
		line := []string{fmt.Sprintf("%x", start), fmt.Sprintf("%x", end), kind, of, protection, valid(path), valid(detail), t}
		for _, n := range []int64{x.Size, x.Committed, x.Private, x.Resident, x.PrivateWS, x.ShareableWS, x.SharedWS, x.LockedWS, x.Pss, x.Swap, x.Huge, x.Dirty, x.Blocks, x.Largest} {
			line = append(line, strconv.FormatInt(n, 10))
		}
		c.Write(line)
	}
	for i := range s.Regions {
		r := &s.Regions[i]
		row(r.Start, r.End, string(r.Kind), "", r.Protection, r.Path, r.Detail, r.Thread, r.Columns)
		for _, p := range r.Parts {
			row(p.Start, p.End, string(r.Kind), fmt.Sprintf("%x", r.Start), p.Protection, r.Path, p.Detail, r.Thread, p.Columns)
		}
	}
	c.Flush()
	return c.Error()
}

// valid is text with bytes that are no characters replaced.
func valid(text string) string { return strings.ToValidUTF8(text, string(utf8.RuneError)) }
