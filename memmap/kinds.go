package memmap

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"

	"github.com/sightline-dev/sightline/heap/goruntime"
)

// An analysis makes regions of mappings: it asks the Go runtime, malloc's own data, the threads and the
// images who owns which addresses (claims), cuts mappings where owners change, and joins what one owner
// has reserved as one.
type analysis struct {
	snapshot *Snapshot
	mappings []mapping
	threads  []thread
	memory   io.ReaderAt // at runtime addresses
	pages    pages
	runtime  *goruntime.Runtime  // nil where there is none
	bias     uint64              // of the program: runtime addresses less file addresses
	exe      string              // path of the program; "" where not known
	identify func(*mapping) bool // whether a file called deleted is; nil believes the kernel
	// file reads a file that is mapped, at offsets of the file; an error where it is not at its path any more.
	// nil: there is only the memory.
	file     func(m *mapping) (file, error)
	images   map[string]*imageOf // by key of file
	claims   []claim             // in order of address, none overlap
	areas    []goruntime.Area    // of the Go runtime
	pieces   []piece             // in order of address
	allocate string              // the allocator that is loaded instead of glibc's: "jemalloc"
	readable bool                // the memory itself may be read
	known    claimed             // of the same mappings before; the zero value is to be found out
	walk     bool                // malloc's heaps are to be walked, which reads all of them
}

// A file is one that is mapped.
type file interface {
	io.ReaderAt
	io.Closer
}

// A claim is what an owner says of a range of addresses.
type claim struct {
	start, end uint64
	kind       Kind
	detail     string // of the region
	part       string // of the part, where it is one of several
	key        string // what pieces of one region have in common
	thread     int
}

// A piece is a mapping, or what of one belongs to one owner.
type piece struct {
	claim
	mapping *mapping
	columns Columns
}

// An imageOf is a program or library that is mapped.
type imageOf struct {
	base  uint64 // of its first mapping
	end   uint64 // of its last mapping with a file
	first int    // index of the first
	last  int    // and of the last
}

func (a *analysis) run(ctx context.Context) error {
	if m, ok := a.pages.(*pagemap); ok {
		defer m.close()
	}
	a.snapshot.bias = a.bias
	a.findImages()
	a.probeMemory()
	if a.known.claims != nil {
		a.claims, a.areas, a.allocate = a.known.claims, a.known.areas, a.known.allocate
	} else {
		a.claimRuntime()
		a.claimBSS()
		a.claimStacks()
		if err := ctx.Err(); err != nil {
			return err
		}
		a.claimMalloc()
		a.settle()
	}
	a.pieces = make([]piece, 0, len(a.mappings)+2*len(a.claims))
	for i := range a.mappings {
		if err := ctx.Err(); err != nil {
			return err
		}
		a.cut(&a.mappings[i])
	}
	a.join()
	a.snapshot.countFree()
	if a.runtime != nil {
		a.reconcile()
	}
	return ctx.Err()
}

// claimed is what an analysis found out about who owns which addresses.
type claimed struct {
	claims   []claim
	areas    []goruntime.Area
	allocate string
}

func (a *analysis) claimed() claimed { return claimed{a.claims, a.areas, a.allocate} }

func fileKey(m *mapping) string { return fmt.Sprintf("%s\x00%x\x00%s", m.device, m.inode, m.path) }

// sharedNames are the names of memory that is shared and has no file that a person made
// (mm/shmem.c, ipc/shm.c, kernel/events/core.c, io_uring).
var sharedNames = []string{"/memfd:", "/dev/zero", "/SYSV", "/dev/shm/", "/run/shm/", "/anon_hugepage", "anon_inode:", "[io_uring", "[anon_shmem:", "/drm mm object", "/i915", "socket:", "/[aio]", "[aio]"}

func (a *analysis) findImages() {
	a.images = map[string]*imageOf{}
	executable := map[string]bool{}
	for i := range a.mappings {
		m := &a.mappings[i]
		if m.deleted && a.identify != nil && !a.identify(m) {
			m.path, m.deleted = m.path+" (deleted)", false
		}
		if m.file() && !m.shared() && (m.may('x') || m.path == a.exe) {
			executable[fileKey(m)] = true
		}
		if a.allocate == "" && m.file() && m.may('x') {
			base := m.path[strings.LastIndexByte(m.path, '/')+1:]
			for _, name := range []string{"jemalloc", "tcmalloc", "mimalloc"} {
				if strings.HasPrefix(base, "lib"+name) {
					a.allocate = name
				}
			}
		}
	}
	for i := range a.mappings {
		m := &a.mappings[i]
		if !m.file() || m.shared() || !executable[fileKey(m)] {
			continue
		}
		key := fileKey(m)
		x := a.images[key]
		if x == nil {
			x = &imageOf{base: m.start, first: i}
			a.images[key] = x
		}
		x.end, x.last = m.end, i
	}
}

