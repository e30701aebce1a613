package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/memmap"
	"github.com/sightline-dev/sightline/profiler/process"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// mapRest is how many times as long as it takes to read a map passes before it is read again: a page that is
// looked at shall cost little.
const mapRest = 5

// A mapWatch reads the memory map of one process again and again.
type mapWatch struct {
	process *memmap.Process
	locator *locator // nil where the lines are not known
	tried   bool     // to make the locator
	last    *rpc.ProcessMap
	next    time.Time // when the map is to be read again
}

func (w *mapWatch) close() {
	w.process.Close()
	if w.locator != nil {
		w.locator.close()
	}
}

// Fill adds where the memory is. That there is none (a thread of the kernel, a zombie) is a note.
func (x *inspected) fillMap(ctx context.Context, r *rpc.ProcessResult, p rpc.ProcessParams, workspace string, started time.Time) error {
	if x.memory == nil {
		opened, err := memmap.Open(p.PID)
		if errors.Is(err, memmap.ErrNoMemory) {
			r.Map = emptyMap(sentence(err))
			return nil
		}
		if err != nil {
			return err
		}
		x.memory = &mapWatch{process: opened}
	}
	w := x.memory
	if w.last != nil && time.Now().Before(w.next) {
		r.Map = w.last
		return nil
	}
	begun := time.Now()
	s, err := w.process.Take(ctx)
	if errors.Is(err, memmap.ErrNoMemory) {
		r.Map = emptyMap(sentence(err))
		return nil
	}
	if err != nil {
		return err
	}
	if len(s.Sites)+len(s.Goroutines) > 0 {
		if !w.tried {
			w.tried = true
			if w.locator, err = newLocator(ctx, workspace, s, ""); err != nil {
				w.locator = nil
			}
		}
		if w.locator != nil {
			if err := w.locator.locate(ctx, s); err != nil {
				return err
			}
		}
	}
	w.next = begun.Add(mapRest * time.Since(begun))
	w.last = mapOf(s, cmp.Or(p.Limit, defaultInspectLimit), canonical(workspace), started)
	r.Map = w.last
	return nil
}

func emptyMap(note string) *rpc.ProcessMap {
	return &rpc.ProcessMap{Time: time.Now().UnixMilli(), Note: note}
}

