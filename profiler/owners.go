package profiler

// owners keeps records from being taken twice where events were opened on the threads of a running
// process one after the other. A thread that is started meanwhile inherits the events that its
// starter had by then, and is then given its own too; both report it.
//
// Records carry the id of the event that was opened, whatever inherited it. All ids opened on one
// thread are a family, and each thread is reported by one family: the one opened on itself, else
// its starter's.
type owners struct {
	family map[uint64]int // event id → the thread it was opened on
	of     map[int]int    // thread → family that reports it
}

func newOwners() *owners {
	return &owners{family: make(map[uint64]int), of: make(map[int]int)}
}

// opened: an event was opened on a thread. From then on it reports itself.
func (o *owners) opened(id uint64, tid int) {
	o.family[id] = tid
	o.of[tid] = tid
}

// forked: thread ptid started tid, as event id says. False: it is said by another event too.
func (o *owners) forked(id uint64, tid, ptid int) bool {
	f, ok := o.family[id]
	if !ok {
		return true
	}
	if by, ok := o.of[ptid]; ok && by != f {
		return false
	}
	if o.of[tid] != tid || tid == ptid { // it was opened itself: complete, where an inherited one may not be
		o.of[tid] = f
	}
	return true
}

// takes tells whether a record about tid from event id counts.
func (o *owners) takes(id uint64, tid int) bool {
	f, ok := o.family[id]
	if !ok {
		return true
	}
	by, known := o.of[tid]
	if !known {
		o.of[tid] = f
		return true
	}
	return by == f
}

// exited: a thread has ended, and its number may come back.
func (o *owners) exited(tid int) { delete(o.of, tid) }
