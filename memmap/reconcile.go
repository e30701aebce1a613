package memmap

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/sightline-dev/sightline/heap/goruntime"
)

// A Term is a part of the resident memory by what holds it.
type Term struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`            // resident
	Number int64  `json:"number,omitempty"` // of objects, slots, stacks; 0 where counting makes no sense
	Advice string `json:"advice,omitempty"` // what to do about it, one sentence
}

// The names of terms.
const (
	TermLive      = "live objects"
	TermNew       = "new objects"
	TermGarbage   = "garbage"
	TermFreeSlots = "free slots"
	TermTails     = "span tails"
	TermStacks    = "goroutine stacks"
	TermIdle      = "idle pages"
	TermMetadata  = "runtime metadata"
	TermImages    = "images"
	TermNative    = "native heap"
	TermFiles     = "mapped files"
	TermThreads   = "thread stacks"
	TermShared    = "shared memory"
	TermPrivate   = "private data"
	TermChanged   = "changed while read"
)

// A SizeClass is the spans of the Go heap whose slots have one size.
type SizeClass struct {
	SlotSize   int64 `json:"slotSize"`   // bytes; 0 for all large objects together
	NoPointers bool  `json:"noPointers"` // its objects hold no pointers
	Spans      int64 `json:"spans"`
	Bytes      int64 `json:"bytes"` // of its spans
	Slots      int64 `json:"slots"`
	Live       int64 `json:"live"`
	New        int64 `json:"new"`
	Garbage    int64 `json:"garbage"`
	Free       int64 `json:"free"`
	// Sparse are spans that at most an eighth of is in use, and Pinned the bytes that they would give
	// back if they were empty.
	Sparse int64 `json:"sparse"`
	Pinned int64 `json:"pinned"`
}

// reconcile says what holds the resident memory of a Go program. What is in the arenas is decided page
// by page: the runtime says what is where, the kernel which pages are resident, so the sum of the terms
// is the sum of the regions. By as much as the two were read at different times there is a term too.
func (a *analysis) reconcile() {
	s := a.snapshot
	spans, unread := a.runtime.Spans()
	if unread > 0 {
		s.note("%d of the Go heap's spans changed while they were read and are counted as idle pages.", unread)
	}
	terms := map[string]*Term{}
	add := func(name string, bytes, number int64) {
		if terms[name] == nil {
			terms[name] = &Term{Name: name}
		}
		terms[name].Bytes += bytes
		terms[name].Number += number
	}
	var managed, found int64
	for i := range a.pieces {
		p := &a.pieces[i]
		name := map[Kind]string{Image: TermImages, MappedFile: TermFiles, Heap: TermNative, RuntimeMetadata: TermMetadata,
			Stack: TermThreads, Shareable: TermShared, PrivateData: TermPrivate}[p.kind]
		if p.kind != ManagedHeap {
			add(name, p.columns.Resident, 0)
			continue
		}
		managed += p.columns.Resident
		if p.columns.Resident == 0 {
			continue
		}
		resident, _, err := a.pages.present(p.start, p.end)
		if err != nil {
			s.note("Which pages are resident may not be asked (%v): the terms of the heap are those of its whole size.", err)
		}
		for _, r := range resident {
			found += int64(r.end - r.start)
			divide(spans, r, add)
		}
	}
	if managed != found {
		add(TermChanged, managed-found, 0)
	}
	a.classes(spans)
	a.sites(spans)
	stacks := a.runtime.Stacks()
	a.goroutines(stacks)
	sizes := map[uint64]int64{}
	for _, st := range stacks {
		if st.Goroutine != 0 {
			sizes[st.End-st.Start]++
		}
	}
	for size, n := range sizes {
		s.Stacks = append(s.Stacks, StackSize{size, n})
	}
	slices.SortFunc(s.Stacks, func(x, y StackSize) int { return cmp.Compare(x.Bytes, y.Bytes) })
	if t := terms[TermStacks]; t != nil {
		t.Number = int64(len(stacks))
	}
	limit, known := a.runtime.Limit()
	for _, name := range []string{TermLive, TermNew, TermGarbage, TermFreeSlots, TermTails, TermStacks, TermIdle, TermMetadata,
		TermImages, TermNative, TermFiles, TermThreads, TermShared, TermPrivate, TermChanged} {
		if t := terms[name]; t != nil && (t.Bytes != 0 || t.Number != 0) {
			t.Advice = advice(name, limit, known, s)
			s.Terms = append(s.Terms, *t)
		}
	}
}

// divide tells what is in a run of resident pages of an arena.
func divide(spans []goruntime.Span, r pageRange, add func(name string, bytes, number int64)) {
	at := r.start
	i := sort.Search(len(spans), func(i int) bool { return spans[i].Start+spans[i].Bytes > r.start })
	for ; i < len(spans) && spans[i].Start < r.end; i++ {
		s := &spans[i]
		if s.Start > at {
			add(TermIdle, int64(s.Start-at), 0)
		}
		from, to := max(s.Start, r.start), min(s.Start+s.Bytes, r.end)
		at = to
		switch s.Use {
		case goruntime.StackSpan:
			add(TermStacks, int64(to-from), 0)
			continue
		case goruntime.WorkSpan:
			add(TermMetadata, int64(to-from), 0)
			continue
		}
		left := int64(to - from)
		var bytes, number [4]int64
		if from == s.Start && to == s.Start+s.Bytes {
			for _, slot := range s.Slots {
				number[slot]++
			}
			for slot, n := range number {
				bytes[slot] = n * int64(s.SlotSize)
			}
		} else if s.SlotSize > 0 {
			first, end := (from-s.Start)/s.SlotSize, min((to-s.Start+s.SlotSize-1)/s.SlotSize, uint64(len(s.Slots)))
			for j := first; j < end; j++ {
				start := s.Start + j*s.SlotSize
				b := int64(min(start+s.SlotSize, to) - max(start, from))
				slot := s.Slots[j]
				bytes[slot] += b
				if start >= from { // an object counts where it begins
					number[slot]++
				}
			}
		}
		for slot, name := range [4]string{TermFreeSlots, TermLive, TermNew, TermGarbage} {
			if bytes[slot] != 0 || number[slot] != 0 {
				add(name, bytes[slot], number[slot])
			}
			left -= bytes[slot]
		}
		if left > 0 {
			add(TermTails, left, 0)
		}
	}
	if at < r.end {
		add(TermIdle, int64(r.end-at), 0)
	}
}

// sites sums up what the program's memory profile knows of the heap's objects, by region and stack.
func (a *analysis) sites(spans []goruntime.Span) {
	s := a.snapshot
	type key struct {
		region int
		stack  *uint64 // objects from one place share their stack
	}
	type sum struct {
		objects float64
		x       *goruntime.Sampled
	}
	sums := map[key]*sum{}
	all := a.runtime.Sampled(spans)
	for i := range all {
		x := &all[i]
		region := s.RegionOf(x.Address)
		if region < 0 {
			continue
		}
		k := key{region, &x.Stack[0]}
		if sums[k] == nil {
			sums[k] = &sum{x: x}
		}
		sums[k].objects += x.Objects
	}
	for k, n := range sums {
		site := Site{Region: s.Regions[k.region].Start, Objects: int64(math.Round(n.objects)), Bytes: int64(n.objects * float64(n.x.Size))}
		for _, pc := range n.x.Stack {
			site.Stack = append(site.Stack, pc-a.bias)
		}
		s.Sites = append(s.Sites, site)
	}
	slices.SortFunc(s.Sites, func(x, y Site) int {
		return cmp.Or(-cmp.Compare(x.Bytes, y.Bytes), cmp.Compare(x.Region, y.Region), slices.Compare(x.Stack, y.Stack))
	})
	s.Sites = s.Sites[:min(len(s.Sites), maxPlaces)]
}

// goroutines groups goroutines by what made them and the size of their stacks.
func (a *analysis) goroutines(stacks []goruntime.Stack) {
	type key struct{ created, size uint64 }
	number := map[key]int64{}
	for _, st := range stacks {
		if st.Goroutine != 0 {
			number[key{st.Created, st.End - st.Start}]++
		}
	}
	s := a.snapshot
	for k, n := range number {
		g := Goroutines{Number: n, Stack: k.size}
		if k.created != 0 {
			g.Created = k.created - a.bias
		}
		s.Goroutines = append(s.Goroutines, g)
	}
	slices.SortFunc(s.Goroutines, func(x, y Goroutines) int {
		return cmp.Or(-cmp.Compare(x.Bytes(), y.Bytes()), cmp.Compare(x.Created, y.Created), cmp.Compare(x.Stack, y.Stack))
	})
	s.Goroutines = s.Goroutines[:min(len(s.Goroutines), maxPlaces)]
}

// Bytes are those of all their stacks.
func (g *Goroutines) Bytes() int64 { return g.Number * int64(g.Stack) }

// classes sums the spans up by size class.
func (a *analysis) classes(spans []goruntime.Span) {
	type key struct {
		class      uint8
		noPointers bool
	}
	sums := map[key]*SizeClass{}
	for i := range spans {
		s := &spans[i]
		if s.Use != goruntime.ObjectSpan {
			continue
		}
		k := key{s.Class, s.NoPointers}
		c := sums[k]
		if c == nil {
			c = &SizeClass{NoPointers: s.NoPointers}
			if s.Class != 0 {
				c.SlotSize = int64(s.SlotSize)
			}
			sums[k] = c
		}
		var n [4]int64
		for _, slot := range s.Slots {
			n[slot]++
		}
		c.Spans++
		c.Bytes += int64(s.Bytes)
		c.Slots += int64(len(s.Slots))
		c.Free, c.Live, c.New, c.Garbage = c.Free+n[0], c.Live+n[1], c.New+n[2], c.Garbage+n[3]
		if used := n[1] + n[2] + n[3]; used > 0 && used*8 <= int64(len(s.Slots)) {
			c.Sparse++
			c.Pinned += int64(s.Bytes)
		}
	}
	for _, c := range sums {
		a.snapshot.Classes = append(a.snapshot.Classes, *c)
	}
	slices.SortFunc(a.snapshot.Classes, func(x, y SizeClass) int {
		size := func(c SizeClass) int64 {
			if c.SlotSize == 0 {
				return math.MaxInt64
			}
			return c.SlotSize
		}
		return cmp.Or(cmp.Compare(size(x), size(y)), compareBool(x.NoPointers, y.NoPointers))
	})
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// advice is what to do about a term.
func advice(name string, limit goruntime.Limit, known bool, s *Snapshot) string {
	switch name {
	case TermLive:
		return "Reached by the last collection: only the program can let go of them; a heap snapshot shows who holds them."
	case TermNew:
		if known && limit.Collections == 0 {
			return "Allocated since the start: there was no collection yet that could tell live from garbage."
		}
		return "Allocated since the last collection, live or garbage: allocate less, or collect sooner" + pacing(limit, known) + "."
	case TermGarbage:
		return "Found dead by the last collection and not swept yet: it goes as the program allocates; nothing to do."
	case TermFreeSlots:
		return "Room between objects of one size, for objects of that size only: --fragmentation shows which; fewer sizes, or shorter lives beside long ones, make less of it."
	case TermTails:
		return "Ends of spans that no object fits into, and pointer bitmaps: a fixed part of each size class."
	case TermStacks:
		big := int64(0)
		for _, x := range s.Stacks {
			if x.Bytes >= 32<<10 {
				big += x.Number
			}
		}
		if big > 0 {
			return fmt.Sprintf("Fewer goroutines, or shallower ones: %d have a stack of 32 KB or more; stacks shrink at collections.", big)
		}
		return "Fewer goroutines make fewer stacks; those of ended ones are kept until the next collection."
	case TermIdle:
		return "Free and not yet given back: the scavenger does so bit by bit; debug.FreeOSMemory or a lower GOMEMLIMIT at once" + memoryLimit(limit, known) + "."
	case TermMetadata:
		return "Tables for the heap, which grow with its peak and are never given back, and the collector's work buffers."
	case TermImages:
		return "Code and variables, of which what is clean is shared and can go at any time: `sightline size` shows what takes the room."
	case TermNative:
		return "Allocated by C code through cgo: record its allocations, or see malloc_trim(3) where much of it is free."
	case TermFiles:
		return "Page cache that the kernel takes back when it needs to: unmap what is not used."
	case TermThreads:
		return "Stacks of threads of the system: fewer blocking calls and cgo calls at a time make fewer threads."
	case TermShared:
		return "Shared with other processes, or meant to be: counted in each of them."
	case TermPrivate:
		return "Mapped by the program or a library itself: look at --regions."
	case TermChanged:
		return "The heap changed between two readings: take the snapshot again."
	}
	return ""
}

func pacing(l goruntime.Limit, known bool) string {
	switch {
	case !known:
		return " (GOGC, GOMEMLIMIT)"
	case l.Percent < 0:
		return " (GOGC is off)"
	}
	return fmt.Sprintf(" (GOGC is %d)", l.Percent)
}

func memoryLimit(l goruntime.Limit, known bool) string {
	switch {
	case !known:
		return ""
	case l.Bytes == math.MaxInt64:
		return " (there is none now)"
	}
	return fmt.Sprintf(" (it is %s now)", bytesText(l.Bytes))
}

// bytesText is a number of bytes as a person reads it.
func bytesText(n int64) string {
	f, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := 0
	for math.Abs(f) >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
