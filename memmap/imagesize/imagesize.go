// Package imagesize tells what takes the space in a program or library (ELF file), or in a folder: by
// section, package, symbol and source file. Every byte of the file is counted once in each of these, so
// that each sums up to the size of the file.
//
// It reads files only. It knows Go's, C's, C++'s and Rust's names, and neither processes nor the other
// packages of ours.
package imagesize

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/ianlancetaylor/demangle"
)

// By is what bytes are summed by.
type By string

// What a file's bytes are summed by. Sections, packages, symbols and sources are of ELF files; folders,
// files and types of folders.
const (
	Section By = "section"
	Package By = "package"
	Symbol  By = "symbol"
	Source  By = "file" // the source file that the code was compiled from
	Folder  By = "folder"
	File    By = "path"
	Type    By = "type"
)

// A Part is what takes some of the bytes.
type Part struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	// Of a symbol: the section it is in, and its package.
	In string `json:"in,omitempty"`
}

// A Table is all parts of one kind, largest first. Their bytes sum up to the size of the whole.
type Table struct {
	By    By     `json:"by"`
	Parts []Part `json:"parts"`
}

// A Report is what takes the space in a file or folder.
type Report struct {
	Path   string   `json:"path"`
	Bytes  int64    `json:"bytes"`
	What   string   `json:"what"` // "Go program", "folder"
	Tables []Table  `json:"tables"`
	Notes  []string `json:"notes,omitempty"` // what could not be told, and why
}

// Of is the table of one kind; nil where there is none.
func (r *Report) Of(by By) *Table {
	for i := range r.Tables {
		if r.Tables[i].By == by {
			return &r.Tables[i]
		}
	}
	return nil
}

// Options say what is asked. The zero value works.
type Options struct {
	// Sources asks for the table by source file, which takes reading all line tables.
	Sources bool
}

// Names of what is in no section, package, symbol or source file.
const (
	headers  = "[ELF headers]"
	padding  = "[padding]"
	appended = "[behind the sections]"
	noSymbol = "[no symbol]"
	noSource = "[no line table]"
	notCode  = "[not code]"
	goTables = "[Go function tables]"
)

// ReadFile tells what takes the space in an ELF file. It fails where it is none.
func ReadFile(ctx context.Context, path string, o Options) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", path, cause(err))
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", path, cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("size of %s: it is no file", path)
	}
	r, err := Read(ctx, f, info.Size(), o)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("size of %s: %w", path, err)
	}
	r.Path = path
	return r, nil
}

func cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// A span is a run of bytes of the file that belong to one symbol or to none.
type span struct {
	start, end int64 // offsets in the file
	section    *elf.Section
	name       string // of the section, or a name in brackets
	symbol     string
	pkg        string
	address    uint64 // file address of start, for code
}

// Read tells what takes the space in an ELF file of size bytes.
func Read(ctx context.Context, r io.ReaderAt, size int64, o Options) (*Report, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("it is no ELF file (%w); of a folder every file is told", err)
	}
	defer f.Close()
	s := &sizer{f: f, r: r, size: size, report: &Report{Bytes: size, What: "ELF file"}}
	s.whatItIs()
	s.findSymbols()
	s.lay()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.report.Tables = []Table{
		s.table(Section, func(x *span) (string, string) { return x.name, "" }),
		s.table(Package, func(x *span) (string, string) { return x.pkg, "" }),
		s.table(Symbol, func(x *span) (string, string) { return x.symbol, x.name }),
	}
	if o.Sources {
		t, err := s.sources(ctx)
		if err != nil {
			return nil, err
		}
		s.report.Tables = append(s.report.Tables, t)
	}
	return s.report, nil
}

type sizer struct {
	f       *elf.File
	r       io.ReaderAt
	size    int64
	report  *Report
	isGo    bool
	symbols []symbol // by address; none overlap
	spans   []span   // by offset; they cover the file
}

type symbol struct {
	start, end uint64 // file addresses
	name, pkg  string
}

