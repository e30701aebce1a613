package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Two is a module with two files of collapsed stacks: b has got slower, and c is new.
const two = `
-- go.mod --
module example.com/two

go 1.22
-- a.folded --
main;parse;read 60
main;parse 20
main;sort 20
-- b.folded --
main;parse;read 60
main;parse 50
main;sort 20
main;sort;c 10
`

// OutRows are rows of JSON as "total/self name", in their order.
func outRows(rows []rowOut) []string {
	lines := []string{}
	for _, r := range rows {
		lines = append(lines, fmt.Sprintf("%g/%g %s", r.Total, r.Self, r.Name))
	}
	return lines
}

func wantRows(t *testing.T, got []rowOut, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, outRows(got)); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestStacksOfAFile(t *testing.T) {
	inModule(t, two)
	byName := decode[rowsOut](t, mustRun(t, "stacks", "a.folded", "--json"))
	wantRows(t, byName.Rows, "60/60 read", "80/20 parse", "20/20 sort", "100/0 ROOT", "100/0 main")
	if byName.Root.Total != 100 {
		t.Errorf("the root is %+v", byName.Root)
	}
	byName = decode[rowsOut](t, mustRun(t, "stacks", "a.folded", "--json", "--include", "parse", "--fold", "read", "--group", "^m->M"))
	wantRows(t, byName.Rows, "80/80 parse", "80/0 M", "80/0 ROOT")
	tree := decode[rowOut](t, mustRun(t, "stacks", "a.folded", "--json", "--view", "call-tree"))
	wantRows(t, tree.Children, "100/0 main")
	wantRows(t, tree.Children[0].Children, "80/20 parse", "20/20 sort")
	callers := decode[rowOut](t, mustRun(t, "stacks", "a.folded", "--json", "--view", "callers", "--focus", "read"))
	wantRows(t, callers.Children, "60/0 parse")
	callees := decode[rowOut](t, mustRun(t, "stacks", "a.folded", "--json", "--view", "callees", "--focus", "parse"))
	wantRows(t, callees.Children, "60/60 read")
	calls := decode[struct {
		Focus            rowOut
		Callers, Callees []rowOut
	}](t, mustRun(t, "stacks", "a.folded", "--json", "--view", "caller-callee", "--focus", "parse"))
	wantRows(t, calls.Callers, "80/20 main")
	wantRows(t, []rowOut{calls.Focus}, "80/20 parse")
	wantRows(t, calls.Callees, "60/60 read")

	// What people read has the same numbers, and says what is filtered.
	out := mustRun(t, "stacks", "a.folded", "--exclude", "sort")
	for _, want := range []string{"75.0%        60", "read", "filter: exclude sort", "80 of 80 samples remain"} {
		if !strings.Contains(out, want) {
			t.Errorf("the table lacks %q:\n%s", want, out)
		}
	}
	for _, view := range stackViews {
		args := []string{"stacks", "a.folded", "--view", view, "--focus", "parse"}
		switch view {
		case "functions":
			args = append(args, "--file", "x.c") // there is none
			if status, _, stderr := sightline(t, args...); status != exitUsage || !strings.Contains(stderr, "x.c") {
				t.Errorf("functions of a file that is not there: exit %d, %s", status, stderr)
			}
			continue
		case "flame":
			if out := mustRun(t, args...); xml.Unmarshal([]byte(out), new(struct{})) != nil || !strings.Contains(out, "read") {
				t.Errorf("the flame graph is no picture:\n%.200s", out)
			}
		default:
			status, out, stderr := sightline(t, args...)
			if view == "timeline" || view == "histogram" { // collapsed stacks have no times
				if status != exitUsage || !strings.Contains(stderr, "have no times") {
					t.Errorf("--view %s of stacks without times: exit %d, %s", view, status, stderr)
				}
				continue
			}
			for line := range strings.Lines(out) {
				if n := len([]rune(strings.TrimRight(line, "\n"))); n > 120 || status != exitDone {
					t.Errorf("--view %s has a line of %d columns: %s", view, n, line)
				}
			}
		}
		if !json.Valid([]byte(mustRun(t, append(args, "--json")...))) {
			t.Errorf("--view %s --json is no JSON", view)
		}
	}
}

// A file comes from standard input too, compressed or not.
func TestStacksOfStandardInput(t *testing.T) {
	inModule(t, two)
	text, err := os.ReadFile("a.folded")
	if err != nil {
		t.Fatal(err)
	}
	var out, stderr safeBuffer
	if status := run(t.Context(), []string{"stacks", "-", "--json"}, streams{bytes.NewReader(text), &out, &stderr}); status != exitDone {
		t.Fatalf("exit %d: %s", status, stderr.String())
	}
	wantRows(t, decode[rowsOut](t, out.String()).Rows[:2], "60/60 read", "80/20 parse")
}

