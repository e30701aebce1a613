package memmap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A mapping is what the kernel tells of one of its VMAs in /proc/PID/smaps (proc_pid_smaps(5)), or a
// core file of one of its segments. Numbers are bytes.
type mapping struct {
	start, end uint64
	protection string // "rw-p"
	offset     uint64
	device     string
	inode      uint64
	path       string // as it was before the kernel escaped it, without " (deleted)"
	deleted    bool

	rss, pss, anonymous, swap, locked      int64
	sharedClean, sharedDirty, privateDirty int64
	anonHuge, shmemHuge, fileHuge, hugetlb int64
	gone                                   bool // left out: the kernel's, or told twice
}

func (m *mapping) size() int64        { return int64(m.end - m.start) }
func (m *mapping) may(c byte) bool    { return strings.IndexByte(m.protection[:3], c) >= 0 }
func (m *mapping) shared() bool       { return m.protection[3] == 's' }
func (m *mapping) inaccessible() bool { return m.protection[:3] == "---" }
func (m *mapping) file() bool         { return strings.HasPrefix(m.path, "/") && m.inode != 0 }

// anonymousMemory says whether it is private memory without a file or a name of the kernel's.
func (m *mapping) anonymousMemory() bool {
	return m.inode == 0 && !m.shared() && (m.path == "" || strings.HasPrefix(m.path, "[anon:"))
}

var errSmaps = errors.New("it is not as proc_pid_smaps(5) has it")

// maxMappings bounds what is read: sysctl vm.max_map_count is 65530 unless somebody raised it.
const maxMappings = 4 << 20

// parseSmaps reads smaps, maps or smaps_rollup, whose lines are a part of those of smaps. A last line
// that was cut off is an error.
func parseSmaps(text []byte) ([]mapping, error) { return readSmaps(bytes.NewReader(text)) }

