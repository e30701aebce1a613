package convert

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// finish makes stacks of what was read, and the capture.
func (p *perfView) finish() (*profile.Capture, error) {
	p.b.c.Length = p.length
	if !p.said {
		p.guessUnit()
	}
	if p.series.Kind == "" {
		p.series.Kind = perfViewTime
		if p.series.Unit != profile.Nanoseconds {
			p.series.Kind = perfViewAmount
		}
	}
	t := p.b.series(p.series.Kind, p.series.Unit, p.series.Source, 0)
	for i := range p.samples {
		x := &p.samples[i]
		s := profile.Sample{Stack: x.own, Time: x.time, Weight: x.weight, Count: x.count}
		if x.own == 0 && x.stack >= 0 {
			var err error
			if s.Stack, s.Task, err = p.resolve(x.stack); err != nil {
				return nil, err
			}
		}
		t.add(s)
	}
	c, err := p.b.finish()
	if err == nil && p.length == 0 {
		// The last sample may be a duration that begins at its time.
		for _, x := range p.samples {
			if end := x.time + time.Duration(x.weight); p.series.Unit == profile.Nanoseconds && x.weight > 0 && end <= maxTime {
				c.Length = max(c.Length, end)
			}
		}
	}
	return c, err
}

// guessUnit decides what metrics without a unit are: milliseconds, which are kept as nanoseconds, or
// where the view scales to data, numbers, whole or in millionths.
func (p *perfView) guessUnit() {
	p.series.Unit, p.series.Source = profile.Nanoseconds, profile.Milliseconds
	if !p.amount {
		return
	}
	p.series.Unit, p.series.Source = profile.Millionths, profile.None
	for _, x := range p.samples {
		if x.weight%1e6 != 0 {
			return
		}
	}
	p.series.Unit, p.series.Source = profile.Number, ""
	for i := range p.samples {
		p.samples[i].weight /= 1e6
	}
}

const (
	missingStack = "Stacks that samples or stacks refer to are not in the file."
	missingFrame = "Frames that stacks refer to are not in the file."
)

// resolve is the stack that the file calls id, and the task that its outer part is of. Each stack is
// resolved once; what refers to itself is refused.
func (p *perfView) resolve(id int64) (profile.StackID, profile.TaskID, error) {
	leaf, ok := p.stacks.at(id)
	if !ok {
		p.b.c.Warn(profile.WarnUnreadable, 1, missingStack)
		return p.b.push(0, p.location([]byte(profile.BrokenStack))), 0, nil
	}
	// From the leaf to the first caller that is known, then back.
	var way []int
	at, task := profile.StackID(0), profile.TaskID(0)
	for i := leaf; ; {
		x := &p.tree[i]
		if x.state == 2 {
			at, task = x.id, x.under
			break
		}
		if x.state == 1 {
			return 0, 0, fmt.Errorf("stack %d calls itself through its CallerID", id)
		}
		x.state = 1
		way = append(way, i)
		if x.caller < 0 {
			break
		}
		caller, ok := p.stacks.at(x.caller)
		if !ok {
			p.b.c.Warn(profile.WarnUnreadable, 1, missingStack)
			at = p.b.push(0, p.location([]byte(profile.BrokenStack)))
			break
		}
		i = caller
	}
	for k := len(way) - 1; k >= 0; k-- {
		x := &p.tree[way[k]]
		if t, ok := p.tasks.at(x.task); ok && x.task >= 0 {
			at, task = 0, profile.TaskID(t)
		} else {
			at = p.b.push(at, p.frameOf(x))
		}
		x.state, x.id, x.under = 2, at, task
	}
	return at, task, nil
}

// frameOf is the location of a stack's leaf.
func (p *perfView) frameOf(x *perfViewStack) profile.LocationID {
	i, ok := p.frames.at(x.frame)
	if !ok {
		p.b.c.Warn(profile.WarnUnreadable, 1, missingFrame)
		return p.location([]byte(profile.Unknown))
	}
	f := &p.of[i]
	made := splitName(f.name)
	if f.fixed {
		prefix := fullName(profile.Frame{Module: f.module})
		if f.module == "" || !strings.HasPrefix(f.name, prefix) {
			prefix = ""
		}
		made = profile.Frame{Module: f.module, Func: f.name[len(prefix):]}
	}
	if at, ok := p.places.at(x.place); ok && x.place >= 0 {
		place := p.place[at]
		place.Func, place.Module = made.Func, made.Module
		made = place
	}
	return p.b.location(made)
}

// guiState reads what the view was filtered by.
func (p *perfView) guiState(s *xmlScanner) error {
	fields := map[string]*string{
		"Start": &p.filter.Start, "End": &p.filter.End, "GroupRegEx": &p.filter.Group, "FoldRegEx": &p.filter.Fold,
		"FoldPercent": &p.filter.FoldPercent, "IncludeRegEx": &p.filter.Include, "ExcludeRegEx": &p.filter.Exclude,
		"Scenarios": &p.filter.Scenarios,
	}
	for depth := 1; depth > 0; {
		event, err := s.next()
		if err != nil {
			return err
		}
		if event != xmlStart {
			if event == xmlEnd {
				depth--
			}
			continue
		}
		switch name := string(s.name); name {
		case "FilterGuiState":
			depth++
		case "Notes", "ScalingPolicy":
			b, err := s.body(nil)
			if err != nil {
				return err
			}
			if v := bytes.TrimSpace(b); name == "Notes" {
				p.filter.Notes = string(v)
			} else {
				p.amount = bytes.EqualFold(v, []byte("ScaleToData"))
			}
		default:
			to := fields[name]
			if to == nil {
				if err := s.skip(); err != nil {
					return err
				}
				continue
			}
			if *to, err = s.textBox(); err != nil {
				return err
			}
		}
	}
	return nil
}

// textBox reads a text box of PerfView, whose text is in Value, or in old files in the element itself.
// The history of what stood in it before is passed over.
func (s *xmlScanner) textBox() (string, error) {
	var own, value []byte
	has := false
	for {
		event, err := s.next()
		if err != nil {
			return "", err
		}
		switch {
		case event == xmlText:
			own = append(own, s.text...)
		case event == xmlEnd:
			if !has {
				value = own
			}
			return string(bytes.TrimSpace(value)), nil
		case string(s.name) == "Value":
			has = true
			if value, err = s.body(nil); err != nil {
				return "", err
			}
		default:
			if err := s.skip(); err != nil {
				return "", err
			}
		}
	}
}
