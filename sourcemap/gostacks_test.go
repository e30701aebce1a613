package sourcemap

import (
	"debug/dwarf"
	"debug/elf"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What the code of systemstack says is what DWARF says, in whatever way the program is built.
func TestGoStacks(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("only amd64's code is read")
	}
	builds := []goBuild{
		{name: "plain"},
		{name: "unoptimized", args: []string{"-gcflags=all=-N -l"}},
		{name: "pie", args: []string{"-buildmode=pie"}},
		{name: "cgo", cgo: true},
		{name: "cgo-internal", cgo: true, args: []string{"-ldflags=-linkmode=internal"}},
		{name: "race", cgo: true, args: []string{"-race"}},
	}
	for _, v := range []string{"1.21.13", "1.22.12", "1.23.12", "1.24.9", "1.25.4"} {
		builds = append(builds, goBuild{name: "go" + v + "/cgo-pie", version: v, cgo: true, args: []string{"-buildmode=pie"}})
	}
	for _, b := range builds {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			file, err := os.Open(b.build(t))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			table, err := OpenFrameTable(file)
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			got, ok := table.GoStacks()
			t.Logf("found in %v", time.Since(start))
			f, err := elf.NewFile(file)
			if err != nil {
				t.Fatal(err)
			}
			data, err := f.DWARF()
			if err != nil {
				t.Fatal(err)
			}
			// The linker gives the pointer the last word of the thread's storage, which is all there is
			// of it in a program of Go.
			want := GoStacks{
				TLS: -8, M: fieldOf(t, data, "runtime.g", "m"), CurrentG: fieldOf(t, data, "runtime.m", "curg"),
				SP: fieldOf(t, data, "runtime.g", "sched") + fieldOf(t, data, "runtime.gobuf", "sp"),
			}
			if diff := cmp.Diff(want, got); !ok || diff != "" {
				t.Errorf("known: %v (-DWARF +code):\n%s", ok, diff)
			}
			for name, at := range map[string]uint32{
				"runtime.stack.lo": fieldOf(t, data, "runtime.g", "stack") + fieldOf(t, data, "runtime.stack", "lo"),
				"runtime.stack.hi": fieldOf(t, data, "runtime.stack", "hi") - 8,
				"runtime.m.g0":     fieldOf(t, data, "runtime.m", "g0"),
			} {
				if at != 0 {
					t.Errorf("%s is %d bytes from where the recorder takes it to be", name, at)
				}
			}
		})
	}
	t.Run("c-shared", func(t *testing.T) {
		file, err := os.Open(goBuild{cgo: true, shared: true, args: []string{"-buildmode=c-shared"}}.build(t))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		table, err := OpenFrameTable(file)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := table.GoStacks(); ok {
			t.Errorf("%+v, though it is known at run time only", got)
		}
	})
}

// fieldOf is the offset of a struct's field.
func fieldOf(t *testing.T, data *dwarf.Data, name, field string) uint32 {
	t.Helper()
	for r := data.Reader(); ; {
		e, err := r.Next()
		if err != nil || e == nil {
			t.Fatalf("no type %s: %v", name, err)
		}
		if e.Tag != dwarf.TagStructType || e.Val(dwarf.AttrName) != name {
			continue
		}
		x, err := data.Type(e.Offset)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range x.(*dwarf.StructType).Field {
			if f.Name == field {
				return uint32(f.ByteOffset)
			}
		}
		t.Fatalf("%s has no field %s", name, field)
	}
}

// Whatever the bytes, there is an answer or none.
func FuzzGoStacks(f *testing.F) {
	f.Add([]byte("\x64\x48\x8b\x04\x25\xf8\xff\xff\xff\x48\x8b\x58\x30\x48\x3b\x43\x48\x48\x8b\x13\x48\x3b\x83\xb8\x00\x00\x00\x48\x8b\x62\x38"))
	f.Add([]byte("\x48\xc7\xc1\xf8\xff\xff\xff\x64\x48\x8b\x01\x48\x8b\x58\x30\x48\x3b\x43\x48\x48\x8b\x13\x48\x3b\x43\x70\x48\x8b\x62\x38"))
	f.Add([]byte("\x64\x48\x8b\x04\x25"))
	f.Fuzz(func(t *testing.T, code []byte) {
		s, ok := goStacks(code)
		if ok != (s.M > 0 && s.SP > 0 && s.CurrentG > 0) || int32(s.M) < 0 || int32(s.SP) < 0 || int32(s.CurrentG) < 0 {
			t.Errorf("%+v, %v", s, ok)
		}
	})
}
