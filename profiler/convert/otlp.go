package convert

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// OpenTelemetry profiles, opentelemetry/proto/profiles/v1development/profiles.proto of
// open-telemetry/opentelemetry-proto: a ProfilesData, or an ExportProfilesServiceRequest, whose fields
// have the same numbers; or a stream of them, each behind its length in four bytes, big-endian, as the
// collector's file exporter writes.
//
// The package is named v1development in all its versions, and its fields were numbered anew within it
// three times, so that content has to tell which it is:
//
//	              v1.7                        v1.8, v1.9            v1.10 and later
//	Sample   1    locations_start_index       stack_index           stack_index
//	         2    locations_length            values                attribute_indices
//	         3    value                       attribute_indices     link_index
//	         4    attribute_indices           link_index            values
//	         5    link_index                  timestamps (fixed64)  timestamps (fixed64)
//	         6    timestamps (varint)
//	Profile  3    location_indices            time (fixed64)        time (fixed64)
//	         4    time                        duration              duration
//	         5    duration                    period_type           period_type
//	         6    period_type                 period                period
//	         7    period
//
// Older ones have their tables in each profile, and are refused.

var otlp = &format{
	Info: Info{
		Format:       OTLP,
		Description:  "OpenTelemetry profiles, which are still in development",
		Extension:    ".otlp",
		Experimental: true,
	},
	sniff: sniffOTLP,
	read:  readOTLP,
}

// An otlpVersion is a numbering of fields, by the version of the protocol that began it.
type otlpVersion int

const (
	otlp17  otlpVersion = 7
	otlp18  otlpVersion = 8
	otlp110 otlpVersion = 10
)

func sniffOTLP(head []byte) bool {
	if message, ok := otlpFramed(head); ok {
		head = message
	}
	return otlpLooks(head, len(head) >= sniffLen-8)
}

// otlpLooks says whether b is, or with cut begins like, a ProfilesData: fields 1 and 2, both messages,
// with members that have the numbers and types of theirs.
func otlpLooks(b []byte, cut bool) bool {
	seen := false
	for w := (wire{b}); len(w.b) > 0; {
		f, ok := w.next()
		if !ok {
			// The last field may go on behind the head.
			f, ok = wire{w.b}.begun()
			return ok && cut && (f.number == 1 || f.number == 2) && (seen || otlpMember(f))
		}
		if f.kind != wireBytes || f.number != 1 && f.number != 2 || !otlpMember(f) {
			return false
		}
		seen = seen || len(f.data) > 0
	}
	return seen
}

// otlpMember says whether a ResourceProfiles (1) or a ProfilesDictionary (2) begins as one does.
func otlpMember(f wireField) bool {
	most := 7
	if f.number == 1 {
		most = 3
	}
	w := wire{f.data}
	for n := 0; len(w.b) > 0 && n < 100; n++ {
		m, ok := w.next()
		if !ok {
			m, ok = w.begun()
			return ok && m.number <= most
		}
		if m.kind != wireBytes || m.number > most && m.number != 1000 {
			return false
		}
	}
	return true
}

// otlpFramed is the first message of a stream of messages with their lengths.
func otlpFramed(b []byte) ([]byte, bool) {
	// No field has number 0, so no message begins with a byte below 8, as the lengths of messages
	// below 128 MiB do.
	if len(b) < 5 || b[0] >= 8 {
		return nil, false
	}
	n := int(binary.BigEndian.Uint32(b))
	return b[4:min(len(b), 4+n)], n > 0
}

