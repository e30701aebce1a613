package convert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// stacksOf are a profile's samples as text: time, weight, count, task, and the frames from the root.
func stacksOf(p *profile.Profile) []string {
	var lines []string
	for i := range p.Samples.Len() {
		s := p.Samples.At(i)
		line := fmt.Sprintf("%d %d %d %+v", s.Time, s.Weight, s.Count, p.Tasks[s.Task])
		for _, id := range p.Stacks.RootFirst(s.Stack, nil) {
			line += fmt.Sprintf(" | %+v", p.Frames[id])
		}
		lines = append(lines, line)
	}
	return lines
}

// namesOf are the same with names alone: "10ms 0.5ms root;leaf".
func namesOf(p *profile.Profile) []string {
	var lines []string
	for i := range p.Samples.Len() {
		s := p.Samples.At(i)
		var names []string
		for _, id := range p.Stacks.RootFirst(s.Stack, nil) {
			names = append(names, fullName(p.Frames[id]))
		}
		weight := fmt.Sprint(s.Weight)
		if p.Unit == profile.Nanoseconds {
			weight = time.Duration(s.Weight).String()
		}
		lines = append(lines, fmt.Sprintf("%v %s %s", s.Time, weight, strings.Join(names, ";")))
	}
	return lines
}

// only is the profile of a capture's single series.
func only(t testing.TB, c *profile.Capture) *profile.Profile {
	t.Helper()
	if len(c.Series) != 1 {
		t.Fatalf("%d series, want one", len(c.Series))
	}
	p, err := c.Profile(c.Series[0].Kind)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustRead(t testing.TB, data string, o Options) *profile.Capture {
	t.Helper()
	c, _, err := Read(t.Context(), strings.NewReader(data), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func utf16Of(s string, mark, big bool) string {
	var b []byte
	if mark {
		s = "\uFEFF" + s
	}
	for _, u := range utf16.Encode([]rune(s)) {
		if big {
			b = append(b, byte(u>>8), byte(u))
		} else {
			b = append(b, byte(u), byte(u>>8))
		}
	}
	return string(b)
}

const simpleForm = `<StackSource><Samples>
 <Sample Time="1" Metric="10">
   leaf
   mod!middle
   root
 </Sample>
 <Sample>root</Sample>
 <Sample Time="0.5" Metric="-2.25"><![CDATA[a<b&c]]>&#10;root</Sample>
</Samples></StackSource>`

func TestPerfViewSimple(t *testing.T) {
	want := []string{
		"0s 1ms root",
		"500µs -2.25ms root;a<b&c",
		"1ms 10ms root;mod!middle;leaf",
	}
	declared := `<?xml version="1.0" encoding="utf-16"?>` + simpleForm
	latin := strings.Replace(`<?xml version='1.0' encoding='ISO-8859-1'?>`+simpleForm, "leaf", "l\xe9af", 1)
	for name, data := range map[string]string{
		"plain":        simpleForm,
		"mark":         "\uFEFF" + simpleForm,
		"wrapped":      "<?xml version=\"1.0\"?><!-- <StackSource> --><StackWindow>" + simpleForm + "</StackWindow>\n",
		"carriage":     strings.ReplaceAll(simpleForm, "\n", "\r\n"),
		"UTF-16":       utf16Of(declared, true, false),
		"UTF-16BE":     utf16Of(declared, true, true),
		"UTF-16 bare":  utf16Of(declared, false, false),
		"UTF-16BE bar": utf16Of(declared, false, true),
	} {
		t.Run(name, func(t *testing.T) {
			c := mustRead(t, data, Options{})
			p := only(t, c)
			if diff := cmp.Diff(want, namesOf(p)); diff != "" {
				t.Errorf("samples (-want +got):\n%s", diff)
			}
			if p.Unit != profile.Nanoseconds || p.Source != profile.Milliseconds || !c.Imported || c.Engine != "perfview" {
				t.Errorf("unit %s of %s, imported %v by %q", p.Unit, p.Source, c.Imported, c.Engine)
			}
			for _, f := range p.Frames {
				if f.Func == "middle" && f.Module != "mod" {
					t.Errorf("frame %+v is not split", f)
				}
			}
		})
	}
	if p := only(t, mustRead(t, latin, Options{})); !strings.HasSuffix(namesOf(p)[2], "léaf") {
		t.Errorf("ISO 8859-1 gives %q", namesOf(p))
	}
}

// Frames before, between and behind; sparse ids that do not begin at 0; elements nobody knows; counts that
// are wrong; samples without a time; a sample with its own frames among others.
const idForm = `<StackWindow Version="9"><New a='"'><Frame ID="1">no</Frame></New>
<StackSource><Stacks Count="1">
 <Stack ID="900000" CallerID="12" FrameID="70"/>
 <Stack FrameID="3" ID="12" CallerID="-1" Later="1"><Deep><Er/></Deep></Stack>
 <Stack ID="13" CallerID="12" FrameID="-5"/>
</Stacks>
<Extra><Samples><Sample Metric="1000"/></Samples></Extra>
<Samples Count="77">
 <Sample ID="5" StackID="900000" Metric="0.123456789"/>
 <Sample ID="1" StackID="12" Time="3.25" EventKind="x"/>
 <Sample ID="2" Time="2">own;frame
  lib/a.dll!b!c</Sample>
 <Sample Time="4" StackID="-1"/>
 <Sample Time="5" StackID="13"/>
 <Sample Time="6" StackID="14"/>
</Samples><Frames>
 <Frame ID="70" OptimizationTier="Tier1">C:\x\app.dll!![Tier1]Main(int, &lt;T&gt;)</Frame>
 <Frame ID="3">kernel!schedule</Frame>
</Frames></StackSource></StackWindow>`

func TestPerfViewIDs(t *testing.T) {
	c := mustRead(t, idForm, Options{Name: "x.perfView.xml"})
	p := only(t, c)
	want := []string{
		"0s 123.457µs kernel!schedule;C:\\x\\app.dll!![Tier1]Main(int, <T>)",
		"2ms 1ms lib/a.dll!b!c;own;frame",
		"3.25ms 1ms kernel!schedule",
		"4ms 1ms ",
		"5ms 1ms kernel!schedule;[unknown]",
		"6ms 1ms [broken stack]",
	}
	if diff := cmp.Diff(want, namesOf(p)); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	for _, f := range p.Frames[1:] {
		switch f {
		case profile.Frame{Module: "[kernel]", Func: "schedule"}, profile.Frame{Module: `C:\x\app.dll`, Func: "![Tier1]Main(int, <T>)"},
			profile.Frame{Module: "lib/a.dll", Func: "b!c"}, profile.Frame{Func: "own;frame"},
			profile.Frame{Func: profile.Unknown}, profile.Frame{Func: profile.BrokenStack}:
		default:
			t.Errorf("frame %+v", f)
		}
	}
	if len(c.Warnings) != 2 {
		t.Errorf("warnings %+v, want one of a stack and one of a frame", c.Warnings)
	}
}

func TestPerfViewJSON(t *testing.T) {
	data := `{"A":[{"Samples":1}],"StackSource":{"B":null,"Samples":[
	 {"Time":10,"Metric":"2.5","Stack":["leaf","m!root"],"C":{"D":[]}},
	 {"Stack":[]}, {"Time":"1e1","Metric":3,"Stack":["é\u0000\n"]}, {"Time":null}]}}`
	want := []string{"0s 1ms ", "0s 1ms ", "10ms 2.5ms m!root;leaf", "10ms 3ms é\x00\n"}
	for name, data := range map[string]string{"plain": data, "mark": "\uFEFF" + data, "UTF-16": utf16Of(data, true, false), "bare": utf16Of(data, false, true)} {
		if name == "bare" || name == "UTF-16" {
			data = strings.ReplaceAll(data, "", "")
		}
		if diff := cmp.Diff(want, namesOf(only(t, mustRead(t, data, Options{})))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestPerfViewState(t *testing.T) {
	data := `<StackWindow>` + simpleForm + `<StackWindowGuiState TabSelected="x"><FilterGuiState>
	<Start><Value> 1.5 </Value><History><string>7</string></History></Start><End>20</End>
	<GroupRegEx><History/><Value>{%}!-&gt;$1</Value></GroupRegEx><FoldPercent><Value>1</Value></FoldPercent>
	<FoldRegEx><Value>^f;g</Value></FoldRegEx><IncludeRegEx><Value>Process% a</Value></IncludeRegEx>
	<ExcludeRegEx></ExcludeRegEx><Scenarios><Value>0,2</Value></Scenarios><TypePriority><Value>no</Value></TypePriority></FilterGuiState>
	<Notes>two
lines</Notes><Log>no</Log><ScalingPolicy>ScaleToData</ScalingPolicy></StackWindowGuiState></StackWindow>`
	got := Filter{Exclude: "stale"}
	c := mustRead(t, data, Options{Filter: &got})
	want := Filter{
		Start: "1.5", End: "20", Group: "{%}!->$1", FoldPercent: "1", Fold: "^f;g", Include: "Process% a",
		Scenarios: "0,2", Notes: "two\nlines",
	}
	if got != want {
		t.Errorf("filter %+v, want %+v", got, want)
	}
	// A view that scales to data is of amounts.
	if p := only(t, c); p.Unit != profile.Millionths || p.Source != profile.None || p.Samples.Weight[1] != -2_250_000 {
		t.Errorf("unit %s of %s, weights %v", p.Unit, p.Source, p.Samples.Weight)
	}
	p := only(t, mustRead(t, strings.ReplaceAll(data, "-2.25", "4e3"), Options{}))
	if p.Unit != profile.Number || p.Source != "" || p.Samples.Weight[1] != 4000 {
		t.Errorf("whole: unit %s of %s, weights %v", p.Unit, p.Source, p.Samples.Weight)
	}
}

func TestPerfViewRefused(t *testing.T) {
	for name, x := range map[string]struct{ data, want string }{
		"cycle":        {`<StackSource><Stack ID="1" CallerID="2" FrameID="0"/><Stack ID="2" CallerID="1" FrameID="0"/><Sample StackID="1"/></StackSource>`, "calls itself"},
		"self":         {`<StackSource><Stack ID="1" CallerID="1" FrameID="0"/><Sample StackID="1"/></StackSource>`, "calls itself"},
		"cut":          {idForm[:len(idForm)/2], "unexpected EOF"},
		"cut in a tag": {`<StackSource><Sample Ti`, "EOF"},
		"number":       {`<StackSource><Sample Time="x"/></StackSource>`, "line 1: the time of a sample is"},
		"id":           {"<StackSource>\n<Stack ID='a'/></StackSource>", "line 2: ID of <Stack>"},
		"mismatch":     {`<StackSource><Samples></StackSource>`, "not open"},
		"type":         {`<!DOCTYPE a [<!ENTITY b "c">]><StackSource/>`, "document type"},
		"entity":       {`<StackSource><Frame ID="1">&b;</Frame></StackSource>`, "not defined"},
		"none":         {`<StackWindow></StackWindow>`, "no <StackSource>"},
		"encoding":     {`<?xml version="1.0" encoding="big5"?><StackSource/>`, "big5"},
		"deep":         {"<StackSource>" + strings.Repeat("<a>", 1000), "deep"},
		"JSON":         {`{"StackSource":{"Samples":[{"Stack":[1]}]}}`, "no string"},
		"JSON cut":     {`{"StackSource":{"Samples":[{"Stack":["a"`, "EOF"},
		"JSON none":    {`{"StackSource":{}}`, "Samples"},
		"JSON more":    {`{"StackSource":{"Samples":[]}}1`, "follows"},
		"JSON number":  {`{"StackSource":{"Samples":[{"Time":[]}]}}`, "no number"},
	} {
		_, _, err := Read(t.Context(), strings.NewReader(x.data), Options{Format: PerfView})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v; want %q", name, err, x.want)
		}
	}
	c := mustRead(t, `<StackSource><Sample Time="NaN"/><Sample Time="1e30"/><Sample Metric="Infinity"/><Sample Metric="99999999999999999999"/><Sample/></StackSource>`, Options{})
	if c.Series[0].Samples.Len() != 1 || len(c.Warnings) != 1 && len(c.Warnings) != 2 {
		t.Errorf("%d samples, warnings %+v; want one sample", c.Series[0].Samples.Len(), c.Warnings)
	}
}

// A stack of 100,000, in both forms, and in the ID form with callers behind their callees.
func TestPerfViewDeep(t *testing.T) {
	const depth = maxDepth
	var ids, simple strings.Builder
	ids.WriteString(`<StackSource><Sample StackID="1"/>`)
	simple.WriteString(`<StackSource><Sample>`)
	for i := 1; i <= depth; i++ {
		caller := i + 1
		if i == depth {
			caller = -1
		}
		fmt.Fprintf(&ids, `<Stack ID="%d" CallerID="%d" FrameID="%d"/>`, i, caller, i%2)
		fmt.Fprintf(&simple, "f%d\n", i%2)
	}
	ids.WriteString(`<Frame ID="0">f0</Frame><Frame ID="1">f1</Frame></StackSource>`)
	simple.WriteString(`</Sample></StackSource>`)
	a, b := only(t, mustRead(t, ids.String(), Options{})), only(t, mustRead(t, simple.String(), Options{}))
	if n := len(a.Stacks.RootFirst(a.Samples.Stack[0], nil)); n != depth {
		t.Errorf("depth %d, want %d", n, depth)
	}
	if !cmp.Equal(namesOf(a), namesOf(b)) {
		t.Error("the forms differ")
	}
}

// randomProfile has everything that a profile can hold, names that formats trip over among it.
func randomProfile(r *rand.Rand) *profile.Profile {
	names := []string{"main", "a;b", "a!b", "!", "!x", "x!", "kernel!f", "[kernel]!f", "a\nb", " pad ", "\x00\x01\uFFFE", "é", "<T>&\"'", profile.Unknown, "]]>", "\r\n\t", "ROOT", "?!?"}
	modules := []string{"", "", "[kernel]", "[vdso]", "/lib/a b.so", "kernel", "m!n", "\x02"}
	files := []string{"", "a.go", "/src/ü;.c", "\x03"}
	p := &profile.Profile{
		Kind: "cpu", Unit: profile.Nanoseconds, Start: time.Unix(1e9, 12345).UTC(), Length: time.Duration(r.Int64N(1e12)),
		Frames: make([]profile.Frame, 1), Stacks: profile.NewStacks[profile.FrameID](), Tasks: make([]profile.Task, 1),
	}
	switch r.IntN(6) {
	case 0:
		p.Kind, p.Unit = "inuse <space>", profile.Bytes
	case 1:
		p.Unit, p.Source = profile.Millionths, profile.None
	case 2:
		p.Kind, p.Unit = "faults", profile.Number
	case 3:
		p.Source = profile.Milliseconds
	case 4:
		p.Start = time.Time{}
	}
	seen := map[profile.Frame]bool{{}: true}
	for range r.IntN(30) {
		f := profile.Frame{Func: names[r.IntN(len(names))], Module: modules[r.IntN(len(modules))]}
		if r.IntN(2) == 0 {
			f.File, f.Line, f.Column, f.StartLine = files[r.IntN(len(files))], r.IntN(3), r.IntN(2), r.IntN(2)
			f.Inlined, f.Entry = r.IntN(2) == 0, r.IntN(5) == 0
		}
		if !seen[f] {
			seen[f] = true
			p.Frames = append(p.Frames, f)
		}
	}
	for i := range r.IntN(4) {
		p.Tasks = append(p.Tasks, profile.Task{PID: 10 + i/2, TID: 10 + i, Parent: i, Comm: names[r.IntN(len(names))]})
	}
	ids := []profile.StackID{0}
	for range r.IntN(60) {
		if len(p.Frames) > 1 {
			ids = append(ids, p.Stacks.Intern(ids[r.IntN(len(ids))], profile.FrameID(1+r.IntN(len(p.Frames)-1))))
		}
	}
	at := time.Duration(r.Int64N(1000)) - 500
	for range r.IntN(80) {
		at += time.Duration(r.Int64N(3) * r.Int64N(5e6))
		weight := r.Int64N(1e10) - 1e9
		if r.IntN(3) == 0 {
			weight = 1e6
		}
		p.Samples.Append(profile.Sample{
			Stack: ids[r.IntN(len(ids))], Task: profile.TaskID(r.IntN(len(p.Tasks))), Time: at, Weight: weight, Count: 1 + r.Int64N(2)*r.Int64N(3),
		})
	}
	return p
}

func TestPerfViewRoundTrip(t *testing.T) {
	for seed := range uint64(300) {
		p := randomProfile(rand.New(rand.NewPCG(seed, 1)))
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		filter := Filter{Start: "1", Group: "a->b<c>", Notes: "n & m", Fold: "^x;y", Scenarios: "1,2"}
		e := Export{Profile: p, Filter: filter}
		var plain, zipped bytes.Buffer
		if err := writePerfView(&plain, e); err != nil {
			t.Fatal(err)
		}
		if err := WritePerfViewZip(&zipped, e); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string]string{"plain": plain.String(), "zip": zipped.String()} {
			var got Filter
			q := only(t, mustRead(t, data, Options{Filter: &got}))
			if diff := cmp.Diff(stacksOf(p), stacksOf(q)); diff != "" {
				t.Fatalf("seed %d, %s: samples (-want +got):\n%s\n%s", seed, name, diff, plain.String())
			}
			if q.Kind != p.Kind || q.Unit != p.Unit || q.Source != p.Source || !q.Start.Equal(p.Start) || got != filter {
				t.Fatalf("seed %d, %s: %s %s %s %v %v, want %s %s %s %v %v", seed, name, q.Kind, q.Unit, q.Source, q.Start, got, p.Kind, p.Unit, p.Source, p.Start, filter)
			}
			if q.Length != p.Length && p.Length != 0 {
				t.Fatalf("seed %d: length %v, want %v", seed, q.Length, p.Length)
			}
		}
	}
}

// What PerfView reads of our files: names, callers, times and metrics by its own rules, without the
// elements that are ours.
func TestPerfViewForPerfView(t *testing.T) {
	p := &profile.Profile{
		Kind: profile.CPU, Unit: profile.Nanoseconds, Frames: []profile.Frame{{}, {Func: "main.main", Module: "/bin/a", File: "a.go", Line: 3}, {Func: "schedule", Module: "[kernel]"}},
		Stacks: profile.NewStacks[profile.FrameID](), Tasks: []profile.Task{{}, {PID: 7, TID: 8, Comm: "a b"}},
	}
	leaf := p.Stacks.Intern(p.Stacks.Intern(0, 1), 2)
	p.Samples.Append(profile.Sample{Stack: leaf, Task: 1, Time: 1500 * time.Microsecond, Weight: 10_000_001, Count: 1})
	var b bytes.Buffer
	if err := writePerfView(&b, Export{Profile: p, Filter: Filter{End: "9"}}); err != nil {
		t.Fatal(err)
	}
	want := "\uFEFF" + `<?xml version="1.0" encoding="utf-8"?>
<StackWindow>
 <StackSource Kind="cpu" Unit="ns" Length="0.000">
  <Tasks>
   <Task ID="1" PID="7" TID="8" Comm="a b"/>
  </Tasks>
  <Places>
   <Place ID="0" File="a.go" Line="3"/>
  </Places>
  <Frames Count="8">
   <Frame ID="0">ROOT</Frame>
   <Frame ID="1">BROKEN</Frame>
   <Frame ID="2" Module="">?!?</Frame>
   <Frame ID="3">OVERHEAD</Frame>
   <Frame ID="4">Process a b (7)</Frame>
   <Frame ID="5">Thread (8)</Frame>
   <Frame ID="6">/bin/a!main.main</Frame>
   <Frame ID="7">kernel!schedule</Frame>
  </Frames>
  <Stacks Count="4">
   <Stack ID="0" CallerID="-1" FrameID="4" />
   <Stack ID="1" CallerID="0" FrameID="5" Task="1" />
   <Stack ID="2" CallerID="1" FrameID="6" Place="0" />
   <Stack ID="3" CallerID="2" FrameID="7" />
  </Stacks>
  <Samples Count="1">
   <Sample ID="0" Time="1.500" StackID="3" Metric="10.000001" />
  </Samples>
 </StackSource>
 <StackWindowGuiState>
  <FilterGuiState>
   <Start><Value></Value></Start>
   <End><Value>9</Value></End>
   <Scenarios><Value></Value></Scenarios>
   <GroupRegEx><Value></Value></GroupRegEx>
   <FoldPercent><Value></Value></FoldPercent>
   <FoldRegEx><Value></Value></FoldRegEx>
   <IncludeRegEx><Value></Value></IncludeRegEx>
   <ExcludeRegEx><Value></Value></ExcludeRegEx>
  </FilterGuiState>
  <Notes></Notes>
  <ScalingPolicy>TimeMetric</ScalingPolicy>
 </StackWindowGuiState>
</StackWindow>
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
}

func TestDecimal(t *testing.T) {
	for _, x := range []struct {
		text   string
		digits int
		want   int64
		ok     bool
	}{
		{"1", 6, 1_000_000, true}, {" -0.0000005 ", 6, -1, true}, {"0.0000004999", 6, 0, true}, {"+12.5", 0, 13, true},
		{".5", 3, 500, true}, {"5.", 3, 5000, true}, {"1.5E-3", 6, 1500, true}, {"9223372036854775807", 0, 0, false},
		{"", 0, 0, false}, {".", 0, 0, false}, {"1.2.3", 6, 0, false}, {"--1", 0, 0, false}, {"0.9999999", 6, 1_000_000, true},
	} {
		got, err := decimal([]byte(x.text), x.digits)
		if got != x.want && err == nil || (err == nil) != x.ok {
			if x.text == "9223372036854775807" && err == nil {
				continue
			}
			t.Errorf("decimal(%q, %d) = %d, %v; want %d, ok %v", x.text, x.digits, got, err, x.want, x.ok)
		}
	}
	for _, text := range []string{"NaN", "-Infinity", "1e300", "99999999999999999999"} {
		if _, err := decimal([]byte(text), 6); !errors.Is(err, errRange) {
			t.Errorf("decimal(%q): %v, want errRange", text, err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		n := r.Int64() >> r.IntN(62)
		if r.IntN(2) == 0 {
			n = -n
		}
		for _, digits := range []int{0, 6} {
			if n > 1<<61 || n < -1<<61 {
				continue
			}
			for _, text := range []string{metric(n, digits), fixed(n, digits)} {
				if got, err := decimal([]byte(text), digits); got != n || err != nil {
					t.Errorf("decimal(%q, %d) = %d, %v; want %d", text, digits, got, err, n)
				}
			}
		}
	}
}

func FuzzPerfView(f *testing.F) {
	for _, data := range []string{
		simpleForm, idForm, utf16Of(simpleForm, false, true),
		`{"StackSource":{"Samples":[{"Time":"1","Metric":-2,"Stack":["b","a"]},{}]}}`,
		`<StackSource Unit="bytes" Kind="k" Start="2020-01-01T00:00:00Z" Length="1"><Task ID="1" PID="1" Quoted="&quot;\x00&quot;"/><Place ID="0" Line="1" File="f"/>` +
			`<Frame ID="0" Module="">a!b</Frame><Stack ID="0" CallerID="-1" FrameID="0" Task="1"/><Stack ID="1" CallerID="0" FrameID="0" Place="0"/><Sample StackID="1" Count="3"/></StackSource>`,
	} {
		f.Add([]byte(data))
	}
	var b bytes.Buffer
	if err := writePerfView(&b, Export{Profile: randomProfile(rand.New(rand.NewPCG(5, 5)))}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := Read(context.Background(), bytes.NewReader(data), Options{Format: PerfView})
		if (c == nil) == (err == nil) {
			t.Fatalf("capture %v, error %v", c, err)
		}
		if err != nil {
			return
		}
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		// What was read can be written, and reads the same.
		p := only(t, c)
		var w bytes.Buffer
		if err := writePerfView(&w, Export{Profile: p}); err != nil {
			t.Fatal(err)
		}
		again, _, err := Read(context.Background(), &w, Options{Format: PerfView})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(stacksOf(p), stacksOf(only(t, again))); diff != "" {
			t.Fatalf("written and read (-want +got):\n%s", diff)
		}
	})
}

func BenchmarkReadPerfView(b *testing.B) {
	p := &profile.Profile{Kind: "cpu", Unit: profile.Nanoseconds, Frames: make([]profile.Frame, 1), Stacks: profile.NewStacks[profile.FrameID](), Tasks: make([]profile.Task, 1)}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 5000 {
		p.Frames = append(p.Frames, profile.Frame{Module: "/usr/lib/libexample.so", Func: fmt.Sprintf("namespace::Function<%d>", i)})
	}
	ids := []profile.StackID{0}
	for range 200_000 {
		ids = append(ids, p.Stacks.Intern(ids[max(0, len(ids)-1-r.IntN(40))], profile.FrameID(1+r.IntN(5000))))
	}
	for i := range 600_000 {
		p.Samples.Append(profile.Sample{Stack: ids[r.IntN(len(ids))], Time: time.Duration(i) * 1_001_003, Weight: 1_000_000 + int64(i), Count: 1})
	}
	var data bytes.Buffer
	if err := writePerfView(&data, Export{Profile: p}); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(data.Len()))
	for b.Loop() {
		if _, _, err := Read(b.Context(), io.NewSectionReader(bytes.NewReader(data.Bytes()), 0, int64(data.Len())), Options{Format: PerfView}); err != nil {
			b.Fatal(err)
		}
	}
}
