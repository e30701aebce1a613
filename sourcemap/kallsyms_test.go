package sourcemap

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sightline-dev/sightline/profiler/profile"
)

const someKallsyms = `0000000000000000 A fixed_percpu_data
ffffffff81000000 T srso_alias_untrain_ret
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000100 t local_one
ffffffff81000100 W a_weak_alias
ffffffff81000200 T __x64_sys_read
ffffffff81000200 T ksys_read
ffffffff81000300 t $x
ffffffff81000300 D data
ffffffff81000400 T _RNvNtCs3kFBnDVsi17_6kernel4task4wake
ffffffff82000000 T _etext
ffffffffc0000000 t nf_init	[nf_tables]
ffffffffc0000040 t nf_work	[nf_tables]
ffffffffc0100000 t bpf_prog_6deef7357e7b4530	[bpf]
ffffffffbf000000 t low_work	[low]
`

func TestKallsyms(t *testing.T) {
	table, err := openKallsyms(strings.NewReader(someKallsyms))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		addr uint64
		want profile.Frame
	}{
		{0, profile.Frame{Func: "srso_alias_untrain_ret"}},
		{0xff, profile.Frame{Func: "srso_alias_untrain_ret"}},
		{0x100, profile.Frame{Func: "a_weak_alias"}},
		{0x210, profile.Frame{Func: "ksys_read"}},
		{0x350, profile.Frame{Func: "ksys_read"}},
		{0x400, profile.Frame{Func: "kernel::task::wake"}},
		{0x1000000, profile.Frame{}},
		{0x3f000000, profile.Frame{Func: "nf_init", Module: "[nf_tables]"}},
		{0x3f000041, profile.Frame{Func: "nf_work", Module: "[nf_tables]"}},
		{0x3f080000, profile.Frame{}}, // between two modules
		{0x3f100001, profile.Frame{Func: "bpf_prog_6deef7357e7b4530", Module: "[bpf]"}},
		{0x3e000001, profile.Frame{Func: "low_work", Module: "[low]"}},
		{1 << 63, profile.Frame{}},
	} {
		frames, ok := table.frames(test.addr, nil)
		if ok != (test.want != profile.Frame{}) {
			t.Errorf("%#x: found %v", test.addr, ok)
		} else if d := cmp.Diff([]profile.Frame{test.want}, frames); ok && d != "" {
			t.Errorf("%#x (-want +got):\n%s", test.addr, d)
		}
	}
}

func TestKallsymsRefused(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"hidden", "0000000000000000 T _text\n0000000000000000 t x\n", "kptr_restrict"},
		{"empty", "", "CONFIG_KALLSYMS"},
		{"not kallsyms", "hello\nworld\n", "CONFIG_KALLSYMS"},
		{"no _text", "ffffffff81000000 T x\n", "_text"},
	} {
		table, err := openKallsyms(strings.NewReader(test.text))
		if err == nil || table != nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v; want an error that says %s", test.name, err, test.want)
		}
		if test.name == "hidden" && !errors.Is(err, errKernelHidden) {
			t.Errorf("%v is not errKernelHidden", err)
		}
	}
}

// The machine's own list against a plain reading of it.
func TestKallsymsOfThisMachine(t *testing.T) {
	text, err := os.ReadFile("/proc/kallsyms")
	if err != nil {
		t.Skip("no /proc/kallsyms: ", err)
	}
	table, err := openKallsyms(bytes.NewReader(text))
	if errors.Is(err, errKernelHidden) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	names := map[uint64]map[string]bool{}
	var base uint64
	for line := range strings.Lines(string(text)) {
		var addr uint64
		var typ, name string
		if n, _ := fmt.Sscanf(line, "%x %s %s", &addr, &typ, &name); n != 3 || !strings.Contains("tTwW", typ) {
			continue
		}
		if name == "_text" {
			base = addr
		}
		if names[addr] == nil {
			names[addr] = map[string]bool{}
		}
		names[addr][name] = true
	}
	checked := 0
	for addr, set := range names {
		frames, ok := table.frames(addr-base, nil)
		if !ok {
			if !set["_etext"] && !set["_einittext"] {
				t.Errorf("%#x is unknown; want one of %v", addr, set)
			}
			continue
		}
		if checked++; len(frames) != 1 || !set[frames[0].Func] && !strings.Contains(frames[0].Func, "::") {
			t.Errorf("%#x is %v; want one of %v", addr, frames, set)
		}
	}
	t.Logf("%d addresses", checked)
}

func FuzzKallsyms(f *testing.F) {
	f.Add([]byte(someKallsyms), uint64(0x100))
	f.Add([]byte("1 T _text\n0 t a\t[b\n2 w x"), uint64(1<<63))
	f.Fuzz(func(t *testing.T, text []byte, addr uint64) {
		table, err := openKallsyms(bytes.NewReader(text))
		if (table == nil) == (err == nil) {
			t.Fatalf("table %v, error %v", table, err)
		}
		if err != nil {
			return
		}
		first, ok := table.frames(addr, nil)
		if ok != (len(first) == 1) {
			t.Fatalf("%v, %v", first, ok)
		}
		if again, _ := table.frames(addr, nil); !cmp.Equal(first, again) {
			t.Fatalf("%v, then %v", first, again)
		}
	})
}

func BenchmarkKallsyms(b *testing.B) {
	var text []byte
	for i := range 200_000 {
		text = fmt.Appendf(text, "%016x %c some_kernel_function_%d\n", 0xffffffff81000000+uint64(i)*64, "tTDd"[i%4], i)
	}
	text = append(text, "ffffffff81000000 T _text\n"...)
	b.Run("lines=200000", func(b *testing.B) {
		for b.Loop() {
			if _, err := openKallsyms(bytes.NewReader(text)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
