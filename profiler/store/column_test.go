package store

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func columnRoundTrip(t *testing.T, v []uint64) {
	t.Helper()
	var e encoder
	e.column(v)
	e.ids(v)
	if len(v) > 0 {
		e.slots(v)
		e.varints(v)
		if r := rank(v); !math.IsInf(r.cost, 1) {
			e.ranked(v, r)
			e.byte('|')
		}
	}
	d := &decoder{b: e.b, budget: 1 << 30}
	for n := 0; n < 5 && len(d.b) > 1 || n == 0; n++ {
		got := make([]uint64, len(v))
		d.column(got)
		if d.err != nil || !slices.Equal(v, got) {
			t.Fatalf("coding %d: %v: %v became %v", n, d.err, v[:min(20, len(v))], got[:min(20, len(v))])
		}
	}
}

func TestColumns(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var limits []uint64
	for i := range 64 {
		limits = append(limits, 1<<i-1, 1<<i, 1<<i+1)
	}
	limits = append(limits, math.MaxUint64, math.MaxUint64-1, 0)
	columnRoundTrip(t, nil)
	columnRoundTrip(t, []uint64{math.MaxUint64})
	columnRoundTrip(t, limits)
	for _, n := range []int{2, 63, 64, 65, 300, 20_000} {
		noise, skewed, narrow, periodic := make([]uint64, n), make([]uint64, n), make([]uint64, n), make([]uint64, n)
		for i := range n {
			noise[i] = r.Uint64() >> r.IntN(64)
			skewed[i] = uint64(math.Pow(r.Float64(), 6) * 1000)
			narrow[i] = uint64(r.IntN(2))
			periodic[i] = uint64(i % 7 * 1_000_000_007)
		}
		for _, v := range [][]uint64{noise, skewed, narrow, periodic} {
			columnRoundTrip(t, v)
		}
	}
}

// Each method has columns on which it wins; otherwise it would not be worth its code.
func TestColumnMethods(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	hot, noise, pattern := make([]uint64, 10_000), make([]uint64, 10_000), make([]uint64, 10_000)
	for i := range hot {
		hot[i] = uint64(r.IntN(5) * 997)
		if r.IntN(10) == 0 {
			hot[i] = uint64(r.IntN(5000))
		}
		noise[i] = uint64(2000 + r.IntN(30000))
		pattern[i] = uint64(i % 13 * 12345)
	}
	for want, v := range map[byte][]uint64{
		columnConstant: {5, 5, 5}, columnRanked: hot, columnSlots: noise, columnVarints: pattern,
	} {
		var e encoder
		e.ids(v)
		if e.b[0] != want {
			t.Errorf("method %d was taken where %d was expected", e.b[0], want)
		}
	}
}

func TestTimes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	ticks := func(cpus, n int) []time.Duration {
		var out []time.Duration
		for cpu := range cpus {
			for i := range n {
				out = append(out, time.Duration(cpu*31_000+i*1_001_001+r.IntN(500)))
			}
		}
		slices.Sort(out)
		return out
	}
	for name, test := range map[string]struct {
		times  []time.Duration
		period int64
		most   int // bytes for each time
	}{
		"nothing":       {nil, 1, 0},
		"limits":        {[]time.Duration{math.MinInt64, -1, 0, math.MaxInt64}, 1_001_001, 40},
		"one processor": {ticks(1, 5000), 1_001_001, 2},
		"two":           {ticks(2, 5000), 1_001_001, 2},
		"hundred":       {ticks(100, 50), 1_001_001, 3}, // more than maxLanes
		"no period":     {ticks(2, 100), 0, 4},
		"at once":       {make([]time.Duration, 1000), 5, 0},
	} {
		var e encoder
		e.times(test.times, test.period)
		d := &decoder{b: e.b, budget: 1 << 30}
		got := make([]time.Duration, len(test.times))
		var scratch []uint64
		d.times(got, &scratch)
		if d.err != nil || !slices.Equal(got, test.times) {
			t.Errorf("%s: %v: times have changed", name, d.err)
		}
		if len(e.b) > 64+test.most*len(test.times) {
			t.Errorf("%s: %d bytes for %d times", name, len(e.b), len(test.times))
		}
	}
}

func FuzzColumn(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add(binary.LittleEndian.AppendUint64([]byte{0}, math.MaxUint64))
	f.Fuzz(func(t *testing.T, b []byte) {
		var v []uint64
		for ; len(b) >= 9; b = b[9:] {
			v = append(v, binary.LittleEndian.Uint64(b[1:])>>(b[0]%64))
		}
		columnRoundTrip(t, v)
		times := make([]time.Duration, len(v))
		for i, x := range v {
			times[i] = time.Duration(x)
		}
		slices.Sort(times)
		var e encoder
		e.times(times, int64(len(v)*1000))
		d := &decoder{b: e.b, budget: 1 << 30}
		got := make([]time.Duration, len(times))
		var scratch []uint64
		d.times(got, &scratch)
		if d.err != nil || !slices.Equal(got, times) {
			t.Fatalf("%v: %v became %v", d.err, times, got)
		}
	})
}

// FuzzColumnBytes reads what nobody wrote.
func FuzzColumnBytes(f *testing.F) {
	var e encoder
	e.column([]uint64{1, 2, 3, 1 << 40, 5, 6, 1 << 63})
	f.Add(uint16(7), e.b)
	f.Add(uint16(3), []byte{columnRanked, 2, 1, 1, 6, 0, 1, 255, columnConstant, 9})
	f.Fuzz(func(t *testing.T, n uint16, b []byte) {
		d := &decoder{b: b, budget: 1 << 20}
		d.column(make([]uint64, n))
		var scratch []uint64
		d.times(make([]time.Duration, n), &scratch)
	})
}
