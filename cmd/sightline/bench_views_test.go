package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/profiler/view"
)

// BenchmarkMachineViews is what views of a recording of the whole machine take, at work: what
// BenchmarkStacks of package view measures on generated stacks.
func BenchmarkMachineViews(b *testing.B) {
	dir := workDir(b)
	file := filepath.Join(dir, "machine.db")
	work := exec.Command("go", "build", "-a", "-o", filepath.Join(dir, "work"), "./profiler/profile")
	work.Dir = filepath.Join(packageDir, "..", "..")
	if err := work.Start(); err != nil {
		b.Fatal(err)
	}
	out, err := exec.Command(sightlineBinary(b), "record", "-a", "--for", "6s", "--freq", "9999", "--store", file).CombinedOutput()
	_ = work.Process.Kill()
	_ = work.Wait()
	if err != nil {
		b.Skipf("the machine cannot be recorded: %s", out)
	}
	st, err := store.Open(file, store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	id, err := st.Resolve("@")
	if err != nil {
		b.Fatal(err)
	}
	c, err := st.LoadWithoutSources(id)
	if err != nil {
		b.Fatal(err)
	}
	p, err := profileOf(c, string(id), "")
	if err != nil {
		b.Fatal(err)
	}
	source := view.NewSource(p)
	filter := func(f view.Filter) *view.Selection {
		s, err := source.Filter(b.Context(), f)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	busy := view.Filter{Group: "{%}!=>module $1", Fold: "runtime.%", Include: "compile|kernel"}
	for _, v := range []struct {
		name    string
		compute func()
	}{
		{"by-name", func() { filter(busy).ByName(view.NoColumns) }},
		{"call-tree-level-1", func() { filter(busy).Tree(view.NoColumns).Children() }},
		{"caller-callee", func() {
			s := filter(view.Filter{})
			_, _ = s.CallerCallee(s.ByName(view.NoColumns).Rows[0].Name, view.NoColumns)
		}},
		{"by-name+columns", func() { filter(busy).ByName(view.AllColumns) }},
	} {
		b.Run("ours/view="+v.name, func(b *testing.B) {
			var took []float64
			for range 15 {
				begin := time.Now()
				v.compute()
				took = append(took, milliseconds(time.Since(begin)))
			}
			report(b, figure{median(took), "ms/view"}, figure{float64(p.Samples.Len()), "samples"}, figure{float64(p.Stacks.Len()), "stacks"})
		})
	}
}
