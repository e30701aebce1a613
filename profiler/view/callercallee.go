package view

// Calls is the caller-callee view. As JSON it is {"focus":ROW,"callers":[…],"callees":[…]}.
//
// Where a stack has the focus k times each of them counts for 1/k, so the callers' totals add up to
// that of the focus, and so do its self and the callees' totals.
type Calls struct {
	Focus   StackRow   `json:"focus"`
	Callers []StackRow `json:"callers"`
	Callees []StackRow `json:"callees"`
}

// CallerCallee is what calls a name and what it calls. It fails with a *FocusError.
func (s *Selection) CallerCallee(focus string, c Columns) (*Calls, error) {
	c = s.columns(c)
	text, err := s.find(focus)
	if err != nil {
		return nil, err
	}
	order := s.prepare(c)
	src, n := s.src, len(s.node)

	// A position's own samples count for part in each occurrence above them. Shares are the totals of
	// what is so divided.
	part := make([]float64, n)
	times := make([]uint32, n) // the focus is in the position's stack
	shares := make([]measure, n)
	for i := range n {
		if i > 0 {
			times[i] = times[src.parent[i]]
		}
		if text == 0 && i == 0 || text != 0 && s.focused(uint32(i), text) {
			times[i]++
		}
		if times[i] > 0 && s.flags[i]&hit != 0 {
			part[i] = 1 / float64(times[i])
			m := s.self(uint32(i))
			shares[i] = measure{m.weight * part[i], m.count * part[i]}
		}
	}
	own := func(i uint32) measure {
		m := s.self(i)
		return measure{m.weight * part[i], m.count * part[i]}
	}
	for i := n - 1; i > 0; i-- {
		shares[src.parent[i]].add(shares[i])
	}

	// Where a position's node counts, but for the focus itself: as a callee of the focus, or where it is
	// the focus, with its caller.
	all := [3][]textTally{make([]textTally, 1), make([]textTally, len(s.texts)), make([]textTally, len(s.texts))}
	const atFocus, atCaller, atCallee = 0, 1, 2
	in := func(i uint32, f func(kind int, text uint32)) {
		at := s.node[i]
		isFocus := s.text[at] == text && (text != 0 || at == 0)
		if isFocus {
			f(atFocus, 0)
		}
		if at == 0 {
			return
		}
		caller := s.node[src.parent[at]]
		if isFocus {
			f(atCaller, s.text[caller])
		}
		if s.text[caller] == text && (text != 0 || caller == 0) {
			f(atCallee, s.text[at])
		}
	}
	for k := range n {
		i := uint32(k)
		if s.flags[i]&hit == 0 || times[i] == 0 {
			continue
		}
		in(i, func(kind int, text uint32) {
			t := &all[kind][text]
			t.hit = true
			if s.begins(i) {
				t.total.add(shares[i])
			}
			m := own(i)
			t.self.add(m)
			if s.flags[i]&folded != 0 {
				t.fold.add(m)
			}
		})
	}

	result := &Calls{Focus: s.row(text, all[atFocus][0].total, all[atFocus][0].self, all[atFocus][0].fold), Callers: []StackRow{}, Callees: []StackRow{}}
	place := [3][]uint32{{1}, make([]uint32, len(s.texts)), make([]uint32, len(s.texts))}
	lists := [3]*[]StackRow{nil, &result.Callers, &result.Callees}
	for kind := atCaller; kind <= atCallee; kind++ {
		for text := range all[kind] {
			if t := &all[kind][text]; t.hit {
				*lists[kind] = append(*lists[kind], s.row(uint32(text), t.total, t.self, t.fold))
				place[kind][text] = uint32(len(*lists[kind]))
			}
		}
	}
	row := func(kind int, text uint32) *StackRow {
		if kind == atFocus {
			return &result.Focus
		}
		return &(*lists[kind])[place[kind][text]-1]
	}
	if c&Times != 0 {
		b := s.times()
		for k := range n {
			if i := uint32(k); s.flags[i]&hit != 0 && times[i] != 0 && s.begins(i) {
				in(i, func(kind int, text uint32) { row(kind, text).between(b.first[i], b.last[i]) })
			}
		}
	}
	if c&(When|Which) != 0 {
		sums := [3]*rowSums{s.newSums(1, c), s.newSums(len(result.Callers), c), s.newSums(len(result.Callees), c)}
		s.spread(c, order, part, 0, func(i uint32, r *spreadRow) {
			if times[i] != 0 && s.begins(i) {
				in(i, func(kind int, text uint32) { sums[kind].add(int(place[kind][text]-1), r) })
			}
		})
		if text == 0 {
			s.draw(&result.Focus, s.scale().root, c)
		} else {
			s.draw(&result.Focus, sums[atFocus].of(0), c)
		}
		for kind := atCaller; kind <= atCallee; kind++ {
			for k := range *lists[kind] {
				s.draw(&(*lists[kind])[k], sums[kind].of(k), c)
			}
		}
	}
	result.Callers = sortRows(result.Callers, compareTotal)
	result.Callees = sortRows(result.Callees, compareTotal)
	return result, nil
}