// probeMemory finds out whether the memory may be read, which takes more than its map does.
func (a *analysis) probeMemory() {
	var b [1]byte
	for i := range a.mappings {
		m := &a.mappings[i]
		if !m.may('r') || m.rss == 0 {
			continue
		}
		// What is not resident would become so.
		resident, _, err := a.pages.present(m.start, min(m.end, m.start+16<<20))
		if err == nil && len(resident) == 0 {
			continue
		}
		at := m.start
		if err == nil {
			at = resident[0].start
		}
		if _, err := a.memory.ReadAt(b[:], int64(at)); err == nil {
			a.readable = true
			return
		}
		break
	}
	a.runtime = nil
	a.snapshot.Go = ""
	a.snapshot.note("The memory itself may not be read, only its map: arenas of malloc and the Go runtime's regions are not told apart; run with CAP_SYS_PTRACE, or see ptrace(2) at ptrace_scope.")
}

func up(n uint64) uint64 { return (n + pageSize - 1) &^ (pageSize - 1) }

// claimRuntime asks the Go runtime.
func (a *analysis) claimRuntime() {
	if a.runtime == nil {
		return
	}
	a.areas = a.runtime.Areas()
	for _, x := range a.areas {
		c := claim{start: x.Start &^ (pageSize - 1), end: up(x.End), kind: RuntimeMetadata, detail: "Go " + x.What, key: "go " + x.What}
		if x.Heap {
			c.kind, c.detail = ManagedHeap, "Go arena"
			c.key = fmt.Sprintf("go arena %x", x.Start)
		}
		a.claims = append(a.claims, c)
	}
}

// claimBSS claims what of an image is not in its file: variables that begin as zeros. The image's own
// program headers say how much that is.
func (a *analysis) claimBSS() {
	for key, x := range a.images {
		next := x.last + 1
		if next >= len(a.mappings) || a.mappings[next].start != x.end || !a.mappings[next].anonymousMemory() || a.mappings[next].inaccessible() {
			continue
		}
		end := a.mappings[next].end
		if e := a.imageEnd(x); e != 0 {
			end = min(end, e)
		}
		if end > x.end {
			a.claims = append(a.claims, claim{start: x.end, end: end, kind: Image, detail: a.mappings[x.last].path, part: "bss", key: key})
		}
	}
}

// imageEnd is the address at which an image ends, by its ELF headers; 0 where they cannot be had. They are
// read from its file where they are not in memory: what reads memory of files makes it resident.
func (a *analysis) imageEnd(x *imageOf) uint64 {
	base, headers := x.base, io.ReaderAt(nil)
	m := &a.mappings[x.first]
	if resident, _, err := a.pages.present(base, base+pageSize); err != nil || len(resident) > 0 {
		headers = io.NewSectionReader(a.memory, int64(base), pageSize)
	} else if a.file != nil {
		f, err := a.file(m)
		if err != nil {
			return 0
		}
		defer f.Close()
		headers = io.NewSectionReader(f, int64(m.offset), pageSize)
	} else {
		return 0
	}
	var head [64]byte
	if n, _ := headers.ReadAt(head[:], 0); n < len(head) || string(head[:4]) != "\x7fELF" || head[4] != 2 || head[5] != 1 {
		return 0
	}
	le := binary.LittleEndian
	offset, size, count := le.Uint64(head[32:]), uint64(le.Uint16(head[54:])), uint64(le.Uint16(head[56:]))
	if size != 56 || count == 0 || count > 128 || offset > pageSize {
		return 0
	}
	table := make([]byte, size*count)
	if n, _ := headers.ReadAt(table, int64(offset)); n < len(table) {
		return 0
	}
	first, end := ^uint64(0), uint64(0)
	for ; len(table) > 0; table = table[size:] {
		const load = 1 // PT_LOAD
		if le.Uint32(table) != load {
			continue
		}
		vaddr, memory := le.Uint64(table[16:]), le.Uint64(table[40:])
		first = min(first, vaddr&^(pageSize-1))
		end = max(end, vaddr+memory)
	}
	if end <= first {
		return 0
	}
	return up(base + end - first)
}