func (s *sizer) note(format string, args ...any) {
	s.report.Notes = append(s.report.Notes, fmt.Sprintf(format, args...))
}

func (s *sizer) whatItIs() {
	s.isGo = s.f.Section(".go.buildinfo") != nil || s.f.Section(".gopclntab") != nil
	kind := map[elf.Type]string{elf.ET_EXEC: "program", elf.ET_DYN: "program or library", elf.ET_REL: "object file", elf.ET_CORE: "core file"}[s.f.Type]
	if s.f.Type == elf.ET_DYN {
		if s.f.Section(".interp") == nil {
			kind = "library"
		} else {
			kind = "program"
		}
	}
	if kind == "" {
		kind = "ELF file"
	}
	if s.isGo {
		kind = "Go " + kind
	}
	s.report.What = kind
}

// maxSymbols bounds what is read of a symbol table.
const maxSymbols = 16 << 20

// findSymbols reads the symbol table, or the dynamic one, or Go's function table, and cuts overlaps:
// who begins first keeps its bytes, and of those that begin together the longest.
func (s *sizer) findSymbols() {
	all, err := s.f.Symbols()
	if err != nil || len(all) == 0 {
		all, _ = s.f.DynamicSymbols()
		if !s.isGo {
			s.note("It has no symbol table: only exported names are told; build it without stripping (-s).")
		}
	}
	if len(all) > maxSymbols {
		all = all[:maxSymbols]
	}
	for _, x := range all {
		kind := elf.ST_TYPE(x.Info)
		if x.Size == 0 || x.Section == elf.SHN_UNDEF || x.Section >= elf.SHN_LORESERVE || x.Value+x.Size < x.Value ||
			kind != elf.STT_FUNC && kind != elf.STT_OBJECT && kind != elf.STT_NOTYPE && kind != elf.STT_GNU_IFUNC {
			continue
		}
		s.symbols = append(s.symbols, symbol{start: x.Value, end: x.Value + x.Size, name: x.Name})
	}
	if s.isGo {
		s.goFunctions()
	}
	slices.SortStableFunc(s.symbols, func(a, b symbol) int {
		return cmp.Or(cmp.Compare(a.start, b.start), -cmp.Compare(a.end, b.end), cmp.Compare(a.name, b.name))
	})
	kept, end := s.symbols[:0], uint64(0)
	for _, x := range s.symbols {
		x.start = max(x.start, end)
		if x.start >= x.end {
			continue
		}
		end = x.end
		x.name, x.pkg = s.nameOf(x.name)
		kept = append(kept, x)
	}
	s.symbols = kept
}

// goFunctions adds Go's functions where the symbol table was stripped.
func (s *sizer) goFunctions() {
	if slices.ContainsFunc(s.symbols, func(x symbol) bool { return strings.HasPrefix(x.name, "runtime.") }) {
		return
	}
	table, text := s.f.Section(".gopclntab"), s.f.Section(".text")
	if table == nil || text == nil {
		return
	}
	data, err := table.Data()
	if err != nil {
		return
	}
	for _, x := range functionsOf(data, text.Addr) {
		s.symbols = append(s.symbols, symbol{start: x.Entry, end: x.End, name: x.Name})
	}
}

// functionsOf reads Go's function table; debug/gosym panics on some damaged ones.
func functionsOf(data []byte, text uint64) (all []gosym.Func) {
	defer func() {
		if recover() != nil {
			all = nil
		}
	}()
	t, err := gosym.NewTable(nil, gosym.NewLineTable(data, text))
	if err != nil {
		return nil
	}
	for _, f := range t.Funcs {
		if f.Entry < f.End && f.Sym != nil {
			all = append(all, f)
		}
	}
	return all
}

// nameOf is a symbol's name as a person reads it, and its package.
func (s *sizer) nameOf(name string) (readable, pkg string) {
	if s.isGo && !strings.HasPrefix(name, "_Z") {
		return name, goPackage(name)
	}
	readable = name
	if strings.HasPrefix(name, "_Z") || strings.HasPrefix(name, "_R") {
		readable = demangle.Filter(name, demangle.NoClones)
	}
	return readable, nativePackage(name, readable)
}

