package bpf

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func allocationRecord(event uint32, id, size, time uint64, rest []byte) []byte {
	raw := binary.LittleEndian.AppendUint32(nil, event)
	raw = binary.LittleEndian.AppendUint32(raw, 0)
	for _, x := range []uint64{id, size, time} {
		raw = binary.LittleEndian.AppendUint64(raw, x)
	}
	return append(raw, rest...)
}

func TestDecodeAllocation(t *testing.T) {
	var x AllocationEvent
	if err := decodeAllocation(allocationRecord(eventAllocated, 7, 100, 5, encode(t, &examples[0])), &x); err != nil || x.Freed || x.ID != 7 || x.Size != 100 || x.Time != 5 || len(x.Sample.User) != len(examples[0].User) {
		t.Errorf("%+v, %v", x, err)
	}
	if err := decodeAllocation(allocationRecord(eventFreed, 7, 0, 9, nil), &x); err != nil || !x.Freed || x.ID != 7 || x.Time != 9 {
		t.Errorf("%+v, %v", x, err)
	}
}

func FuzzAllocation(f *testing.F) {
	for i := range examples {
		f.Add(allocationRecord(eventAllocated, 7, 100, 5, encode(f, &examples[i])))
	}
	f.Add(allocationRecord(eventFreed, 7, 0, 5, nil))
	f.Add(allocationRecord(eventFreed, 0, 0, 5, nil))
	f.Add(allocationRecord(3, 7, 0, 5, nil))
	f.Add([]byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var x AllocationEvent
		if err := decodeAllocation(raw, &x); err != nil {
			if x.ID != 0 || x.Size != 0 || x.Sample.User != nil {
				t.Errorf("%v, and yet %+v", err, x)
			}
			return
		}
		event := uint32(eventAllocated)
		if x.Freed {
			event = eventFreed
		}
		if got := allocationRecord(event, x.ID, x.Size, x.Time, raw[allocationBytes:]); !bytes.Equal(got[8:], raw[8:]) || !bytes.Equal(got[:4], raw[:4]) {
			t.Errorf("%x became %+v", raw, x)
		}
	})
}
