package unwind

import (
	"slices"
	"testing"
)

// walkByPast walks a stack again with what was found before, each time with one more frame that is as it was and
// with no more of the stack than up to the innermost of those.
func walkByPast(t *testing.T, p *process, s *Sample, frames []Frame, end End) {
	t.Helper()
	w := newWalker(t)
	again, endAgain := w.Walk(s, p.maps, nil)
	places := w.Places()
	if !slices.Equal(frames, again) || end != endAgain || len(places) != len(frames) {
		t.Fatalf("the second walk has %d frames and %d places, the first %d", len(again), len(places), len(frames))
	}
	for i, at := range places {
		if at == 0 {
			continue
		}
		if v, ok := word(s.Stack, at); !ok || v != frames[i].PC {
			t.Errorf("frame %d is %#x, its place %#x has %#x", i, frames[i].PC, at, v)
		}
	}
	past := NewPast(frames, places, 1000)
	if end.Reason != Root || past == nil {
		if end.Reason == Root && len(frames) > 1 {
			t.Errorf("a whole stack of %d frames has no past", len(frames))
		}
		return
	}
	for same := 1; same <= len(past.At); same++ {
		cut := *s
		cut.Past, cut.Same = past, same
		cut.Stack.Data = cut.Stack.Data[:past.At[same-1]+8-cut.Stack.Addr]
		got, end := w.Walk(&cut, p.maps, nil)
		if !slices.Equal(got, frames) || end.Reason != Root || !end.Same || end.SP != past.At[0]+8 {
			t.Fatalf("with %d of %d frames as they were, %d bytes: %d frames of %d, %+v", same, len(past.At), len(cut.Stack.Data), len(got), len(frames), end)
		}
		if !slices.Equal(w.Places(), places) {
			t.Fatalf("with %d frames as they were: places %x, want %x", same, w.Places(), places)
		}
		// What has been true of an inner frame is gone: its words are still there, but the walk does not come to
		// them, and takes what it needs of the outer ones.
		if same > 1 {
			stale := *past
			stale.At, stale.Frames = slices.Clone(past.At[:same]), slices.Clone(past.Frames[:same])
			stale.At[same-1] -= 8
			cut.Past = &stale
			cut.Stack.Data = s.Stack.Data
			if got, end := w.Walk(&cut, p.maps, nil); !slices.Equal(got, frames) || !end.Same {
				t.Fatalf("with a frame that is gone: %d frames of %d, %+v", len(got), len(frames), end)
			}
		}
	}
	short := NewPast(frames, places, 1)
	if short == nil || len(short.At) != 1 || short.Frames[0] != past.Frames[0] || short.Equal(past) == (len(past.At) > 1) || !past.Equal(past) {
		t.Errorf("the outermost frame alone is %+v, of %+v", short, past)
	}
}

func word(s Stack, addr uint64) (uint64, bool) {
	w := Walker{stack: s}
	return w.word(addr)
}

// A past that says nothing, or more than there is, leads nowhere.
func TestPastWithoutFrames(t *testing.T) {
	if NewPast(nil, nil, 64) != nil || NewPast([]Frame{{PC: 1}}, []uint64{0}, 64) != nil || NewPast([]Frame{{PC: 1, Return: true}}, nil, 64) != nil {
		t.Error("a past of nothing")
	}
	var none *Past
	one := &Past{Frames: []Frame{{PC: 7, Return: true}}, At: []uint64{100}}
	if none.index(100, 1) != -1 || one.index(100, 2) != -1 || one.index(100, 0) != -1 || one.index(99, 1) != -1 || one.index(100, 1) != 0 {
		t.Error("found frames that there are not")
	}
}
