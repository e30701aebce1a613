package unwind

// Bounds on an expression's run. Those of compilers and linkers have some ten operations and no
// loops.
const (
	maxExprStack = 64
	maxExprSteps = 512
)

// Operations of expressions, DW_OP_…: DWARF 5, section 7.7.1. Those that speak of other things than
// registers, numbers and memory are not allowed in call-frame information (section 6.4.2).
const (
	opAddr       = 0x03
	opDeref      = 0x06
	opConst1u    = 0x08
	opConst1s    = 0x09
	opConst2u    = 0x0a
	opConst2s    = 0x0b
	opConst4u    = 0x0c
	opConst4s    = 0x0d
	opConst8u    = 0x0e
	opConst8s    = 0x0f
	opConstu     = 0x10
	opConsts     = 0x11
	opDup        = 0x12
	opDrop       = 0x13
	opOver       = 0x14
	opPick       = 0x15
	opSwap       = 0x16
	opRot        = 0x17
	opAbs        = 0x19
	opAnd        = 0x1a
	opDiv        = 0x1b
	opMinus      = 0x1c
	opMod        = 0x1d
	opMul        = 0x1e
	opNeg        = 0x1f
	opNot        = 0x20
	opOr         = 0x21
	opPlus       = 0x22
	opPlusUconst = 0x23
	opShl        = 0x24
	opShr        = 0x25
	opShra       = 0x26
	opXor        = 0x27
	opBra        = 0x28
	opEq         = 0x29
	opGe         = 0x2a
	opGt         = 0x2b
	opLe         = 0x2c
	opLt         = 0x2d
	opNe         = 0x2e
	opSkip       = 0x2f
	opLit0       = 0x30
	opLitEnd     = 0x50
	opBreg0      = 0x70
	opBregEnd    = 0x90
	opBregx      = 0x92
	opDerefSize  = 0x94
	opNop        = 0x96
)

// evaluate runs an expression on the registers and the copied stack. withCFA: the stack of the run
// begins with the CFA.
func (w *Walker) evaluate(e []byte, code *Code, cfa uint64, withCFA bool) (uint64, Reason) {
	stack := &w.exprWork
	n := 0 // depth
	if withCFA {
		stack[0], n = cfa, 1
	}
	c := cursor{data: e}
	for steps := 0; c.left() > 0; steps++ {
		if steps == maxExprSteps {
			return 0, BadExpression
		}
		op := c.u8()
		if need := operands(op); n < need || n-need >= maxExprStack-2 {
			return 0, BadExpression
		}
		push := func(v uint64) {
			stack[n] = v
			n++
		}
		switch {
		case op >= opLit0 && op < opLitEnd:
			push(uint64(op - opLit0))
		case op >= opBreg0 && op < opBregEnd, op == opBregx:
			register := uint64(op - opBreg0)
			if op == opBregx {
				register = c.uleb()
			}
			offset := c.sleb()
			if c.bad {
				return 0, BadExpression
			}
			if register >= registerCount || !w.regs.known(int(register)) {
				return 0, BadRegister
			}
			push(w.regs.Value[register] + uint64(offset))
		case op == opAddr:
			push(c.u64() + code.Bias)
		case op >= opConst1u && op <= opConsts:
			push(constant(&c, op))
		case op == opDup:
			push(stack[n-1])
		case op == opDrop:
			n--
		case op == opOver:
			push(stack[n-2])
		case op == opPick:
			i := int(c.u8())
			if i >= n {
				return 0, BadExpression
			}
			push(stack[n-1-i])
		case op == opSwap:
			stack[n-1], stack[n-2] = stack[n-2], stack[n-1]
		case op == opRot:
			stack[n-1], stack[n-2], stack[n-3] = stack[n-2], stack[n-3], stack[n-1]
		case op == opDeref, op == opDerefSize:
			size := uint64(8)
			if op == opDerefSize {
				size = uint64(c.u8())
			}
			if size == 0 || size > 8 {
				return 0, BadExpression
			}
			b := w.bytes(stack[n-1], size)
			if b == nil {
				return 0, w.missed(BadExpression)
			}
			v := uint64(0)
			for i, x := range b {
				v |= uint64(x) << (8 * i)
			}
			stack[n-1] = v
		case op == opAbs:
			if int64(stack[n-1]) < 0 {
				stack[n-1] = -stack[n-1]
			}
		case op == opNeg:
			stack[n-1] = -stack[n-1]
		case op == opNot:
			stack[n-1] = ^stack[n-1]
		case op == opPlusUconst:
			stack[n-1] += c.uleb()
		case op == opBra, op == opSkip:
			by := int(int16(c.u16()))
			if op == opBra {
				n--
				if stack[n] == 0 {
					break
				}
			}
			if to := c.pos + by; c.bad || to < 0 || to > len(e) {
				return 0, BadExpression
			} else {
				c.pos = to
			}
		case op == opNop:
		default: // of two
			v, ok := binaryOperation(op, stack[n-2], stack[n-1])
			if !ok {
				return 0, BadExpression
			}
			n--
			stack[n-1] = v
		}
		if c.bad {
			return 0, BadExpression
		}
	}
	if n == 0 {
		return 0, BadExpression
	}
	return stack[n-1], goOn
}