func readOTLP(ctx context.Context, in *input, o Options) (*profile.Capture, error) {
	data, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	r := &otlpReader{b: newBuilder(in, "otlp", o), o: o}
	if _, framed := otlpFramed(data); framed {
		for len(data) > 0 {
			if len(data) < 4 || uint64(len(data)-4) < uint64(binary.BigEndian.Uint32(data)) {
				r.b.cut()
				break
			}
			n := int(binary.BigEndian.Uint32(data))
			r.messages = append(r.messages, &otlpMessage{data: data[4 : 4+n]})
			data = data[4+n:]
		}
	} else {
		r.messages = []*otlpMessage{{data: data}}
	}
	if err := r.survey(); err != nil {
		return nil, err
	}
	for _, m := range r.messages {
		if err := r.read(ctx, m); err != nil {
			return nil, err
		}
	}
	if len(r.b.tracks) == 0 && o.Kind != "" && r.b.err == nil {
		return nil, fmt.Errorf("it has no samples of kind %q; it has %s", o.Kind, strings.Join(r.kinds, ", "))
	}
	c, err := r.b.finish()
	if err == nil && r.end > r.origin && r.end-r.origin < uint64(maxTime) {
		c.Length = max(c.Length, time.Duration(r.end-r.origin))
	}
	return c, err
}

var errWire = errors.New("it is no protocol buffer, or ends early")

type wireKind int

const (
	wireVarint wireKind = 0
	wireFixed8 wireKind = 1 // eight bytes
	wireBytes  wireKind = 2
	wireFixed4 wireKind = 5
)

// A wire is a message in the encoding of protocol buffers, of which fields are taken from the front.
// protobuf.dev/programming-guides/encoding.
type wire struct{ b []byte }

type wireField struct {
	number int
	kind   wireKind
	value  uint64 // of a varint, or of fixed bytes
	data   []byte // of bytes; shares the message's memory
}

// begun takes the next field, of whose bytes there may be less than it says.
func (w wire) begun() (f wireField, ok bool) {
	key, n := binary.Uvarint(w.b)
	if n <= 0 || key>>3 == 0 || key>>3 > math.MaxInt32 {
		return f, false
	}
	f.number, f.kind = int(key>>3), wireKind(key&7)
	if f.kind != wireBytes {
		return f, false
	}
	size, k := binary.Uvarint(w.b[n:])
	if k <= 0 {
		return f, false
	}
	f.data = w.b[n+k:]
	return f, uint64(len(f.data)) < size
}

// next takes the next field.
func (w *wire) next() (f wireField, ok bool) {
	key, n := binary.Uvarint(w.b)
	if n <= 0 || key>>3 == 0 || key>>3 > math.MaxInt32 {
		return f, false
	}
	f.number, f.kind = int(key>>3), wireKind(key&7)
	b := w.b[n:]
	switch f.kind {
	case wireVarint:
		if f.value, n = binary.Uvarint(b); n <= 0 {
			return f, false
		}
		b = b[n:]
	case wireFixed8:
		if len(b) < 8 {
			return f, false
		}
		f.value, b = binary.LittleEndian.Uint64(b), b[8:]
	case wireFixed4:
		if len(b) < 4 {
			return f, false
		}
		f.value, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
	case wireBytes:
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) {
			return f, false
		}
		f.data, b = b[n:n+int(size)], b[n+int(size):]
	default: // groups are not used any more
		return f, false
	}
	w.b = b
	return f, true
}

// fields calls f for each field of a message.
func fields(b []byte, f func(wireField) error) error {
	for w := (wire{b}); len(w.b) > 0; {
		x, ok := w.next()
		if !ok {
			return errWire
		}
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}

// varints appends the numbers of a repeated field, packed or not.
func (f wireField) varints(to []uint64) ([]uint64, error) {
	if f.kind != wireBytes {
		return append(to, f.value), nil
	}
	for b := f.data; len(b) > 0; {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errWire
		}
		to, b = append(to, v), b[n:]
	}
	return to, nil
}

// fixed appends the numbers of a repeated field of fixed64, packed or not.
func (f wireField) fixed(to []uint64) ([]uint64, error) {
	if f.kind != wireBytes {
		return append(to, f.value), nil
	}
	if len(f.data)%8 != 0 {
		return nil, errWire
	}
	for b := f.data; len(b) > 0; b = b[8:] {
		to = append(to, binary.LittleEndian.Uint64(b))
	}
	return to, nil
}

