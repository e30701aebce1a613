package heap

import (
	"errors"
	"fmt"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Check tells of the first broken law of the snapshot's tables: ids in range, objects in order of
// address and apart from each other, columns of one length.
func (s *Snapshot) Check() error {
	p := profile.Profile{Frames: s.Frames, Stacks: s.Stacks, Tasks: make([]profile.Task, 1)}
	if err := p.Check(); err != nil {
		return fmt.Errorf("frames and stacks: %w", err)
	}
	switch {
	case len(s.Types) == 0 || s.Types[0] != (Type{}):
		return errors.New("type 0 is not the zero type")
	case len(s.Fields) == 0 || s.Fields[0] != (Field{}):
		return errors.New("field 0 is not the zero field")
	case len(s.Roots) == 0 || s.Roots[0] != (Root{}):
		return errors.New("root 0 is not the zero root")
	case len(s.Goroutines) == 0 || s.Goroutines[0] != (Goroutine{}):
		return errors.New("goroutine 0 is not the zero goroutine")
	}
	for i := 1; i < len(s.Roots); i++ {
		if r := &s.Roots[i]; r.Kind == 0 || r.Kind >= rootKinds {
			return fmt.Errorf("root %d is of kind %d of %d", i, r.Kind, rootKinds-1)
		} else if int(r.Goroutine) >= len(s.Goroutines) {
			return fmt.Errorf("root %d is of goroutine %d of %d", i, r.Goroutine, len(s.Goroutines)-1)
		}
	}
	for i := range s.Goroutines {
		if g := &s.Goroutines[i]; int(g.Stack) >= s.Stacks.Len() || int(g.Created) >= s.Stacks.Len() {
			return fmt.Errorf("goroutine %d has a stack out of %d", i, s.Stacks.Len())
		}
	}
	if err := s.objects.check(len(s.Types)); err != nil {
		return err
	}
	n := len(s.objects.address)
	if err := s.outgoing.check(n, n, len(s.Fields)); err != nil {
		return fmt.Errorf("references of objects: %w", err)
	}
	if err := s.starting.check(len(s.Roots), n, len(s.Fields)); err != nil {
		return fmt.Errorf("references of roots: %w", err)
	}
	for i, x := range s.Sampled {
		switch {
		case x.Object == 0 || int(x.Object) >= n:
			return fmt.Errorf("allocation %d is of object %d of %d", i, x.Object, n-1)
		case i > 0 && x.Object < s.Sampled[i-1].Object:
			return fmt.Errorf("allocation %d is not in order of objects", i)
		case int(x.Stack) >= s.Stacks.Len():
			return fmt.Errorf("allocation %d has stack %d of %d", i, x.Stack, s.Stacks.Len())
		case !(x.Count >= 0 && x.Count < 1e18 && x.Bytes >= 0 && x.Bytes < 1e18):
			return fmt.Errorf("allocation %d stands for %g objects of %g bytes", i, x.Count, x.Bytes)
		}
	}
	for i := range s.Waste {
		w := &s.Waste[i]
		if int(w.Type) >= len(s.Types) || int(w.Holder) >= len(s.Types) || int(w.Field) >= len(s.Fields) || int(w.Example) >= n {
			return fmt.Errorf("waste %d names a type, a field or an object that is not there", i)
		}
	}
	return nil
}

func (c *columns) check(types int) error {
	n := len(c.address)
	if n == 0 || len(c.size) != n || len(c.kind) != n || c.address[0] != 0 || c.size[0] != 0 || c.kind[0] != 0 {
		return errors.New("the columns of objects differ in length, or object 0 is not the zero object")
	}
	for i, x := range c.huge {
		if int(x.object) >= n || i > 0 && x.object <= c.huge[i-1].object || c.size[x.object] != hugeSize || x.size < hugeSize {
			return fmt.Errorf("large object %d is not as it should be", i)
		}
	}
	end, huge := uint64(0), 0
	for i := 1; i < n; i++ {
		at, size := c.address[i], uint64(c.size[i])
		if size == hugeSize {
			if huge >= len(c.huge) || c.huge[huge].object != ObjectID(i) {
				return fmt.Errorf("object %d lacks its size", i)
			}
			size = c.huge[huge].size
			huge++
		}
		switch {
		case at < end || at == c.address[i-1] || at+size < at:
			return fmt.Errorf("object %d at %#x, of %d bytes, overlaps another", i, at, size)
		case int(c.kind[i]) >= types:
			return fmt.Errorf("object %d is of type %d of %d", i, c.kind[i], types-1)
		}
		end = at + size
	}
	return nil
}

// Check of references that start at one of starts places, and lead to one of objects.
func (r *references) check(starts, objects, fields int) error {
	if len(r.first) != starts+1 || len(r.to) != len(r.field) || r.first[0] != 0 || r.first[1] != 0 || int(r.first[starts]) != len(r.to) {
		return errors.New("the columns do not fit")
	}
	for i := 1; i <= starts; i++ {
		if r.first[i] < r.first[i-1] {
			return fmt.Errorf("those of %d end before they begin", i-1)
		}
	}
	for i, x := range r.to {
		if x == 0 || int(x) >= objects || int(r.field[i]) >= fields {
			return fmt.Errorf("reference %d leads to object %d of %d, in field %d of %d", i, x, objects-1, r.field[i], fields-1)
		}
	}
	return nil
}
