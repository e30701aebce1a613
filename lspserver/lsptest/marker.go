package lsptest

import (
	"cmp"
	"errors"
	"fmt"
	"go/scanner"
	"go/token"
	"regexp"
	"strconv"
	"strings"
)

// A Marker is an expectation written behind the line of source that it is about:
//
//	total += a[i] //@ hint("75.0%")
//	s = sum(x)    #@ hint("25.0%"), total(">20%")
//	return        //@ nohint
//
// It begins with "//@" or "#@", in any language, and goes to the end of the line: names, each with an
// optional list of arguments, separated by commas or spaces. An argument is a Go string, a number or
// a word.
type Marker struct {
	File string
	Line int // 1-based
	Kind string
	Args []string // strings unquoted
}

func (m Marker) String() string {
	return fmt.Sprintf("%s:%d: %s(%s)", m.File, m.Line, m.Kind, strings.Join(m.Args, ", "))
}

// kinds are the markers that exist, and how many arguments each takes.
var kinds = map[string]int{
	"hint":   1, // a hint with this very text
	"nohint": 0, // no hint; says what the absence of a hint marker says too, but to the reader
	"lens":   1, // a lens above this line, with this very title
	"self":   1, // a bound on the line's own share: see Bound
	"total":  1, // a bound on the line's share with all it calls
	"diag":   1, // a diagnostic on this line whose message matches this regular expression
}

var markerStart = regexp.MustCompile(`(?://|#)@`)

// ParseMarkers reads the markers of a source, in order.
func ParseMarkers(file, source string) ([]Marker, error) {
	var markers []Marker
	for i, line := range strings.Split(source, "\n") {
		loc := markerStart.FindStringIndex(line)
		if loc == nil {
			continue
		}
		found, err := parseMarker(strings.TrimRight(line[loc[1]:], "\r"))
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %v in the marker %q", file, i+1, err, line[loc[0]:])
		}
		for _, m := range found {
			m.File, m.Line = file, i+1
			markers = append(markers, m)
		}
	}
	return markers, nil
}

// parseMarker reads what is behind the "//@", with Go's scanner.
func parseMarker(text string) (markers []Marker, err error) {
	var s scanner.Scanner
	fset := token.NewFileSet()
	s.Init(fset.AddFile("", -1, len(text)), []byte(text), func(_ token.Position, msg string) { err = errors.New(msg) }, scanner.ScanComments)
	next := func() (token.Token, string) {
		_, tok, lit := s.Scan()
		if tok == token.SEMICOLON && lit == "\n" {
			tok = token.EOF
		}
		return tok, lit
	}
	tok, lit := next()
	for tok != token.EOF {
		if tok == token.COMMA {
			tok, lit = next()
			continue
		}
		if tok != token.IDENT {
			return nil, fmt.Errorf("%q where a name is expected", tok.String()+lit)
		}
		m := Marker{Kind: lit}
		if tok, lit = next(); tok == token.LPAREN {
			for {
				tok, lit = next()
				switch tok {
				case token.STRING:
					arg, uerr := strconv.Unquote(lit)
					if err != nil || uerr != nil {
						return nil, cmp.Or(err, uerr)
					}
					m.Args = append(m.Args, arg)
				case token.INT, token.FLOAT, token.IDENT:
					m.Args = append(m.Args, lit)
				case token.RPAREN:
				default:
					return nil, fmt.Errorf("%q where an argument is expected", tok.String()+lit)
				}
				if tok == token.RPAREN && len(m.Args) == 0 {
					break
				}
				if tok, lit = next(); tok == token.RPAREN {
					break
				} else if tok != token.COMMA {
					return nil, fmt.Errorf("%q where a comma or ) is expected", tok.String()+lit)
				}
			}
			tok, lit = next()
		}
		if err != nil {
			return nil, err
		}
		want, known := kinds[m.Kind]
		if !known {
			return nil, fmt.Errorf("there is no marker %q", m.Kind)
		}
		if len(m.Args) != want {
			return nil, fmt.Errorf("%s takes %d arguments, not %d", m.Kind, want, len(m.Args))
		}
		if m.Kind == "self" || m.Kind == "total" {
			if _, err := ParseBound(m.Args[0]); err != nil {
				return nil, err
			}
		}
		markers = append(markers, m)
	}
	if err == nil && len(markers) == 0 {
		err = fmt.Errorf("nothing")
	}
	return markers, err
}

// A Bound is an interval of percentages, ends included: ">60%" is 60 to 100, "<5%" 0 to 5,
// "40..60%" what it says.
type Bound struct{ Low, High float64 }

var boundForm = regexp.MustCompile(`^(?:([<>])|([0-9.]+)\.\.)([0-9]+(?:\.[0-9]+)?)%$`)

// ParseBound reads a Bound.
func ParseBound(s string) (Bound, error) {
	m := boundForm.FindStringSubmatch(strings.ReplaceAll(s, " ", ""))
	if m == nil {
		return Bound{}, fmt.Errorf("%q is not a bound such as >60%%, <5%% or 40..60%%", s)
	}
	v, err := strconv.ParseFloat(m[3], 64)
	if err != nil {
		return Bound{}, err
	}
	switch m[1] {
	case ">":
		return Bound{v, 100}, nil
	case "<":
		return Bound{0, v}, nil
	}
	low, err := strconv.ParseFloat(m[2], 64)
	if err != nil || low > v {
		return Bound{}, fmt.Errorf("%q is not a bound: it begins above its end, or with no number", s)
	}
	return Bound{low, v}, nil
}

// Holds tells whether a percentage is within the bound.
func (b Bound) Holds(percent float64) bool { return b.Low <= percent && percent <= b.High }
