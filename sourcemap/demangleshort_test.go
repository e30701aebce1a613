package sourcemap

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestShortName(t *testing.T) {
	for name, want := range map[string]string{
		"std::vector<int, std::allocator<int> >::push_back(int const&)":      "std::vector<…>::push_back",
		"void std::sort<int*>(int*, int*)":                                   "std::sort<…>",
		"main":                                                               "main",
		"foo(int) const":                                                     "foo",
		"(anonymous namespace)::run(int)":                                    "(anonymous namespace)::run",
		"a::(anonymous namespace)::B<int>::run(int) [clone .cold]":           "a::(anonymous namespace)::B<…>::run",
		"std::ostream& operator<< <char>(std::ostream&, char)":               "operator<< <…>",
		"A::operator<(A const&) const":                                       "A::operator<",
		"A<int>::operator()(int) const":                                      "A<…>::operator()",
		"A::operator->() const":                                              "A::operator->",
		"A::operator std::string() const":                                    "A::operator std::string",
		"f(int)::{lambda(int)#1}::operator()(int) const":                     "f::{lambda()#1}::operator()",
		"operator new(unsigned long)":                                        "operator new",
		"myoperator(int)":                                                    "myoperator",
		"unsigned long const& std::max<unsigned long>(unsigned long const&)": "std::max<…>",
		"decltype(auto) f<int>(int)":                                         "f<…>",

		"core::ptr::drop_in_place<alloc::string::String>":                    "core::ptr::drop_in_place<…>",
		"core::ptr::drop_in_place::<alloc::string::String>":                  "core::ptr::drop_in_place::<…>",
		"<alloc::vec::Vec<T> as core::ops::drop::Drop>::drop":                "<alloc::vec::Vec<…> as core::ops::drop::Drop>::drop",
		"<&mut F as core::ops::FnOnce<(A, B)>>::call_once":                   "<&mut F as core::ops::FnOnce<…>>::call_once",
		"loops::main::{{closure}}":                                           "loops::main::{{closure}}",
		"loops::main::{closure#0}":                                           "loops::main::{closure#0}",
		"std::rt::lang_start::<fn(usize) -> core::option::Option<()>>::call": "std::rt::lang_start::<…>::call",
		"<[T]>::sort": "<[T]>::sort",

		"main.(*T).Run":              "main.(*T).Run",
		"slices.Sort[go.shape.int]":  "slices.Sort[go.shape.int]",
		"example.com/a.(*B[...]).Do": "example.com/a.(*B[...]).Do",
		"[unknown]":                  "[unknown]",
		"strange>name(":              "strange>name(",
		"operator<":                  "operator<",
		"memcpy@plt":                 "memcpy@plt",
		"":                           "",
	} {
		if got := ShortName(name); got != want {
			t.Errorf("%s\n got %s\nwant %s", name, got, want)
		}
	}
}

func FuzzShortName(f *testing.F) {
	f.Add("void std::sort<int*>(int*, int*)")
	f.Add("<alloc::vec::Vec<T> as core::ops::drop::Drop>::drop")
	f.Add("a::operator<<(b) [clone .cold]")
	f.Fuzz(func(t *testing.T, name string) {
		short := ShortName(name)
		switch {
		case name != "" && short == "":
			t.Errorf("%q has no short name", name)
		case utf8.ValidString(name) && !utf8.ValidString(short):
			t.Errorf("%q became %q", name, short)
		case len(short) > 3*len(name): // "<…>" is of five bytes, "<>" of two
			t.Errorf("%q became the longer %q", name, short)
		case strings.Count(short, "\n") > strings.Count(name, "\n"):
			t.Errorf("%q became %q", name, short)
		}
	})
}
