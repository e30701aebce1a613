package sourcemap

import (
	"strings"
	"testing"
)

func TestDemangle(t *testing.T) {
	for name, want := range map[string]string{
		"main":                                   "main",
		"_start":                                 "_start",
		"":                                       "",
		"_Z3addii":                               "add(int, int)",
		"_ZN5shape4Area3sumERKSt6vectorIdSaIdEE": "shape::Area::sum(std::vector<double, std::allocator<double> > const&)",
		"_ZZ4mainENKUlvE_clEv":                   "main::{lambda()#1}::operator()() const",
		"_ZL4walki.constprop.0":                  "walk(int) [clone .constprop.0]",
		"_ZN4core3fmt5write17h0123456789abcdefE": "core::fmt::write",
		"_RNvNtCs3kFBnDVsi17_6kernel4task4wake":  "kernel::task::wake",
		"_RNvMNtCs7TjwcaOrBz0_4core6optionINtB2_6OptionlE6unwrap":                                           "<core::option::Option<i32>>::unwrap",
		"_ZN3std3sys9backtrace28__rust_begin_short_backtrace17hfe799d6bc96c0016E":                           "std::sys::backtrace::__rust_begin_short_backtrace",
		"_ZN4core3ptr42drop_in_place$LT$alloc..string..String$GT$17h0123456789abcdefE":                      "core::ptr::drop_in_place<alloc::string::String>",
		"_ZN60_$LT$alloc..string..String$u20$as$u20$core..fmt..Display$GT$3fmt17h0123456789abcdefE":         "<alloc::string::String as core::fmt::Display>::fmt",
		"_RINvNtNtCsjrHSEGnQ3l9_3std3sys9backtrace28___rust_begin_short_backtraceFEuuECsisUKHU1A6Ju_5loops": "std::sys::backtrace::__rust_begin_short_backtrace::<fn(), ()>",
		"_Znot_a_name":                    "_Znot_a_name",
		"_R":                              "_R",
		"_Z" + strings.Repeat("9", 20000): "_Z" + strings.Repeat("9", 20000),
	} {
		for range 2 { // the second time from memory
			if got := Demangle(name); got != want {
				t.Errorf("Demangle(%.60q) = %q; want %q", name, got, want)
			}
		}
	}
}

func FuzzDemangle(f *testing.F) {
	for _, s := range []string{"_Z3addii", "_ZN4core3fmt5write17h0123456789abcdefE", "_RNvNtCs3kFBnDVsi17_6kernel4task4wake", "_ZNSt6vectorIS_IS0_IS1_EEE"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if s := Demangle(name); len(s) > max(len(name), 1<<16+64) {
			t.Errorf("%d bytes become %d", len(name), len(s))
		}
	})
}
