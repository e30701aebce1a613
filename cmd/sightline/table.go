package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A table prints rows in columns that are as wide as what is in them.
type table struct {
	columns []tableColumn
	rows    [][]string
	width   int  // of the terminal
	uncut   bool // nobody's terminal is too narrow
	p       palette
	// Paint, if not nil, colours a cell of a row; its text is as wide as before.
	paint func(row, column int, text string) string
}

// A tableColumn is one column; the last one is cut where there is no room, others are left out.
type tableColumn struct {
	title    string
	left     bool
	rank     int  // the highest goes first where there is no room; 0 stays
	optional bool // left out where no row has anything
}

// LeastLast is how much room the last column wants before others are left out for it.
const leastLast = 30

func (t *table) print(out io.Writer) {
	widths := make([]int, len(t.columns))
	last := len(t.columns) - 1
	for i, c := range t.columns {
		empty := true
		for _, r := range t.rows {
			if r[i] != "" {
				empty = false
				widths[i] = max(widths[i], utf8.RuneCountInString(r[i]))
			}
		}
		if empty && c.optional {
			widths[i] = -1
			continue
		}
		widths[i] = max(widths[i], utf8.RuneCountInString(c.title))
	}
	if !t.uncut {
		for t.used(widths)+min(leastLast, widths[last]) > t.width {
			worst := -1
			for i, c := range t.columns[:last] {
				if widths[i] >= 0 && c.rank > 0 && (worst < 0 || c.rank >= t.columns[worst].rank) {
					worst = i
				}
			}
			if worst < 0 {
				break
			}
			widths[worst] = -1
		}
	}
	room := max(t.width-t.used(widths), 10)
	line := func(row int, cells []string) string {
		var b strings.Builder
		for i, c := range t.columns {
			if widths[i] < 0 {
				continue
			}
			if b.Len() > 0 {
				b.WriteString("  ")
			}
			cell := cells[i]
			pad := widths[i] - utf8.RuneCountInString(cell)
			switch {
			case i == last:
				if !t.uncut {
					cell = cut(cell, room)
				}
			case c.left:
				cell += strings.Repeat(" ", pad)
			default:
				cell = strings.Repeat(" ", pad) + cell
			}
			if t.paint != nil && row >= 0 {
				cell = t.paint(row, i, cell)
			}
			b.WriteString(cell)
		}
		return strings.TrimRight(b.String(), " ")
	}
	titles := make([]string, len(t.columns))
	for i, c := range t.columns {
		titles[i] = c.title
	}
	fmt.Fprintln(out, t.p.dim(line(-1, titles)))
	for i, r := range t.rows {
		fmt.Fprintln(out, line(i, r))
	}
}

// Used is the room that all columns but the last take.
func (t *table) used(widths []int) int {
	n := 0
	for _, w := range widths[:len(widths)-1] {
		if w >= 0 {
			n += w + 2
		}
	}
	return n
}
