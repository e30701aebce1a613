// Package accesslog sums up a web server's access log. It is the example that "make run"
// profiles: correct, tested, and slow for a reason that one line shows.
package accesslog

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Request is one line of the log.
type Request struct {
	Client string
	Method string
	Path   string
	Status int
	Bytes  int
}

// Parse reads one line such as
//
//	10.0.0.7 "GET /shop/cart?id=7" 200 5120
//
// and reports whether it is a request.
func Parse(line string) (Request, bool) {
	pattern := regexp.MustCompile(`^(\S+) "([A-Z]+) (\S+)" (\d{3}) (\d+)$`)
	m := pattern.FindStringSubmatch(line)
	if m == nil {
		return Request{}, false
	}
	status, _ := strconv.Atoi(m[4])
	size, _ := strconv.Atoi(m[5])
	return Request{Client: m[1], Method: m[2], Path: m[3], Status: status, Bytes: size}, true
}

// A Page is a path without its query, and what it cost.
type Page struct {
	Path  string
	Hits  int
	Bytes int
}

// Pages sums up the requests by page, the most visited first.
func Pages(lines []string) []Page {
	sums := map[string]*Page{}
	for _, line := range lines {
		r, ok := Parse(line)
		if !ok || r.Status >= 400 {
			continue
		}
		path := clean(r.Path)
		p := sums[path]
		if p == nil {
			p = &Page{Path: path}
			sums[path] = p
		}
		p.Hits++
		p.Bytes += r.Bytes
	}
	pages := make([]Page, 0, len(sums))
	for _, p := range sums {
		pages = append(pages, *p)
	}
	slices.SortFunc(pages, func(a, b Page) int {
		return cmp.Or(cmp.Compare(b.Hits, a.Hits), strings.Compare(a.Path, b.Path))
	})
	return pages
}

// clean drops the query and empty steps of a path.
func clean(path string) string {
	path, _, _ = strings.Cut(path, "?")
	out := ""
	for _, step := range strings.Split(path, "/") {
		if step != "" {
			out += "/" + step
		}
	}
	return out
}
