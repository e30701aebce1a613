package memmap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// TakeLight is Take for timelines: of a region it has Size, Committed, Private, Resident, Swap, Blocks and
// Largest, and nothing of the other columns. What the kernel does for smaps it does with the process's memory
// map locked, so that a process that maps memory has to wait; this asks for the list of mappings, and for the
// pages that are present, a few megabytes at a time. Whose regions are is found out when mappings have changed.
// Where the kernel cannot be asked for pages so (before Linux 6.7) it is Take.
func (p *Process) TakeLight(ctx context.Context) (*Snapshot, error) {
	if p.heavy {
		return p.Take(ctx)
	}
	s := &Snapshot{Version: formatVersion, Time: time.Now(), PID: p.pid, Name: p.name, Exe: p.exe, Regions: []Region{}}
	mappings, err := p.lightMappings(ctx)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return p.partial(s)
	case errors.Is(err, errNoScan):
		p.heavy = true
		return p.Take(ctx)
	case errors.Is(err, errSmaps):
		return nil, fmt.Errorf("map process %d: /proc/%d/maps: %w", p.pid, p.pid, err)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, p.gone(err)
	}
	if len(mappings) == 0 {
		return nil, p.gone(unix.ESRCH)
	}
	if err := p.status(s); err != nil {
		return nil, p.gone(err)
	}
	p.findGo(s, mappings)
	a := analysis{snapshot: s, mappings: mappings, memory: p.live, pages: p.pages(), exe: p.exe, bias: p.bias, identify: p.deletedInFact, file: p.mappedFile}
	if p.goRuntime != nil {
		p.goRuntime.Refresh()
		a.runtime = p.goRuntime
	}
	if slices.EqualFunc(mappings, p.lastMappings, func(x, y mapping) bool {
		return x.start == y.start && x.end == y.end && x.protection == y.protection && x.inode == y.inode && x.path == y.path
	}) {
		a.known = p.lastClaims
	} else {
		a.threads = p.threads()
	}
	if err := a.run(ctx); err != nil {
		return nil, err
	}
	p.lastMappings, p.lastClaims = mappings, a.claimed()
	return s, nil
}

var errNoScan = errors.New("the kernel has no PAGEMAP_SCAN")

// lightMappings are the mappings with what of them is present and swapped.
func (p *Process) lightMappings(ctx context.Context) ([]mapping, error) {
	f, err := p.open("maps")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := readSmaps(f)
	if err != nil {
		return nil, err
	}
	m := p.pages()
	defer m.close()
	if err := m.open(); err != nil {
		return nil, err
	}
	for i := range all {
		x := &all[i]
		if x.path == "[vvar]" || x.path == "[vvar_vclock]" || hasAnyPrefix(x.path, []string{"/anon_hugepage", "/dev/hugepages"}) {
			continue // pages that smaps does not count
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		resident, swapped, err := m.scan(x.start, x.end)
		switch {
		case errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL):
			return nil, errNoScan
		case err != nil:
			return nil, err
		}
		x.rss, x.swap = bytesOf(resident), bytesOf(swapped)
	}
	return all, nil
}
