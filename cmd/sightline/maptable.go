package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fatih/color"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/memmap"
	"github.com/sightline-dev/sightline/profiler/process"
)

// A mapTable prints memory maps in columns that fit the terminal.
type mapTable struct {
	out     io.Writer
	p       palette
	width   int
	columns []memmap.Kind // of a timeline's columns
	err     error
}

func newMapTable(out io.Writer) *mapTable {
	return &mapTable{out: out, p: paletteFor(out), width: width(out)}
}

func (t *mapTable) printf(format string, args ...any) {
	if _, err := fmt.Fprintf(t.out, format, args...); err != nil && t.err == nil {
		t.err = err
	}
}

// Size is a cell: bytes in at most 6 characters, in powers of 1024; nothing for 0.
func size(n int64) string {
	switch {
	case n == 0:
		return ""
	case n < 0:
		return "-" + size(-n)
	}
	f, unit := float64(n)/1024, 0
	for f >= 1000 && unit < 5 {
		f, unit = f/1024, unit+1
	}
	suffix := "KMGTPE"[unit : unit+1]
	if f >= 100 || f == float64(int64(f)) && unit == 0 {
		return fmt.Sprintf("%.0f%s", f, suffix)
	}
	return fmt.Sprintf("%.1f%s", f, suffix)
}

func signed(n int64) string {
	if n > 0 {
		return "+" + size(n)
	}
	return size(n)
}

// A mapColumn is a column of tables of kinds and regions.
type mapColumn struct {
	title string
	of    func(*memmap.Columns) int64
	count bool
	name  string // as --explain has it
}

var mapColumns = []mapColumn{
	{"Size", func(c *memmap.Columns) int64 { return c.Size }, false, "Size"},
	{"Commit", func(c *memmap.Columns) int64 { return c.Committed }, false, "Committed"},
	{"Private", func(c *memmap.Columns) int64 { return c.Private }, false, "Private"},
	{"TotalWS", func(c *memmap.Columns) int64 { return c.Resident }, false, "Total WS"},
	{"PrivWS", func(c *memmap.Columns) int64 { return c.PrivateWS }, false, "Private WS"},
	{"ShblWS", func(c *memmap.Columns) int64 { return c.ShareableWS }, false, "Shareable WS"},
	{"ShrdWS", func(c *memmap.Columns) int64 { return c.SharedWS }, false, "Shared WS"},
	{"LockWS", func(c *memmap.Columns) int64 { return c.LockedWS }, false, "Locked WS"},
	{"Pss", func(c *memmap.Columns) int64 { return c.Pss }, false, "Pss"},
	{"Swap", func(c *memmap.Columns) int64 { return c.Swap }, false, "Swap"},
	{"Huge", func(c *memmap.Columns) int64 { return c.Huge }, false, "Huge"},
	{"Dirty", func(c *memmap.Columns) int64 { return c.Dirty }, false, "Dirty"},
	{"Blocks", func(c *memmap.Columns) int64 { return c.Blocks }, true, "Blocks"},
	{"Largest", func(c *memmap.Columns) int64 { return c.Largest }, false, "Largest"},
}

func (c *mapColumn) cell(x *memmap.Columns) string {
	n := c.of(x)
	if c.count {
		return fmt.Sprint(n)
	}
	return size(n)
}

// Head says what a table is of.
func (t *mapTable) head(s *memmap.Snapshot) {
	title := nameOfMap(s)
	if s.Exe != "" {
		title += " · " + process.Printable(s.Exe)
	}
	t.printf("%s\n", t.p.bold(cut(title, t.width)))
	total := s.Total()
	facts := []string{bytesWords(total.Resident) + " resident", bytesWords(total.Size) + " reserved", plural(len(s.Regions), "region")}
	if s.Partial {
		facts = []string{bytesWords(s.Status.Resident) + " resident", bytesWords(s.Status.Size) + " reserved"}
	}
	if s.Status.Threads > 0 {
		facts = append(facts, plural(s.Status.Threads, "thread"))
	}
	if s.Status.Peak > 0 {
		facts = append(facts, "peak "+bytesWords(s.Status.Peak))
	}
	if s.Go != "" {
		facts = append(facts, s.Go)
	}
	if age := time.Since(s.Time); age > 5*time.Second {
		facts = append(facts, lspserver.Age(age))
	}
	t.printf("%s\n", t.p.dim(strings.Join(facts, " · ")))
	t.notes(s)
	t.printf("\n")
}

