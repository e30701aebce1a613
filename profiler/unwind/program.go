package unwind

import "math"

// How a register of the caller, or the CFA, is found.
const (
	ruleNone       = iota // not said: a call keeps the register or does not, by the convention
	ruleUndefined         // it is lost; of the return address: there is no caller
	ruleSame              // as it is
	ruleOffset            // stored at CFA + value
	ruleValOffset         // CFA + value
	ruleRegister          // in register value
	ruleExpression        // stored at what the expression says; value is its place
	ruleValExpr           // what the expression says
)

// A saved is the rule for one register.
type saved struct {
	kind  uint8
	value int32
}

// The CFA is found by ruleRegister (a register and an offset) or by ruleValExpr.
type state struct {
	cfaKind, cfaRegister uint8
	signed               bool // arm64: the return address is signed
	cfaValue             int32
	set                  uint64 // registers with a rule
	saves                [registerCount]saved

	// Where saves are among the builder's, unless they have changed since.
	list  saveList
	known bool
}

func (s *state) rule(n uint64, r saved) {
	if n >= registerCount || s.saves[n] == r {
		return // of a register that the walk does not follow
	}
	s.saves[n] = r
	if s.known = false; r.kind == ruleNone {
		s.set &^= 1 << n
	} else {
		s.set |= 1 << n
	}
}

const maxRemembered = 64 // states that DW_CFA_remember_state keeps; compilers nest two

// Call-frame instructions, DW_CFA_…: DWARF 5, section 7.24; LSB 5.0 Core, section 10.5.2.
const (
	cfaAdvance = 0x40 // the low six bits are an operand
	cfaOffset  = 0x80
	cfaRestore = 0xc0

	cfaNop              = 0x00
	cfaSetLoc           = 0x01
	cfaAdvance1         = 0x02
	cfaAdvance2         = 0x03
	cfaAdvance4         = 0x04
	cfaOffsetExtended   = 0x05
	cfaRestoreExtended  = 0x06
	cfaUndefined        = 0x07
	cfaSameValue        = 0x08
	cfaRegister         = 0x09
	cfaRememberState    = 0x0a
	cfaRestoreState     = 0x0b
	cfaDefCFA           = 0x0c
	cfaDefCFARegister   = 0x0d
	cfaDefCFAOffset     = 0x0e
	cfaDefCFAExpression = 0x0f
	cfaExpression       = 0x10
	cfaOffsetExtendedSF = 0x11
	cfaDefCFASF         = 0x12
	cfaDefCFAOffsetSF   = 0x13
	cfaValOffset        = 0x14
	cfaValOffsetSF      = 0x15
	cfaValExpression    = 0x16
	cfaNegateRAStatePC  = 0x2c // arm64: DWARF for the Arm 64-bit Architecture, section 4.4
	cfaNegateRAState    = 0x2d // arm64; DW_CFA_GNU_window_save elsewhere
	cfaGNUArgsSize      = 0x2e
	cfaGNUNegOffset     = 0x2f
)

// A program is the run of an FDE's instructions, or of a CIE's.
type program struct {
	cursor
	bases
	cie   *cie
	build *builder
	state state
	loc   uint64
	saved []state
}

// run executes the instructions, and gives a row to the builder for each range of addresses of f:
// nil for the initial instructions of a CIE, which have no addresses. It tells what was not
// understood; rows until then stand, and the rest of the range has none.
func (p *program) run(f *fde) string {
	limit := uint64(0)
	if f != nil {
		p.loc, limit = f.start, f.end
	}
	// A row is given when the address moves on, for the rules can change until then.
	advance := func(to uint64) string {
		switch {
		case f == nil:
			return "an address before the function"
		case to < p.loc:
			return "an address that goes backwards"
		case to == p.loc:
			return ""
		}
		if p.loc < limit {
			p.build.row(p.loc, p.build.rule(&p.state, p.cie))
		}
		p.loc = to
		return ""
	}
	for p.left() > 0 && !p.bad {
		if f != nil && p.loc >= limit {
			return "" // what follows is behind the end
		}
		op := p.u8()
		low := uint64(op & 0x3f)
		why := ""
		switch op & 0xc0 {
		case cfaAdvance:
			why = advance(p.loc + low*p.cie.codeAlign)
		case cfaOffset:
			why = p.factored(low, ruleOffset, int64(p.uleb()))
		case cfaRestore:
			why = p.restore(f, low)
		default:
			switch op {
			case cfaNop:
			case cfaSetLoc:
				b := p.bases
				b.size = p.cie.size
				why = advance(p.pointer(p.cie.encoding, &b))
			case cfaAdvance1:
				why = advance(p.loc + uint64(p.u8())*p.cie.codeAlign)
			case cfaAdvance2:
				why = advance(p.loc + uint64(p.u16())*p.cie.codeAlign)
			case cfaAdvance4:
				why = advance(p.loc + uint64(p.u32())*p.cie.codeAlign)
			case cfaRememberState:
				if len(p.saved) == maxRemembered {
					why = "states are remembered too deep"
					break
				}
				p.saved = append(p.saved, p.state)
			case cfaRestoreState:
				if len(p.saved) == 0 {
					why = "a state is restored that was not remembered"
					break
				}
				p.state = p.saved[len(p.saved)-1]
				p.saved = p.saved[:len(p.saved)-1]
			default:
				why = p.other(f, op)
			}
		}
		if why != "" {
			if f != nil {
				p.build.row(p.loc, noRule)
			}
			return why
		}
	}
	if p.bad {
		if f != nil {
			p.build.row(p.loc, noRule)
		}
		return "an instruction ends too early"
	}
	if f != nil && p.loc < limit {
		p.build.row(p.loc, p.build.rule(&p.state, p.cie))
	}
	return ""
}

