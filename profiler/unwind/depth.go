package unwind

// framed is the Depth of code whose frame pointer is set: deeper than any stack, for the stack pointer
// is of no use there and not needed.
const framed = 1 << 40

// Depth is how many bytes above the stack pointer the return address is when the instruction at a file
// address is about to run: 0 in a function without a frame, more than a stack can have where the frame
// pointer alone tells. It says false where no row does, or by other means.
//
// On 64-bit Arm it is the size of the frame: 0 says that the return address is in the link register.
func (t *Table) Depth(addr uint64) (uint64, bool) {
	i, _ := t.find(addr)
	if i == noRule {
		return 0, false
	}
	r := t.rule(i)
	if r.cfaKind != ruleRegister || r.flags&(flagSignal|flagRoot) != 0 {
		return 0, false
	}
	for i := range int(r.list.count) {
		n, s := t.save(int(r.list.first) + i)
		if n != r.ra {
			continue
		}
		if s.kind != ruleOffset {
			return 0, false
		}
		switch depth := int64(r.cfaValue) + int64(s.value); {
		case int(r.cfaRegister) == t.machine.fp:
			return framed, true
		case int(r.cfaRegister) == t.machine.sp && depth >= 0:
			if t.machine.link >= 0 {
				depth = int64(r.cfaValue)
			}
			return uint64(depth), true
		}
		return 0, false
	}
	return 0, t.machine.link >= 0 // it is where the call has left it
}