func (t *mapTable) notes(s *memmap.Snapshot) {
	for _, n := range s.Notes {
		for i, line := range wrap("note: "+process.Printable(n), t.width) {
			if i > 0 {
				line = "      " + line
			}
			t.printf("%s\n", t.p.dim(line))
		}
	}
}

// Kinds prints a row for each kind. Columns that are nothing but zeros are named beneath, not shown.
func (t *mapTable) kinds(s *memmap.Snapshot) error {
	t.head(s)
	all := s.ByKind()
	total := s.Total()
	var shown []mapColumn
	var zero []string
	for _, c := range mapColumns {
		if slices.ContainsFunc(all, func(k memmap.KindTotal) bool { return c.of(&k.Columns) != 0 }) {
			shown = append(shown, c)
		} else {
			zero = append(zero, c.name)
		}
	}
	line := fmt.Sprintf("%-16s", "kind")
	for _, c := range shown {
		line += fmt.Sprintf(" %7s", c.title)
	}
	t.printf("%s\n", t.p.dim(line))
	row := func(name string, x *memmap.Columns, paint func(string) string) {
		text := fmt.Sprintf("%-16s", name)
		for _, c := range shown {
			cell := fmt.Sprintf(" %7s", c.cell(x))
			if c.title == "TotalWS" {
				cell = t.p.heat(cell, x.Resident, total.Resident)
			}
			text += cell
		}
		t.printf("%s\n", paint(strings.TrimRight(text, " ")))
	}
	plain := func(s string) string { return s }
	row("Total", &total, t.p.bold)
	for i := range all {
		if k := &all[i]; k.Kind != memmap.PageTable && k.Kind != memmap.Free {
			row(string(k.Kind), &k.Columns, plain)
		}
	}
	for i := range all { // these are in no sum
		if k := &all[i]; k.Kind == memmap.PageTable || k.Kind == memmap.Free {
			row(string(k.Kind), &k.Columns, t.p.dim)
		}
	}
	if len(zero) > 0 {
		t.printf("%s\n", t.p.dim("0 everywhere: "+strings.Join(zero, ", ")))
	}
	t.sums(s)
	return t.err
}

// Sums says whether the sum is what the kernel says it is.
func (t *mapTable) sums(s *memmap.Snapshot) {
	if s.Core != "" || s.Status.Rollup == 0 {
		return
	}
	total := s.Total().Resident
	words := "TotalWS is Rss of smaps_rollup"
	if s.Status.Rollup != total {
		words = fmt.Sprintf("TotalWS differs from Rss of smaps_rollup by %s", bytesWords(total-s.Status.Rollup))
	}
	if s.Status.Resident == total {
		words += " and VmRSS"
	} else {
		words += fmt.Sprintf("; VmRSS differs by %s", bytesWords(s.Status.Resident-total))
	}
	t.printf("%s\n", t.p.dim(words+"; --explain tells what the columns are"))
}

