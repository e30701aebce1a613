package lspserver

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/sourcemap"
)

// settingsSection is the name that clients keep our settings under.
const settingsSection = "sightline"

// A metric is which cost of a line is shown and how it is written.
type metric struct {
	Measure string `json:"metric"` // "total" (the line and all it calls) or "self" (the line alone)
	Form    string `json:"unit"`   // "both", "percent" or "time"
}

const (
	measureTotal = "total"
	measureSelf  = "self"
	formBoth     = "both"
	formPercent  = "percent"
	formTime     = "time"
)

// settings are what a person chose. They never change: another choice makes other settings.
type settings struct {
	hints          bool
	hintThreshold  float64 // percent of the profile
	metric         metric
	lensFunctions  bool
	lensThreshold  float64 // percent of the profile
	lensTests      map[testKind]bool
	frequency      int // samples per second; 0: the recorder's default
	engine         string
	prefixes       []sourcemap.Prefix // longest From first
	debugFolders   []string           // searched for debug files before /usr/lib/debug
	recordingLimit float64            // seconds; 0: none
	testFlags      []string           // further go test flags
	cargoFlags     []string           // further cargo test flags
	lensTargets    bool
	lensMemory     bool // a second one on tests
}

func defaultSettings() *settings {
	return &settings{
		hints:         true,
		hintThreshold: 1,
		metric:        metric{measureTotal, formBoth},
		lensFunctions: true,
		lensThreshold: 1,
		lensTests: map[testKind]bool{
			plainTest: true, benchmark: true, fuzzTarget: true, example: true, subtest: true,
			googleTest: true, catch2Test: true, rustTest: true, rustBench: true,
		},
		lensTargets: true,
		lensMemory:  true,
	}
}

// A setting is one key and how its value is taken. set answers what the value must be, as
// "a number from 0 to 100", when it is not that, and then changes nothing.
type setting struct {
	key string
	set func(s *settings, v any) (must string)
}

// settingTable lists every key that exists, below the section.
var settingTable = []setting{
	{"hints.enable", boolean(func(s *settings, v bool) { s.hints = v })},
	{"hints.threshold", percent(func(s *settings, v float64) { s.hintThreshold = v })},
	{"hints.metric", oneOf(func(s *settings, v string) { s.metric.Measure = v }, measureTotal, measureSelf)},
	{"hints.unit", oneOf(func(s *settings, v string) { s.metric.Form = v }, formBoth, formPercent, formTime)},
	{"lenses.functions", boolean(func(s *settings, v bool) { s.lensFunctions = v })},
	{"lenses.threshold", percent(func(s *settings, v float64) { s.lensThreshold = v })},
	{"lenses.tests", lensKind(plainTest)},
	{"lenses.benchmarks", lensKind(benchmark)},
	{"lenses.fuzzTargets", lensKind(fuzzTarget)},
	{"lenses.examples", lensKind(example)},
	{"lenses.subtests", lensKind(subtest)},
	{"lenses.googleTest", lensKind(googleTest)},
	{"lenses.catch2", lensKind(catch2Test)},
	{"lenses.rustTests", lensKind(rustTest)},
	{"lenses.rustBenchmarks", lensKind(rustBench)},
	{"lenses.launchTargets", boolean(func(s *settings, v bool) { s.lensTargets = v })},
	{"lenses.memory", boolean(func(s *settings, v bool) { s.lensMemory = v })},
	{"recording.frequency", wholeNumber(1, 20000, func(s *settings, v int) { s.frequency = v })},
	{"recording.engine", oneOf(func(s *settings, v string) { s.engine = v }, "", "bpf", "perf")},
	{"recording.limit", number64(0, 86400, func(s *settings, v float64) { s.recordingLimit = v })},
	{"test.flags", stringList(func(s *settings, v []string) { s.testFlags = v })},
	{"test.cargoFlags", stringList(func(s *settings, v []string) { s.cargoFlags = v })},
	{"paths", prefixMap},
	{"debugFolders", stringList(func(s *settings, v []string) { s.debugFolders = v })},
}

func boolean(set func(*settings, bool)) func(*settings, any) string {
	return func(s *settings, v any) string {
		b, ok := v.(bool)
		if !ok {
			return "true or false"
		}
		set(s, b)
		return ""
	}
}

func lensKind(kind testKind) func(*settings, any) string {
	return boolean(func(s *settings, v bool) {
		s.lensTests = maps.Clone(s.lensTests)
		s.lensTests[kind] = v
	})
}

func percent(set func(*settings, float64)) func(*settings, any) string {
	return number64(0, 100, set)
}