// claimStacks finds the stacks of threads.
func (a *analysis) claimStacks() {
	slices.SortFunc(a.threads, func(x, y thread) int { return cmp.Compare(x.id, y.id) })
	known := map[int]*thread{}
	for i := range a.threads {
		known[a.threads[i].own] = &a.threads[i]
	}
	taken := map[int]bool{} // mappings that have an owner
	seen := map[int]bool{}  // threads that have a stack
	for _, t := range a.threads {
		i := a.at(t.sp)
		if t.sp == 0 || i < 0 || a.inArena(t.sp) {
			continue
		}
		m := &a.mappings[i]
		seen[t.id] = true
		if !m.anonymousMemory() || taken[i] {
			continue // [stack], or a stack that the program provides in its own memory
		}
		taken[i] = true
		start, end := m.start, m.end
		if first, size, ok := controlBlock(a.memory, t.sp, m.start, m.end); ok {
			start, end = first, first+size
		} else if g := i - 1; g >= 0 && a.guards(g, m) {
			start = a.mappings[g].start
		}
		a.claimStack(start, end, t.id, fmt.Sprintf("stack of thread %d (%s)", t.id, t.name))
	}
	if !a.readable {
		return
	}
	// Threads that run now, and stacks that glibc keeps for threads to come, are found by what glibc
	// wrote at the end of them.
	for i := range a.mappings {
		m := &a.mappings[i]
		if taken[i] || i == 0 || !m.anonymousMemory() || !m.may('w') || m.rss == 0 || m.size() < 4*pageSize || !a.guards(i-1, m) || a.inArena(m.start) {
			continue
		}
		from := m.start
		if m.size() > 64<<10 {
			from = m.end - 64<<10
		}
		first, size, ok := controlBlock(a.memory, from, m.start, m.end)
		if !ok {
			continue
		}
		detail, id := "stack kept for another thread", 0
		if t := known[a.threadOf(first+size, m.end)]; t != nil && !seen[t.id] {
			id, detail = t.id, fmt.Sprintf("stack of thread %d (%s)", t.id, t.name)
			seen[t.id] = true
		}
		a.claimStack(first, first+size, id, detail)
	}
}

// threadOf reads the thread id in glibc's description of the thread whose stack ends at end: it is at
// offset 720 of it in x86-64 glibc 2.3 to 2.41 (offsetof (struct pthread, tid)).
func (a *analysis) threadOf(end, most uint64) int {
	from := end - min(end, 64<<10)
	b := make([]byte, min(end, most)-from)
	n, _ := a.memory.ReadAt(b, int64(from))
	for i := 0; i+724 <= n; i += 16 {
		self := from + uint64(i)
		if binary.LittleEndian.Uint64(b[i:]) == self && binary.LittleEndian.Uint64(b[i+16:]) == self {
			return int(binary.LittleEndian.Uint32(b[i+720:]))
		}
	}
	return 0
}

func (a *analysis) claimStack(start, end uint64, id int, detail string) {
	a.claims = append(a.claims, claim{start: start, end: end, kind: Stack, detail: detail, key: fmt.Sprintf("stack %x", end), thread: id})
}

// guards says whether mapping g is the guard below m.
func (a *analysis) guards(g int, m *mapping) bool {
	x := &a.mappings[g]
	return x.end == m.start && x.inaccessible() && x.anonymousMemory() && x.size() <= 1<<20
}

// at is the mapping that has an address, -1 where none has.
func (a *analysis) at(address uint64) int {
	i := sort.Search(len(a.mappings), func(i int) bool { return a.mappings[i].end > address })
	if i == len(a.mappings) || a.mappings[i].start > address {
		return -1
	}
	return i
}

func (a *analysis) inArena(address uint64) bool {
	for _, x := range a.areas {
		if x.Heap && address >= x.Start && address < x.End {
			return true
		}
	}
	return false
}

// settle puts the claims in order and makes them not overlap: who begins first keeps what it claims.
func (a *analysis) settle() {
	slices.SortStableFunc(a.claims, func(x, y claim) int { return cmp.Or(cmp.Compare(x.start, y.start), -cmp.Compare(x.end, y.end)) })
	kept := a.claims[:0]
	end := uint64(0)
	for _, c := range a.claims {
		c.start = max(c.start, end)
		if c.start >= c.end {
			continue
		}
		end = c.end
		kept = append(kept, c)
	}
	a.claims = kept
}

