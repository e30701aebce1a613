package imagesize

import (
	"context"
	"debug/dwarf"
	"debug/elf"
	"debug/gosym"
	"errors"
	"io"
	"slices"
	"sort"
	"strings"
)

// A lineRange is a run of code that was compiled from one file.
type lineRange struct {
	start, end uint64 // file addresses
	file       string
}

// sources sums code by the source file that it was compiled from, as the line tables have it: an
// inlined function counts for the file that it is written in. What is no code has no file.
func (s *sizer) sources(ctx context.Context) (Table, error) {
	ranges, err := s.lineRanges(ctx)
	if err != nil {
		return Table{}, err
	}
	sums := map[string]int64{}
	for i := range s.spans {
		x := &s.spans[i]
		n := x.end - x.start
		if x.section == nil || x.section.Flags&elf.SHF_EXECINSTR == 0 || x.address == 0 {
			sums[notCode] += n
			continue
		}
		at, last := x.address, x.address+uint64(n)
		k := sort.Search(len(ranges), func(i int) bool { return ranges[i].end > at })
		for ; k < len(ranges) && ranges[k].start < last; k++ {
			r := ranges[k]
			from, to := max(r.start, at), min(r.end, last)
			if from >= to {
				continue
			}
			sums[noSource] += int64(from - at)
			sums[r.file] += int64(to - from)
			at = to
		}
		sums[noSource] += int64(last - at)
	}
	t := Table{By: Source}
	for name, n := range sums {
		if n > 0 {
			t.Parts = append(t.Parts, Part{Name: strings.ToValidUTF8(name, "\ufffd"), Bytes: n})
		}
	}
	t.sort()
	return t, nil
}

// maxRanges bounds what is kept of line tables.
const maxRanges = 32 << 20

// lineRanges reads the line tables of DWARF; without it, Go's own table for Go code.
func (s *sizer) lineRanges(ctx context.Context) ([]lineRange, error) {
	d, err := s.f.DWARF()
	var all []lineRange
	if err == nil {
		all, err = dwarfRanges(ctx, d)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if err != nil && len(all) > 0 {
		s.note("A part of its line tables is damaged: %v.", err)
	}
	if len(all) == 0 && s.isGo {
		all = s.goRanges()
	}
	if len(all) == 0 {
		s.note("It has no line tables: the source files are not told; build it with -g.")
	}
	slices.SortFunc(all, func(a, b lineRange) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return strings.Compare(a.file, b.file)
	})
	kept, end := all[:0], uint64(0)
	for _, r := range all {
		r.start = max(r.start, end)
		if r.start < r.end {
			end = r.end
			kept = append(kept, r)
		}
	}
	return kept, nil
}

func dwarfRanges(ctx context.Context, d *dwarf.Data) ([]lineRange, error) {
	var all []lineRange
	var failed error
	r := d.Reader()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e, err := r.Next()
		if err != nil {
			return all, err
		}
		if e == nil {
			return all, failed
		}
		r.SkipChildren()
		if e.Tag != dwarf.TagCompileUnit {
			continue
		}
		lines, err := d.LineReader(e)
		if err != nil || lines == nil {
			failed = errors.Join(failed, err)
			continue
		}
		var last, now dwarf.LineEntry
		open := false
		for {
			if err := lines.Next(&now); err != nil {
				if err != io.EOF && failed == nil {
					failed = err
				}
				break
			}
			// Addresses of code that the linker left out begin at 0.
			if open && now.Address > last.Address && last.File != nil && last.Address > 0 {
				name := last.File.Name
				if n := len(all); n > 0 && all[n-1].end == last.Address && all[n-1].file == name {
					all[n-1].end = now.Address
				} else if len(all) < maxRanges {
					all = append(all, lineRange{last.Address, now.Address, name})
				}
			}
			last, open = now, !now.EndSequence
		}
	}
}

// goRanges are the functions of Go's table with the files that they begin in.
func (s *sizer) goRanges() (all []lineRange) {
	table, text := s.f.Section(".gopclntab"), s.f.Section(".text")
	if table == nil || text == nil {
		return nil
	}
	data, err := table.Data()
	if err != nil {
		return nil
	}
	defer func() {
		if recover() != nil { // debug/gosym on a damaged table
			all = nil
		}
	}()
	t, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	if err != nil {
		return nil
	}
	s.note("Without DWARF a function counts for the file that it begins in, with all that is inlined into it.")
	for i := range t.Funcs {
		f := &t.Funcs[i]
		if file, _, fn := t.PCToLine(f.Entry); fn != nil && f.Entry < f.End {
			all = append(all, lineRange{f.Entry, f.End, file})
		}
	}
	return all
}