// MapOf puts a snapshot into words, with at most so many regions.
func mapOf(s *memmap.Snapshot, limit int, workspace string, started time.Time) *rpc.ProcessMap {
	const mostLines, mostStacks = 10, 20
	total := s.Total()
	r := &rpc.ProcessMap{Time: s.Time.UnixMilli(), Resident: total.Resident, Note: process.Printable(strings.Join(s.Notes, " "))}
	if s.Partial {
		r.Resident = s.Status.Resident
		r.Text = bytesWords(s.Status.Resident) + " resident · " + bytesWords(s.Status.Size) + " reserved"
		return r
	}
	r.Text = bytesWords(total.Resident) + " resident · " + bytesWords(total.Size) + " reserved · " + plural(len(s.Regions), "region")
	kinds := s.ByKind()
	details := map[string]string{}
	for _, e := range slices.Concat(memmap.Explanations(), memmap.KindExplanations()) {
		details[e.Name] = e.Text
	}
	var columns []mapColumn
	for _, c := range mapColumns {
		if slices.ContainsFunc(kinds, func(k memmap.KindTotal) bool { return c.of(&k.Columns) != 0 }) {
			columns = append(columns, c)
			r.Columns = append(r.Columns, rpc.ProcessColumn{Name: c.name, Detail: details[c.name]})
		}
	}
	for i := range kinds {
		k := &kinds[i]
		kind := rpc.ProcessKind{Name: string(k.Kind), Detail: details[string(k.Kind)], Resident: k.Resident, Size: k.Size}
		if k.Kind != memmap.PageTable && k.Kind != memmap.Free {
			kind.Share = lspserver.Percent(k.Resident, total.Resident)
		}
		for _, c := range columns {
			kind.Cells = append(kind.Cells, c.cell(&k.Columns))
		}
		r.Kinds = append(r.Kinds, kind)
	}
	siteLines := func(region ...uint64) []rpc.ProcessLine {
		sites := sitesByPlace(s, region...)
		lines := make([]rpc.ProcessLine, 0, min(len(sites), mostLines))
		for _, x := range firstOf(sites, mostLines) {
			text := fmt.Sprintf("about %s in %s by %s", bytesWords(x.Bytes), plural(int(x.Objects), "object"), pageWords(workspace, x.Place))
			lines = append(lines, pageLine(x.Place, int(x.Objects), text, started))
		}
		return lines
	}
	sum := int64(0)
	for _, x := range s.Terms {
		sum += x.Bytes
		term := rpc.ProcessTerm{Name: x.Name, Bytes: x.Bytes, Text: bytesWords(x.Bytes), Share: lspserver.Percent(x.Bytes, total.Resident), Advice: x.Advice, Lines: []rpc.ProcessLine{}}
		if x.Number > 0 {
			term.Number = lspserver.Count(x.Number)
		}
		if x.Name == memmap.TermLive || x.Name == memmap.TermNew && !slices.ContainsFunc(s.Terms, func(t memmap.Term) bool { return t.Name == memmap.TermLive }) {
			term.Lines = siteLines()
		}
		r.Terms = append(r.Terms, term)
	}
	if s.Terms != nil {
		r.Sum = "The terms sum up to the resident memory of all regions."
		if sum != total.Resident {
			r.Sum = "The terms differ from the resident memory of all regions by " + bytesWords(sum-total.Resident) + "."
		}
	}
	for _, g := range firstOf(goroutinesByPlace(s), mostStacks) {
		text := fmt.Sprintf("%s, %s, started by %s", plural(int(g.number), "goroutine"), g.each(), pageWords(workspace, g.place))
		if g.created == 0 {
			text = fmt.Sprintf("%s, %s, of the program's start", plural(int(g.number), "goroutine"), g.each())
		}
		r.Stacks = append(r.Stacks, rpc.ProcessStacks{
			Number: int(g.number), Bytes: g.bytes, Size: g.size(), Each: g.each(), Line: pageLine(g.place, int(g.number), text, started),
		})
	}
	regions := make([]*memmap.Region, len(s.Regions))
	for i := range s.Regions {
		regions[i] = &s.Regions[i]
	}
	slices.SortStableFunc(regions, func(a, b *memmap.Region) int {
		return cmp.Or(-cmp.Compare(a.Resident, b.Resident), -cmp.Compare(a.Size, b.Size))
	})
	r.More = max(0, len(regions)-limit)
	for _, x := range regions[:min(limit, len(regions))] {
		name := process.Printable(x.Label())
		if x.Deleted {
			name += " (deleted)"
		}
		region := rpc.ProcessRegion{
			Start: strconv.FormatUint(x.Start, 16), Kind: string(x.Kind), Name: name, Protection: x.Protection,
			Size: bytesWords(x.Size), Resident: bytesWords(x.Resident), Lines: []rpc.ProcessLine{},
		}
		if x.Kind == memmap.ManagedHeap {
			region.Lines = siteLines(x.Start)
		}
		r.Regions = append(r.Regions, region)
	}
	return r
}

// PageWords are placeWords for an editor, in whose workspace paths begin wherever this process runs.
func pageWords(workspace string, p memmap.Place) string {
	if file := canonical(p.File); p.File != "" && inside(workspace, file) {
		if rel, err := filepath.Rel(workspace, file); err == nil && p.Func != "" {
			return fmt.Sprintf("%s %s:%d", p.Func, rel, p.Line)
		}
	}
	return placeWords(workspace, p)
}

// PageLine is a line of the source for a page.
func pageLine(p memmap.Place, count int, text string, started time.Time) rpc.ProcessLine {
	l := rpc.ProcessLine{Text: process.Printable(text), Count: count}
	l.Location, l.Stale = locationOf(profile.Frame{Func: p.Func, File: p.File, Line: p.Line}, started)
	return l
}
