package goruntime

// A WasteKind says in which way memory holds nothing.
type WasteKind uint8

// The kinds of waste.
const (
	UnusedCapacity WasteKind = iota
	FreeMapSlots
	DuplicateStrings
	BoxedScalars
	Padding
)

// A Waste is memory of one kind and cause that could be saved.
type Waste struct {
	Kind    WasteKind
	Type    uint32 // number of the type
	What    string // the text of duplicate strings
	Count   int64  // objects
	Bytes   int64  // that hold nothing
	Of      int64  // that these objects take
	Example uint32 // one of them, from 1
}

func (h *Heap) findWaste() {}
