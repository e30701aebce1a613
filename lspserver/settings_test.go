package lspserver

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseSettings(t *testing.T) {
	for _, c := range []struct {
		name, json     string
		unknown, wrong []string
		check          func(*settings) bool
	}{
		{name: "nothing", json: ``, check: func(s *settings) bool { return s.hints && s.hintThreshold == 1 }},
		{name: "null", json: `null`, check: func(s *settings) bool { return s.metric == metric{"total", "both"} }},
		{name: "nested", json: `{"hints": {"threshold": 2.5, "metric": "self"}, "lenses": {"subtests": false}}`,
			check: func(s *settings) bool {
				return s.hintThreshold == 2.5 && s.metric.Measure == "self" && !s.lensTests[subtest] && s.lensTests[plainTest]
			}},
		{name: "dotted, below the section", json: `{"sightline": {"hints.enable": false, "recording": {"engine": "perf", "frequency": 99}}}`,
			check: func(s *settings) bool { return !s.hints && s.engine == "perf" && s.frequency == 99 }},
		{name: "paths, longest prefix first", json: `{"paths": {"/src": "/here", "/src/deep": "/there"}}`,
			check: func(s *settings) bool { return len(s.prefixes) == 2 && s.prefixes[0].To == "/there" }},
		{name: "unknown", json: `{"hints": {"thresold": 3}, "x": {"y": 1}}`,
			unknown: []string{"sightline.hints.thresold", "sightline.x"},
			check:   func(s *settings) bool { return s.hintThreshold == 1 }},
		{name: "wrong", json: `{"hints": {"threshold": "2", "enable": 1, "unit": "ms"}, "lenses": true, "paths": {"/a": 7}}`,
			wrong: []string{
				`sightline.hints.enable is 1: make it true or false`,
				`sightline.hints.threshold is "2": make it a number from 0 to 100`,
				`sightline.hints.unit is "ms": make it "both", "percent" or "time"`,
				`sightline.lenses is true: make it an object`,
				`sightline.paths is {"/a":7}: make it an object that maps path prefixes of the build to folders here`,
			},
			check: func(s *settings) bool { return s.hints && s.hintThreshold == 1 && s.prefixes == nil }},
		{name: "no object", json: `[1]`, wrong: []string{"sightline is [1]: make it an object"},
			check: func(s *settings) bool { return s.hints }},
		{name: "null leaf", json: `{"hints": {"threshold": null}}`,
			check: func(s *settings) bool { return s.hintThreshold == 1 }},
	} {
		s, unknown, wrong := parseSettings([]byte(c.json))
		if diff := cmp.Diff(c.unknown, unknown); diff != "" {
			t.Errorf("%s: unknown (-want +got):\n%s", c.name, diff)
		}
		if diff := cmp.Diff(c.wrong, wrong); diff != "" {
			t.Errorf("%s: wrong (-want +got):\n%s", c.name, diff)
		}
		if !c.check(s) {
			t.Errorf("%s: settings are %+v", c.name, s)
		}
	}
}

// Settings are whatever a person typed: they are taken or told, and always stay usable.
func FuzzParseSettings(f *testing.F) {
	f.Add([]byte(`{"hints": {"threshold": 2.5}, "paths": {"/a": "/b"}}`))
	f.Add([]byte(`{"sightline": {"recording.frequency": 1e300, "lenses": []}}`))
	f.Add([]byte(`[[[`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, _, _ := parseSettings(raw)
		if s.hintThreshold < 0 || s.hintThreshold > 100 || s.frequency < 0 || s.frequency > 20000 || len(s.lensTests) != len(defaultSettings().lensTests) {
			t.Fatalf("settings are %+v", s)
		}
		if again, _, _ := parseSettings(raw, raw); !again.equal(s) {
			t.Fatalf("twice the same makes %+v, once %+v", again, s)
		}
	})
}
