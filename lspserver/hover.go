package lspserver

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.lsp.dev/protocol"

	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/view"
)

// Hover implements protocol.Server: the breakdown of the line, and of the function that begins on
// it.
func (s *server) Hover(ctx context.Context, p *protocol.HoverParams) (*protocol.Hover, error) {
	d, err := s.document(ctx, p.TextDocument.URI)
	if err != nil {
		return nil, err
	}
	a := s.annotations(d)
	if a == nil {
		return nil, nil
	}
	line := int(min(p.Position.Line, 1<<30))
	l := a.on(line)
	var pages []*page
	_, set := s.shown()
	if a.stale() {
		if l == nil && line != 0 {
			return nil, nil
		}
		pages = append(pages, &page{title: s.staleNotice(a)})
	} else {
		for _, fn := range a.functions {
			if fn.now == line && a.file.capture.over(fn.Total.Weight, set.lensThreshold) {
				pages = append(pages, s.functionPage(a.file, fn.function))
			}
		}
		if l != nil {
			pages = append(pages, s.linePage(a.file, l.Line.Line))
		}
	}
	if len(pages) == 0 {
		return nil, nil
	}
	pages[len(pages)-1].origin = s.origin(a.file.capture, a.edited, a.certain)
	if note := a.file.note; note != "" && a.certain { // of a text that is here
		last := pages[len(pages)-1]
		last.origin = slices.Insert(last.origin, 1, "The source was "+note+".")
	}
	var texts []string
	for _, pg := range pages {
		texts = append(texts, s.markup(pg, s.can.markdownHover).Value)
	}
	r := d.text.Range(s.client.Encoding(), line)
	kind, gap := protocol.MarkupKindMarkdown, "\n\n---\n\n"
	if !s.can.markdownHover {
		kind, gap = protocol.MarkupKindPlainText, "\n\n"
	}
	return &protocol.Hover{Contents: &protocol.MarkupContent{Kind: kind, Value: strings.Join(texts, gap)}, Range: &r}, nil
}

// A page is the breakdown of one line or function, before it is written as markdown or plain text.
type page struct {
	title            string
	capture          *loaded // nil: nothing but title and origin
	self, total      profile.Measure
	callers, callees []view.Row
	threads          []thread // none where all are of one name
	origin           []string // what capture this is, one line each
}

const pageRows = 5 // callers, callees and threads that a page lists

// linePage is the breakdown of a recorded line.
func (s *server) linePage(f *file, line int) *page {
	detail := f.capture.sums.DetailOf(f.path, line)
	return detailPage(fmt.Sprintf("%s:%d", filepath.Base(f.path), line), f.capture, detail)
}

// functionPage is the breakdown of a function.
func (s *server) functionPage(f *file, fn function) *page {
	title := fn.Name
	if fn.rank > 0 {
		title += fmt.Sprintf(" · #%d of %s", fn.rank, plural(int64(f.capture.functions), "function"))
	}
	return detailPage(title, f.capture, f.capture.sums.FunctionDetail(fn.Name, fn.Module))
}

func detailPage(title string, l *loaded, d view.LineDetail) *page {
	p := &page{title: title, capture: l, self: d.Self, total: d.Total}
	p.callers = d.Callers[:min(len(d.Callers), pageRows)]
	p.callees = d.Callees[:min(len(d.Callees), pageRows)]
	p.threads = threadsOf(d.Threads, l.profile.Tasks, d.Total)
	return p
}

// note says how old a capture's numbers are and how far the document has drifted since: "profiled 3
// min ago, 2 lines changed since".
func (s *server) note(l *loaded, edited int) string {
	switch {
	case l.key.id == "":
		return "being recorded"
	case edited > 0:
		return fmt.Sprintf("%s, %s changed since", s.profiled(l), plural(int64(edited), "line"))
	}
	return s.profiled(l)
}

// origin says what was recorded, when, how far the source has drifted since, and what a reader of
// the numbers must know.
func (s *server) origin(l *loaded, edited int, certain bool) []string {
	lines := []string{l.target.String() + " · " + s.note(l, edited)}
	if !certain {
		lines = append(lines, "The source was not recorded: if it was edited since, numbers may be on wrong lines.")
	}
	if l.cut {
		lines = append(lines, "The recording was interrupted: its last moments are missing.")
	}
	if l.broken >= 0.01 {
		lines = append(lines, fmt.Sprintf("%s of the time is on stacks whose callers are not known.", shareWord(l.broken)))
	}
	for _, w := range l.warnings {
		text := w.Text
		if w.Kind == profile.WarnLost && w.Count > 0 && !strings.ContainsAny(text, "0123456789") {
			text = fmt.Sprintf("%s (%s)", text, Count(w.Count))
		}
		lines = append(lines, text)
	}
	return lines
}