// goPackage is the import path in a Go symbol: "net/http" of "net/http.(*conn).serve". What the linker
// makes for all has the linker's name: "type:*".
func goPackage(name string) string {
	for _, prefix := range []string{"type:.eq.", "type:.hash.", "go:itab.*", "go:itab."} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			name = rest
			break
		}
	}
	if i := strings.IndexByte(name, ':'); i > 0 && !strings.ContainsAny(name[:i], "./") {
		switch {
		case strings.HasPrefix(name, "go:func"):
			return goTables
		case strings.HasPrefix(name, "go:string"):
			return "[Go strings]"
		case strings.HasPrefix(name, "type:"):
			return "[Go types]"
		}
		return "[" + name[:i] + "]"
	}
	until := len(name)
	if i := strings.IndexAny(name, "[(,"); i >= 0 { // type arguments may have slashes
		until = i
	}
	slash := strings.LastIndexByte(name[:until], '/') + 1
	dot := strings.IndexByte(name[slash:], '.')
	if dot <= 0 {
		return "[no package]"
	}
	return strings.NewReplacer("%2e", ".", "%22", `"`).Replace(name[:slash+dot])
}

// nativePackage is the crate of a Rust name, the outermost namespace of a C++ one.
func nativePackage(mangled, name string) string {
	if mangled == name {
		return "[C]"
	}
	for _, prefix := range []string{"vtable for ", "typeinfo for ", "typeinfo name for ", "guard variable for ", "construction vtable for ", "VTT for ", "non-virtual thunk to ", "virtual thunk to "} {
		name = strings.TrimPrefix(name, prefix)
	}
	name = strings.TrimLeft(name, "<&*( ")
	for _, word := range []string{"mut ", "dyn ", "const "} {
		name = strings.TrimPrefix(name, word)
	}
	i := strings.Index(name, "::")
	if i <= 0 || strings.ContainsAny(name[:i], " (<>,") {
		return "[no namespace]"
	}
	return name[:i]
}

// lay covers the file with spans: headers, sections with their symbols, and what is between.
func (s *sizer) lay() {
	type piece struct {
		start, end int64
		name       string
		section    *elf.Section
	}
	var all []piece
	add := func(start, length uint64, name string, section *elf.Section) {
		if start < uint64(s.size) && length > 0 {
			all = append(all, piece{int64(start), int64(start + min(length, uint64(s.size)-start)), name, section})
		}
	}
	for _, h := range headerBytes(s.r) {
		add(h[0], h[1], headers, nil)
	}
	for _, x := range s.f.Sections {
		if x.Type != elf.SHT_NOBITS && x.Type != elf.SHT_NULL {
			add(x.Offset, x.FileSize, x.Name, x)
		}
	}
	slices.SortStableFunc(all, func(a, b piece) int { return cmp.Compare(a.start, b.start) })
	at := int64(0)
	for _, p := range all {
		p.start = max(p.start, at)
		if p.start >= p.end {
			continue
		}
		if p.start > at {
			s.add(span{start: at, end: p.start, name: padding})
		}
		s.section(p.start, p.end, p.name, p.section)
		at = p.end
	}
	if at < s.size {
		s.add(span{start: at, end: s.size, name: appended})
	}
}

func (s *sizer) add(x span) {
	if x.symbol == "" {
		x.symbol = x.name
		if x.section != nil && x.section.Flags&elf.SHF_ALLOC != 0 {
			x.symbol = noSymbol + " in " + x.name
		}
	}
	if x.pkg == "" {
		x.pkg = s.ownerOf(&x)
	}
	s.spans = append(s.spans, x)
}

