package memmap

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// BenchmarkTake is one snapshot of a process that was opened before, as timelines take them.
func BenchmarkTake(b *testing.B) {
	build(b)
	many := filepath.Join(programs.dir, "many")
	if out, err := exec.Command("gcc", "-o", many, "../cmd/sightline/testdata/bench/regions.c").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for name, path := range map[string]string{"regions=10000": many, "go": programs.goTarget} {
		b.Run(name, func(b *testing.B) {
			x := start(b, exec.Command(path))
			p, err := Open(x.pid)
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			for b.Loop() {
				if _, err := p.Take(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