// Regions prints a row for each region and part.
func (t *mapTable) regions(s *memmap.Snapshot, top int) error {
	t.head(s)
	total := s.Total().Resident
	list := make([]*memmap.Region, len(s.Regions))
	for i := range s.Regions {
		list[i] = &s.Regions[i]
	}
	if top > 0 {
		slices.SortStableFunc(list, func(a, b *memmap.Region) int {
			return cmp.Or(-cmp.Compare(a.Resident, b.Resident), -cmp.Compare(a.Size, b.Size))
		})
		list = list[:min(top, len(list))]
	}
	swap := s.Total().Swap > 0
	head := fmt.Sprintf("%-12s %7s %7s %7s %7s", "start", "Size", "TotalWS", "PrivWS", "Pss")
	if swap {
		head += fmt.Sprintf(" %7s", "Swap")
	}
	t.printf("%s\n", t.p.dim(head+"  prot  kind              what"))
	row := func(start uint64, x *memmap.Columns, protection, kind, what string, part bool) {
		resident := fmt.Sprintf("%7s", size(x.Resident))
		if !part {
			resident = t.p.heat(resident, x.Resident, total)
		}
		line := fmt.Sprintf("%12x %7s %s %7s %7s", start, size(x.Size), resident, size(x.PrivateWS), size(x.Pss))
		room := t.width - 12 - 4*8 - 8 - 18
		if swap {
			line += fmt.Sprintf(" %7s", size(x.Swap))
			room -= 8
		}
		line += fmt.Sprintf("  %s  %-16s  %s", protection, kind, tail(process.Printable(what), max(room, 20)))
		if part {
			line = t.p.dim(line)
		}
		t.printf("%s\n", strings.TrimRight(line, " "))
	}
	for _, r := range list {
		what := r.Label()
		if r.Deleted {
			what += " (deleted)"
		}
		row(r.Start, &r.Columns, r.Protection, string(r.Kind), what, false)
		for _, p := range r.Parts {
			row(p.Start, &p.Columns, p.Protection, "", "  "+p.Detail, true)
		}
	}
	if len(list) < len(s.Regions) {
		t.printf("%s\n", t.p.dim(fmt.Sprintf("… %d more; --top 0 shows all", len(s.Regions)-len(list))))
	}
	return t.err
}

// Tail shortens text to n columns by its beginning: the end of a path says most.
func tail(text string, n int) string {
	r := []rune(text)
	if len(r) <= n || n < 2 {
		return text
	}
	return "…" + string(r[len(r)-n+1:])
}

// Reconcile prints the terms of resident memory.
func (t *mapTable) reconcile(s *memmap.Snapshot, top int) error {
	t.head(s)
	total := s.Total().Resident
	room := max(t.width-46, 30)
	t.printf("%s\n", t.p.dim(fmt.Sprintf("%-18s %10s %7s %7s  %s", "what", "resident", "share", "number", "what to do")))
	sum := int64(0)
	for _, x := range s.Terms {
		sum += x.Bytes
		number := ""
		if x.Number > 0 {
			number = lspserver.Count(x.Number)
		}
		for i, line := range wrap(x.Advice, room) {
			if i > 0 {
				t.printf("%46s%s\n", "", t.p.dim(line))
				continue
			}
			resident := t.p.heat(fmt.Sprintf("%10s", bytesWords(x.Bytes)), x.Bytes, total)
			t.printf("%-18s %s %7s %7s  %s\n", x.Name, resident, lspserver.Percent(x.Bytes, total), number, t.p.dim(line))
		}
	}
	t.printf("%-18s %10s\n", t.p.bold(fmt.Sprintf("%-18s", "sum")), bytesWords(sum))
	if sum == total {
		t.printf("%s\n", t.p.dim("the sum is the resident memory of all regions, to the byte"))
	} else {
		t.printf("%s\n", t.p.dim("the sum differs from the resident memory of all regions by "+bytesWords(sum-total)))
	}
	t.places(s, cmp.Or(top, 10))
	return t.err
}