func shareWord(share float64) string { return Percent(int64(share*1e9), 1e9) }

// markup writes a page.
func (s *server) markup(p *page, markdown bool) *protocol.MarkupContent {
	if !markdown {
		return &protocol.MarkupContent{Kind: protocol.MarkupKindPlainText, Value: s.plain(p)}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**", escape(p.title))
	if l := p.capture; l != nil {
		b.WriteString("\n\n| | share | " + measureWord(l.profile.Unit) + " | " + CountWord(l.profile.Kind) + " |\n|---|--:|--:|--:|\n")
		for _, row := range []struct {
			name string
			m    profile.Measure
		}{{"self", p.self}, {"total", p.total}} {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", row.name, Percent(row.m.Weight, l.total.Weight),
				Weight(row.m.Weight, l.profile.Unit), strings.TrimSpace(Count(row.m.Count)+" "+margin(l.profile.Kind, row.m.Count)))
		}
		list := func(title string, rows []view.Row) {
			if len(rows) == 0 {
				return
			}
			b.WriteString("\n" + title + "\n\n")
			for _, r := range rows {
				fmt.Fprintf(&b, "- %s %s · %s\n", s.link(l, r), Percent(r.Total.Weight, l.total.Weight), Weight(r.Total.Weight, l.profile.Unit))
			}
		}
		list("Called by", p.callers)
		list("Calls", p.callees)
		if len(p.threads) > 0 {
			b.WriteString("\nThreads\n\n")
			for _, t := range p.threads {
				fmt.Fprintf(&b, "- %s %s\n", escape(t.name), Percent(t.total.Weight, l.total.Weight))
			}
		}
	}
	for _, line := range p.origin {
		fmt.Fprintf(&b, "\n\n*%s*", escape(line))
	}
	return &protocol.MarkupContent{Kind: protocol.MarkupKindMarkdown, Value: strings.TrimSpace(b.String())}
}

// plain writes a page for clients that show no markdown.
func (s *server) plain(p *page) string {
	var b strings.Builder
	b.WriteString(p.title + "\n")
	if l := p.capture; l != nil {
		for _, row := range []struct {
			name string
			m    profile.Measure
		}{{"self ", p.self}, {"total", p.total}} {
			fmt.Fprintf(&b, "%s %6s  %s  %s\n", row.name, Percent(row.m.Weight, l.total.Weight),
				Weight(row.m.Weight, l.profile.Unit), strings.TrimSpace(counted(l.profile.Kind, row.m.Count)+" "+margin(l.profile.Kind, row.m.Count)))
		}
		list := func(title string, rows []view.Row) {
			for _, r := range rows {
				fmt.Fprintf(&b, "%s %s %s%s\n", title, Percent(r.Total.Weight, l.total.Weight), r.Name, where(r))
			}
		}
		list("called by", p.callers)
		list("calls", p.callees)
		for _, t := range p.threads {
			fmt.Fprintf(&b, "thread %s %s\n", t.name, Percent(t.total.Weight, l.total.Weight))
		}
	}
	for _, line := range p.origin {
		b.WriteString(line + "\n")
	}
	return strings.TrimSpace(b.String())
}

// link names a function, as a link to its source where the client runs our command.
func (s *server) link(l *loaded, r view.Row) string {
	if !s.can.commandLinks || r.File == "" || r.Line == 0 || l.key.id == "" {
		if at := where(r); at != "" {
			return code(r.Name) + " (" + code(at[2:len(at)-1]) + ")"
		}
		return code(r.Name)
	}
	return fmt.Sprintf("[%s](%s)", code(r.Name), commandURI("sightline.goToFrame",
		goToFrameArgs{Capture: string(l.key.id), File: r.File, Line: r.Line}))
}

// where is a function's place, " (fib.go:9)", or "".
func where(r view.Row) string {
	if r.File == "" || r.Line == 0 {
		return ""
	}
	return " (" + filepath.Base(r.File) + ":" + strconv.Itoa(r.Line) + ")"
}