// other executes an instruction that defines a rule.
func (p *program) other(f *fde, op byte) string {
	s := &p.state
	switch op {
	case cfaOffsetExtended:
		return p.factored(p.uleb(), ruleOffset, int64(p.uleb()))
	case cfaOffsetExtendedSF:
		return p.factored(p.uleb(), ruleOffset, p.sleb())
	case cfaGNUNegOffset:
		return p.factored(p.uleb(), ruleOffset, -int64(p.uleb()))
	case cfaValOffset:
		return p.factored(p.uleb(), ruleValOffset, int64(p.uleb()))
	case cfaValOffsetSF:
		return p.factored(p.uleb(), ruleValOffset, p.sleb())
	case cfaRestoreExtended:
		return p.restore(f, p.uleb())
	case cfaUndefined:
		s.rule(p.uleb(), saved{kind: ruleUndefined})
	case cfaSameValue:
		s.rule(p.uleb(), saved{kind: ruleSame})
	case cfaRegister:
		n, from := p.uleb(), p.uleb()
		if from >= registerCount {
			s.rule(n, saved{kind: ruleUndefined}) // in a register that the walk does not follow
		} else {
			s.rule(n, saved{ruleRegister, int32(from)})
		}
	case cfaDefCFA:
		return p.cfa(p.uleb(), p.uleb())
	case cfaDefCFASF:
		return p.cfa(p.uleb(), uint64(p.sleb()*p.cie.dataAlign))
	case cfaDefCFARegister:
		if s.cfaKind != ruleRegister {
			return "a register for a CFA that has no offset"
		}
		return p.cfa(p.uleb(), uint64(s.cfaValue))
	case cfaDefCFAOffset, cfaDefCFAOffsetSF:
		if s.cfaKind != ruleRegister {
			return "an offset for a CFA that has no register"
		}
		if op == cfaDefCFAOffset {
			return p.cfa(uint64(s.cfaRegister), p.uleb())
		}
		return p.cfa(uint64(s.cfaRegister), uint64(p.sleb()*p.cie.dataAlign))
	case cfaDefCFAExpression:
		at, why := p.expression()
		s.cfaKind, s.cfaRegister, s.cfaValue = ruleValExpr, 0, at
		return why
	case cfaExpression, cfaValExpression:
		n := p.uleb()
		at, why := p.expression()
		kind := uint8(ruleExpression)
		if op == cfaValExpression {
			kind = ruleValExpr
		}
		s.rule(n, saved{kind, at})
		return why
	case cfaNegateRAState, cfaNegateRAStatePC:
		s.signed = !s.signed && p.build.machine == &arm64
	case cfaGNUArgsSize: // bytes of arguments on the stack, of which the CFA's rule knows
		p.uleb()
	default:
		return "an unknown instruction"
	}
	return ""
}

func (p *program) factored(n uint64, kind uint8, factor int64) string {
	v := factor * p.cie.dataAlign
	if int64(int32(v)) != v || factor > math.MaxInt32 || factor < math.MinInt32 {
		return "an offset beyond 2 GiB"
	}
	p.state.rule(n, saved{kind, int32(v)})
	return ""
}

func (p *program) cfa(register, offset uint64) string {
	if register >= registerCount {
		return "a CFA in an unknown register"
	}
	if int64(int32(offset)) != int64(offset) {
		return "a CFA beyond 2 GiB"
	}
	p.state.cfaKind, p.state.cfaRegister, p.state.cfaValue = ruleRegister, uint8(register), int32(offset)
	return ""
}

// restore gives a register the rule that the CIE gave it.
func (p *program) restore(f *fde, n uint64) string {
	if f == nil {
		return "a rule is restored before there is one"
	}
	if n < registerCount {
		p.state.rule(n, p.cie.first.saves[n])
	}
	return ""
}

// expression keeps an expression's bytes.
func (p *program) expression() (int32, string) {
	b := p.take(p.uleb())
	if p.bad {
		return 0, "an expression ends too early"
	}
	return p.build.expression(b)
}
