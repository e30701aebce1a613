package lspserver

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// This file is the one place that turns numbers into words, for hints, lenses, hovers, messages
// and the command line alike.

// Percent is part of whole with one decimal: "34.1%". A share too small for the decimal is "<0.1%",
// and of nothing everything is "0.0%".
func Percent(part, whole int64) string {
	if whole == 0 || part == 0 {
		return "0.0%"
	}
	p := 100 * float64(part) / float64(whole)
	if math.Abs(p) < leastPercent {
		return "<0.1%"
	}
	return strconv.FormatFloat(p, 'f', 1, 64) + "%"
}

// leastPercent is what percentages that are shown with one decimal are at least, or else are nothing.
const leastPercent = 0.05

// SignedPercent is a difference in percent with its sign: "+3.1%", "-0.4%", "±0.0%".
func SignedPercent(points float64) string {
	if math.Abs(points) < leastPercent {
		return "±0.0%"
	}
	sign := "+"
	if points < 0 {
		sign = "-"
	}
	return sign + strconv.FormatFloat(math.Abs(points), 'f', 1, 64) + "%"
}

// Margin is the statistical error of a number made of count samples, as a share of that number:
// one over the square root of the count. "±3.5%"; "" for no samples.
func Margin(count int64) string {
	if count <= 0 {
		return ""
	}
	return "±" + strconv.FormatFloat(100/math.Sqrt(float64(count)), 'f', 1, 64) + "%"
}

// Count is a number of things, short: "812", "1.2k", "34.1M".
func Count(n int64) string {
	if n < 0 {
		return "-" + Count(-n)
	}
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	return scaled(float64(n), countSteps)
}

// Samples is a number of samples: "1 sample", "1.2k samples".
func Samples(n int64) string { return plural(n, "sample") }

func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Count(n) + " " + noun + "s"
}

// Duration is a time with one decimal: "1.2 s", "340 ms", "2.5 min".
func Duration(d time.Duration) string { return Weight(int64(d), profile.Nanoseconds) }

// Weight is a weight in its unit, in the step that suits its size: "1.2 s", "340 ms", "12.0 KiB".
func Weight(w int64, unit profile.Unit) string {
	switch {
	case w < 0:
		return "-" + Weight(-w, unit)
	case w == 0 && unit == profile.Nanoseconds:
		return "0 s"
	case w == 0:
		return "0" + stepsOf(unit)[0].suffix
	}
	return scaled(float64(w), stepsOf(unit))
}

// SignedWeight is a difference of weights with its sign: "+120 ms", "-12.0 KiB", "±0 s".
func SignedWeight(w int64, unit profile.Unit) string {
	switch {
	case w > 0:
		return "+" + Weight(w, unit)
	case w == 0:
		return "±" + Weight(w, unit)
	}
	return Weight(w, unit)
}

// Age is how long ago something was: "just now", "34 s ago", "12 min ago", "3 h ago", "5 days ago".
func Age(d time.Duration) string {
	switch {
	case d < 5*time.Second:
		return "just now"
	case d < 90*time.Second:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < 90*time.Minute:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 36*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// A step is one unit of a ladder: size of it in the base unit, and how it is written.
type step struct {
	size   float64
	suffix string
}

var (
	timeSteps = []step{
		{1, " ns"}, {1e3, " µs"}, {1e6, " ms"}, {1e9, " s"}, {60e9, " min"}, {3600e9, " h"},
	}
	byteSteps = []step{
		{1, " B"}, {1 << 10, " KiB"}, {1 << 20, " MiB"}, {1 << 30, " GiB"}, {1 << 40, " TiB"},
	}
	countSteps = []step{{1, ""}, {1e3, "k"}, {1e6, "M"}, {1e9, "G"}, {1e12, "T"}}
	cycleSteps = []step{
		{1, " cyc"}, {1e3, "k cyc"}, {1e6, "M cyc"}, {1e9, "G cyc"}, {1e12, "T cyc"},
	}
)

func stepsOf(unit profile.Unit) []step {
	switch unit {
	case profile.Nanoseconds:
		return timeSteps
	case profile.Bytes:
		return byteSteps
	case profile.Cycles:
		return cycleSteps
	}
	return countSteps
}

// stepFor is the largest step of which v, rounded as it will be printed, is at least one. Times
// stay in seconds up to ten minutes: "90.0 s" reads better than "1.5 min" beside "1.2 s".
func stepFor(v float64, steps []step) step {
	at := steps[0]
	for _, s := range steps[1:] {
		least := s.size * 0.9995
		if s.suffix == " min" {
			least = 10 * s.size
		} else if s.suffix == " h" {
			least = 2 * s.size
		}
		if v >= least {
			at = s
		}
	}
	return at
}

func scaled(v float64, steps []step) string {
	s := stepFor(v, steps)
	if s.size == 1 {
		return strconv.FormatFloat(v, 'f', 0, 64) + s.suffix
	}
	return number(v/s.size) + s.suffix
}

// number has one decimal below 100 and none from there on.
func number(v float64) string {
	if math.Abs(v) < 99.95 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// The kinds of a heap's stacks, as package heap has them.
const (
	heapRetained   profile.Kind = "retained"
	heapTree       profile.Kind = "tree"
	heapGoroutines profile.Kind = "goroutines"
)

// KindWords says what a weight of a kind is: "1.2 s" "on the CPU", "421 MiB" "allocated".
func KindWords(k profile.Kind) string {
	switch k {
	case profile.CPU:
		return "on the CPU"
	case profile.Blocked:
		return "blocked"
	case profile.Alloc:
		return "allocated"
	case profile.InUse:
		return "in use"
	case profile.Contention:
		return "of contention"
	case heapTree:
		return "in the heap"
	case heapGoroutines:
		return "held by goroutines"
	}
	return string(k)
}

// CountWord is what the counts of a kind are counts of: "objects".
func CountWord(k profile.Kind) string {
	switch k {
	case profile.Alloc, profile.InUse, heapTree, heapRetained:
		return "objects"
	case heapGoroutines:
		return "goroutines"
	case profile.Blocked, profile.Contention:
		return "waits"
	}
	return "samples"
}

// kindTitle names a kind where people choose between several.
func kindTitle(k profile.Kind) string {
	switch k {
	case profile.CPU:
		return "CPU time"
	case profile.Blocked:
		return "Blocked time"
	case profile.Alloc:
		return "Allocated memory"
	case profile.InUse:
		return "Memory in use"
	case profile.Contention:
		return "Contention"
	}
	return string(k)
}
