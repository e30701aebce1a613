package lspserver

import (
	"testing"

	"github.com/sightline-dev/sightline/profiler/profile"
)

func TestRowLabel(t *testing.T) {
	for _, x := range []struct{ name, fn, want string }{
		{"b.test!example.com/x.(*T).F", "example.com/x.(*T).F", "x.(*T).F"},
		{"example.com/x.F[a/b.T]", "example.com/x.F[a/b.T]", "x.F[a/b.T]"},
		{"/opt/p!gopkg.in/yaml%2ev3.Marshal", "gopkg.in/yaml%2ev3.Marshal", "yaml%2ev3.Marshal"},
		{"p!void std::sort<int*>(int*, int*)", "void std::sort<int*>(int*, int*)", "std::sort<…>"},
		{"p!<alloc::vec::Vec<T> as a/b::Drop>::drop", "<alloc::vec::Vec<T> as a/b::Drop>::drop", "<alloc::vec::Vec<…> as a/b::Drop>::drop"},
		{"main", "main", "main"},
		{"p!x/", "x/", "x/"},
		{"p!A::operator/", "A::operator/", "A::operator/"},
		{"p!operator!=", "operator!=", "operator!="},

		// Groups and what is no function.
		{"libc.so.6!OTHER", "", "OTHER"},
		{"p!example.com/x.F", "", "x.F"},
		{"OTHER <<libc.so.6!read>>", "", "OTHER <<libc.so.6!read>>"},
		{"Process sh (7)", "", "Process sh (7)"},
		{"example.com/x", "", "example.com/x"},
		{"p!", "", "p!"},
		{"ROOT", "", "ROOT"},
	} {
		if got := rowLabel(x.name, profile.Frame{Func: x.fn}); got != x.want {
			t.Errorf("%s: got %s, want %s", x.name, got, x.want)
		}
	}
}