// A thread is the part of a cost that threads of one name have.
type thread struct {
	name  string // "worker", "worker (4 threads)", "worker (cc1, pid 8)", "others"
	total profile.Measure
}

// threadsOf splits a cost among threads by their names: the threads of a pool, and those of a test
// that was run again and again, have one name, and which of them it was tells nobody anything.
// Processes are told apart where the profile has different programs. Where there is one row there is
// nothing to tell; else the rows add up to the whole.
func threadsOf(rows []view.ThreadRow, tasks []profile.Task, whole profile.Measure) []thread {
	program := map[int]string{} // by process: the name of its first thread
	programs := map[string]bool{}
	for _, t := range tasks {
		if t.TID == t.PID && t.PID != 0 {
			program[t.PID] = t.Comm
			programs[t.Comm] = true
		}
	}
	type group struct {
		name, program string
		threads       int
		pids          map[int]bool
		total         profile.Measure
	}
	type key struct{ name, program string }
	of := map[key]*group{}
	var groups []*group
	for _, r := range rows { // largest first
		k := key{r.Task.Comm, program[r.Task.PID]}
		g := of[k]
		if g == nil {
			g = &group{name: k.name, program: k.program, pids: map[int]bool{}}
			of[k] = g
			groups = append(groups, g)
		}
		g.threads++
		g.pids[r.Task.PID] = true
		g.total.Add(r.Total)
	}
	slices.SortStableFunc(groups, func(a, b *group) int { return cmp.Compare(b.total.Weight, a.total.Weight) })
	var threads []thread
	rest := whole
	for _, g := range groups[:min(len(groups), pageRows)] {
		threads = append(threads, thread{threadName(g.name, g.program, g.threads, g.pids, len(programs) > 1), g.total})
		rest.Weight, rest.Count = rest.Weight-g.total.Weight, rest.Count-g.total.Count
	}
	if rest.Weight > 0 && len(threads) > 0 {
		threads = append(threads, thread{"others", rest})
	}
	if len(threads) < 2 {
		return nil
	}
	return threads
}

// threadName is a row's name: with its process where there are several programs, or else with how
// many threads it stands for.
func threadName(name, program string, threads int, pids map[int]bool, several bool) string {
	var about []string
	if several {
		if program != "" && program != name {
			about = append(about, program)
		}
		if len(pids) > 1 {
			about = append(about, fmt.Sprintf("%s processes", Count(int64(len(pids)))))
		} else {
			for pid := range pids {
				about = append(about, fmt.Sprintf("pid %d", pid))
			}
		}
	} else if threads > 1 {
		about = append(about, plural(int64(threads), "thread"))
	}
	if len(about) == 0 {
		return name
	}
	return name + " (" + strings.Join(about, ", ") + ")"
}

func measureWord(unit profile.Unit) string {
	switch unit {
	case profile.Nanoseconds:
		return "time"
	case profile.Bytes:
		return "bytes"
	case profile.Cycles:
		return "cycles"
	}
	return "count"
}

// counted is a number of what a kind counts: "812 samples", "1.2k objects".
func counted(k profile.Kind, n int64) string { return plural(n, strings.TrimSuffix(CountWord(k), "s")) }

// margin is the statistical error of a number that was sampled; "" for a kind that is counted.
func margin(k profile.Kind, count int64) string {
	switch k {
	case profile.Alloc, profile.InUse, profile.Blocked, profile.Contention:
		return ""
	}
	return Margin(count)
}

// code is a name in markdown's code quotes, whatever it contains.
func code(s string) string {
	if strings.Contains(s, "`") {
		return "`` " + s + " ``"
	}
	return "`" + s + "`"
}

// escape keeps markdown from reading a foreign text as markup. It escapes only what would be markup
// (CommonMark 0.31, 2.4 and 6): clients differ in what else they take a backslash from.
func escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		wordBefore, wordAfter := i > 0 && isWordByte(s[i-1]), i+1 < len(s) && isWordByte(s[i+1])
		switch {
		case c == '\n' || c == '\r':
			c = ' '
		case c == '*', c == '`', c == '[',
			c == '_' && !(wordBefore && wordAfter), // within a word it is no emphasis
			c == '<' && i+1 < len(s) && s[i+1] != ' ' && s[i+1] != '=',
			c == '&' && wordAfter,
			c == '\\' && i+1 < len(s) && !wordAfter && s[i+1] != ' ':
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

func isWordByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}
