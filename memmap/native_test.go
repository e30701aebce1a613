package memmap

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCgo maps a Go program of which C holds 20 MB in several arenas and large blocks.
func TestCgo(t *testing.T) {
	build(t)
	file := filepath.Join(programs.dir, "cgotarget")
	cmd := exec.Command("go", "build", "-o", file, "main.go")
	cmd.Dir = "testdata/cgotarget"
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1", "GO111MODULE=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	x := start(t, exec.Command(file))
	until(t, func() error {
		s := take(t, x.pid)
		terms := map[string]int64{}
		for _, x := range s.Terms {
			terms[x.Name] = x.Bytes
		}
		if n := terms[TermNative]; n < 19<<20 || n > 22<<20 {
			return fmt.Errorf("native heap: %d bytes: %+v", n, s.Terms)
		}
		if terms[TermLive]+terms[TermNew] < 5<<20 || terms[TermThreads] == 0 || terms[TermPrivate] > 1<<20 {
			return fmt.Errorf("%+v", s.Terms)
		}
		threads := 0
		for i := range s.Regions {
			if r := &s.Regions[i]; r.Kind == Stack && r.Thread != 0 {
				threads++
			}
		}
		if threads < 4 {
			return fmt.Errorf("stacks of %d threads are known", threads)
		}
		return nil
	})
}

// TestAllocators maps a program under other allocators than glibc's.
func TestAllocators(t *testing.T) {
	build(t)
	source, file := filepath.Join(programs.dir, "alloc.c"), filepath.Join(programs.dir, "alloc")
	text := `#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
	for (int i = 0; i < 20000; i++) memset(malloc(16 + i % 2000), 1, 16 + i % 2000);
	char *large = memset(malloc(10 << 20), 1, 10 << 20);
	printf("large %lx\nready\n", (unsigned long)large);
	fflush(stdout);
	getchar();
	return large[5];
}
`
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gcc", "-O0", "-o", file, source).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, library := range map[string]string{"jemalloc": "libjemalloc.so.2", "tcmalloc": "libtcmalloc_minimal.so.4", "mimalloc": "libmimalloc.so.2"} {
		t.Run(name, func(t *testing.T) {
			all, _ := filepath.Glob("/usr/lib/*/" + library)
			if len(all) == 0 {
				t.Skip(library + " is not installed; `.ci/packages test` does that")
			}
			cmd := exec.Command(file)
			cmd.Env = append(os.Environ(), "LD_PRELOAD="+all[0])
			x := start(t, cmd)
			until(t, func() error {
				s := take(t, x.pid)
				i := s.RegionOf(x.said["large"])
				if i < 0 || s.Regions[i].Kind != Heap || !strings.Contains(s.Regions[i].Detail, name) {
					return fmt.Errorf("the large block at %x is in %+v", x.said["large"], s.Regions[max(i, 0)])
				}
				for _, k := range s.ByKind() {
					if k.Kind == Heap && k.Resident < 25<<20 {
						return fmt.Errorf("of 30 MB %d bytes are found", k.Resident)
					}
				}
				return nil
			})
		})
	}
}

// TestGoneWhileRead maps processes that end at any time.
func TestGoneWhileRead(t *testing.T) {
	for range 30 {
		cmd := exec.Command("true")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for ended := false; !ended; {
			p, err := Open(cmd.Process.Pid)
			if err == nil {
				var s *Snapshot
				if s, err = p.Take(t.Context()); err == nil {
					laws(t, s)
				}
				p.Close()
			}
			if err != nil && !errors.Is(err, ErrNoMemory) && !errors.Is(err, ErrNoProcess) {
				t.Errorf("while it ends: %v", err)
			}
			ended = err != nil
		}
		cmd.Wait()
	}
}
