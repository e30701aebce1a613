package profiler

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// High frequencies: from busyFreq on machines that have other work skip ticks, and beyond usefulFreq
// none is advised.
const (
	busyFreq   = 2000
	usefulFreq = 5000
)

// unseen compares what was sampled with the time that the events have counted, and warns where much
// of it is in no sample, with those causes that what was recorded speaks for.
//
//   - Of a thread that ends the last part of a period is in no sample, and likewise on each CPU that it
//     has left. That is a period at most, each time.
//   - A timer that comes late takes one sample, however many periods have passed (perf_swevent_hrtimer,
//     kernel/events/core.c, forwards it). That is where the machine is busy, or the period short.
//   - Samples in the kernel are dropped where its time is hidden, but the time counts.
//
// Samples that were lost have a warning of their own.
func (b *builder) unseen(ran time.Duration, kernelHidden bool) {
	missing := ran - time.Duration(b.samples.Sum().Weight)
	if missing < 20*time.Millisecond || missing < ran/20 {
		return
	}
	b.c.Warn(profile.WarnHidden, 0, fmt.Sprintf("%s of %s (%d%%) on a processor is in no sample: %s",
		spoken(missing), spoken(ran), 100*missing/ran, b.whyUnseen(missing, ran, kernelHidden)))
}

func (b *builder) whyUnseen(missing, ran time.Duration, kernelHidden bool) string {
	if slices.ContainsFunc(b.c.Warnings, func(w profile.Warning) bool { return w.Kind == profile.WarnLost }) {
		return "samples were lost, as another warning tells"
	}
	period := time.Duration(max(b.c.Series[0].Period, 1))
	freq := int(math.Round(float64(time.Second) / float64(period)))
	// On two CPUs each, as a thread runs where it was started and then elsewhere.
	short := b.threads > 1 && 2*time.Duration(b.threads)*period >= missing
	var why []string
	remedy := ""
	if kernelHidden {
		why = append(why, "it is most likely the kernel's own, which is hidden here")
	}
	if short {
		why = append(why, fmt.Sprintf("the last part of a sampling period is not seen of a thread that ends, and there were %d threads that ran for %s on average",
			b.threads, spoken(ran/time.Duration(b.threads))))
		remedy = "record for longer, or the same several times"
		if freq <= busyFreq {
			remedy = fmt.Sprintf("a --freq of up to %d shows more of them", usefulFreq)
		}
	}
	switch {
	case freq > busyFreq && short:
		why = append(why, "the kernel skipped timer ticks, because the machine was busy")
		remedy = fmt.Sprintf("record on a less busy machine, with a --freq of %d to %d", busyFreq, usefulFreq)
	case freq > busyFreq:
		why = append(why, fmt.Sprintf("the kernel skipped timer ticks, because the machine was busy or %d samples a second are too many for it", freq))
		remedy = "record with a lower --freq, or on a less busy machine"
	case !short && !kernelHidden:
		why = append(why, "the kernel skipped timer ticks, because the machine was busy")
		remedy = "record on a less busy machine, or with a lower --freq"
	}
	text := strings.Join(why, "; or ")
	if remedy != "" {
		text += "; " + remedy
	}
	return text
}

// spoken writes a duration as people read it, to three digits: "134 ms", "1.98 s", "12 min 5 s".
func spoken(d time.Duration) string {
	digits := func(unit time.Duration, name string) string {
		x := float64(d) / float64(unit)
		decimals := 0
		switch {
		case x < 9.995:
			decimals = 2
		case x < 99.95:
			decimals = 1
		}
		text := fmt.Sprintf("%.*f", decimals, x)
		if decimals > 0 {
			text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
		}
		return text + " " + name
	}
	switch {
	case d < 0:
		return "-" + spoken(-d)
	case d < 999500*time.Nanosecond:
		return digits(time.Microsecond, "µs")
	case d < 999500*time.Microsecond:
		return digits(time.Millisecond, "ms")
	case d < 99950*time.Millisecond:
		return digits(time.Second, "s")
	}
	s := int64(d.Round(time.Second) / time.Second)
	return fmt.Sprintf("%d min %d s", s/60, s%60)
}