// readSmaps is parseSmaps of what is read: the text of 10,000 mappings is 7 MB, which nobody needs as a
// whole. The kernel takes longest, so it writes the next part while this one is parsed.
func readSmaps(r io.Reader) ([]mapping, error) {
	type part struct {
		buf []byte // what was read is behind the first maxLine bytes of it
		n   int
		err error
	}
	free, full := make(chan []byte, 2), make(chan part, 2)
	for range cap(free) {
		free <- make([]byte, maxLine+partSize)
	}
	go func() { // ends with what is read, or when free is closed
		defer close(full)
		for buf := range free {
			// The kernel gives a page of text at most, so one part takes many calls.
			n, err := 0, error(nil)
			for n < partSize && err == nil {
				var k int
				k, err = r.Read(buf[maxLine+n:])
				n += k
			}
			full <- part{buf: buf, n: n, err: err}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		close(free)
		for range full { // until the goroutine has ended: r is the caller's again
		}
	}()
	var p smapsParser
	var kept []byte // the beginning of a line
	for x := range full {
		from := maxLine - copy(x.buf[maxLine-len(kept):], kept)
		text := x.buf[from : maxLine+x.n]
		end := bytes.LastIndexByte(text, '\n') + 1
		if err := p.lines(text[:end]); err != nil {
			return nil, err
		}
		kept = append(kept[:0], text[end:]...)
		switch {
		case x.err == io.EOF && len(kept) > 0:
			return nil, fmt.Errorf("line %d: %w: it ends early", p.line+1, errSmaps)
		case x.err == io.EOF:
			return p.finish()
		case x.err != nil:
			return nil, x.err
		case len(kept) > maxLine:
			return nil, fmt.Errorf("line %d: %w: it is too long", p.line+1, errSmaps)
		}
		free <- x.buf
	}
	return nil, errSmaps // not reached: the last part has an error
}

// Bounds on a line, which has a path of at most 4096 bytes, of which each may be escaped as four, and how much
// is read before it is parsed.
const (
	maxLine  = 32 << 10
	partSize = 64 << 10
)

// A smapsParser makes mappings of lines.
type smapsParser struct {
	all  []mapping
	line int
}

// lines reads whole lines.
func (p *smapsParser) lines(text []byte) error {
	for len(text) > 0 {
		i := bytes.IndexByte(text, '\n')
		l := text[:i]
		text = text[i+1:]
		p.line++
		if len(l) == 0 {
			return fmt.Errorf("line %d: %w", p.line, errSmaps)
		}
		// A line of a mapping begins with a lower-case hexadecimal address, one of a measure with a
		// capital letter.
		if l[0] < 'A' || l[0] > 'Z' {
			if len(p.all) == maxMappings {
				return fmt.Errorf("it has more than %d mappings", maxMappings)
			}
			if len(p.all) == cap(p.all) { // append would grow large lists by a quarter, and copy them often
				p.all = slices.Grow(p.all, max(256, len(p.all)))
			}
			p.all = append(p.all, mapping{})
			m := &p.all[len(p.all)-1]
			if !m.parseHead(l) {
				return fmt.Errorf("line %d: %w", p.line, errSmaps)
			}
			continue
		}
		if len(p.all) == 0 || !p.all[len(p.all)-1].parseMeasure(l) {
			return fmt.Errorf("line %d: %w", p.line, errSmaps)
		}
	}
	return nil
}

// finish makes what was read whole.
func (p *smapsParser) finish() ([]mapping, error) {
	all := p.all
	for i := range all {
		if i > 0 && all[i].start < all[i-1].end {
			// The kernel lets go of its lock between pages of output: a mapping that grew meanwhile
			// can come twice.
			all[i-1].end = max(all[i-1].start, all[i].start)
			all[i-1].gone = all[i-1].end == all[i-1].start
		}
	}
	kept := all[:0]
	for _, m := range all {
		if !m.gone && m.start < m.end {
			kept = append(kept, m)
		}
	}
	for i := 1; i < len(kept); i++ {
		if kept[i].start < kept[i-1].end {
			return nil, fmt.Errorf("%w: its mappings overlap", errSmaps)
		}
	}
	return kept, nil
}

// parseHead reads "55d0-55d1 rw-p 00001000 fd:00 1234      /path".
func (m *mapping) parseHead(l []byte) bool {
	var ok [4]bool
	m.start, l, ok[0] = hex(l, '-')
	m.end, l, ok[1] = hex(l, ' ')
	if !ok[0] || !ok[1] || len(l) < 5 || l[4] != ' ' || m.end < m.start || m.end > 1<<63 {
		// [vsyscall] is in the highest addresses; it is the kernel's, and no part of the process.
		if !ok[0] || !ok[1] || m.end <= m.start || len(l) < 5 || l[4] != ' ' {
			return false
		}
		m.gone = true
	}
	m.protection = protectionOf(l[:4])
	if m.protection == "" {
		return false
	}
	m.offset, l, ok[2] = hex(l[5:], ' ')
	device, l, found := bytes.Cut(l, []byte{' '})
	if !ok[2] || !found || len(device) > 16 {
		return false
	}
	m.device = string(device)
	i := 0
	for i < len(l) && l[i] >= '0' && l[i] <= '9' {
		d := uint64(l[i] - '0')
		if m.inode > (1<<64-1-d)/10 {
			return false
		}
		m.inode, i = m.inode*10+d, i+1
	}
	if i == 0 {
		return false
	}
	path := bytes.TrimLeft(l[i:], " ")
	if len(path) > 0 && i < len(l) && l[i] != ' ' {
		return false
	}
	m.path = string(path)
	if strings.Contains(m.path, `\012`) { // the one character that show_map_vma escapes
		m.path = strings.ReplaceAll(m.path, `\012`, "\n")
	}
	if p, is := strings.CutSuffix(m.path, " (deleted)"); is && strings.HasPrefix(p, "/") {
		m.path, m.deleted = p, true
	}
	return true
}

// protections are all there can be, so that mappings share their texts.
var protections = func() map[string]string {
	all := map[string]string{}
	for _, r := range "r-" {
		for _, w := range "w-" {
			for _, x := range "x-" {
				for _, s := range "ps" {
					t := string([]rune{r, w, x, s})
					all[t] = t
				}
			}
		}
	}
	return all
}()

func protectionOf(b []byte) string { return protections[string(b)] }

func hex(b []byte, until byte) (v uint64, rest []byte, ok bool) {
	for i, c := range b {
		switch {
		case c == until:
			return v, b[i+1:], i > 0
		case i == 16:
			return 0, b, false
		case c >= '0' && c <= '9':
			v = v<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			return 0, b, false
		}
	}
	return 0, b, false
}

// parseMeasure reads "Rss:       12 kB" or "VmFlags: rd wr"; lines that are not known are skipped.
func (m *mapping) parseMeasure(l []byte) bool {
	i := bytes.IndexByte(l, ':')
	if i < 0 {
		return false
	}
	name := l[:i]
	var to *int64
	switch string(name) {
	case "Rss":
		to = &m.rss
	case "Pss":
		to = &m.pss
	case "Anonymous":
		to = &m.anonymous
	case "Swap":
		to = &m.swap
	case "Locked":
		to = &m.locked
	case "Shared_Clean":
		to = &m.sharedClean
	case "Shared_Dirty":
		to = &m.sharedDirty
	case "Private_Dirty":
		to = &m.privateDirty
	case "AnonHugePages":
		to = &m.anonHuge
	case "ShmemPmdMapped":
		to = &m.shmemHuge
	case "FilePmdMapped":
		to = &m.fileHuge
	case "Private_Hugetlb", "Shared_Hugetlb":
		var n int64
		if !kilobytes(l[i+1:], &n) {
			return false
		}
		m.hugetlb += n
		return true
	default:
		return true
	}
	return kilobytes(l[i+1:], to)
}

func kilobytes(b []byte, to *int64) bool {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	n, i := int64(0), 0
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		if n > 1<<50 {
			return false
		}
		n, i = n*10+int64(b[i]-'0'), i+1
	}
	if i == 0 {
		return false
	}
	*to = n << 10
	return true
}

// columns are a mapping's measures as VMMap has them.
func (m *mapping) columns() Columns {
	c := Columns{
		Size: m.size(), Resident: m.rss, PrivateWS: m.anonymous, SharedWS: m.sharedClean + m.sharedDirty,
		LockedWS: m.locked, Pss: m.pss, Swap: m.swap, Huge: m.anonHuge + m.shmemHuge + m.fileHuge + m.hugetlb,
		Dirty: m.sharedDirty + m.privateDirty, Blocks: 1, Largest: m.size(),
	}
	if m.shared() {
		c.PrivateWS = 0
	}
	c.PrivateWS = min(c.PrivateWS, c.Resident)
	c.ShareableWS = c.Resident - c.PrivateWS
	if !m.inaccessible() {
		c.Committed = c.Size
		if !m.shared() && (m.may('w') || m.inode == 0) && !strings.HasPrefix(m.path, "[v") {
			c.Private = c.Size
		}
	}
	return c
}
