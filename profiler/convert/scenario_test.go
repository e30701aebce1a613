package convert

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestScenarioSet(t *testing.T) {
	files := []string{
		"/s/foo.perfView.xml.zip", "/s/baz.PERFVIEW.xml.zip", "/s/deep/er/bar.perfView.xml.zip", "/s/foo.perfView.xml", "/s/other.txt",
		"/s/runs/r1-a.perfView.xml", "/s/runs/r2-b.perfView.xml", "/s/runs/r2-skip.perfView.xml", "/abs/x.perfView.xml",
	}
	find := func(dir string) ([]string, error) {
		var got []string
		for _, f := range files {
			if strings.HasPrefix(f, strings.TrimSuffix(dir, "/")+"/") {
				got = append(got, f)
			}
		}
		if got == nil {
			return nil, errors.New("no folder " + dir)
		}
		return got, nil
	}
	for name, x := range map[string]struct {
		set  string
		want []Scenario
		err  string
	}{
		"of the documentation": {
			set: "\uFEFF<?xml version='1.0'?><ScenarioSet><!-- a --><Scenarios files=\"*.perfView.xml.zip\" namePattern=\"Example scenario [$1]\" />\n" +
				`<Scenarios files="foo.perfView.xml.zip" namePattern="Example scenario [baz]" /></ScenarioSet>`,
			want: []Scenario{
				{"Example scenario [baz]", "/s/foo.perfView.xml.zip"},
				{"Example scenario [bar]", "/s/deep/er/bar.perfView.xml.zip"},
				{"Example scenario [foo]", "/s/foo.perfView.xml.zip"},
			},
		},
		"groups": {
			set:  `<ScenarioSet><Scenarios files="runs\r*-*.perfview.XML" namePattern="${2}$1$$$9$&amp;" excludePattern="s[k]ip" includePattern="runs/"/></ScenarioSet>`,
			want: []Scenario{{"a1$$9r1-a.perfView.xml", "/s/runs/r1-a.perfView.xml"}, {"b2$$9r2-b.perfView.xml", "/s/runs/r2-b.perfView.xml"}},
		},
		"default and absolute": {
			set:  `<ScenarioSet><Scenarios files="/abs/?.perfView.xml"/></ScenarioSet>`,
			want: []Scenario{{"scenario x", "/abs/x.perfView.xml"}},
		},
		"none":      {set: `<ScenarioSet><Scenarios files="no*.perfView.xml"/></ScenarioSet>`, err: "no file in /s"},
		"no folder": {set: `<ScenarioSet><Scenarios files="no/a.perfView.xml"/></ScenarioSet>`, err: "no folder /s/no"},
		"ending":    {set: `<ScenarioSet><Scenarios files="*.txt"/></ScenarioSet>`, err: "line 1: files is \"*.txt\""},
		"files":     {set: `<ScenarioSet><Scenarios/></ScenarioSet>`, err: "needs files"},
		"regexp":    {set: `<ScenarioSet><Scenarios files="a.perfView.xml" includePattern="("/></ScenarioSet>`, err: "no regular expression"},
		"empty":     {set: `<ScenarioSet/>`, err: "no <Scenarios>"},
		"cut":       {set: `<ScenarioSet><Scenarios files="foo.perfView.xml"/>`, err: "EOF"},
		"folder":    {set: `<ScenarioSet><Scenarios files="*/a.perfView.xml"/></ScenarioSet>`, err: "only its last part"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ReadScenarioSet(strings.NewReader(x.set), "/s", find)
			if x.err != "" {
				if err == nil || !strings.Contains(err.Error(), x.err) {
					t.Errorf("%v, want %q", err, x.err)
				}
				return
			}
			if diff := cmp.Diff(x.want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestScenarioSetOnDisk(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sub", "one.perfView.xml")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := ReadScenarioSet(strings.NewReader(`<ScenarioSet><Scenarios files="*.perfView.xml"/></ScenarioSet>`), dir, nil)
	if diff := cmp.Diff([]Scenario{{"scenario one", file}}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if !IsScenarioSet("a/b.ScenarioSet.XML") || IsScenarioSet("a.perfView.xml") {
		t.Error("IsScenarioSet does not know a set by its name")
	}
}

func FuzzScenarioSet(f *testing.F) {
	f.Add(`<ScenarioSet><Scenarios files="*.perfView.xml.zip" namePattern="$1 ${2} $" includePattern="."/></ScenarioSet>`)
	f.Fuzz(func(t *testing.T, set string) {
		all, err := ReadScenarioSet(strings.NewReader(set), "/s", func(dir string) ([]string, error) {
			return []string{dir + "/a.perfView.xml", dir + "/b.perfView.xml.zip"}, nil
		})
		if (len(all) == 0) == (err == nil) {
			t.Fatalf("%v, %v", all, err)
		}
	})
}
