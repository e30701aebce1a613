package sourcemap

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// errKernelHidden says that the kernel shows its symbols without their addresses. Who sees them:
// kallsyms_show_value in kernel/ksyms_common.c of Linux.
var errKernelHidden = errors.New("the kernel hides the addresses of its symbols; set kernel.kptr_restrict to 1 or less " +
	"and have CAP_SYSLOG, or set both kernel.kptr_restrict to 0 and kernel.perf_event_paranoid to 1 or less")

// kallsymsTable names kernel addresses by /proc/kallsyms. Addresses are distances from the symbol
// _text, modulo 2^64: modules lie below it on some processors.
type kallsymsTable struct {
	addrs   []uint64     // ascending, each once
	names   []kernelName // of the symbol at addrs[i]
	text    []byte       // what was read; names point into it
	modules []string     // as in Frame.Module: "[nf_tables]"; "" for the kernel itself
}

type kernelName struct {
	off    uint32 // of the name in text
	len    uint16
	module uint16 // into modules
	rank   uint8
}

// maxKallsyms bounds what is read: a distribution's kernel with all its modules has some 15 MB.
const maxKallsyms = 256 << 20

// maxKernelFunction bounds how far a symbol reaches where the next one is of another module, so
// that it does not name the gap between them.
const maxKernelFunction = 64 << 10

// openKallsyms reads the kernel's list of symbols, a line each: "ffffffff81000000 T _text" and
// with a tab and "[module]" after the name where it is a module's (s_show in kernel/kallsyms.c).
// Only code is kept: types t, T, w and W. The error wraps errKernelHidden where the addresses are
// hidden, and none of r is kept in use.
func openKallsyms(r io.Reader) (table, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxKallsyms))
	if err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	t, err := parseKallsyms(text)
	if err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	return t, nil
}

func parseKallsyms(text []byte) (*kallsymsTable, error) {
	t := &kallsymsTable{text: text, modules: []string{""}}
	n := len(text) / 48
	t.addrs, t.names = make([]uint64, 0, n), make([]kernelName, 0, n)
	moduleIDs := map[string]uint16{}
	var base, stext uint64
	var hasBase, hasStext, nonZero bool
	lines := 0
	for at := 0; at < len(text); {
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			end = len(text) - at
		}
		line, lineAt := text[at:at+end], at
		at += end + 1
		addr, i := uint64(0), 0
		for ; i < len(line) && i < 16; i++ {
			d := hexDigit[line[i]]
			if d < 0 {
				break
			}
			addr = addr<<4 | uint64(d)
		}
		if i == 0 || i+3 >= len(line) || line[i] != ' ' || line[i+2] != ' ' {
			continue
		}
		lines++
		nonZero = nonZero || addr != 0
		var rank uint8
		switch line[i+1] {
		case 'T':
			rank = rankGlobal
		case 'W', 'w':
			rank = rankWeak
		case 't':
			rank = rankLocal
		default:
			continue
		}
		name, module := line[i+3:], uint16(0)
		if tab := bytes.IndexByte(name, '\t'); tab >= 0 {
			if id, ok := moduleIDs[string(name[tab+1:])]; ok {
				module = id
			} else if len(t.modules) < math.MaxUint16 {
				module = uint16(len(t.modules))
				key := string(name[tab+1:])
				moduleIDs[key] = module
				t.modules = append(t.modules, strings.TrimSpace(key))
			}
			name = name[:tab]
		}
		if len(name) == 0 || name[0] == '$' || len(name) > math.MaxUint16 {
			continue
		}
		if module == 0 {
			switch string(name) {
			case "_text":
				base, hasBase = addr, true
			case "_stext":
				stext, hasStext = addr, true
			}
		}
		t.addrs = append(t.addrs, addr)
		t.names = append(t.names, kernelName{uint32(lineAt + i + 3), uint16(len(name)), module, rank})
	}
	switch {
	case lines == 0:
		return nil, errors.New("the list is empty or is none; is /proc mounted, and the kernel built with CONFIG_KALLSYMS?")
	case !nonZero:
		return nil, errKernelHidden
	case !hasBase && hasStext:
		base = stext
	case !hasBase:
		return nil, errors.New("the list has no symbol _text, from which the kernel's code is measured; it is cut short")
	}
	for i := range t.addrs {
		t.addrs[i] -= base
	}
	t.sort()
	return t, nil
}

