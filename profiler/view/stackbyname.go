package view

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// NameRows is the by-name view. As JSON it is {"root":ROW,"rows":[…]}.
type NameRows struct {
	Root StackRow   `json:"root"`
	Rows []StackRow `json:"rows"`
}

// A textTally is the cost of a text, counting each sample once.
type textTally struct {
	total, self, fold measure
	end               uint32 // of the range of the last occurrence that was counted
	hit               bool
}

// tallies are the costs of all texts.
func (s *Selection) tallies() []textTally {
	all := make([]textTally, len(s.texts))
	ends := s.src.end
	weight, count := s.src.weight, s.src.count
	single := s.weight != nil
	if single {
		weight, count = s.weight, s.count
	}
	for i, flags := range s.flags {
		if flags&hit == 0 {
			continue
		}
		t := &all[s.text[i]]
		t.hit = true
		if uint32(i) >= t.end {
			t.total.add(s.total[i])
			t.end = ends[i]
		}
		if single || flags&kept != 0 {
			m := measure{weight[i], count[i]}
			t.self.add(m)
			if flags&folded != 0 {
				t.fold.add(m)
			}
		}
	}
	return all
}

// Root is the row of the whole selection, named Root.
func (s *Selection) Root(c Columns) StackRow {
	c = s.columns(c)
	var self, fold measure
	s.region(0, func(i uint32) {
		m := s.self(i)
		self.add(m)
		if s.flags[i]&folded != 0 {
			fold.add(m)
		}
	}, func(uint32) {})
	r := s.row(0, s.total[0], self, fold)
	if c&Times != 0 && s.flags[0]&hit != 0 {
		b := s.times()
		r.First, r.Last = b.first[0], b.last[0]
	}
	if c&(When|Which) != 0 {
		sc := s.scale()
		s.draw(&r, sc.root, c)
	}
	return r
}

// ByName is the cost of each name, Root included, ordered by self, then total, largest first, then by
// name. A sample counts once in a name's total however often its stack comes by.
func (s *Selection) ByName(c Columns) NameRows {
	c = s.columns(c)
	order := s.prepare(c)
	all := s.tallies()
	root := s.Root(c)
	rows := make([]StackRow, 0, len(all))
	place := make([]uint32, len(all)) // by text: 1 + its row
	for text := 1; text < len(all); text++ {
		if t := &all[text]; t.hit {
			rows = append(rows, s.row(uint32(text), t.total, t.self, t.fold))
			place[text] = uint32(len(rows))
		}
	}
	if c&Times != 0 {
		b := s.times()
		for i, text := range s.text {
			if k := place[text]; k != 0 && s.flags[i]&hit != 0 && s.begins(uint32(i)) {
				rows[k-1].between(b.first[i], b.last[i])
			}
		}
	}
	if c&(When|Which) != 0 {
		sums := s.newSums(len(rows), c)
		outer := make([]bool, len(s.text)) // the position is not below another one of its text
		ends := make([]uint32, len(all))
		for i, text := range s.text {
			if s.flags[i]&hit != 0 && uint32(i) >= ends[text] {
				outer[i], ends[text] = true, s.src.end[i]
			}
		}
		s.spread(c, order, nil, 0, func(i uint32, r *spreadRow) {
			if k := place[s.text[i]]; k != 0 && outer[i] {
				sums.add(int(k-1), r)
			}
		})
		for k := range rows {
			s.draw(&rows[k], sums.of(k), c)
		}
	}
	rows = append(rows, root)
	return NameRows{root, sortRows(rows, compareSelf)}
}

// between widens a row's times.
func (r *StackRow) between(first, last float64) {
	if !(r.First <= first) {
		r.First = first
	}
	if !(r.Last >= last) {
		r.Last = last
	}
}

// Find are the rows of ByName whose names match a pattern, in their order. It fails with a *FilterError.
func (s *Selection) Find(pattern string, c Columns) ([]StackRow, error) {
	matches, err := s.Finder(pattern)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(s.ByName(c).Rows, func(r StackRow) bool { return !matches(r.Name) }), nil
}

// Finder tells which names match a pattern, for finding rows in any view. It fails with a *FilterError.
func (s *Selection) Finder(pattern string) (matches func(name string) bool, err error) {
	p, err := parsePattern(FieldFind, item{strings.TrimSpace(pattern), 1}, s.c.Compat)
	if err != nil {
		return nil, err
	}
	return func(name string) bool { return p.matches(newCaseless(name)) }, nil
}

