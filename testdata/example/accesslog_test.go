package accesslog

import (
	"fmt"
	"testing"
)

func logLines(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		status := 200
		if i%10 == 9 {
			status = 404
		}
		lines[i] = fmt.Sprintf(`10.0.%d.%d "GET /shop//item/%d/view?from=%d" %d %d`, i%7, i%251, i%97, i, status, 100+i%900)
	}
	return lines
}

func TestPages(t *testing.T) {
	pages := Pages(logLines(20_000))
	if len(pages) != 97 {
		t.Fatalf("%d pages, want 97", len(pages))
	}
	if p := pages[0]; p.Path != "/shop/item/0/view" {
		t.Errorf("most visited page is %s", p.Path)
	}
}

func TestParse(t *testing.T) {
	for _, line := range []string{"", "10.0.0.1", `10.0.0.1 "get /" 200 1`} {
		if r, ok := Parse(line); ok {
			t.Errorf("Parse(%q) = %v, want nothing", line, r)
		}
	}
	t.Run("request", func(t *testing.T) {
		r, ok := Parse(`10.0.0.7 "GET /shop/cart?id=7" 200 5120`)
		if want := (Request{"10.0.0.7", "GET", "/shop/cart?id=7", 200, 5120}); !ok || r != want {
			t.Errorf("got %v, %v, want %v", r, ok, want)
		}
	})
}

func BenchmarkPages(b *testing.B) {
	lines := logLines(1000)
	for range b.N {
		Pages(lines)
	}
}
