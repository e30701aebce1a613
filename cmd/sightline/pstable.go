package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/process"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// A psColumn is one column of ps.
type psColumn struct {
	name, title string
	left        bool // aligned to the left
	rank        int  // 0 stays in the narrowest terminal; the highest goes first
	asked       bool // shown only where --columns names it
	text        func(*psRow) string
}

// A psRow is what a column is made of.
type psRow struct {
	*process.Process
	user string
	now  time.Time
}

func bytesOrBlank(n int64) string {
	if n == 0 {
		return ""
	}
	return lspserver.Weight(n, profile.Bytes)
}

func countOrBlank(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

var psColumns = []psColumn{
	{name: "pid", title: "PID", text: func(r *psRow) string { return fmt.Sprint(r.PID) }},
	{name: "parent", title: "PARENT", asked: true, text: func(r *psRow) string { return fmt.Sprint(r.Parent) }},
	{name: "user", title: "USER", left: true, rank: 2, text: func(r *psRow) string { return r.user }},
	{name: "state", title: "S", left: true, rank: 3, text: func(r *psRow) string { return process.Printable(string(rune(r.State))) }},
	{name: "cpu", title: "CPU", text: func(r *psRow) string { return busy(r.CPU, r.Over) }},
	{name: "rss", title: "RSS", text: func(r *psRow) string { return bytesOrBlank(r.Resident) }},
	{name: "private", title: "PRIVATE", rank: 1, text: func(r *psRow) string { return bytesOrBlank(r.Private) }},
	{name: "pss", title: "PSS", rank: 1, text: func(r *psRow) string { return bytesOrBlank(r.PSS) }},
	{name: "swap", title: "SWAP", rank: 3, text: func(r *psRow) string { return bytesOrBlank(r.Swap) }},
	{name: "read", title: "READ", rank: 5, text: func(r *psRow) string { return bytesOrBlank(r.Read) }},
	{name: "written", title: "WRITTEN", rank: 5, text: func(r *psRow) string { return bytesOrBlank(r.Written) }},
	{name: "threads", title: "THR", rank: 2, text: func(r *psRow) string { return countOrBlank(r.Threads) }},
	{name: "files", title: "FILES", rank: 3, text: func(r *psRow) string { return countOrBlank(r.Files) }},
	{name: "goroutines", title: "GOROUTINES", rank: 4, text: func(r *psRow) string { return countOrBlank(r.Go.Goroutines) }},
	{name: "heap", title: "HEAP", rank: 4, text: func(r *psRow) string { return bytesOrBlank(r.Go.Heap) }},
	{name: "go", title: "GO", left: true, asked: true, text: func(r *psRow) string { return cmp.Or(r.Go.Why, r.Go.Version) }},
	{name: "time", title: "TIME", asked: true, text: func(r *psRow) string { return lspserver.Duration(r.CPUTotal) }},
	{name: "start", title: "START", asked: true, text: func(r *psRow) string { return startedAt(r.Started(r.now), r.now) }},
	{name: "arch", title: "ARCH", left: true, rank: 6, text: func(r *psRow) string {
		if r.Arch == runtime.GOARCH { // as all others
			return ""
		}
		return r.Arch
	}},
	{name: "container", title: "CONTAINER", left: true, rank: 4, text: func(r *psRow) string { return r.Container }},
	{name: "name", title: "NAME", left: true, asked: true, text: func(r *psRow) string { return process.Printable(r.Name) }},
	{name: "command", title: "COMMAND", left: true, text: func(r *psRow) string { return process.Printable(r.CommandLine()) }},
}

func psColumnNames() []string {
	var names []string
	for _, c := range psColumns {
		names = append(names, c.name)
	}
	return names
}

// ChosenColumns are those that --columns names; none for "".
func chosenColumns(text string) ([]*psColumn, error) {
	if text == "" {
		return nil, nil
	}
	var chosen []*psColumn
	for name := range strings.SplitSeq(text, ",") {
		i := slices.IndexFunc(psColumns, func(c psColumn) bool { return c.name == strings.ToLower(strings.TrimSpace(name)) })
		if i < 0 {
			return nil, fmt.Errorf("--columns: there is no column %q; there are %s", name, strings.Join(psColumnNames(), ", "))
		}
		chosen = append(chosen, &psColumns[i])
	}
	return chosen, nil
}

func busy(used, over time.Duration) string {
	if over <= 0 {
		return ""
	}
	return lspserver.Percent(int64(used), int64(over))
}

// StartedAt is a time of today, or a day.
func startedAt(t, now time.Time) string {
	switch {
	case now.Sub(t) < 20*time.Hour:
		return t.Format("15:04:05")
	case now.Sub(t) < 300*24*time.Hour:
		return t.Format("Jan _2")
	}
	return t.Format("2006")
}

func printProcesses(s *screen, io streams, o psOptions, columns []*psColumn, list *process.List, named bool) error {
	if o.asJSON {
		return writeProcesses(io.out, o, list)
	}
	names, rows := userNames{}, make([]psRow, len(list.Processes))
	for i := range list.Processes {
		rows[i] = psRow{Process: &list.Processes[i], now: list.Time}
		if rows[i].Has(process.Status) {
			rows[i].user = process.Printable(names.of(rows[i].UID))
		}
	}
	lead := make([]string, len(rows)) // before a command, in a tree
	if o.tree {
		ordered := make([]psRow, 0, len(rows))
		for i, r := range process.Children(list.Processes) {
			ordered = append(ordered, rows[r.Index])
			lead[i] = branches(r.Last)
		}
		rows = ordered
	}
	dropped := 0
	if n := s.room(3); o.top > 0 || n > 0 {
		most := min(cmp.Or(o.top, len(rows)), cmp.Or(n, len(rows)), len(rows))
		dropped = len(rows) - most
		rows = rows[:most]
	}
	t := table{width: width(io.out), uncut: !isTerminal(io.out), p: paletteFor(io.out)}
	for _, c := range columns {
		t.columns = append(t.columns, tableColumn{title: c.title, left: c.left})
	}
	if len(columns) == 0 {
		for i := range psColumns {
			if c := &psColumns[i]; !c.asked {
				t.columns = append(t.columns, tableColumn{title: c.title, left: c.left, rank: c.rank, optional: true})
				columns = append(columns, c)
			}
		}
	}
	for i := range rows {
		cells := make([]string, len(columns))
		for k, c := range columns {
			cells[k] = c.text(&rows[i])
			if c.name == "command" || c.name == "name" && o.tree {
				cells[k] = lead[i] + cells[k]
			}
		}
		t.rows = append(t.rows, cells)
	}
	s.begin()
	t.print(s)
	if dropped > 0 && o.top == 0 {
		fmt.Fprintln(s, t.p.dim(fmt.Sprintf("and %s more", processWords(dropped))))
	}
	if text := unseenWords(list.Unseen, !o.kernel && !named); text != "" {
		fmt.Fprintln(s, t.p.dim(text))
	}
	return s.end()
}

func branches(last []bool) string {
	var b strings.Builder
	for i, l := range last {
		switch {
		case i == len(last)-1 && l:
			b.WriteString("└─ ")
		case i == len(last)-1:
			b.WriteString("├─ ")
		case l:
			b.WriteString("   ")
		default:
			b.WriteString("│  ")
		}
	}
	return b.String()
}

// UnseenWords says on one line what a list may not see; "" for nothing.
func unseenWords(u process.Unseen, kernel bool) string {
	var parts []string
	if u.Guarded > 0 {
		may := "as root it does"
		if os.Geteuid() == 0 {
			may = "with CAP_SYS_PTRACE it does"
		}
		parts = append(parts, fmt.Sprintf("this user may not look into %s: of them programs, I/O, PSS and names of open files are not known (%s)",
			processWords(u.Guarded), may))
	}
	if u.Hidden {
		parts = append(parts, "/proc is mounted with hidepid: other users' processes are hidden")
	}
	if u.Container {
		parts = append(parts, "only the processes of this container (PID namespace) are there")
	}
	if kernel && u.Kernel > 0 {
		parts = append(parts, plural(u.Kernel, "kernel thread")+" left out (--kernel)")
	}
	text := strings.Join(parts, "; ")
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

func processWords(n int) string {
	if n == 1 {
		return "1 process"
	}
	return fmt.Sprintf("%d processes", n)
}

// A processJSON is one process as `ps --json` prints it: what is not known is absent.
type processJSON struct {
	PID        int          `json:"pid"`
	Parent     int          `json:"parent"`
	Name       string       `json:"name"`
	Command    []string     `json:"command,omitempty"`
	User       string       `json:"user,omitempty"`
	UID        *int         `json:"uid,omitempty"`
	State      string       `json:"state"`
	Kernel     bool         `json:"kernel,omitempty"`
	Started    time.Time    `json:"started"`
	CPU        float64      `json:"cpu"`
	CPUTotal   int64        `json:"cpuTotal"`
	RSS        int64        `json:"rss"`
	PSS        *int64       `json:"pss,omitempty"`
	Private    *int64       `json:"private,omitempty"`
	Swap       *int64       `json:"swap,omitempty"`
	Read       *int64       `json:"read,omitempty"`
	Written    *int64       `json:"written,omitempty"`
	Threads    int          `json:"threads"`
	Files      *int         `json:"files,omitempty"`
	Arch       string       `json:"arch,omitempty"`
	Go         *goJSON      `json:"go,omitempty"`
	Container  string       `json:"container,omitempty"`
	Guarded    bool         `json:"guarded,omitempty"`
	ThreadList []threadJSON `json:"threadList,omitempty"`
}

type goJSON struct {
	Version    string `json:"version,omitempty"`
	Goroutines *int   `json:"goroutines,omitempty"`
	Heap       *int64 `json:"heap,omitempty"`
	Why        string `json:"why,omitempty"`
}

type threadJSON struct {
	TID      int     `json:"tid"`
	Name     string  `json:"name"`
	State    string  `json:"state"`
	CPU      float64 `json:"cpu"`
	Runnable float64 `json:"runnable"`
	Wait     string  `json:"wait,omitempty"`
	LastCPU  int     `json:"processor"`
}

// ProcessesJSON is what `ps --json` prints.
type processesJSON struct {
	Time      time.Time     `json:"time"`
	Processes []processJSON `json:"processes"`
	Unseen    string        `json:"unseen,omitempty"`
}

func writeProcesses(out io.Writer, o psOptions, list *process.List) error {
	return writeLook(out, o.watch, processesToJSON(o, list, nil))
}

// WriteLook prints one look: indented, or a line of it where there are many.
func writeLook(out io.Writer, lines bool, v any) error {
	if !lines {
		return writeJSON(out, v)
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func processesToJSON(o psOptions, list *process.List, threads map[process.ID][]process.Thread) processesJSON {
	names := userNames{}
	r := processesJSON{Time: list.Time, Processes: []processJSON{}, Unseen: unseenWords(list.Unseen, !o.kernel)}
	all := list.Processes
	if o.top > 0 {
		all = all[:min(o.top, len(all))]
	}
	for i := range all {
		p := &all[i]
		j := processJSON{
			PID: p.PID, Parent: p.Parent, Name: jsonText(p.Name), State: p.State.String(), Kernel: p.Kernel,
			Started: p.Started(list.Time).Round(10 * time.Millisecond), CPU: p.Busy(), CPUTotal: int64(p.CPUTotal), RSS: p.Resident,
			Threads: p.Threads, Arch: p.Arch, Container: p.Container, Guarded: p.Guarded,
		}
		for _, a := range p.Args {
			j.Command = append(j.Command, jsonText(a))
		}
		if p.Has(process.Status) {
			j.UID, j.User, j.Private, j.Swap = &p.UID, jsonText(names.of(p.UID)), &p.Private, &p.Swap
		}
		if p.Has(process.IO) {
			j.Read, j.Written = &p.Read, &p.Written
		}
		if p.Has(process.OpenFiles) {
			j.Files = &p.Files
		}
		if p.Has(process.PSS) {
			j.PSS = &p.PSS
		}
		if p.IsGo {
			j.Go = &goJSON{Version: p.Go.Version, Why: p.Go.Why}
			if p.Has(process.GoRuntime) && p.Go.Why == "" {
				j.Go.Goroutines, j.Go.Heap = &p.Go.Goroutines, &p.Go.Heap
			}
		}
		for _, t := range threads[p.ID] {
			j.ThreadList = append(j.ThreadList, threadJSON{
				TID: t.TID, Name: jsonText(t.Name), State: t.State.String(), CPU: t.Share(), Runnable: shareOf(t.Runnable, t.Over),
				Wait: jsonText(t.Wait), LastCPU: t.Processor,
			})
		}
		r.Processes = append(r.Processes, j)
	}
	return r
}

func shareOf(part, whole time.Duration) float64 {
	if whole <= 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// JsonText is a foreign text as JSON can have it: as it is where it is UTF-8, for JSON escapes what has to
// be, and else with its bytes escaped.
func jsonText(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return process.Printable(text)
}

func printThreads(s *screen, io streams, o psOptions, list *process.List, looks *threadLooks) error {
	sortProcesses(list.Processes, o.sort)
	if o.asJSON {
		return writeLook(io.out, o.watch, processesToJSON(o, list, looks.threads))
	}
	type row struct {
		p *process.Process
		t *process.Thread
	}
	var rows []row
	for i := range list.Processes {
		p := &list.Processes[i]
		for k := range looks.threads[p.ID] {
			rows = append(rows, row{p, &looks.threads[p.ID][k]})
		}
	}
	if o.sort == "cpu" {
		slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(b.t.Share(), a.t.Share()) })
	}
	if n := cmp.Or(o.top, s.room(3)); n > 0 {
		rows = rows[:min(n, len(rows))]
	}
	t := table{width: width(io.out), uncut: !isTerminal(io.out), p: paletteFor(io.out), columns: []tableColumn{
		{title: "PID"}, {title: "TID"}, {title: "S", left: true}, {title: "ON-CPU"}, {title: "RUNNABLE", rank: 2},
		{title: "PROCESSOR", rank: 3}, {title: "WAITS IN", left: true, rank: 1, optional: true}, {title: "THREAD", left: true}, {title: "PROCESS", left: true},
	}}
	for _, r := range rows {
		t.rows = append(t.rows, []string{
			fmt.Sprint(r.p.PID), fmt.Sprint(r.t.TID), process.Printable(string(rune(r.t.State))), busy(r.t.Running, r.t.Over), busy(r.t.Runnable, r.t.Over),
			fmt.Sprint(r.t.Processor), process.Printable(r.t.Wait), process.Printable(r.t.Name), process.Printable(r.p.Name),
		})
	}
	s.begin()
	t.print(s)
	if text := unseenWords(list.Unseen, false); text != "" {
		fmt.Fprintln(s, t.p.dim(text))
	}
	return s.end()
}

// A screen is where a watch draws anew each time; without a terminal each look follows the last.
type screen struct {
	out    io.Writer
	text   strings.Builder
	redraw bool
	drawn  bool
}

func newScreen(out io.Writer, watch bool) *screen { return &screen{out: out, redraw: watch} }

// Room is how many rows fit below some lines; 0 is any number.
func (s *screen) room(lines int) int {
	f, ok := s.out.(*os.File)
	if !s.redraw || !ok {
		return 0
	}
	_, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return max(height-lines, 1)
}

func (s *screen) begin() { s.text.Reset() }

func (s *screen) Write(p []byte) (int, error) { return s.text.Write(p) }

// End writes what was drawn, all at once.
func (s *screen) end() error {
	text := s.text.String()
	switch {
	case s.redraw && isTerminal(s.out):
		// Home, then each line with what was there before cleared behind it, then what is below.
		text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
		if !s.drawn {
			text = "\x1b[2J" + text
		}
	case s.redraw && s.drawn:
		text = "\n" + text
	}
	s.drawn = true
	_, err := io.WriteString(s.out, text)
	return err
}