// resources calls f for each ResourceProfiles.
func (m *otlpMessage) resources(f func([]byte) error) error { return each(m.data, 1, f) }

// each calls f for each message of a field of a message.
func each(b []byte, number int, f func([]byte) error) error {
	return fields(b, func(x wireField) error {
		if x.number != number {
			return nil
		}
		if x.kind != wireBytes {
			return errWire
		}
		return f(x.data)
	})
}

// eachProfile calls f for each Profile of a ResourceProfiles.
func eachProfile(resource []byte, f func([]byte) error) error {
	return each(resource, 2, func(scope []byte) error { return each(scope, 2, f) })
}

// survey finds out which numbering the samples have, and when the first of them was.
func (r *otlpReader) survey() error {
	var votes otlpVotes
	for _, m := range r.messages {
		dictionary := false
		err := each(m.data, 2, func(b []byte) error {
			dictionary = true
			return fields(b, func(f wireField) error {
				switch f.number {
				case 6:
					votes.attributes++
				case 7:
					// v1.7 has units of attributes there, pairs of numbers; a Stack has a list.
					w := wire{f.data}
					if first, ok := w.next(); !ok || first.kind == wireBytes {
						votes.stacks++
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
		profiles := false
		err = m.resources(func(resource []byte) error {
			return eachProfile(resource, func(b []byte) error {
				profiles = true
				return fields(b, votes.profile)
			})
		})
		if err != nil {
			return err
		}
		if profiles && !dictionary {
			return errors.New("it has no dictionary: it was made before version 1.6 of the protocol, which is not read; use a newer collector")
		}
	}
	r.version = votes.version()
	r.origin = math.MaxUint64
	for _, m := range r.messages {
		err := m.resources(func(resource []byte) error {
			return eachProfile(resource, func(b []byte) error {
				p, err := r.profile(b)
				if err != nil {
					return err
				}
				if p.time != 0 {
					r.origin = min(r.origin, p.time)
					if p.duration < uint64(maxTime) && p.time < math.MaxInt64 {
						r.end = max(r.end, p.time+p.duration)
					}
				}
				return each(b, 2, func(b []byte) error {
					s, err := r.sample(b)
					for _, t := range s.times {
						r.origin = min(r.origin, t)
					}
					return err
				})
			})
		})
		if err != nil {
			return err
		}
	}
	if r.origin == math.MaxUint64 {
		r.origin = 0
	} else if r.origin < math.MaxInt64 {
		r.b.c.Start = time.Unix(0, int64(r.origin)).UTC()
	}
	return nil
}

// otlpVotes are what tells the numberings apart.
type otlpVotes struct {
	stacks, attributes        int // in dictionaries
	old                       int // for v1.7, among profiles and samples
	eight, ten                int // for v1.8 and v1.10, by a field's type
	perhapsEight, perhapsTen  int // by numbers that fit one better
	number, attribute, moment []uint64
}

func (v *otlpVotes) profile(f wireField) error {
	switch {
	case f.number == 3 && f.kind != wireFixed8: // location_indices, or the time
		v.old++
	case f.number == 2 && f.kind == wireBytes:
		return v.sample(f.data)
	case f.number == 2:
		return errWire
	}
	return nil
}

// sample looks at fields 2 to 5: link_index is the only one that is not repeated, and tools write
// repeated numbers packed.
func (v *otlpVotes) sample(b []byte) error {
	v.number, v.moment = v.number[:0], v.moment[:0]
	second, decided := false, false
	err := fields(b, func(f wireField) (err error) {
		packed := f.kind == wireBytes
		switch f.number {
		case 2:
			if !packed {
				v.old++
				return nil
			}
			second = true
			v.number, err = f.varints(v.number)
		case 3:
			decided = true
			if packed {
				v.eight++
			} else {
				v.ten++
			}
		case 4:
			decided = true
			if packed {
				v.ten++
			} else {
				v.eight++
			}
		case 5:
			if f.kind == wireFixed8 || packed && len(f.data)%8 == 0 {
				v.moment, err = f.fixed(v.moment)
			}
		}
		return err
	})
	if err != nil || decided || !second {
		return err
	}
	fits := !slices.ContainsFunc(v.number, func(n uint64) bool { return n == 0 || n >= uint64(v.attributes) })
	if len(v.moment) > 0 && (len(v.moment) != len(v.number) || fits) {
		v.perhapsTen++ // attributes
	} else {
		v.perhapsEight++ // values
	}
	return nil
}

func (v *otlpVotes) version() otlpVersion {
	switch {
	case v.stacks == 0 && v.old > 0:
		return otlp17
	case v.eight != v.ten && v.eight > v.ten:
		return otlp18
	case v.eight != v.ten:
		return otlp110
	case v.perhapsEight > v.perhapsTen:
		return otlp18
	}
	return otlp110
}

// otlpFields are the numbers of the fields that move.
type otlpFields struct {
	// of a sample
	values, attributes, times int
	// of a profile
	time, duration, periodType, period int
}

func (v otlpVersion) fields() otlpFields {
	switch v {
	case otlp17:
		return otlpFields{values: 3, attributes: 4, times: 6, time: 4, duration: 5, periodType: 6, period: 7}
	case otlp18:
		return otlpFields{values: 2, attributes: 3, times: 5, time: 3, duration: 4, periodType: 5, period: 6}
	}
	return otlpFields{values: 4, attributes: 2, times: 5, time: 3, duration: 4, periodType: 5, period: 6}
}

// otlpProfile is a Profile without its samples.
type otlpProfile struct {
	types          []otlpType
	period         otlpType
	every          int64
	time, duration uint64
	locations      []uint64                      // of v1.7
	stacks         map[[2]uint64]profile.StackID // made of ranges of locations
}

type otlpType struct{ kind, unit uint64 } // indexes of strings

type otlpSample struct {
	stack, length             uint64 // length of v1.7
	values, attributes, times []uint64
}

func (r *otlpReader) profile(b []byte) (p otlpProfile, err error) {
	n := r.version.fields()
	typeOf := func(b []byte) (t otlpType, err error) {
		err = fields(b, func(f wireField) error {
			switch f.number {
			case 1:
				t.kind = f.value
			case 2:
				t.unit = f.value
			}
			return nil
		})
		return t, err
	}
	err = fields(b, func(f wireField) (err error) {
		switch f.number {
		case 1:
			t, err := typeOf(f.data)
			p.types = append(p.types, t)
			return err
		case n.time:
			p.time = f.value
		case n.duration:
			p.duration = f.value
		case n.periodType:
			p.period, err = typeOf(f.data)
		case n.period:
			p.every = int64(f.value)
		case 3:
			p.locations, err = f.varints(p.locations)
		}
		return err
	})
	return p, err
}

// sample decodes into memory that the next call uses again.
func (r *otlpReader) sample(b []byte) (*otlpSample, error) {
	s := &r.scratch
	s.stack, s.length = 0, 0
	s.values, s.attributes, s.times = s.values[:0], s.attributes[:0], s.times[:0]
	n := r.version.fields()
	err := fields(b, func(f wireField) (err error) {
		switch {
		case f.number == 1:
			s.stack = f.value
		case f.number == 2 && r.version == otlp17:
			s.length = f.value
		case f.number == n.values:
			s.values, err = f.varints(s.values)
		case f.number == n.attributes:
			s.attributes, err = f.varints(s.attributes)
		case f.number == n.times && r.version == otlp17:
			s.times, err = f.varints(s.times)
		case f.number == n.times:
			s.times, err = f.fixed(s.times)
		}
		return err
	})
	return s, err
}
