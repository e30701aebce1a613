package sourcemap

import (
	"context"
	"debug/elf"
	"path/filepath"
	"slices"
)

// attach finds the files that hold what was split from the binary, before its first address is
// asked for. Without it the binary's own tables are all there is. It fails only with ctx's error.
func (b *binaryTable) attach(ctx context.Context, find *debugFinder, remap func(string) []string) error {
	with, path := b.file, find.path // the file that has the debug information
	if !hasDWARF(b.file) {
		debug, err := find.debug(ctx, b.file)
		if err != nil {
			return err
		}
		if debug != nil {
			b.debug = debug.elf
			with, path = debug.elf, debug.path
		}
	}
	sup, err := find.supplement(ctx, with, path)
	if err != nil {
		return err
	}
	if sup != nil {
		b.sup = sup.elf
	}
	b.split = &splitFinder{files: find.files, remap: remap, note: b.note}
	if find.path != "" {
		b.split.beside = filepath.Dir(find.path)
		b.split.packages = []string{find.path + ".dwp"}
	}
	if b.debug != nil {
		b.split.packages = append(b.split.packages, path+".dwp")
	}
	b.files = find.files
	return nil
}

// asksOthers says whether one of the batch's addresses is not of Go code, whose names need no debug
// file.
func (w *batch) asksOthers() bool {
	b := w.binary
	if b.goes == nil {
		return slices.ContainsFunc(w.asks, func(a ask) bool {
			addr, ok := w.address(a.addr)
			return !ok || !b.answers.has(addr)
		})
	}
	for _, a := range w.asks {
		if addr, ok := w.address(a.addr); ok && !b.goes.find(addr) && !b.answers.has(addr) {
			return true
		}
	}
	return false
}

// openDWARF opens the DWARF of the binary, or else of its debug file.
func (b *binaryTable) openDWARF() (table, error) {
	f := b.file
	if !hasDWARF(f) && b.debug != nil {
		f = b.debug
	}
	var split func(*unit) *unit
	if b.split != nil {
		split = b.split.find
	}
	opened, err := newDWARFTable(f, b.symbols, b.openSup, split)
	if err != nil {
		return nil, err
	}
	b.dwarf = opened
	return opened, nil
}

// openSup opens the supplementary file's DWARF.
func (b *binaryTable) openSup() *dwarfFile {
	if b.sup == nil {
		return nil
	}
	d, err := openDWARFFile(b.sup, "")
	if err != nil {
		b.note("its supplementary debug file cannot be used: %v", err)
		return nil
	}
	return d
}

// openSymbols opens the symbols of the binary and of what was split from it.
func (b *binaryTable) openSymbols() (table, error) {
	files := []*elf.File{b.file}
	if b.debug != nil {
		files = append(files, b.debug)
	}
	if b.file.SectionByType(elf.SHT_SYMTAB) == nil && (b.debug == nil || b.debug.SectionByType(elf.SHT_SYMTAB) == nil) {
		switch mini, err := debugData(b.file); {
		case err != nil:
			b.note("%v", err)
		case mini != nil:
			files = append(files, mini)
		}
	}
	t, err := parseSymtab(files...)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// symbols are the binary's; nil where there are none.
func (b *binaryTable) symbols() *symtabTable {
	for i := range b.rest {
		if b.rest[i].what == symbolTable {
			b.opened(&b.rest[i])
			t, _ := b.rest[i].table.(*symtabTable)
			return t
		}
	}
	return nil
}

// sums are the checksums of a source that the binary was built from; none where it does not tell.
func (b *binaryTable) sums(file string) []sum {
	var all []sum
	if b.answers != nil {
		all = slices.Clone(b.answers.sums[file])
	}
	if b.dwarf == nil {
		return all
	}
	for _, part := range b.dwarf.parts {
		for _, sum := range part.sums[file] {
			if !slices.Contains(all, sum) {
				all = append(all, sum)
			}
		}
	}
	return all
}