// sort orders symbols by address and keeps the best name of each.
func (t *kallsymsTable) sort() {
	if !slices.IsSorted(t.addrs) {
		order := make([]uint32, len(t.addrs))
		for i := range order {
			order[i] = uint32(i)
		}
		slices.SortFunc(order, func(a, b uint32) int { return cmp.Or(cmp.Compare(t.addrs[a], t.addrs[b]), cmp.Compare(a, b)) })
		addrs, names := make([]uint64, len(order)), make([]kernelName, len(order))
		for to, from := range order {
			addrs[to], names[to] = t.addrs[from], t.names[from]
		}
		t.addrs, t.names = addrs, names
	}
	n := 0
	for i := range t.addrs {
		if n > 0 && t.addrs[n-1] == t.addrs[i] {
			if t.compare(t.names[i], t.names[n-1]) < 0 {
				t.names[n-1] = t.names[i]
			}
			continue
		}
		t.addrs[n], t.names[n] = t.addrs[i], t.names[i]
		n++
	}
	t.addrs, t.names = t.addrs[:n], t.names[:n]
}

// compare orders names of one address, the best first. Marks of a section's begin and end name no
// function.
func (t *kallsymsTable) compare(a, b kernelName) int {
	x, y := t.name(a), t.name(b)
	if mx, my := kernelMarks[x], kernelMarks[y]; mx != my {
		if my {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(b.rank, a.rank), compareNames(x, y))
}

func (t *kallsymsTable) name(n kernelName) string { return string(t.text[n.off:][:n.len]) }

// kernelMarks are symbols of type T that the linker script sets at a section's begin or end
// (include/asm-generic/vmlinux.lds.h).
var kernelMarks = map[string]bool{
	"_text": true, "_stext": true, "_etext": true, "_sinittext": true, "_einittext": true,
	"__entry_text_start": true, "__entry_text_end": true, "__irqentry_text_start": true, "__irqentry_text_end": true,
	"__softirqentry_text_start": true, "__softirqentry_text_end": true, "__sched_text_start": true, "__sched_text_end": true,
	"__lock_text_start": true, "__lock_text_end": true, "__kprobes_text_start": true, "__kprobes_text_end": true,
	"__cpuidle_text_start": true, "__cpuidle_text_end": true, "__noinstr_text_start": true, "__noinstr_text_end": true,
	"__static_call_text_start": true, "__static_call_text_end": true, "__indirect_thunk_start": true, "__indirect_thunk_end": true,
}

// frames implements table. Module is set where the symbol is a kernel module's.
func (t *kallsymsTable) frames(addr uint64, buf []profile.Frame) ([]profile.Frame, bool) {
	i, ok := slices.BinarySearch(t.addrs, addr)
	if !ok {
		i--
	}
	if i < 0 {
		return buf, false
	}
	n := t.names[i]
	if i+1 == len(t.names) || t.names[i+1].module != n.module {
		if addr-t.addrs[i] >= maxKernelFunction {
			return buf, false
		}
	}
	name := t.name(n)
	if name == "_etext" || name == "_einittext" {
		return buf, false // data follows
	}
	return append(buf, profile.Frame{Func: Demangle(name), Module: t.modules[n.module]}), true
}

// hexDigit is the value of a hexadecimal digit, -1 for any other byte.
var hexDigit = func() (d [256]int8) {
	for i := range d {
		d[i] = -1
	}
	for i := range 10 {
		d['0'+i] = int8(i)
	}
	for i := range 6 {
		d['a'+i], d['A'+i] = int8(10+i), int8(10+i)
	}
	return d
}()