// Keep is the part of a tree that leads to rows that match, with all that is below those; nil where
// there are none. The weight of what it leaves out remains in the rows above it.
func (n *StackNode) Keep(matches func(name string) bool) *StackNode {
	if matches(n.Name) {
		return n
	}
	type step struct {
		from, to *StackNode
		next     int
	}
	root := &StackNode{StackRow: n.StackRow}
	path := []step{{from: n, to: root}}
	for len(path) > 0 {
		at := &path[len(path)-1]
		if at.next == len(at.from.Children) {
			done := at.to
			path = path[:len(path)-1]
			if len(path) > 0 && len(done.Children) > 0 {
				up := path[len(path)-1].to
				up.Children = append(up.Children, done)
			}
			continue
		}
		child := at.from.Children[at.next]
		at.next++
		if matches(child.Name) {
			at.to.Children = append(at.to.Children, child)
		} else {
			path = append(path, step{from: child, to: &StackNode{StackRow: child.StackRow}})
		}
	}
	if len(root.Children) == 0 {
		return nil
	}
	return root
}

// A FocusError is a name that no row has.
type FocusError struct {
	Focus   string
	Nearest []string // at most three names of rows, the nearest first
	Several bool     // Focus is the short form of all of Nearest
}

// Error is one sentence with the nearest names.
func (e *FocusError) Error() string {
	quoted := make([]string, len(e.Nearest))
	for i, n := range e.Nearest {
		quoted[i] = fmt.Sprintf("%q", n)
	}
	names := strings.Join(quoted, ", ")
	switch {
	case e.Several:
		return fmt.Sprintf("look at %q: more than one module has it; give the whole name: %s", e.Focus, names)
	case names == "":
		return fmt.Sprintf("look at %q: the selection is empty; filter less", e.Focus)
	}
	return fmt.Sprintf("look at %q: no row has that name; the nearest are %s", e.Focus, names)
}

// Name is the name of the row that focus means: that name itself, or what follows the ! in one name
// only. It fails with a *FocusError.
func (s *Selection) Name(focus string) (string, error) {
	text, err := s.find(focus)
	if err != nil {
		return "", err
	}
	return s.shown(text), nil
}

// find is the text that focus means.
func (s *Selection) find(focus string) (uint32, error) {
	if focus == Root {
		return 0, nil
	}
	live := make([]bool, len(s.texts))
	for i, text := range s.text {
		if s.flags[i]&hit != 0 && s.begins(uint32(i)) {
			live[text] = true
		}
	}
	var short []uint32
	for text := 1; text < len(live); text++ {
		if !live[text] {
			continue
		}
		shown := s.shown(uint32(text))
		if shown == focus || s.texts[text] == focus {
			return uint32(text), nil
		}
		if _, function, ok := strings.Cut(shown, "!"); ok && function == focus {
			short = append(short, uint32(text))
		}
	}
	if len(short) == 1 {
		return short[0], nil
	}
	e := &FocusError{Focus: focus, Several: len(short) > 1}
	for _, text := range short {
		e.Nearest = append(e.Nearest, s.shown(text))
	}
	if e.Several {
		slices.Sort(e.Nearest)
		e.Nearest = e.Nearest[:min(3, len(e.Nearest))]
		return 0, e
	}
	type near struct {
		name     string
		distance int
	}
	var all []near
	wanted := strings.ToLower(focus)
	for text := 1; text < len(live); text++ {
		if !live[text] {
			continue
		}
		shown := s.shown(uint32(text))
		lower := strings.ToLower(shown)
		d := distance(wanted, lower)
		if _, function, ok := strings.Cut(lower, "!"); ok {
			d = min(d, distance(wanted, function))
		}
		// What is typed most often is the function alone, without its package, class or receiver.
		if i := strings.LastIndexAny(lower, "!./:"); i >= 0 && i < len(lower)-1 {
			d = min(d, distance(wanted, lower[i+1:]))
		}
		if wanted != "" && strings.Contains(lower, wanted) {
			d = min(d, 1)
		}
		all = append(all, near{shown, d})
	}
	slices.SortFunc(all, func(a, b near) int { return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name)) })
	for _, n := range all[:min(3, len(all))] {
		e.Nearest = append(e.Nearest, n.name)
	}
	return 0, e
}

// longest is how much of a name distance looks at, which bounds its time.
const longest = 200

// distance is the number of bytes to insert, delete or replace to make b of a.
func distance(a, b string) int {
	beyond := max(0, len(a)-longest) + max(0, len(b)-longest)
	a, b = a[:min(longest, len(a))], b[:min(longest, len(b))]
	if d := len(a) - len(b); d > 40 || d < -40 {
		return int(math.Abs(float64(d))) + beyond // far enough, whatever they hold
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)] + beyond
}