// operands is how many values an operation finds on the stack.
func operands(op byte) int {
	switch {
	case op == opRot:
		return 3
	case op == opOver, op == opSwap:
		return 2
	case op == opAbs, op == opNeg, op == opNot, op == opPlusUconst, op == opDup, op == opDrop, op == opDeref, op == opDerefSize, op == opBra:
		return 1
	case op == opSkip, op == opNop, op == opPick, op == opAddr, op == opBregx:
		return 0
	case op >= opAnd && op <= opXor, op >= opEq && op <= opNe:
		return 2
	case op >= opConst1u && op <= opConsts, op >= opLit0 && op < opLitEnd, op >= opBreg0 && op < opBregEnd:
		return 0
	}
	return maxExprStack + 1 // not known: never satisfied
}

func constant(c *cursor, op byte) uint64 {
	switch op {
	case opConst1u:
		return uint64(c.u8())
	case opConst1s:
		return uint64(int8(c.u8()))
	case opConst2u:
		return uint64(c.u16())
	case opConst2s:
		return uint64(int16(c.u16()))
	case opConst4u:
		return uint64(c.u32())
	case opConst4s:
		return uint64(int32(c.u32()))
	case opConst8u, opConst8s:
		return c.u64()
	case opConstu:
		return c.uleb()
	}
	return uint64(c.sleb())
}

func binaryOperation(op byte, a, b uint64) (uint64, bool) {
	truth := func(v bool) (uint64, bool) {
		if v {
			return 1, true
		}
		return 0, true
	}
	switch op {
	case opAnd:
		return a & b, true
	case opOr:
		return a | b, true
	case opXor:
		return a ^ b, true
	case opPlus:
		return a + b, true
	case opMinus:
		return a - b, true
	case opMul:
		return a * b, true
	case opDiv:
		if b == 0 {
			return 0, false
		}
		return uint64(int64(a) / int64(b)), true
	case opMod:
		if b == 0 {
			return 0, false
		}
		return a % b, true
	case opShl:
		return a << b, true
	case opShr:
		return a >> b, true
	case opShra:
		return uint64(int64(a) >> b), true
	case opEq:
		return truth(a == b)
	case opNe:
		return truth(a != b)
	case opGe:
		return truth(int64(a) >= int64(b))
	case opGt:
		return truth(int64(a) > int64(b))
	case opLe:
		return truth(int64(a) <= int64(b))
	case opLt:
		return truth(int64(a) < int64(b))
	}
	return 0, false
}
