package store

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An ID names a capture in its store: nine letters and digits that stand for the millisecond in
// which it was begun, so that ids sort by time. They are digits of Crockford's base 32 in lower
// case, which has no i, l, o and u, for people who read them to each other.
type ID string

const (
	alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	idLength = 9
)

// idAt is the id of a millisecond since 1970.
func idAt(ms uint64) ID {
	var b [idLength]byte
	for i := idLength - 1; i >= 0; i-- {
		b[i] = alphabet[ms&31]
		ms >>= 5
	}
	return ID(b[:])
}

// parse is the opposite of idAt.
func (id ID) parse() (ms uint64, ok bool) {
	if len(id) != idLength {
		return 0, false
	}
	for _, c := range []byte(id) {
		n := strings.IndexByte(alphabet, c)
		if n < 0 {
			return 0, false
		}
		ms = ms<<5 | uint64(n)
	}
	return ms, true
}

// Time is when the capture was begun; zero where id is none of ours.
func (id ID) Time() time.Time {
	ms, ok := id.parse()
	if !ok {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

// nextID is the id of now, or the one after newest where that is not later: two captures in one
// millisecond, or a clock that was set back.
func nextID(newest ID, now time.Time) ID {
	ms := uint64(max(0, now.UnixMilli()))
	if last, ok := newest.parse(); ok && last >= ms {
		ms = last + 1
	}
	return idAt(ms)
}

// Resolve finds the capture that a person means: "@" is the newest, "@2" the one before it, and so
// on, not counting those that are being recorded; all else is an id or the beginning of exactly one.
// Upper case, and letters that the alphabet lacks because they look like digits, are understood.
// Errors wrap ErrNoCapture or ErrAmbiguous.
func (s *Store) Resolve(ref string) (ID, error) {
	if n, ok := strings.CutPrefix(ref, "@"); ok {
		metas, err := s.List()
		if err != nil {
			return "", err
		}
		return s.resolveCount(ref, n, metas)
	}
	ids, err := s.ids()
	if err != nil {
		return "", err
	}
	prefix := strings.Map(func(r rune) rune {
		switch r {
		case 'i', 'l':
			return '1'
		case 'o':
			return '0'
		}
		return r
	}, strings.ToLower(ref))
	var found []ID
	for _, id := range ids {
		if ref != "" && strings.HasPrefix(string(id), prefix) {
			found = append(found, id)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fail(ErrAmbiguous, nil, "find capture %q in %s: %d captures begin so: %s; give more of the id", ref, s.path, len(found), listIDs(found))
	case len(ids) == 0:
		return "", fail(ErrNoCapture, nil, "find capture %q in %s: the store has no captures; record one first", ref, s.path)
	}
	return "", fail(ErrNoCapture, nil, "find capture %q in %s: no id begins so; the nearest are %s", ref, s.path, listIDs(nearest(prefix, ids)))
}

func (s *Store) resolveCount(ref, n string, metas []Meta) (ID, error) {
	count := 1
	if n != "" {
		var err error
		if count, err = strconv.Atoi(n); err != nil || count < 1 {
			return "", fail(ErrNoCapture, nil, "find capture %q in %s: a number from 1 belongs after the @; @ is the newest capture and @2 the one before", ref, s.path)
		}
	}
	var ids []ID
	for _, m := range metas {
		if !m.Recording {
			ids = append(ids, m.ID)
		}
	}
	switch {
	case len(ids) == 0:
		return "", fail(ErrNoCapture, nil, "find capture %q in %s: the store has no finished captures; record one first", ref, s.path)
	case count > len(ids):
		return "", fail(ErrNoCapture, nil, "find capture %q in %s: the store has only %d; @%d is the oldest", ref, s.path, len(ids), len(ids))
	}
	return ids[count-1], nil
}

// listIDs names some, oldest first.
func listIDs(ids []ID) string {
	const most = 5
	var b strings.Builder
	for i, id := range ids {
		switch {
		case i == most:
			fmt.Fprintf(&b, " and %d more", len(ids)-most)
			return b.String()
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(id))
	}
	return b.String()
}

// nearest are at most three ids that a person may have meant: the longest common beginning first,
// then the newest.
func nearest(prefix string, ids []ID) []ID {
	common := func(id ID) int {
		n := 0
		for n < len(id) && n < len(prefix) && id[n] == prefix[n] {
			n++
		}
		return n
	}
	near := slices.Clone(ids)
	slices.SortFunc(near, func(a, b ID) int {
		if x, y := common(a), common(b); x != y {
			return y - x
		}
		return strings.Compare(string(b), string(a))
	})
	return near[:min(3, len(near))]
}
