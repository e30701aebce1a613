package heap

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Priorities say what a tree is made by: of two that refer to an object, the one of the greater
// priority becomes its parent. They are a list of PATTERN->NUMBER, with semicolons between. The first
// pattern that a name matches gives its number, and 0 is that of names that none matches. Patterns are
// those of the stack views: text anywhere in the name, upper and lower case alike, * for anything, % for
// the characters of a name, ^ for its beginning, | between alternatives, @ before a regular expression.
//
// Names are those of Graph.FullName: a type's, a root's, that of a kind of roots.
type Priorities struct {
	rules []priorityRule
}

type priorityRule struct {
	pattern string
	number  float64
	matches *regexp.Regexp
}

// PerfViewPriorities are the defaults of PerfView, for heaps of .NET
// (microsoft/perfview, src/MemoryGraph/graph.cs).
const PerfViewPriorities = `v4.0.30319\%!->-1;v2.0.50727\%!->-1;[*local vars]->-1000;` +
	`mscorlib!Runtime.CompilerServices.ConditionalWeakTable->-10000;[COM/WinRT Objects]->-1000000;[*handles]->-2000000;[other roots]->-2000000`

// DefaultPriorities are for heaps of Go: own types and other modules 0, the standard library −1, the
// runtime −10, what pools keep −100, local variables −1000 but those of goroutines that are stuck, and
// what the collector alone knows of −2000000.
const DefaultPriorities = `[stuck goroutines]->0;[local vars]->-1000;[stack words]->-1001;[registers]->-1002;` +
	`[finalizers]->-2000000;[cleanups]->-2000000;[weak handles]->-2000000;[unnamed data]->-2000000;[other roots]->-2000000;` +
	`^std!sync.pool->-100;^std![]sync.pool->-100;^runtime!->-10;^std!->-1`

// ParsePriorities reads a list of priorities; an empty one gives everything 0.
func ParsePriorities(text string) (*Priorities, error) {
	p := &Priorities{}
	for item := range strings.SplitSeq(text, ";") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		at := strings.LastIndex(item, "->")
		if at <= 0 {
			return nil, fmt.Errorf("priority %q is not PATTERN->NUMBER, such as main.Cache->1", item)
		}
		pattern := strings.TrimSpace(item[:at])
		number, err := strconv.ParseFloat(strings.TrimSpace(item[at+2:]), 64)
		if err != nil || math.IsNaN(number) || math.Abs(number) > 1e12 {
			return nil, fmt.Errorf("priority %q: %q is no number between -1e12 and 1e12", item, strings.TrimSpace(item[at+2:]))
		}
		re, err := compilePattern(pattern)
		if err != nil {
			return nil, fmt.Errorf("priority %q: %w", item, err)
		}
		p.rules = append(p.rules, priorityRule{pattern, number, re})
	}
	return p, nil
}

// CompilePattern makes a regular expression of a simplified pattern.
func compilePattern(pattern string) (*regexp.Regexp, error) {
	if text, ok := strings.CutPrefix(pattern, "@"); ok {
		re, err := regexp.Compile("(?i)" + text)
		if err != nil {
			return nil, fmt.Errorf("the regular expression after @ is wrong: %w", err)
		}
		return re, nil
	}
	var b strings.Builder
	b.WriteString("(?i)")
	depth := 0
	for _, c := range pattern {
		switch c {
		case '*':
			b.WriteString(".*")
		case '%':
			b.WriteString(`[-+@~.?\p{L}\p{Mn}\p{Nd}\p{Pc}]*`)
		case '^', '|':
			b.WriteRune(c)
		case '{':
			b.WriteByte('(')
			depth++
		case '}':
			b.WriteByte(')')
			if depth--; depth < 0 {
				return nil, fmt.Errorf("there is no { before the }")
			}
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	if depth > 0 {
		return nil, fmt.Errorf("the { has no }")
	}
	return regexp.Compile(b.String())
}

// String is the list in the form that ParsePriorities reads.
func (p *Priorities) String() string {
	var list []string
	for _, r := range p.rules {
		list = append(list, r.pattern+"->"+strconv.FormatFloat(r.number, 'g', -1, 64))
	}
	return strings.Join(list, ";")
}

// Of is the priority of a name.
func (p *Priorities) Of(name string) float64 {
	n, _ := p.rule(name)
	return n
}

func (p *Priorities) rule(name string) (float64, bool) {
	for _, r := range p.rules {
		if r.matches.MatchString(name) {
			return r.number, true
		}
	}
	return 0, false
}

// Raise is the list with the priority of one name raised by by, or lowered where that is negative: in
// front of the others stands a rule for just this name.
func (p *Priorities) Raise(name string, by float64) *Priorities {
	exact := "@^" + strings.ReplaceAll(regexp.QuoteMeta(name), ";", `\x3b`) + "$"
	raised := priorityRule{pattern: exact, number: p.Of(name) + by, matches: regexp.MustCompile("(?i)" + exact[1:])}
	q := &Priorities{rules: []priorityRule{raised}}
	for _, r := range p.rules {
		if r.pattern != exact {
			q.rules = append(q.rules, r)
		}
	}
	return q
}

// ModuleName is what stands before the ! of full names of an origin.
func (o Origin) moduleName() string {
	switch o {
	case Dependency:
		return "dep"
	case Standard:
		return "std"
	case Runtime:
		return "runtime"
	}
	return ""
}

// FullName is a type's name with whose it is before it: "std!net/http.conn", "runtime!runtime.g",
// "dep!yaml.Node", and the name alone of the program's own types and of those of no package.
func (t *Type) FullName() string {
	if m := t.Origin.moduleName(); m != "" {
		return m + "!" + t.String()
	}
	return t.String()
}

// FullName is the name of a node by which priorities and views know it: that of its type, or of the
// root, with whose it is before it.
func (g *Graph) FullName(v NodeID) string {
	s := g.Snapshot
	switch g.Kind(v) {
	case ObjectNode:
		return s.Types[s.TypeOf(ObjectID(v))].FullName()
	case RootNode:
		name := g.node(v).name
		if m := OriginOf(packageOf(name), s.Info.Module).moduleName(); m != "" {
			return m + "!" + name
		}
	}
	return g.Name(v)
}