// Places prints the lines that allocated what the memory profile knows, and started goroutines.
func (t *mapTable) places(s *memmap.Snapshot, top int) {
	workspace := workspaceOf(".")
	room := max(t.width-28, 30)
	if sites := sitesByPlace(s); len(sites) > 0 {
		t.printf("\n%s\n", t.p.dim(fmt.Sprintf("%-18s %7s  %s", "allocated, about", "objects", "by, as far as its memory profile knows")))
		for _, x := range firstOf(sites, top) {
			t.printf("%18s %7s  %s\n", bytesWords(x.Bytes), lspserver.Count(x.Objects), tail(process.Printable(placeWords(workspace, x.Place)), room))
		}
		t.rest(len(sites) - top)
	}
	if stacks := goroutinesByPlace(s); len(stacks) > 0 {
		t.printf("\n%s\n", t.p.dim(fmt.Sprintf("%-18s %7s  %s", "goroutine stacks", "number", "of goroutines that were started by")))
		for _, x := range firstOf(stacks, top) {
			t.printf("%18s %7s  %s\n", x.size(), lspserver.Count(x.number), tail(process.Printable(x.words(workspace)), room))
		}
		t.rest(len(stacks) - top)
	}
}

func (t *mapTable) rest(n int) {
	if n > 0 {
		t.printf("%s\n", t.p.dim(fmt.Sprintf("… %d more; --top 100 shows more", n)))
	}
}

// Letters stand for kinds in a map of the address space.
var kindLetters = map[memmap.Kind]string{
	memmap.Image: "i", memmap.MappedFile: "f", memmap.Shareable: "s", memmap.Heap: "h", memmap.ManagedHeap: "g",
	memmap.RuntimeMetadata: "m", memmap.Stack: "k", memmap.PrivateData: "p", memmap.Free: "·",
}

var kindColors = map[memmap.Kind]color.Attribute{
	memmap.Image: color.FgMagenta, memmap.MappedFile: color.FgCyan, memmap.Shareable: color.FgBlue, memmap.Heap: color.FgRed,
	memmap.ManagedHeap: color.FgRed, memmap.RuntimeMetadata: color.FgYellow, memmap.Stack: color.FgGreen, memmap.PrivateData: color.FgYellow,
}

// Fragmentation prints what is free, and where.
func (t *mapTable) fragmentation(s *memmap.Snapshot, top int) error {
	t.head(s)
	cells := max(min(t.width-56, 100), 20)
	t.printf("%s\n", t.p.dim(fmt.Sprintf("%-12s %8s %8s %8s %5s %8s  %s", "start", "span", "used", "free", "gaps", "largest", "map")))
	for _, c := range s.Clusters(cells) {
		var strip strings.Builder
		for _, cell := range c.Cells {
			letter := kindLetters[cell.Kind]
			if cell.Resident >= 0.5 {
				letter = strings.ToUpper(letter)
			}
			strip.WriteString(t.p.paint(letter, kindColors[cell.Kind]))
		}
		t.printf("%12x %8s %8s %8s %5d %8s  %s\n", c.Start, size(int64(c.End-c.Start)), size(c.Used), size(c.Free), c.Gaps, size(c.LargestGap), strip.String())
	}
	var legend []string
	for _, k := range memmap.Kinds {
		if l := kindLetters[k]; l != "" {
			legend = append(legend, l+" "+strings.ToLower(string(k)))
		}
	}
	t.printf("%s\n", t.p.dim(strings.Join(legend, ", ")+"; capital: half of it or more is resident"))
	if len(s.Classes) > 0 {
		t.sizeClasses(s, top)
	}
	if len(s.Mallocs) > 0 {
		t.printf("\n%s\n", t.p.dim(fmt.Sprintf("%-20s %12s %9s %9s %7s %9s %9s %9s", "malloc", "start", "in use", "free", "share", "chunks", "largest", "top")))
		for _, h := range s.Mallocs {
			t.printf("%-20s %12x %9s %9s %7s %9s %9s %9s\n", h.Name, h.Start, size(h.InUse), size(h.Free), lspserver.Percent(h.Free, h.InUse+h.Free), lspserver.Count(h.FreeRuns), size(h.Largest), size(h.Top))
		}
		t.printf("%s\n", t.p.dim("free, chunks and largest are between blocks in use; top is at the end of the heap, not yet handed out"))
	}
	return t.err
}