// cut makes pieces of a mapping at the ends of claims.
func (a *analysis) cut(m *mapping) {
	whole := piece{claim: a.ownKind(m), mapping: m, columns: m.columns()}
	if !m.anonymousMemory() {
		a.pieces = append(a.pieces, whole)
		return
	}
	i := sort.Search(len(a.claims), func(i int) bool { return a.claims[i].end > m.start })
	first := len(a.pieces)
	at := m.start
	add := func(c claim, start, end uint64) {
		if start < end {
			c.start, c.end = start, end
			if n := len(a.pieces); n > first && a.pieces[n-1].key == c.key && a.pieces[n-1].kind == c.kind {
				a.pieces[n-1].end = end
				return
			}
			a.pieces = append(a.pieces, piece{claim: c, mapping: m})
		}
	}
	for ; i < len(a.claims) && a.claims[i].start < m.end; i++ {
		c := a.claims[i]
		add(whole.claim, at, c.start)
		at = min(c.end, m.end)
		add(c, max(c.start, m.start), at)
	}
	add(whole.claim, at, m.end)
	if len(a.pieces) == first+1 {
		a.pieces[first].columns = whole.columns
		return
	}
	a.share(whole.columns, a.pieces[first:])
}

// share divides the measures of one mapping among its pieces: resident and swapped by page, the others
// in proportion to resident. Their sums stay what they were.
func (a *analysis) share(whole Columns, pieces []piece) {
	rest, m := whole, pieces[0].mapping
	for i := range pieces {
		p := &pieces[i]
		size := int64(p.end - p.start)
		c := Columns{Size: size, Blocks: 1, Largest: size}
		if whole.Committed > 0 {
			c.Committed = size
		}
		if whole.Private > 0 {
			c.Private = size
		}
		if i == len(pieces)-1 {
			last := rest
			last.Size, last.Committed, last.Private, last.Blocks, last.Largest = c.Size, c.Committed, c.Private, 1, size
			c = last
		} else if whole.Resident > 0 || whole.Swap > 0 {
			resident, swapped, _ := a.pages.present(p.start, p.end)
			c.Resident = min(bytesOf(resident), rest.Resident)
			c.Swap = min(bytesOf(swapped), rest.Swap)
			part := func(n, left int64) int64 {
				if whole.Resident == 0 {
					return 0
				}
				return min(int64(float64(n)*float64(c.Resident)/float64(whole.Resident))&^(pageSize-1), left)
			}
			if whole.PrivateWS == whole.Resident {
				c.PrivateWS = c.Resident
			} else {
				c.PrivateWS = min(part(whole.PrivateWS, rest.PrivateWS), c.Resident)
			}
			c.ShareableWS = c.Resident - c.PrivateWS
			c.SharedWS, c.LockedWS = part(whole.SharedWS, rest.SharedWS), part(whole.LockedWS, rest.LockedWS)
			c.Pss, c.Huge, c.Dirty = part(whole.Pss, rest.Pss), part(whole.Huge, rest.Huge), part(whole.Dirty, rest.Dirty)
		}
		p.columns = c
		p.mapping = m
		rest.Sub(c)
	}
}

func bytesOf(all []pageRange) (n int64) {
	for _, r := range all {
		n += int64(r.end - r.start)
	}
	return n
}

// ownKind is what a mapping is by what the kernel says of it.
func (a *analysis) ownKind(m *mapping) claim {
	c := claim{start: m.start, end: m.end, kind: PrivateData}
	switch {
	case m.path == "[heap]":
		c.kind, c.detail = Heap, "malloc, main arena (brk)"
		if a.allocate != "" {
			c.detail = a.allocate + " (brk)"
		}
	case strings.HasPrefix(m.path, "[stack"):
		c.kind, c.thread = Stack, a.snapshot.PID
		c.detail = "stack of the main thread"
		if c.thread != 0 {
			c.detail = fmt.Sprintf("stack of thread %d (%s), the main thread", c.thread, a.snapshot.Name)
		}
	case strings.HasPrefix(m.path, "[v"): // vdso, vvar, vvar_vclock, vectors
		c.kind, c.detail, c.key = Image, "of the kernel", "kernel's image"
	case strings.HasPrefix(m.path, "[anon:"):
		c.kind, c.detail = kindOfName(strings.TrimSuffix(strings.TrimPrefix(m.path, "[anon:"), "]"))
	case hasAnyPrefix(m.path, sharedNames):
		c.kind = Shareable
		if !m.shared() && m.may('x') && a.images[fileKey(m)] != nil {
			c.kind, c.key = Image, fileKey(m)
		} else if !m.shared() && m.inode == 0 {
			c.kind = PrivateData
		}
	case m.file():
		c.kind, c.detail = MappedFile, m.path
		c.key = fileKey(m)
		if a.images[c.key] != nil && !m.shared() {
			c.kind = Image
			c.part = segmentName(m)
		}
	case m.shared():
		c.kind, c.detail = Shareable, "shared memory without a name"
	case m.inaccessible():
		c.detail = "reserved"
	}
	return c
}

