package view

import (
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A name is what frames are called in the stack views: frames of one name are one function, whatever
// their lines.
type name struct {
	full  caseless // Module!Func
	short string   // the same without the module's folders
	frame profile.Frame
}

// names are the names of a source's frames.
type names struct {
	all []name
	of  [][]uint32 // by part, then FrameID: index in all
}

// namesOf names the frames of profiles. PerfView leaves modules in brackets as they are.
func namesOf(parts []part, compat bool) *names {
	type key struct{ function, module string }
	ns := &names{all: make([]name, 1), of: make([][]uint32, len(parts))}
	byKey, byText := map[key]uint32{}, map[string]uint32{}
	for i := range parts {
		frames := parts[i].p.Frames
		if i > 0 && len(frames) == len(parts[i-1].p.Frames) && &frames[0] == &parts[i-1].p.Frames[0] {
			ns.of[i] = ns.of[i-1]
			continue
		}
		of := make([]uint32, len(frames))
		for id := 1; id < len(frames); id++ {
			f := &frames[id]
			if prev := &frames[id-1]; id > 1 && f.Func == prev.Func && f.Module == prev.Module {
				of[id] = of[id-1]
			} else {
				k := key{f.Func, f.Module}
				n, ok := byKey[k]
				if !ok {
					full := fullName(f, compat)
					if n, ok = byText[full]; !ok {
						n = uint32(len(ns.all))
						ns.all = append(ns.all, name{full: newCaseless(full), short: shortName(full), frame: *f})
						byText[full] = n
					}
					byKey[k] = n
				}
				of[id] = n
			}
			if n := &ns.all[of[id]]; placedBefore(f, &n.frame) {
				n.frame = *f
			}
		}
		ns.of[i] = of
	}
	return ns
}

// placedBefore reports whether f tells better than g where their function begins; see Row.
func placedBefore(f, g *profile.Frame) bool {
	r := Row{File: g.File, Line: g.StartLine}
	return beginsBefore(f, &r)
}

// fullName is Module!Func, or Func where there is no module.
func fullName(f *profile.Frame, compat bool) string {
	module := f.Module
	if module == "" {
		return f.Func
	}
	if !compat {
		switch module {
		case "[kernel]", "[kernel.kallsyms]", "[kernel.vmlinux]":
			module = "kernel"
		case "[vdso]":
			module = "vdso"
		}
	}
	return module + "!" + f.Func
}

// shortName drops the folders of a full name's module, and what Windows puts at a module's end.
func shortName(full string) string {
	end := strings.IndexByte(full, '!')
	if end < 0 {
		return full
	}
	module := full[strings.LastIndexAny(full[:end], `/\`)+1 : end]
	if n := len(module) - 4; n > 0 && (strings.EqualFold(module[n:], ".dll") || strings.EqualFold(module[n:], ".exe")) {
		module = module[:n]
	} else if len(module) == end {
		return full
	}
	return module + full[end:]
}

// moduleOfName is the part of a row's name before its !, and "" where there is none.
func moduleOfName(row string) string {
	module, _, ok := strings.Cut(row, "!")
	if !ok {
		return ""
	}
	return module
}
