package nativetest

import (
	"fmt"
	"strings"
	"testing"
)

// How long the tests of a large file take to be found, which happens after each edit: ns/line.
func BenchmarkFind(b *testing.B) {
	for lang, item := range map[string]string{
		"cpp":  "TEST(Suite, Name%d) {\n  // what is expected of it\n  EXPECT_EQ(call(\"text\", '}'), R\"(raw)\");\n  if (x) { y(); }\n}\n",
		"rust": "#[test]\nfn name_%d() {\n    // what is expected of it\n    assert_eq!(call(\"text\", '}'), r#\"raw\"#);\n}\n",
	} {
		var src strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&src, item, i)
		}
		b.Run("language="+lang, func(b *testing.B) {
			for b.Loop() {
				if n := len(Find(map[string]string{"cpp": "a.cpp", "rust": "a.rs"}[lang], src.String())); n != 1000 {
					b.Fatalf("%d tests", n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/5000, "ns/line")
			b.ReportMetric(0, "ns/op")
		})
	}
}