func segmentName(m *mapping) string {
	switch {
	case m.may('x'):
		return "code"
	case m.may('w'):
		return "variables"
	case m.may('r'):
		return "constants"
	}
	return "gap"
}

func hasAnyPrefix(s string, all []string) bool {
	return slices.ContainsFunc(all, func(p string) bool { return strings.HasPrefix(s, p) })
}

// kindOfName is what a name that the program gave to memory says of it (PR_SET_VMA_ANON_NAME). The
// names are those of Go 1.25 and later, glibc 2.38 and later, jemalloc, tcmalloc, Bionic and V8.
func kindOfName(name string) (Kind, string) {
	n := strings.TrimSpace(name)
	switch goName, isGo := strings.CutPrefix(n, "Go: "); {
	case isGo && (goName == "heap" || strings.HasPrefix(goName, "heap ") || strings.HasPrefix(goName, "goroutine stack")):
		return ManagedHeap, "Go " + goName
	case isGo && strings.Contains(goName, "stack"):
		return Stack, "Go " + goName
	case isGo:
		return RuntimeMetadata, "Go " + goName
	case strings.Contains(n, "stack"):
		return Stack, n
	case hasAnyPrefix(n, []string{"glibc: malloc", "libc_malloc", "jemalloc", "tcmalloc", "mimalloc", "scudo", "partition_alloc", "GWP-ASan"}):
		return Heap, n
	case hasAnyPrefix(n, []string{"v8", "dalvik", "JavaHeap"}):
		return ManagedHeap, n
	}
	return PrivateData, n
}

// join makes regions of pieces: neighbours with the same owner are one, and so is a run of anonymous
// memory that was reserved as one and of which parts are in use.
func (a *analysis) join() {
	a.snapshot.Regions = make([]Region, 0, len(a.pieces))
	for i := 0; i < len(a.pieces); {
		j := i + 1
		for j < len(a.pieces) && a.pieces[j].start == a.pieces[j-1].end && a.together(j) {
			j++
		}
		a.snapshot.Regions = append(a.snapshot.Regions, a.region(a.pieces[i:j]))
		i = j
	}
}

// together says whether piece j belongs to the region of the piece before it.
func (a *analysis) together(j int) bool {
	x, y := &a.pieces[j-1], &a.pieces[j]
	if x.kind != y.kind {
		return false
	}
	if x.key != "" || y.key != "" {
		return x.key == y.key
	}
	plain := func(p *piece) bool {
		return p.kind == PrivateData && p.mapping.path == "" && p.mapping.anonymousMemory()
	}
	// Reserved memory is without access; what is taken of it gets access from its beginning on, or in its
	// middle. What has access and comes last may as well be a neighbour that has nothing to do with it.
	if !plain(x) || !plain(y) {
		return false
	}
	if y.mapping.inaccessible() {
		return true
	}
	return x.mapping.inaccessible() && j+1 < len(a.pieces) && a.pieces[j+1].start == y.end && plain(&a.pieces[j+1]) && a.pieces[j+1].mapping.inaccessible()
}

func (a *analysis) region(pieces []piece) Region {
	p := &pieces[0]
	r := Region{Start: p.start, End: pieces[len(pieces)-1].end, Kind: p.kind, Detail: p.detail, Thread: p.thread,
		Protection: p.mapping.protection, Path: p.mapping.path, Deleted: p.mapping.deleted}
	if r.Detail == r.Path {
		r.Detail = ""
	}
	for i := range pieces {
		q := &pieces[i]
		r.Columns.Add(q.columns)
		if rights(q.mapping) > rights2(r.Protection) {
			r.Protection = q.mapping.protection
		}
		if len(pieces) == 1 {
			break
		}
		part := q.part
		switch {
		case part != "":
		case !q.mapping.inaccessible():
		case p.kind == Stack:
			part = "guard"
		default:
			part = "reserved"
		}
		r.Parts = append(r.Parts, Part{Start: q.start, End: q.end, Protection: q.mapping.protection, Detail: part, Columns: q.columns})
	}
	if r.Detail == "reserved" && len(pieces) > 1 {
		r.Detail = "reserved, in part in use"
	}
	r.Columns.Largest = r.Size
	for _, q := range pieces {
		if q.part == "bss" && len(pieces) == 1 {
			r.Detail = "bss of " + q.detail
		}
	}
	return r
}

func rights(m *mapping) int { return rights2(m.protection) }

func rights2(protection string) int {
	n := 0
	for i, c := range "rwx" {
		if protection[i] == byte(c) {
			n |= 1 << i
		}
	}
	return n
}
