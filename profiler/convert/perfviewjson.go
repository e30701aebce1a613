package convert

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// readJSON reads the JSON form: {"StackSource":{"Samples":[{"Time":1,"Metric":1,"Stack":["leaf","root"]}]}}.
// Numbers may be strings. Members that it does not know are passed over.
func (p *perfView) readJSON(r io.Reader) error {
	d := jsontext.NewDecoder(r, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	found := false
	err := members(d, func(name string) error {
		if name != "StackSource" {
			return d.SkipValue()
		}
		return members(d, func(name string) error {
			if name != "Samples" {
				return d.SkipValue()
			}
			found = true
			return items(d, func() error { return p.sampleJSON(d) })
		})
	})
	if err == nil {
		if _, err = d.ReadToken(); err == io.EOF {
			err = nil
		} else if err == nil {
			err = errors.New("something follows its value")
		}
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("byte %d: %w", d.InputOffset(), io.ErrUnexpectedEOF)
	case err != nil:
		return fmt.Errorf("byte %d: %w", d.InputOffset(), err)
	case !found:
		return errors.New(`it has no "Samples"`)
	}
	return nil
}

// members calls f for each member of the object that comes next, in its name's place: f reads the
// value.
func members(d *jsontext.Decoder, f func(name string) error) error {
	if err := begins(d, jsontext.KindBeginObject); err != nil {
		return err
	}
	for d.PeekKind() == jsontext.KindString {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		if err := f(name.String()); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// items calls f for each element of the array that comes next: f reads it.
func items(d *jsontext.Decoder, f func() error) error {
	if err := begins(d, jsontext.KindBeginArray); err != nil {
		return err
	}
	for {
		switch k := d.PeekKind(); k {
		case jsontext.KindEndArray, jsontext.KindInvalid:
			_, err := d.ReadToken()
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
}

func begins(d *jsontext.Decoder, kind jsontext.Kind) error {
	t, err := d.ReadToken()
	if err == nil && t.Kind() != kind {
		err = fmt.Errorf("%s stands where %s is expected", t.Kind(), kind)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (p *perfView) sampleJSON(d *jsontext.Decoder) error {
	var at, metric []byte
	var frames []profile.LocationID // leaf first
	number := func(to *[]byte) error {
		v, err := d.ReadValue()
		if err != nil {
			return err
		}
		switch v.Kind() {
		case jsontext.KindNumber:
			*to = append((*to)[:0], v...)
		case jsontext.KindString:
			if *to, err = jsontext.AppendUnquote((*to)[:0], v); err != nil {
				return err
			}
		case jsontext.KindNull:
		default:
			return errors.New("the time or metric of a sample is no number")
		}
		return nil
	}
	err := members(d, func(name string) error {
		switch name {
		case "Time":
			return number(&at)
		case "Metric":
			return number(&metric)
		case "Stack":
			return items(d, func() error {
				t, err := d.ReadToken()
				if err != nil {
					return err
				}
				if t.Kind() != jsontext.KindString {
					return errors.New("a frame of a sample's stack is no string")
				}
				frames = append(frames, p.location([]byte(t.String())))
				return nil
			})
		}
		return d.SkipValue()
	})
	if err != nil {
		return err
	}
	x := perfViewSample{weight: p.metric, count: 1, stack: -1}
	ok, err := p.measure(&x, at, metric)
	if err != nil || !ok {
		return err
	}
	for i := len(frames) - 1; i >= 0; i-- {
		x.own = p.b.push(x.own, frames[i])
	}
	p.samples = append(p.samples, x)
	return p.b.err
}
