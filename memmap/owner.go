package memmap

import (
	"fmt"
	"sort"

	"github.com/sightline-dev/sightline/heap/goruntime"
)

// An Owner is the object of the Go heap, the stack, or the block of malloc that an address is in.
type Owner struct {
	Address uint64 `json:"address"` // where it begins
	Size    int64  `json:"size"`    // bytes of its slot, span or chunk
	// What says what it is: "object", "object without pointers", "free slot", "stack of goroutine 7", "block",
	// "free block".
	What string `json:"what"`
	// State of a Go object: "live", "new", "garbage"; see TermLive and the others.
	State string `json:"state,omitempty"`
	// Site is where it was allocated, as file addresses; known of objects that the program's memory profile
	// recorded; those from one place share it.
	Site []uint64 `json:"site,omitempty"`
}

// String is the owner in a few words: "live object of 48 B without pointers".
func (o *Owner) String() string {
	switch {
	case o.State != "" && o.What == "object":
		return fmt.Sprintf("%s object of %s", o.State, bytesText(o.Size))
	case o.State != "":
		return fmt.Sprintf("%s object of %s without pointers", o.State, bytesText(o.Size))
	}
	return fmt.Sprintf("%s of %s", o.What, bytesText(o.Size))
}

// owners tell whose an address is. Addresses of the heaps of malloc must be asked for in order, because their
// chunks are found one after the other.
type owners struct {
	memory  *Memory
	spans   []goruntime.Span
	stacks  []goruntime.Stack
	sampled map[uint64][]uint64 // by address of object
	chunks  []chunkRange
	window  window
	at      uint64 // the chunk that was last looked at
	size    uint64
}

// A chunkRange is where the chunks of one heap of malloc follow each other.
type chunkRange struct{ first, end uint64 }

func (m *Memory) owners(s *Snapshot) *owners {
	o := &owners{memory: m, chunks: s.chunks, window: window{r: m.r}}
	if m.runtime != nil {
		m.runtime.Refresh()
		o.spans, _ = m.runtime.Spans()
		o.stacks = m.runtime.Stacks()
		o.sampled = map[uint64][]uint64{}
		known := map[*uint64][]uint64{} // objects from one place share their stack
		for _, x := range m.runtime.Sampled(o.spans) {
			if known[&x.Stack[0]] == nil {
				for _, pc := range x.Stack {
					known[&x.Stack[0]] = append(known[&x.Stack[0]], pc-s.bias)
				}
			}
			o.sampled[x.Address] = known[&x.Stack[0]]
		}
	}
	return o
}

// of is the owner of an address in a region; nil where there is none.
func (o *owners) of(address uint64, r *Region) *Owner {
	switch r.Kind {
	case ManagedHeap:
		return o.goObject(address)
	case Heap:
		return o.block(address)
	}
	return nil
}

func (o *owners) goObject(address uint64) *Owner {
	i := sort.Search(len(o.spans), func(i int) bool { return o.spans[i].Start+o.spans[i].Bytes > address })
	if i == len(o.spans) || o.spans[i].Start > address {
		if len(o.spans) == 0 {
			return nil
		}
		return &Owner{Address: address &^ (goruntime.HeapPage - 1), Size: goruntime.HeapPage, What: "idle page"}
	}
	s := &o.spans[i]
	switch {
	case s.Use == goruntime.StackSpan:
		k := sort.Search(len(o.stacks), func(i int) bool { return o.stacks[i].End > address })
		if k < len(o.stacks) && o.stacks[k].Start <= address {
			x := &o.stacks[k]
			what := fmt.Sprintf("stack of goroutine %d", x.Goroutine)
			if x.Goroutine == 0 {
				what = fmt.Sprintf("stack of thread %d", x.Thread)
			}
			return &Owner{Address: x.Start, Size: int64(x.End - x.Start), What: what}
		}
		return &Owner{Address: s.Start, Size: int64(s.Bytes), What: "stacks that nobody has"}
	case s.Use == goruntime.WorkSpan:
		return &Owner{Address: s.Start, Size: int64(s.Bytes), What: "collector's work buffer"}
	}
	slot := uint64(len(s.Slots))
	if s.SlotSize > 0 {
		slot = (address - s.Start) / s.SlotSize
	}
	if slot >= uint64(len(s.Slots)) {
		return &Owner{Address: s.Start + uint64(len(s.Slots))*s.SlotSize, Size: int64(s.Bytes - uint64(len(s.Slots))*s.SlotSize), What: "end of a span"}
	}
	x := &Owner{Address: s.Start + slot*s.SlotSize, Size: int64(s.SlotSize), What: "object"}
	if s.NoPointers {
		x.What = "object without pointers"
	}
	switch s.Slots[slot] {
	case goruntime.FreeSlot:
		x.What = "free slot"
	case goruntime.LiveSlot:
		x.State = "live"
	case goruntime.NewSlot:
		x.State = "new"
	case goruntime.GarbageSlot:
		x.State = "garbage"
	}
	x.Site = o.sampled[x.Address]
	return x
}

// block is the chunk of malloc that has an address.
func (o *owners) block(address uint64) *Owner {
	i := sort.Search(len(o.chunks), func(i int) bool { return o.chunks[i].end > address })
	if i == len(o.chunks) || o.chunks[i].first > address {
		return nil
	}
	if h := o.chunks[i]; o.at < h.first || o.at >= h.end || o.at > address {
		o.at, o.size = h.first, 0
		if !o.chunk(h.end) {
			return nil
		}
	}
	for o.at+o.size <= address {
		o.at += o.size
		if !o.chunk(o.chunks[i].end) {
			return nil
		}
	}
	// A chunk's own use of its memory begins behind the word that has its size; whether it is in use the
	// chunk that follows knows.
	x := &Owner{Address: o.at + 16, Size: int64(o.size) - 8, What: "block"}
	if next := o.at + o.size; next+16 >= o.chunks[i].end {
		x.What = "top of the heap, not handed out," // the last one
	} else if word, ok := o.window.uint(next + 8); ok && word&previousInUse == 0 {
		x.What = "free block"
	}
	return x
}

// chunk reads the size of the chunk at o.at, which must lie before end.
func (o *owners) chunk(end uint64) bool {
	word, ok := o.window.uint(o.at + 8)
	size := word &^ chunkFlags
	if !ok || size < 16 || size%16 != 0 || o.at+size > end {
		o.at, o.size = 0, 0
		return false
	}
	o.size = size
	return true
}
