package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/sightline-dev/sightline/profiler/profile"
)

func sortSources(s []profile.Source) {
	slices.SortFunc(s, func(a, b profile.Source) int { return cmp.Compare(a.Path, b.Path) })
}

func TestSizes(t *testing.T) {
	for _, sh := range []shape{wide, narrow, small} {
		c := generate(sh, 1)
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		distinct := map[profile.StackID]bool{}
		for _, s := range c.Series[0].Samples.Stack {
			distinct[s] = true
		}
		sizes := map[string]int{}
		to, _ := marksOf(c, start(), 1<<30)
		rec := encodeChunk(c, start(), to, nil, sizes)
		t.Logf("%d samples, %d distinct, %d stacks, %d locations: %d bytes, %.2f/sample", sh.samples, len(distinct), c.Stacks.Len(), len(c.Locations), len(rec), float64(len(rec))/float64(sh.samples))
		for _, k := range slices.Sorted(maps.Keys(sizes)) {
			t.Logf("   %-14s %8d %.2f", k, sizes[k], float64(sizes[k])/float64(sh.samples))
		}
		sy := encodeSymbols(&c.Symbols)
		t.Logf("   symbols %d %s", len(sy), fmt.Sprintf("%.2f", float64(len(sy))/float64(sh.samples)))
	}
}
