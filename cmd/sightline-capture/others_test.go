package main

import (
	"strings"
	"testing"
)

const someMaps = `00400000-0049e000 r-xp 00001000 fe:00 1835029                            /usr/bin/a b (deleted)
7f0000000000-7f0000001000 r--p 00000000 fe:00 12                         /lib/libc.so
7f0000001000-7f0000002000 r-xp 00001000 fe:00 12                         /lib/libc\012.so
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0                          [vdso]
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0 
`

func TestFindMapping(t *testing.T) {
	for _, test := range []struct {
		start, end uint64
		path       string
		id         fileIdentity
	}{
		{0x400000, 0x49e000, "/usr/bin/a b (deleted)", fileIdentity{0xfe, 0, 1835029}},
		{0x7f0000001000, 0x7f0000002000, "/lib/libc\n.so", fileIdentity{0xfe, 0, 12}},
		{0x7f0000000000, 0x7f0000001000, "", fileIdentity{}}, // no code
		{0x7ffc00000000, 0x7ffc00001000, "", fileIdentity{}}, // no file
		{0x7ffd00000000, 0x7ffd00001000, "", fileIdentity{}},
		{0x400000, 0x49d000, "", fileIdentity{}},
	} {
		path, id, ok := findMapping([]byte(someMaps), test.start, test.end)
		if path != test.path || id != test.id || ok != (path != "") {
			t.Errorf("%#x: %q %+v %t", test.start, path, id, ok)
		}
	}
}

func FuzzMapping(f *testing.F) {
	f.Add([]byte(someMaps), uint64(0x400000), uint64(0x49e000))
	f.Add([]byte("00000000-00000001 r-xp 0 :"), uint64(0), uint64(1))
	f.Fuzz(func(t *testing.T, text []byte, start, end uint64) {
		path, id, ok := findMapping(text, start, end)
		if ok != strings.HasPrefix(path, "/") || !ok && id != (fileIdentity{}) {
			t.Fatalf("%q %+v %t", path, id, ok)
		}
	})
}