func number64(from, to float64, set func(*settings, float64)) func(*settings, any) string {
	return func(s *settings, v any) string {
		f, ok := v.(float64)
		if !ok || f < from || f > to {
			return fmt.Sprintf("a number from %g to %g", from, to)
		}
		set(s, f)
		return ""
	}
}

func wholeNumber(from, to int, set func(*settings, int)) func(*settings, any) string {
	return func(s *settings, v any) string {
		f, ok := v.(float64)
		if !ok || f < float64(from) || f > float64(to) || f != math.Trunc(f) {
			return fmt.Sprintf("a whole number from %d to %d", from, to)
		}
		set(s, int(f))
		return ""
	}
}

func stringList(set func(*settings, []string)) func(*settings, any) string {
	return func(s *settings, v any) string {
		const must = "a list of strings"
		list, ok := v.([]any)
		if !ok {
			return must
		}
		var all []string
		for _, x := range list {
			str, ok := x.(string)
			if !ok {
				return must
			}
			all = append(all, str)
		}
		set(s, all)
		return ""
	}
}

func oneOf(set func(*settings, string), allowed ...string) func(*settings, any) string {
	return func(s *settings, v any) string {
		if str, ok := v.(string); ok && slices.Contains(allowed, str) {
			set(s, str)
			return ""
		}
		quoted := make([]string, len(allowed))
		for i, a := range allowed {
			quoted[i] = strconv.Quote(a)
		}
		return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
	}
}

// prefixMap takes {"/path/in/the/build": "/path/here", …}.
func prefixMap(s *settings, v any) string {
	const must = "an object that maps path prefixes of the build to folders here"
	object, ok := v.(map[string]any)
	if !ok {
		return must
	}
	var prefixes []sourcemap.Prefix
	for from, to := range object {
		str, ok := to.(string)
		if !ok || from == "" {
			return must
		}
		prefixes = append(prefixes, sourcemap.Prefix{From: from, To: str})
	}
	slices.SortFunc(prefixes, func(a, b sourcemap.Prefix) int {
		if len(a.From) != len(b.From) {
			return len(b.From) - len(a.From)
		}
		return strings.Compare(a.From, b.From)
	})
	s.prefixes = prefixes
	return ""
}

// parseSettings makes settings of JSON values, later ones overruling earlier ones. Each is an object
// whose keys nest or have dots, perhaps itself below the section's name; null and nothing choose
// nothing. Unknown keys and values that are not what they must be are told and count as not given.
func parseSettings(layers ...[]byte) (s *settings, unknown, wrong []string) {
	s = defaultSettings()
	for _, raw := range layers {
		u, w := s.apply(raw)
		unknown, wrong = append(unknown, u...), append(wrong, w...)
	}
	return s, unknown, wrong
}

func (s *settings) apply(raw []byte) (unknown, wrong []string) {
	var v any
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil || v == nil {
		return nil, nil
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, []string{fmt.Sprintf("%s is %s: make it an object", settingsSection, shortJSON(v))}
	}
	if inner, ok := object[settingsSection].(map[string]any); ok {
		object = inner
	}
	given := map[string]any{}
	flatten("", object, given)
	for _, key := range slices.Sorted(maps.Keys(given)) {
		i := slices.IndexFunc(settingTable, func(x setting) bool { return x.key == key })
		switch {
		case given[key] == nil: // "not set"
		case isGroup(key):
			wrong = append(wrong, fmt.Sprintf("%s.%s is %s: make it an object", settingsSection, key, shortJSON(given[key])))
		case i < 0:
			unknown = append(unknown, settingsSection+"."+key)
		default:
			if must := settingTable[i].set(s, given[key]); must != "" {
				wrong = append(wrong, fmt.Sprintf("%s.%s is %s: make it %s", settingsSection, key, shortJSON(given[key]), must))
			}
		}
	}
	return unknown, wrong
}

// flatten writes the leaves of an object under their full keys. The value of a key that is a
// setting is a leaf whatever it is.
func flatten(prefix string, object map[string]any, into map[string]any) {
	for k, v := range object {
		key := prefix + k
		if inner, ok := v.(map[string]any); ok && isGroup(key) {
			flatten(key+".", inner, into)
			continue
		}
		into[key] = v
	}
}

// isGroup says whether settings lie below the key.
func isGroup(key string) bool {
	return slices.ContainsFunc(settingTable, func(x setting) bool { return strings.HasPrefix(x.key, key+".") })
}

// shortJSON is a value for a message.
func shortJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	if r := []rune(string(b)); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return string(b)
}

// equal says whether both choose the same.
func (s *settings) equal(t *settings) bool { return reflect.DeepEqual(s, t) }