func TestStacksBadInput(t *testing.T) {
	inModule(t, two)
	if err := os.WriteFile("junk", []byte("\x00\x01\x02 nothing"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("empty", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"stacks", "a.folded", "--view", "tree"}, "there is no view tree; there are by-name, call-tree"},
		{[]string{"stacks", "a.folded", "--view", "callers"}, "name it with --focus"},
		{[]string{"stacks", "a.folded", "--view", "callers", "--focus", "prase"}, `"parse"`},
		{[]string{"stacks", "a.folded", "--group", "{a->b"}, `group pattern "{a", column 1`},
		{[]string{"stacks", "a.folded", "--fold", "ok;@("}, `fold pattern "@(", column 5`},
		{[]string{"stacks", "a.folded", "--start", "soon"}, `invalid argument "soon" for "--start" flag is no number`},
		{[]string{"stacks", "a.folded", "--weights", "heavy"}, "heavy"},
		{[]string{"stacks", "a.folded", "--compat", "vtune"}, "it is perfview"},
		{[]string{"stacks", "a.folded", "--kind", "heap"}, "has no samples of kind heap"},
		{[]string{"stacks", "a.folded", "--preset", "mine"}, `there is no preset "mine"; there are`},
		{[]string{"stacks", "a.folded", "--top", "-1"}, "none may be negative"},
		{[]string{"stacks", "gone.pprof"}, "gone.pprof is neither a file nor a capture"},
		{[]string{"stacks", "junk"}, "read junk: the format is not known by its content"},
		{[]string{"stacks", "empty"}, "it is empty"},
		{[]string{"stacks", "a.folded", "--scenario", "x=b.folded"}, "give it a name"},
		{[]string{"stacks", "--scenario", "b.folded"}, "write it as NAME=CAPTURE"},
		{[]string{"stacks", "--scenario", "gone.scenarioSet.xml"}, "no such file"},
		{[]string{"diff", "a.folded"}, "before and after, and 1 were given"},
		{[]string{"diff", "a.folded", "b.folded", "--fail-over", "much"}, "is no percentage"},
		{[]string{"import"}, "takes the files to import"},
		{[]string{"import", "gone"}, "read gone: no such file or directory"},
		{[]string{"export", "a.folded"}, "say which format to write with --format"},
		{[]string{"export", "a.folded", "-o", "x.doc"}, "the name x.doc does not tell a format"},
		{[]string{"export", "a.folded", "--format", "perf.data"}, "perf.data is no format that is written"},
		{[]string{"export", "a.folded", "-o", "gone/x.svg"}, "gone/x.svg"},
		{[]string{"presets", "rm", "mine"}, `remove preset "mine"`},
		{[]string{"presets", "save", "mine", "--group", "{"}, "column 1"},
	} {
		status, out, stderr := sightline(t, c.args...)
		if status != exitUsage || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 || out != "" {
			t.Errorf("%q: exit %d, output %q, %q; want %q", c.args, status, out, stderr, c.want)
		}
	}
	checkStore(t)
}

func TestDiffOfFiles(t *testing.T) {
	inModule(t, two)
	byName := decode[rowsOut](t, mustRun(t, "diff", "a.folded", "b.folded", "--json"))
	wantRows(t, byName.Rows, "30/30 parse", "10/10 c", "40/0 ROOT", "40/0 main", "10/0 sort", "0/0 read")
	out := mustRun(t, "diff", "a.folded", "b.folded")
	for _, want := range []string{"from a.folded to b.folded", "100 → 140 · +40.0%", "+30"} {
		if !strings.Contains(out, want) {
			t.Errorf("the difference lacks %q:\n%s", want, out)
		}
	}
	report := decode[[]struct {
		Name                                                string
		Before, After, Overweight, Responsibility, Interest float64
	}](t, mustRun(t, "diff", "a.folded", "b.folded", "--overweight", "--json"))
	if len(report) == 0 || report[0].Name != "sort" && report[0].Name != "parse" {
		t.Errorf("the overweight report is %+v", report)
	}
	mustRun(t, "diff", "a.folded", "b.folded", "--overweight")
	for _, c := range []struct {
		args   []string
		status int
	}{
		{[]string{"--fail-over", "39%"}, exitFailed},
		{[]string{"--fail-over", "40"}, exitDone},
		{[]string{"--fail-over", "10", "--focus", "read"}, exitDone},
		{[]string{"--fail-over", "10", "--focus", "parse"}, exitFailed},
		{[]string{"--fail-over", "1000", "--focus", "c"}, exitFailed}, // it is new
	} {
		status, _, stderr := sightline(t, append([]string{"diff", "a.folded", "b.folded"}, c.args...)...)
		if status != c.status || (status == exitFailed) != strings.Contains(stderr, "grew from") {
			t.Errorf("%q: exit %d, want %d: %s", c.args, status, c.status, stderr)
		}
	}
}

