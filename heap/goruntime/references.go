package goruntime

import (
	"context"
	"encoding/binary"
	"math/bits"
	"sync"
)

// A run is the references of some objects in a row, as they are found: those of object first+i are to
// and field from end[i-1] to end[i].
type run[O, F ~uint32] struct {
	first O
	end   []uint32
	to    []O
	field []F
}

const (
	runSlots = 1 << 15 // about so many slots make a run
	runBytes = 4 << 20 // … or so many bytes
)

// References finds the references of all objects and calls yield with them, objects in order, on the
// caller's goroutine. Two others do the work. The slices are good until yield returns.
func References[O, F ~uint32](ctx context.Context, h *Heap, yield func(first O, end []uint32, to []O, field []F)) error {
	var pieces [][2]int // of spans
	for i := 0; i < len(h.s.spans); {
		from, n, size := i, uint32(0), uint64(0)
		for ; i < len(h.s.spans) && (i == from || n < runSlots && size < runBytes); i++ {
			n, size = n+h.s.spans[i].count, size+h.s.spans[i].bytes
		}
		pieces = append(pieces, [2]int{from, i})
	}
	const ahead = 4
	results := make([]chan *run[O, F], len(pieces))
	for i := range results {
		results[i] = make(chan *run[O, F], 1)
	}
	free := make(chan *run[O, F], ahead)
	for range ahead {
		free <- new(run[O, F])
	}
	type piece struct {
		i int
		r *run[O, F]
	}
	next := make(chan piece)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	var lost [2]int64
	for w := range lost {
		wg.Go(func() {
			t := &typer{typing: h.t, masks: map[uint64]*mask{}}
			for p := range next {
				lost[w] += references(t, p.r, h.s.spans[pieces[p.i][0]:pieces[p.i][1]])
				results[p.i] <- p.r
			}
		})
	}
	go func() {
		defer close(next)
		for i := range pieces {
			var r *run[O, F]
			select {
			case r = <-free: // in order, or the first would wait for what the later ones hold
			case <-ctx.Done():
				return
			}
			select {
			case next <- piece{i, r}:
			case <-ctx.Done():
				return
			}
		}
	}()
	defer func() {
		stop()
		wg.Wait()
	}()
	for i := range pieces {
		select {
		case r := <-results[i]:
			if len(r.end) > 0 {
				yield(r.first, r.end, r.to, r.field)
			}
			free <- r
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	h.Conservative = lost[0] + lost[1]
	return nil
}

// references finds those of the objects in some spans; it returns how many objects were looked through
// word by word because nothing says which are pointers.
func references[O, F ~uint32](w *typer, r *run[O, F], spans []slotSpan) (conservative int64) {
	r.end, r.to, r.field = r.end[:0], r.to[:0], r.field[:0]
	s := w.s
	r.first = O(s.number(spans[0].first) + 1)
	all := *w.ts.all.Load()
	lastID, lastProgram := uint32(0), (*program)(nil)
	for k := range spans {
		sp := &spans[k]
		for i := range sp.count {
			slot := sp.first + i
			if !s.has(slot) {
				continue
			}
			if sp.noPointers {
				r.end = append(r.end, uint32(len(r.to)))
				continue
			}
			v := w.of[slot]
			if id := v & typeBits; id != lastID {
				lastID, lastProgram = id, nil
				if id != 0 {
					lastProgram = all[id].program.Load()
				}
			}
			p, array := lastProgram, v&arrayBit != 0
			b := sp.data[uint64(i)*sp.elem+uint64(sp.header) : uint64(i+1)*sp.elem]
			follow := func(off uint64) {
				to := binary.LittleEndian.Uint64(b[off:])
				if to == 0 {
					return
				}
				_, target, ok := s.slotAt(to)
				if !ok {
					return
				}
				label := uint32(0)
				if p != nil {
					label = p.labelAt(off, array)
				}
				r.to, r.field = append(r.to, O(s.number(target)+1)), append(r.field, F(label))
			}
			switch {
			case sp.bitmap != 0 && sp.elem <= minHeader:
				for m := sp.bits(i); m != 0; m &= m - 1 {
					follow(uint64(bits.TrailingZeros64(m)) * 8)
				}
			case sp.bitmap != 0: // an arena of package arena
				for at := sp.bitmap; at+8 <= sp.bytes; at += 8 {
					for m := binary.LittleEndian.Uint64(sp.data[at:]); m != 0; m &= m - 1 {
						if off := (at-sp.bitmap)*64 + uint64(bits.TrailingZeros64(m))*8; off < sp.bitmap {
							follow(off)
						}
					}
				}
			default:
				m := w.maskOf(sp, i)
				switch {
				case m == nil: // not begun, or being made
				case !m.known || m.size == 0:
					conservative++
					for off := uint64(0); off+8 <= uint64(len(b)); off += 8 {
						follow(off)
					}
				case m.words > 0:
					// The type's mask is for one value; there is one behind the other up to the slot's end.
					for start := uint64(0); start < uint64(len(b)); start += m.size {
						for k := uint64(0); k*64 < m.words; k++ {
							for x := m.word64(k); x != 0; x &= x - 1 {
								off := start + k*512 + uint64(bits.TrailingZeros64(x))*8
								if off+8 > uint64(len(b)) {
									break
								}
								follow(off)
							}
						}
					}
				}
			}
			r.end = append(r.end, uint32(len(r.to)))
		}
	}
	return conservative
}