func (t *mapTable) sizeClasses(s *memmap.Snapshot, top int) {
	free, of := s.GoFree()
	t.printf("\nGo heap: %s of %s in spans is free slots (%s)\n", bytesWords(free), bytesWords(of), lspserver.Percent(free, of))
	t.printf("%s\n", t.p.dim(fmt.Sprintf("%10s %8s %9s %8s %8s %8s %8s %7s  %s", "slot", "spans", "bytes", "live", "new", "garbage", "free", "use", "spans of which ⅛ or less is in use")))
	classes := slices.Clone(s.Classes)
	slices.SortStableFunc(classes, func(a, b memmap.SizeClass) int { return -cmp.Compare(a.Free*a.SlotSize, b.Free*b.SlotSize) })
	shown := firstOf(classes, top)
	for _, c := range shown {
		slot := fmt.Sprintf("%d B", c.SlotSize)
		if c.SlotSize == 0 {
			slot = "large"
		}
		if c.NoPointers {
			slot += "*"
		} else {
			slot += " "
		}
		sparse := ""
		if c.Sparse > 0 {
			sparse = fmt.Sprintf("%s, which hold %s", lspserver.Count(c.Sparse), bytesWords(c.Pinned))
		}
		line := fmt.Sprintf("%10s %8s %9s %8s %8s %8s %8s %7s  %s", slot, lspserver.Count(c.Spans), size(c.Bytes), lspserver.Count(c.Live), lspserver.Count(c.New),
			lspserver.Count(c.Garbage), lspserver.Count(c.Free), lspserver.Percent(c.Slots-c.Free, c.Slots), sparse)
		t.printf("%s\n", strings.TrimRight(line, " "))
	}
	if len(shown) < len(classes) {
		t.printf("%s\n", t.p.dim(fmt.Sprintf("… %d more; --top 0 shows all", len(classes)-len(shown))))
	}
	t.printf("%s\n", t.p.dim("* objects without pointers"))
}

// Partial prints what anybody may see of a process.
func (t *mapTable) partial(s *memmap.Snapshot) error {
	t.head(s)
	row := func(name string, n int64, what string) {
		if n != 0 {
			t.printf("%-16s %10s  %s\n", name, bytesWords(n), t.p.dim(what))
		}
	}
	row("Total WS", s.Status.Resident, "VmRSS")
	row("  anonymous", s.Status.ResidentAnon, "heaps, stacks, private data")
	row("  of files", s.Status.ResidentFile, "images, mapped files")
	row("  shared", s.Status.ResidentShmem, "shareable")
	row("Swap", s.Status.Swap, "VmSwap")
	row("Locked", s.Status.Locked, "VmLck")
	row("Size", s.Status.Size, "VmSize")
	row("Stack", s.Status.Stack, "of the main thread, VmStk")
	row("Page table", s.Status.PageTable, "VmPTE")
	return t.err
}

// Diff prints what became of a map.
func (t *mapTable) diff(a, b *memmap.Snapshot, d *memmap.Diff, top int) error {
	t.head(b)
	t.printf("%s\n", t.p.dim(fmt.Sprintf("since %s, %s earlier", nameOfMap(a), lspserver.Duration(b.Time.Sub(a.Time)))))
	t.changes(d, top)
	return t.err
}

