package lspserver

import (
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sightline-dev/sightline/profiler/profile"
)

func TestWording(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Percent(341, 1000), "34.1%"},
		{Percent(1, 1), "100.0%"},
		{Percent(1, 1e6), "<0.1%"},
		{Percent(0, 0), "0.0%"},
		{Percent(-5, 100), "-5.0%"},
		{Weight(0, profile.Nanoseconds), "0 s"},
		{Weight(0, profile.Bytes), "0 B"},
		{Weight(999, profile.Nanoseconds), "999 ns"},
		{Weight(999_999, profile.Nanoseconds), "1.0 ms"},
		{Weight(340e6, profile.Nanoseconds), "340 ms"},
		{Weight(34.04e6, profile.Nanoseconds), "34.0 ms"},
		{Weight(999.96e6, profile.Nanoseconds), "1.0 s"},
		{Weight(-1.2e9, profile.Nanoseconds), "-1.2 s"},
		{Weight(90e9, profile.Nanoseconds), "90.0 s"},
		{Weight(750e9, profile.Nanoseconds), "12.5 min"},
		{Weight(9000e9, profile.Nanoseconds), "2.5 h"},
		{Weight(12<<10, profile.Bytes), "12.0 KiB"},
		{Weight(12e6, profile.Cycles), "12.0M cyc"},
		{Weight(1234, profile.Number), "1.2k"},
		{Duration(3400 * time.Millisecond), "3.4 s"},
		{Count(812), "812"},
		{Count(1234), "1.2k"},
		{Count(999_999), "1.0M"},
		{Samples(1), "1 sample"},
		{Samples(0), "0 samples"},
		{Samples(1234), "1.2k samples"},
		{Margin(812), "±3.5%"},
		{Margin(0), ""},
		{Age(0), "just now"},
		{Age(-time.Hour), "just now"},
		{Age(34 * time.Second), "34 s ago"},
		{Age(12*time.Minute + 30*time.Second), "12 min ago"},
		{Age(3 * time.Hour), "3 h ago"},
		{Age(50 * time.Hour), "2 days ago"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// A hint's label fits whatever the weights are.
func TestLabelsAreShort(t *testing.T) {
	for _, unit := range []profile.Unit{profile.Nanoseconds, profile.Bytes, profile.Cycles, profile.Number} {
		for w := int64(1); w > 0 && w < 1<<56; w = w*7/2 + 1 {
			for _, part := range []int64{w, w/3 + 1, w/50 + 1, w/2000 + 1} {
				if label := Percent(part, w) + " · " + Weight(part, unit); utf8.RuneCountInString(label) > 20 {
					t.Errorf("%q is longer than 20 characters", label)
				}
			}
		}
	}
}
