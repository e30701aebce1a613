package view

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEdits(t *testing.T) {
	modules := Filter{Group: "[group modules] {%}!->module $1"}
	for _, c := range []struct {
		name      string
		got, want Filter
	}{
		{"include", Filter{Include: "x"}.IncludeItem("lib!f", "Thread (1)"), Filter{Include: "x;lib!f|^Thread (1)"}},
		{"include what patterns cannot say", Filter{}.IncludeItem("m!f{1};x", "g"), Filter{Include: `@m!f\{1\}\x{3b}x|^g`}},
		{"exclude", Filter{}.ExcludeItem("lib!f", "main"), Filter{Exclude: "lib!f;^main"}},
		{"fold", Filter{Fold: "a;"}.FoldItem("lib!f"), Filter{Fold: "a;lib!f"}},
		{"fold module", Filter{}.FoldModule("lib!f", "lib!g", "module app <<app!h>>", "none"), Filter{Fold: "lib!;app!"}},
		{"ungroup an entry", Filter{Group: "[c] {%}!=>module $1"}.UngroupItem("module app <<app!f>>"), Filter{Group: "app!f->;{%}!=>module $1"}},
		{"ungroup an arrow", Filter{Group: "!=>X"}.UngroupItem("X <<app!operator->>>"), Filter{Group: `@app!operator\x{2d}>->;!=>X`}},
		{"ungroup a literal", Filter{Group: "a->X; b->Y;c->Z"}.UngroupItem("Y"), Filter{Group: "a->X;c->Z"}},
		{"ungroup captures", modules.UngroupItem("module libc.so"), Filter{Group: "libc.so!->;{%}!->module $1"}},
		{"ungroup a match", Filter{Group: "lib!foo"}.UngroupItem("lib!foo"), Filter{Group: "lib!foo->;lib!foo"}},
		{"ungroup a Go package", Filter{Group: "{go}!->package $1"}.UngroupItem("package a.b/c"), Filter{Group: "!a.b/c.|^a.b/c.->;{go}!->package $1"}},
		{"ungroup a Go package with a dot", Filter{Group: "{go}!->package $1"}.UngroupItem("package a.b/c.v3"), Filter{Group: `@!a\.b/c%2ev3\.|^a\.b/c%2ev3\.->;{go}!->package $1`}},
		{"ungroup what is no group", modules.UngroupItem("main"), modules},
		{"ungroup module", modules.UngroupModule("libc!x"), Filter{Group: "libc!->;{%}!->module $1"}},
		{"ungroup a module in brackets", Filter{Group: "a->A"}.UngroupModule("[heap]!x"), Filter{Group: ";[heap]!->;a->A"}},
		{"group module", Filter{Group: "a->A"}.GroupModule("libc!x"), Filter{Group: "a->A;libc!->libc"}},
		{"entry group", Filter{}.EntryGroup("libc!x"), Filter{Group: "libc!=>libc"}},
		{"range", Filter{}.SetTimeRange(5, 3), Filter{Start: 3, End: 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if err := c.got.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// Whatever a row is called, what is made of its name matches it.
func TestEditsOfStrangeNames(t *testing.T) {
	for _, function := range strange {
		for _, module := range modules {
			text := function
			if module != "" {
				text = module + "!" + function
			}
			p := stackProfile("0 1 other;q", "1 1 other")
			p.Frames[2].Module, p.Frames[2].Func = module, function
			s := NewSource(p)
			sel := filtered(t, s, Filter{})
			row := sel.Tree(NoColumns).Children()[0].Children()[0].Row.Name
			if !strings.Contains(row, function) {
				t.Fatalf("%q is shown as %q", text, row)
			}
			if r := filtered(t, s, Filter{}.IncludeItem(row)).Root(NoColumns); r.TotalCount != 1 && !strings.HasPrefix("other", strings.ToLower(row)) && module != `C:\x\y.dll` {
				t.Errorf("include %q: %v samples", row, r.TotalCount)
			}
			if r := filtered(t, s, Filter{}.ExcludeItem(row)).Root(NoColumns); r.TotalCount != 1 && module != `C:\x\y.dll` {
				t.Errorf("exclude %q: %v samples", row, r.TotalCount)
			}
			for _, f := range []Filter{Filter{}.FoldItem(row), Filter{}.FoldModule(row), Filter{}.GroupModule(row), Filter{}.UngroupModule(row), Filter{Group: "!=>X"}.UngroupItem("X <<" + row + ">>")} {
				if err := f.Check(); err != nil {
					t.Errorf("%q: %v", row, err)
				}
			}
		}
	}
}

func TestPresets(t *testing.T) {
	source := NewSource(stackProfile(
		"0 1 [broken stack];/usr/bin/app!runtime.main;/usr/bin/app!main.main;/usr/bin/app!example.com/w/x.F;/usr/bin/app!example.com/wide.G;/usr/bin/app!runtime.mallocgc;[kernel]!do_page_fault",
		"1 2 Process my (7);Thread (8);github.com/foo/bar.(*T).M"))
	for name, want := range map[string][]string{
		"no grouping":        {"github.com/foo/bar.(*T).M", "kernel!do_page_fault", "app!example.com/w/x.F"},
		"just my code":       {"OTHER <<github.com/foo/bar.(*T).M>>", "OTHER <<app!example.com/wide.G>>", "app!main.main", "app!example.com/w/x.F", "[broken stack]", "Thread (8)"},
		"module entries":     {"module kernel <<kernel!do_page_fault>>", "module app <<app!runtime.main>>"},
		"modules":            {"module kernel", "module app"},
		"Go packages":        {"package github.com/foo/bar", "package runtime", "package example.com/w/x", "package main"},
		"Go package entries": {"package runtime <<app!runtime.mallocgc>>"},
		"runtime":            {"RUNTIME <<app!runtime.main>>", "RUNTIME <<app!runtime.mallocgc>>"},
		"kernel":             {"KERNEL <<kernel!do_page_fault>>"},
		"classes":            {"github.com/foo/bar.(*T).M"},
		"threads":            {"Thread", "Process my (7)"},
		"processes":          {"Thread", "my"},
	} {
		all := Presets([]string{"example.com/w"})
		at := slices.IndexFunc(all, func(p Preset) bool { return p.Name == name })
		if at < 0 {
			t.Errorf("no preset %q", name)
			continue
		}
		if all[at].About == "" {
			t.Errorf("nothing about %q", name)
		}
		rows := rowNames(filtered(t, source, Filter{Group: "old"}.With(all[at])).ByName(NoColumns).Rows)
		for _, w := range want {
			if !slices.Contains(rows, w) {
				t.Errorf("%s: no row %q in %q", name, w, rows)
			}
		}
	}
	for _, p := range Presets([]string{"a{b", "", "prog"}) {
		if err := (Filter{}).With(p).Check(); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	if Presets(nil)[1].Name == "just my code" {
		t.Error("just my code without any")
	}
}

func rowNames(rows []StackRow) []string {
	var all []string
	for _, r := range rows {
		all = append(all, r.Name)
	}
	return all
}

func TestActive(t *testing.T) {
	if got := (Filter{}).Active(); got != "" {
		t.Error(got)
	}
	f := Filter{Group: "a->b", Include: "x", Start: 1, End: 2.5, FoldPercent: 1, Scenarios: []int{2, 0}}
	if got, want := f.Active(), "group a->b · fold below 1% · include x · from 1 to 2.5 ms · scenarios 2 0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