func (t *mapTable) changes(d *memmap.Diff, top int) {
	if len(d.Kinds) == 0 && len(d.Changes) == 0 {
		t.printf("Nothing changed: %s are the same.\n", plural(d.Same, "region"))
		return
	}
	t.printf("%s\n", t.p.dim(fmt.Sprintf("%-16s %8s %8s %8s %8s %8s %8s", "kind", "Size", "Commit", "TotalWS", "PrivWS", "Swap", "Blocks")))
	row := func(name string, x *memmap.Columns) {
		line := fmt.Sprintf("%-16s %8s %8s %s %8s %8s %8s", name, signed(x.Size), signed(x.Committed), t.sign(fmt.Sprintf("%8s", signed(x.Resident)), x.Resident),
			signed(x.PrivateWS), signed(x.Swap), signedCount(x.Blocks))
		t.printf("%s\n", strings.TrimRight(line, " "))
	}
	for i := range d.Kinds {
		row(string(d.Kinds[i].Kind), &d.Kinds[i].Columns)
	}
	row("Total", &d.Total)
	if len(d.Terms) > 0 {
		t.printf("\n")
		for _, x := range d.Terms {
			t.printf("%-18s %s %9s\n", x.Name, t.sign(fmt.Sprintf("%12s", lspserver.SignedWeight(x.Bytes, "bytes")), x.Bytes), signedCount(x.Number))
		}
	}
	shown := d.Changes
	if top > 0 {
		shown = shown[:min(top, len(shown))]
	}
	if len(shown) > 0 {
		t.printf("\n%s\n", t.p.dim(fmt.Sprintf("%-9s %8s %8s %12s  %-16s  %s", "", "Size", "TotalWS", "start", "kind", "what")))
	}
	for _, c := range shown {
		t.printf("%-9s %8s %s %12x  %-16s  %s\n", c.What, signed(c.Size), t.sign(fmt.Sprintf("%8s", signed(c.Resident)), c.Resident), c.Start, c.Kind,
			tail(process.Printable(c.Label), max(t.width-62, 20)))
	}
	if len(shown) < len(d.Changes) {
		t.printf("%s\n", t.p.dim(fmt.Sprintf("… %d more; --top 0 shows all", len(d.Changes)-len(shown))))
	}
	t.printf("%s\n", t.p.dim(fmt.Sprintf("%s did not change", plural(d.Same, "region"))))
}

func (t *mapTable) sign(text string, n int64) string {
	switch {
	case n > 0:
		return t.p.bad(text)
	case n < 0:
		return t.p.good(text)
	}
	return text
}

func signedCount(n int64) string {
	switch {
	case n == 0:
		return ""
	case n > 0:
		return "+" + lspserver.Count(n)
	}
	return "-" + lspserver.Count(-n)
}

// Moment prints one line of a timeline; the first says what its columns are.
func (t *mapTable) moment(s *memmap.Snapshot, m memmap.Moment, first bool) {
	if first {
		t.head(s)
		for _, k := range memmap.Kinds {
			if m.Kinds[k] != 0 {
				t.columns = append(t.columns, k)
			}
		}
		line := fmt.Sprintf("%9s %9s", "time", "TotalWS")
		for _, k := range t.columns {
			line += fmt.Sprintf(" %*s", max(len(k), 7), k)
		}
		t.printf("%s\n", t.p.dim(line))
	}
	line := fmt.Sprintf("%9s %9s", lspserver.Duration(time.Duration(m.Time)*time.Millisecond), size(m.Resident))
	for _, k := range t.columns {
		line += fmt.Sprintf(" %*s", max(len(k), 7), size(m.Kinds[k]))
	}
	t.printf("%s\n", line)
}

// Summary ends a timeline: what changed from its first moment to its last.
func (t *mapTable) summary(a, b *memmap.Snapshot, d *memmap.Diff) error {
	t.printf("\n%s\n", t.p.bold(fmt.Sprintf("In %s", lspserver.Duration(b.Time.Sub(a.Time)))))
	t.changes(d, 10)
	return t.err
}

// Text prints one text that was found, what has it, and the line that allocated that, where it is known.
func (t *mapTable) text(x memmap.String, r *memmap.Region, allocated *memmap.Place) {
	encoding := "     "
	if x.UTF16 {
		encoding = "utf16"
	}
	owner := tail(process.Printable(r.Label()), 34)
	if x.Owner != nil {
		owner = cut(x.Owner.String(), 38)
	}
	room := max(t.width-12-7-40-2, 30)
	text := expand(x.Text)
	if isTerminal(t.out) {
		text = cut(text, room)
	}
	t.printf("%12x %s %-40s %s\n", x.Address, encoding, t.p.dim(fmt.Sprintf("%-40s", owner)), text)
	if allocated != nil {
		t.printf("%18s %s\n", "", t.p.dim("allocated by "+process.Printable(placeWords(workspaceOf("."), *allocated))))
	}
}