// ownerOf is what stands for a package where there is none.
func (s *sizer) ownerOf(x *span) string {
	n := x.name
	switch {
	case x.section == nil:
		return n
	case strings.HasPrefix(n, ".debug") || strings.HasPrefix(n, ".zdebug") || n == ".gdb_index" || n == ".debug_gdb_scripts":
		return "[debug information]"
	case n == ".symtab" || n == ".strtab" || n == ".shstrtab":
		return "[symbols]"
	case n == ".gopclntab" || n == ".gosymtab":
		return goTables
	case strings.HasPrefix(n, ".eh_frame") || n == ".gcc_except_table":
		return "[unwind tables]"
	case strings.HasPrefix(n, ".rela") || strings.HasPrefix(n, ".rel.") || strings.HasPrefix(n, ".dyn") || strings.HasPrefix(n, ".gnu") || strings.HasPrefix(n, ".plt") || strings.HasPrefix(n, ".got") || n == ".hash" || n == ".interp":
		return "[dynamic linking]"
	}
	return noSymbol
}

// section covers a part of the file that is one section.
func (s *sizer) section(start, end int64, name string, x *elf.Section) {
	whole := span{start: start, end: end, name: name, section: x}
	if x == nil || x.Flags&elf.SHF_ALLOC == 0 || s.f.Type == elf.ET_REL || x.Flags&elf.SHF_COMPRESSED != 0 {
		s.add(whole)
		return
	}
	address := x.Addr + uint64(start) - x.Offset
	last := address + uint64(end-start)
	if last < address {
		s.add(whole)
		return
	}
	i, _ := slices.BinarySearchFunc(s.symbols, address, func(y symbol, at uint64) int {
		if y.end <= at {
			return -1
		}
		return 1
	})
	at := address
	put := func(from, to uint64, symbol, pkg string) {
		if from < to {
			s.add(span{start: start + int64(from-address), end: start + int64(to-address), name: name, section: x, symbol: symbol, pkg: pkg, address: from})
		}
	}
	for ; i < len(s.symbols) && s.symbols[i].start < last; i++ {
		y := &s.symbols[i]
		from, to := max(y.start, at), min(y.end, last)
		put(at, from, "", "")
		put(from, to, y.name, y.pkg)
		at = max(at, to)
	}
	put(at, last, "", "")
}

// table sums the spans.
func (s *sizer) table(by By, key func(*span) (name, in string)) Table {
	type place struct{ name, in string }
	sums := map[place]int64{}
	for i := range s.spans {
		name, in := key(&s.spans[i])
		sums[place{name, in}] += s.spans[i].end - s.spans[i].start
	}
	t := Table{By: by}
	for p, n := range sums {
		t.Parts = append(t.Parts, Part{Name: strings.ToValidUTF8(p.name, "\ufffd"), Bytes: n, In: strings.ToValidUTF8(p.in, "\ufffd")})
	}
	t.sort()
	return t
}

func (t *Table) sort() {
	slices.SortFunc(t.Parts, func(a, b Part) int {
		return cmp.Or(-cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(a.Name, b.Name), cmp.Compare(a.In, b.In))
	})
}

// headerBytes reads where the tables of headers are from the ELF header itself.
func headerBytes(r io.ReaderAt) [][2]uint64 {
	var b [64]byte
	if n, _ := r.ReadAt(b[:], 0); n < 52 || !bytes.HasPrefix(b[:], []byte(elf.ELFMAG)) {
		return nil
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if b[5] == byte(elf.ELFDATA2MSB) {
		order = binary.BigEndian
	}
	if b[4] == byte(elf.ELFCLASS64) {
		return [][2]uint64{
			{0, 64},
			{order.Uint64(b[32:]), uint64(order.Uint16(b[54:])) * uint64(order.Uint16(b[56:]))},
			{order.Uint64(b[40:]), uint64(order.Uint16(b[58:])) * uint64(order.Uint16(b[60:]))},
		}
	}
	return [][2]uint64{
		{0, 52},
		{uint64(order.Uint32(b[28:])), uint64(order.Uint16(b[42:])) * uint64(order.Uint16(b[44:]))},
		{uint64(order.Uint32(b[32:])), uint64(order.Uint16(b[46:])) * uint64(order.Uint16(b[48:]))},
	}
}
