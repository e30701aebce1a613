package convert

import (
	"bytes"
	"encoding/xml"
	"math"
	"strings"
	"testing"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// A drawing is what a picture shows of calls.
type drawing struct {
	Texts []struct {
		X    float64 `xml:"x,attr"`
		Text string  `xml:",chardata"`
	} `xml:"text"`
	Boxes []drawnBox `xml:"g"`
}

type drawnBox struct {
	Title string `xml:"title"`
	Rect  struct {
		X     float64 `xml:"x,attr"`
		Y     float64 `xml:"y,attr"`
		Width float64 `xml:"width,attr"`
		Fill  string  `xml:"fill,attr"`
	} `xml:"rect"`
	Text string `xml:"text"`
}

func draw(t *testing.T, weights map[string]int64, difference bool) (*drawing, map[string]drawnBox) {
	t.Helper()
	p := &profile.Profile{Kind: profile.CPU, Unit: profile.Nanoseconds, Frames: make([]profile.Frame, 1), Stacks: profile.NewStacks[profile.FrameID]()}
	ids := map[string]profile.FrameID{}
	for text, weight := range weights {
		stack := profile.StackID(0)
		for name := range strings.SplitSeq(text, ";") {
			if ids[name] == 0 {
				ids[name] = profile.FrameID(len(p.Frames))
				p.Frames = append(p.Frames, profile.Frame{Func: name})
			}
			stack = p.Stacks.Intern(stack, ids[name])
		}
		p.Samples.Append(profile.Sample{Stack: stack, Weight: weight, Count: 1})
	}
	var b bytes.Buffer
	if err := Write(&b, SVG, Export{Profile: p, Name: "from a to b", Difference: difference}); err != nil {
		t.Fatal(err)
	}
	var d drawing
	if err := xml.Unmarshal(b.Bytes(), &d); err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	boxes := map[string]drawnBox{}
	for _, box := range d.Boxes {
		name, _, _ := strings.Cut(box.Title, ":")
		boxes[name] = box
	}
	return &d, boxes
}

func (d *drawing) text() string {
	var all []string
	for _, x := range d.Texts {
		all = append(all, x.Text)
	}
	return strings.Join(all, "\n")
}

// A call is as wide as its share, within its caller.
func TestPictureWidths(t *testing.T) {
	d, boxes := draw(t, map[string]int64{"main;a;b": 30e6, "main;a": 10e6, "main;c": 40e6, "main": 20e6}, false)
	const whole = svgWidth - 2*svgMargin
	for name, share := range map[string]float64{"all": 1, "main": 1, "a": 0.4, "b": 0.3, "c": 0.4} {
		if got := boxes[name].Rect.Width / whole; math.Abs(got-share) > 0.001 {
			t.Errorf("%s is %.3f wide, want %.3f", name, got, share)
		}
	}
	if got := boxes["a"].Title; got != "a: 40.00 ms, 40.00%" {
		t.Errorf("a is titled %q", got)
	}
	if strings.Contains(d.text(), "grew") {
		t.Errorf("the picture of one profile speaks of growth:\n%s", d.text())
	}
}

// What shrank is drawn as what grew is, in its own colour and with its own mark, and the legend tells both.
func TestPictureOfADifference(t *testing.T) {
	d, boxes := draw(t, map[string]int64{
		"main;parse;compile": 60e6, "main;parse": -20e6, "main;read;copy": -80e6, "main;read": 10e6, "main;same": 5e6, "main;same;x": -5e6,
	}, true)
	for name, want := range map[string]struct{ title, mark string }{
		"main": {"-30.00 ms", "▼"}, "parse": {"+40.00 ms", "▲"}, "compile": {"+60.00 ms", "▲"}, "read": {"-70.00 ms", "▼"}, "copy": {"-80.00 ms", "▼"},
	} {
		b, ok := boxes[name]
		if !ok {
			t.Errorf("%s is not drawn", name)
			continue
		}
		if b.Title != name+": "+want.title || b.Text != want.mark+" "+name {
			t.Errorf("%s is titled %q and labelled %q, want %s %s", name, b.Title, b.Text, want.mark, want.title)
		}
		red, green := b.Rect.Fill[1:3], b.Rect.Fill[3:5]
		if (red > green) != (want.mark == "▲") {
			t.Errorf("%s %s has the colour %s", want.mark, name, b.Rect.Fill)
		}
	}
	if _, drawn := boxes["same"]; drawn {
		t.Error("what cost the same before and after is drawn")
	}
	if a, b := boxes["compile"].Rect.Width, boxes["parse"].Rect.Width; a > b+0.01 {
		t.Errorf("a callee is %.1f wide and its caller %.1f", a, b)
	}
	if a, b := boxes["read"].Rect.Width, boxes["parse"].Rect.Width; math.Abs(a/b-70.0/40) > 0.01 {
		t.Errorf("read is %.1f wide and parse %.1f, want 70 to 40", a, b)
	}
	inside := 0.0
	for _, name := range []string{"parse", "read"} {
		inside += boxes[name].Rect.Width
	}
	if whole := boxes["main"].Rect.Width; inside > whole+0.01 || whole < 1000 {
		t.Errorf("main is %.1f wide and its callees %.1f together", whole, inside)
	}
	for _, want := range []string{"cpu: -30.00 ms", "▲ grew", "▼ shrank"} {
		if !strings.Contains(d.text(), want) {
			t.Errorf("the picture does not say %q:\n%s", want, d.text())
		}
	}

	// Growth alone is a difference too; and one without any says so.
	if d, boxes := draw(t, map[string]int64{"main": 10e6}, true); !strings.Contains(d.text(), "▼ shrank") || boxes["main"].Text != "▲ main" {
		t.Errorf("growth alone: %q\n%s", boxes["main"].Text, d.text())
	}
	if d, _ := draw(t, map[string]int64{"main;a": 0}, true); !strings.Contains(d.text(), "nothing to draw") {
		t.Errorf("no difference: %s", d.text())
	}
	// A gain that makes up for a loss leaves no change as a whole, and both are seen.
	if _, boxes := draw(t, map[string]int64{"a": 10e6, "b": -10e6}, true); boxes["a"].Rect.Width != boxes["b"].Rect.Width || boxes["a"].Rect.Width < 500 {
		t.Errorf("a gain that makes up for a loss: %v", boxes)
	}
}