// Two builds of one program under two names have no function in common, and are told how to have.
func TestDiffOfRenamed(t *testing.T) {
	inModule(t, `
-- go.mod --
module example.com/two

go 1.22
-- a.folded --
old.test!main;old.test!work 60
old.test!main;libc!read 30
-- b.folded --
new.test!main;new.test!work 80
new.test!main;libc!read 30
`)
	diff := func(args ...string) (rowsOut, string) {
		status, out, stderr := sightline(t, append([]string{"diff", "a.folded", "b.folded", "--json"}, args...)...)
		if status != exitDone {
			t.Fatalf("exit %d: %s", status, stderr)
		}
		return decode[rowsOut](t, out), stderr
	}
	rows, note := diff()
	wantRows(t, rows.Rows, "80/80 new.test!work", "-60/-60 old.test!work", "110/0 new.test!main", "-90/0 old.test!main", "20/0 ROOT", "0/0 libc!read")
	if !strings.HasPrefix(note, "note: most is in old.test before and in new.test after,") {
		t.Errorf("noted %q", note)
	}
	rows, note = diff("--group", "{*}!{*}->$2")
	wantRows(t, rows.Rows, "20/20 work", "20/0 ROOT", "20/0 main", "0/0 read")
	if note != "" {
		t.Errorf("noted %q", note)
	}
}

func TestScenarios(t *testing.T) {
	inModule(t, two)
	out := mustRun(t, "stacks", "--scenario", "old=a.folded", "--scenario", "new=b.folded", "--json")
	rows := decode[struct {
		Rows []struct {
			Name, Which string
			Total       float64
		}
	}](t, out).Rows
	which := map[string]string{}
	for _, r := range rows {
		which[r.Name] = r.Which
	}
	if len(which["c"]) != 2 || which["c"][0] != '_' || which["c"][1] == '_' || which["old"] == "" {
		t.Errorf("the columns Which are %v", which)
	}
}

// An import is a capture like any other: the editor's numbers and the command line's come from it.
func TestImportAndExport(t *testing.T) {
	dir := inModule(t, burn)
	pprof := filepath.Join(dir, "cpu.pprof")
	mustRun(t, "record", "--", "go", "version")
	mustRun(t, "export", "-o", pprof)
	imported := decode[[]captureJSON](t, mustRun(t, "import", pprof, "--note", "by hand", "--json"))
	if len(imported) != 1 {
		t.Fatalf("%d captures were imported", len(imported))
	}
	list := decode[[]captureJSON](t, mustRun(t, "captures", "--json"))
	if len(list) != 2 || list[0].ID != imported[0].ID || list[0].Note != "by hand" || list[0].Kinds[0].Total != list[1].Kinds[0].Total {
		t.Errorf("captures are %+v", list)
	}
	same := func(what, a, b string) {
		t.Helper()
		if diff := cmp.Diff(outRows(decode[rowsOut](t, a).Rows), outRows(decode[rowsOut](t, b).Rows)); diff != "" {
			t.Errorf("%s (-before +after):\n%.2000s", what, diff)
		}
	}
	same("by name after an import", mustRun(t, "stacks", "@2", "--json"), mustRun(t, "stacks", "@", "--json"))
	for _, format := range []string{"pprof", "speedscope", "firefox", "perfview"} {
		file := filepath.Join(dir, "export."+format)
		mustRun(t, "export", "@2", "--format", format, "-o", file)
		rows := decode[rowsOut](t, mustRun(t, "stacks", file, "--json"))
		want := decode[rowsOut](t, mustRun(t, "stacks", "@2", "--json"))
		unit := 1.0
		if want.Root.Total != 0 {
			unit = rows.Root.Total / want.Root.Total
		}
		got := map[string]float64{}
		for _, r := range rows.Rows {
			got[r.Name] = r.Self / unit
		}
		for _, r := range want.Rows {
			if math.Abs(got[r.Name]-r.Self) > 1e-6*want.Root.Total {
				t.Errorf("%s: %s has %g, want %g", format, r.Name, got[r.Name], r.Self)
			}
		}
	}
	checkStore(t)
}

func TestPresetsOfTheCommandLine(t *testing.T) {
	inModule(t, two)
	stock := decode[[]preset](t, mustRun(t, "presets", "--json"))
	if len(stock) < 6 || !stock[0].Stock {
		t.Fatalf("the presets are %+v", stock)
	}
	mustRun(t, "presets", "save", "my", "parser", "--fold", "read", "--include", "parse")
	list := mustRun(t, "presets")
	if !strings.HasPrefix(list, "my parser") || !strings.Contains(list, "just my code") {
		t.Errorf("the list of presets is\n%s", list)
	}
	byName := decode[rowsOut](t, mustRun(t, "stacks", "a.folded", "--preset", "My Parser", "--json"))
	wantRows(t, byName.Rows, "80/80 parse", "80/0 ROOT", "80/0 main")
	mustRun(t, "presets", "rm", "my", "parser")
	if all := decode[[]preset](t, mustRun(t, "presets", "--json")); len(all) != len(stock) {
		t.Errorf("there are %d presets after removing one, want %d", len(all), len(stock))
	}
	checkStore(t)
}

// Cancelling ends a view of a large file with one sentence.
func TestStacksCancelled(t *testing.T) {
	inModule(t, two)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if status, _, stderr := sightlineContext(ctx, "stacks", "a.folded"); status != exitUsage || !strings.Contains(stderr, "interrupted") {
		t.Errorf("exit %d: %s", status, stderr)
	}
}
