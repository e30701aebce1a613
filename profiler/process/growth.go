package process

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// A Group is descriptors of one process that are alike: of one kind, with names that differ in numbers
// only. A leak is a group that grows.
type Group struct {
	ID
	Name    string // of the process; any bytes
	Kind    Kind
	Pattern string // "/tmp/upload-*.part", "*:*->10.0.0.7:5432 (ESTABLISHED)"; any bytes
}

// A Growth is how a group changed over a watch.
type Growth struct {
	Group
	First, Last, Most int // descriptors at the first look, at the last, at most
	Rises, Falls      int // looks at which there were more, and fewer, than before
	Since             time.Duration
	Example           int    // a descriptor that was not there at the first look; -1: none
	Now               string // its name; any bytes
}

// A Growing watches groups of descriptors over many looks. One goroutine uses it. Its memory is a number
// for each group that was ever seen in a process that is still there.
type Growing struct {
	started time.Time
	groups  map[Group]*Growth
	first   map[ID]map[int]bool // descriptors at the first look of each process
}

// NewGrowing makes a Growing that has seen nothing.
func NewGrowing(now time.Time) *Growing {
	return &Growing{started: now, groups: map[Group]*Growth{}, first: map[ID]map[int]bool{}}
}

// Look takes note of what is open now.
func (g *Growing) Look(now time.Time, files []File) {
	counts := map[Group]int{}
	examples := map[Group]*File{}
	newcomers := map[ID]bool{}
	there := map[ID]bool{}
	for i := range files {
		f := &files[i]
		there[f.ID] = true
		if f.FD < 0 || f.Err != nil {
			continue
		}
		if g.first[f.ID] == nil {
			g.first[f.ID] = map[int]bool{}
			newcomers[f.ID] = true
		}
		if newcomers[f.ID] {
			g.first[f.ID][f.FD] = true
		}
		key := Group{f.ID, f.Owner.Name, f.Kind, PatternOf(f)}
		counts[key]++
		if examples[key] == nil && !g.first[f.ID][f.FD] {
			examples[key] = f
		}
	}
	for key, n := range counts {
		x := g.groups[key]
		switch {
		case x == nil:
			x = &Growth{Group: key, Example: -1}
			if newcomers[key.ID] {
				x.First = n
			} else {
				x.Rises = 1
			}
			g.groups[key] = x
		case n > x.Last:
			x.Rises++
		case n < x.Last:
			x.Falls++
		}
		x.Last, x.Most = n, max(x.Most, n)
		if e := examples[key]; e != nil {
			x.Example, x.Now = e.FD, e.Name
		}
	}
	for key, x := range g.groups {
		x.Since = now.Sub(g.started)
		if !there[key.ID] {
			delete(g.groups, key)
			delete(g.first, key.ID)
		} else if counts[key] == 0 && x.Last != 0 {
			x.Last = 0
			x.Falls++
		}
	}
}

// Leaks are the groups that have grown, most first.
func (g *Growing) Leaks() []Growth {
	var all []Growth
	for _, x := range g.groups {
		if x.Last > x.First {
			all = append(all, *x)
		}
	}
	slices.SortFunc(all, func(a, b Growth) int {
		return cmp.Or(cmp.Compare(b.Last-b.First, a.Last-a.First), cmp.Compare(a.PID, b.PID),
			cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Pattern, b.Pattern))
	})
	return all
}

// PatternOf is a file's name with what tells single files apart taken out: numbers and hexadecimal ids
// become "*", and of a connection the port that was picked by the kernel.
func PatternOf(f *File) string {
	switch {
	case f.Socket != nil && (f.Kind == KindIPv4 || f.Kind == KindIPv6):
		s := f.Socket
		local, remote := address(s.Local), ""
		if strings.Contains(s.name(), "->") {
			remote = "->" + address(s.Remote)
			// Which side is the service: the one with the lower port, as ephemeral ports are high.
			if s.Local.Port() > s.Remote.Port() {
				local = "*"
			} else {
				remote = "->*"
			}
		}
		if s.State != "" {
			remote += " (" + s.State + ")"
		}
		return s.Protocol + " " + local + remote
	case f.Socket != nil && f.Kind == KindUnix && f.Socket.Path == "":
		return f.Name
	case f.Kind == KindAnonymous:
		name, _, _ := strings.Cut(f.Name, ":")
		return strings.Trim(name, "[]")
	}
	return withoutNumbers(f.Name)
}

// withoutNumbers puts "*" for each run of digits, and for each run of at least six hexadecimal digits
// that has a digit. Runs of letters and digits as temporary names have are taken as a whole.
func withoutNumbers(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); {
		j, digits, hex := i, 0, true
		for j < len(name) && isWord(name[j]) {
			c := name[j]
			if c >= '0' && c <= '9' {
				digits++
			} else if c < 'a' || c > 'f' {
				hex = false
			}
			j++
		}
		if j == i {
			b.WriteByte(name[i])
			i++
			continue
		}
		word := name[i:j]
		switch {
		case digits == 0:
			b.WriteString(word)
		case digits == len(word), hex && len(word) >= 6, digits*2 >= len(word):
			b.WriteByte('*')
		default:
			for k := 0; k < len(word); k++ {
				if word[k] < '0' || word[k] > '9' {
					b.WriteByte(word[k])
				} else if k == 0 || word[k-1] < '0' || word[k-1] > '9' {
					b.WriteByte('*')
				}
			}
		}
		i = j
	}
	return b.String()
}

func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
