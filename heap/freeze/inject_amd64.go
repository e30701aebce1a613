package freeze

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// How a system call is made by a thread of another program, such that no instant is dangerous.
//
// Usually one changes the registers of a stopped thread, has it execute one instruction, and puts the
// registers back. Whoever does so may be killed in between, and the thread would go on with registers
// that are not its own. So the registers are not only kept here. They are in memory that the thread finds
// by itself, in the form that the kernel has for it: the frame of a signal (rt_sigframe of
// arch/x86/include/asm/sigframe.h), which rt_sigreturn(2) makes registers of again. Wherever the thread is
// left alone, it goes on through instructions that the program has anyway:
//
//	syscall; ret        clone            in the child: ret; rt_sigreturn → exit_group
//	mov $15,%eax; syscall  rt_sigreturn  → registers for wait4 of that child, so that none is left
//	syscall; ret        wait4
//	mov $15,%eax; syscall  rt_sigreturn  → the thread's own registers, signal mask and vector registers
//
// The frames lie in the main thread's stack, in pages below all that it ever used, and which it did not use
// since, if they were used so before. Nothing of this is used while we live: then the thread is stopped after the system call and gets its registers from us, since only
// so the kernel restarts the call that it was in (rt_sigreturn ends a sleep or a poll with EINTR).
//
// A frame at address a, with rsp = a when a ret is executed:
const (
	frameContext = 24  // struct ucontext, after the address of rt_sigreturn or of the words of a chain
	frameSize    = 512 // for each
	framesFloat  = 3 * frameSize
	// Of struct ucontext (include/uapi/asm-generic/ucontext.h, arch/x86/include/uapi/asm/sigcontext.h).
	contextStackFlags = 24
	contextRegisters  = 40
	contextSegments   = contextRegisters + 18*8
	contextFloat      = contextSegments + 8 + 4*8
	contextMask       = contextRegisters + 256
)

// Numbers of system calls, flags of clone(2) and wait4(2).
const (
	callClone     = unix.SYS_CLONE
	callWait      = unix.SYS_WAIT4
	callExitGroup = unix.SYS_EXIT_GROUP
	callSigreturn = unix.SYS_RT_SIGRETURN
	cloneFlags    = unix.CLONE_PARENT_SETTID | unix.CLONE_FILES // no signal at its end
	noProcess     = 0x7fffffff                                  // wait4 knows no child of this number
	restartSys    = -512
	restartNoIntr = -513
	restartNoHand = -514
	restartBlock  = -516
	interrupted   = ^uint64(3) // -EINTR
)

// Gates are the instructions of the program that are used.
type gates struct {
	call   uint64 // syscall; ret
	back   uint64 // mov $15,%rax; syscall: what signal handlers return to. Or 0:
	popRAX uint64 // pop %rax; ret
}

var (
	codeCall    = []byte{0x0f, 0x05, 0xc3}
	codeBack    = []byte{0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05}
	codeBackAlt = []byte{0xb8, 15, 0, 0, 0, 0x0f, 0x05}
	codePop     = []byte{0x58, 0xc3}
)

// An injector makes threads of one process execute system calls.
type injector struct {
	p     *process
	mem   *os.File // /proc/PID/mem, to read and write
	gates gates
	at    uint64 // of the frames
	size  uint64
}

// newInjector looks at a process that runs for what is needed.
func newInjector(p *process) (*injector, error) {
	if f, err := p.statusFields("status"); err == nil {
		if strings.Contains(f["x86_Thread_features"], "shstk") {
			return nil, errors.New("it has a shadow stack, which allows no returns but its own")
		}
	}
	fd, err := unix.Openat(int(p.dir.Fd()), "mem", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, p.forbidden(err)
	}
	in := &injector{p: p, mem: os.NewFile(uintptr(fd), "mem")}
	maps, err := p.read("maps")
	if err != nil {
		in.close()
		return nil, p.gone(err)
	}
	regions, err := parseMaps(maps)
	if err == nil {
		err = in.findGates(regions)
	}
	if err == nil {
		err = in.findPlace(regions)
	}
	if err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

func (in *injector) close() { in.mem.Close() }

// findGates searches the code of the program and its libraries.
func (in *injector) findGates(regions []Region) error {
	const chunk, most = 1 << 20, 256 << 20
	buf := make([]byte, chunk+16)
	total := 0
	g := &in.gates
	for i := range regions {
		r := &regions[i]
		if r.Perm != "r-xp" || r.Path == "" || r.Path == "[vsyscall]" {
			continue
		}
		for at := r.Start; at < r.End && total < most; at += chunk {
			n, _ := in.mem.ReadAt(buf[:min(uint64(len(buf)), r.End-at)], int64(at))
			total += n
			find := func(to *uint64, code []byte) {
				if k := bytes.Index(buf[:n], code); *to == 0 && k >= 0 {
					*to = at + uint64(k)
				}
			}
			find(&g.call, codeCall)
			find(&g.back, codeBack)
			find(&g.back, codeBackAlt)
			find(&g.popRAX, codePop)
			if g.call != 0 && g.back != 0 {
				return nil
			}
		}
	}
	if g.call == 0 || g.popRAX == 0 {
		return errors.New("its code has no instructions to make a system call safely with")
	}
	return nil
}

// findPlace finds pages for the frames: the lowest of the main thread's stack, if it never used them, else
// new ones below, as far as its limit goes.
func (in *injector) findPlace(regions []Region) error {
	in.size = up(framesFloat + maxRegset + 64)
	f, err := in.p.open("pagemap")
	if err != nil {
		return in.p.forbidden(err)
	}
	defer f.Close()
	for i := range regions {
		r := &regions[i]
		if r.Path != "[stack]" || r.Perm != "rw-p" {
			continue
		}
		if r.Size() > 2*in.size {
			if in.vacant(f, r.Start) {
				in.at = r.Start
				return nil
			}
		}
		var limit unix.Rlimit
		if err := unix.Prlimit(in.p.pid, unix.RLIMIT_STACK, nil, &limit); err != nil {
			return in.p.forbidden(err)
		}
		at := r.Start - in.size - pageSize
		if r.End-at > limit.Cur || i > 0 && at < regions[i-1].End+(2<<20) {
			return errors.New("the main thread's stack is used to its end")
		}
		in.at = at
		return nil
	}
	return errors.New("the main thread has no stack of the kernel's making")
}

// check looks, with all threads stopped, whether what was found is still so.
func (in *injector) check() error {
	var b [16]byte
	for _, g := range []struct {
		at   uint64
		code []byte
	}{{in.gates.call, codeCall}, {in.gates.back, codeBack[len(codeBack)-2:]}, {in.gates.popRAX, codePop}} {
		if g.at == 0 {
			continue
		}
		n, _ := in.mem.ReadAt(b[:], int64(g.at))
		if !bytes.Contains(b[:n], g.code) {
			return errors.New("its code changed meanwhile")
		}
	}
	f, err := in.p.open("pagemap")
	if err != nil {
		return in.p.gone(err)
	}
	defer f.Close()
	if !in.vacant(f, in.at) {
		return errors.New("the main thread's stack grew meanwhile")
	}
	return nil
}

// vacant says whether pages were never touched, or are as erase left them: then nothing in use is there.
func (in *injector) vacant(pages *os.File, at uint64) bool {
	used, err := (&pagemap{f: pages}).walk(at, at+in.size, false)
	if err != nil || len(used) == 0 {
		return err == nil
	}
	b := make([]byte, in.size)
	n, _ := in.mem.ReadAt(b, int64(at))
	return n == len(b) && bytes.Equal(b, in.blank())
}

// blank is what is left where frames were: zeros, and on each page a word to know them by.
func (in *injector) blank() []byte {
	b := make([]byte, in.size)
	for i := 0; i < len(b); i += pageSize {
		copy(b[i+pageSize-len(blankMark):], blankMark)
	}
	return b
}

const blankMark = "unused: sightline"

// choose takes the thread to make system calls with: one that is in a system call which the kernel can
// restart in any way, else in one, else one that runs and is in no restartable sequence (rseq(2)), which is
// aborted by a system call.
func (in *injector) choose(threads []*traced) (*traced, error) {
	var best *traced
	rank := 0
	for _, th := range threads {
		if len(th.general) < registerBytes {
			continue
		}
		r := registersOf(th.general)
		if r.CS != 0x33 {
			return nil, errors.New("it runs 32-bit code")
		}
		n := 0
		switch {
		case int64(r.OrigRAX) >= 0 && int64(r.RAX) == restartBlock:
			n = 3
		case int64(r.OrigRAX) >= 0:
			n = 4
		case !in.sequence(th):
			n = 2
		}
		if n > rank {
			best, rank = th, n
		}
	}
	if best == nil {
		return nil, errors.New("none of its threads is where it may make a system call")
	}
	if f, err := in.p.statusFields(fmt.Sprintf("task/%d/status", best.tid)); err != nil || f["Seccomp"] != "0" && f["Seccomp"] != "" {
		return nil, errors.New("it runs under seccomp, which may kill it for a clone that it does not make itself")
	}
	return best, nil
}

// sequence says whether a thread may be in a restartable sequence.
func (in *injector) sequence(th *traced) bool {
	var config struct { // struct ptrace_rseq_configuration
		pointer       uint64
		size, sig     uint32
		flags, unused uint32
	}
	if ptrace(ptraceRseq, th.tid, unsafe.Sizeof(config), unsafe.Pointer(&config)) != nil || config.pointer == 0 {
		return false
	}
	var b [8]byte
	_, err := in.mem.ReadAt(b[:], int64(config.pointer)+8) // rseq_cs
	return err != nil || binary.LittleEndian.Uint64(b[:]) != 0
}

// frame writes one: what a ret at its address leads to, and the registers and mask that it makes.
func (in *injector) frame(b []byte, r *Registers, mask, float uint64) {
	le := binary.LittleEndian
	if in.gates.back != 0 {
		le.PutUint64(b[frameContext-8:], in.gates.back)
	} else {
		le.PutUint64(b[frameContext-24:], in.gates.popRAX)
		le.PutUint64(b[frameContext-16:], callSigreturn)
		le.PutUint64(b[frameContext-8:], in.gates.call)
	}
	c := b[frameContext:]
	le.PutUint64(c, 0x7)                        // UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
	le.PutUint32(c[contextStackFlags:], 0x7fff) // no flags: the kernel leaves the signal stack as it is
	for i, v := range []uint64{r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15, r.RDI, r.RSI, r.RBP, r.RBX, r.RDX, r.RAX, r.RCX, r.RSP, r.RIP, r.Flags} {
		le.PutUint64(c[contextRegisters+i*8:], v)
	}
	le.PutUint16(c[contextSegments:], uint16(r.CS))
	le.PutUint16(c[contextSegments+6:], uint16(r.SS))
	le.PutUint64(c[contextFloat:], float)
	le.PutUint64(c[contextMask:], mask)
}

// entry is what rsp is for a ret to go to a frame.
func (in *injector) entry(frame uint64) uint64 {
	if in.gates.back != 0 {
		return in.at + frame + frameContext - 8
	}
	return in.at + frame
}

// The frames, by what they lead to.
const (
	frameExit = iota * frameSize
	frameWait
	frameOwn
)

// write writes the frames for a thread that has stopped.
func (in *injector) write(saved *Registers, mask uint64, xstate []byte) error {
	b := make([]byte, in.size)
	own := *saved
	if int64(own.OrigRAX) >= 0 {
		switch int64(own.RAX) {
		case restartSys, restartNoIntr, restartNoHand:
			own.RAX, own.RIP = own.OrigRAX, own.RIP-2
		case restartBlock:
			own.RAX = interrupted
		}
	}
	call := Registers{RIP: in.gates.call, CS: saved.CS, SS: saved.SS, Flags: saved.Flags &^ 0x100}
	exit := call
	exit.RAX, exit.RSP = callExitGroup, in.at+frameSize
	in.frame(b[frameExit:], &exit, ^uint64(0), 0)
	wait := call
	wait.RAX, wait.RDI, wait.RDX, wait.RSP = callWait, noProcess, unix.WALL, in.entry(frameOwn)
	in.frame(b[frameWait:], &wait, ^uint64(0), 0)
	float := (in.at + framesFloat + 63) &^ 63
	size := floatFrame(b[float-in.at:], xstate)
	if size == 0 {
		return errors.New("its vector registers cannot be read")
	}
	in.frame(b[frameOwn:], &own, mask, float)
	if _, err := in.mem.WriteAt(b[:float-in.at+uint64(size)], int64(in.at)); err != nil {
		return in.p.gone(err)
	}
	return nil
}

// floatFrame writes vector registers as a signal frame has them: as XSAVE does, with what struct
// _fpx_sw_bytes tells in the reserved bytes and a word behind (arch/x86/kernel/fpu/signal.c).
func floatFrame(b, xstate []byte) int {
	le := binary.LittleEndian
	size := len(xstate)
	if size < 576 || size+4 > len(b) {
		return 0
	}
	copy(b, xstate)
	// PTRACE_GETREGSET has the features that the machine knows where XSAVE has nothing.
	const own, features, tiles, tilesAt = 464, 512, 1 << 18, 2816
	known := le.Uint64(xstate[own:])
	if known&tiles != 0 && le.Uint64(xstate[features:])&tiles == 0 && size > tilesAt {
		// A process that did not ask for AMX has no room for it (arch_prctl(2) ARCH_REQ_XCOMP_PERM).
		known, size = known&^tiles, tilesAt
	}
	clear(b[own:features])
	le.PutUint32(b[own:], 0x46505853) // FP_XSTATE_MAGIC1
	le.PutUint32(b[own+4:], uint32(size+4))
	le.PutUint64(b[own+8:], known)
	le.PutUint32(b[own+16:], uint32(size))
	le.PutUint32(b[size:], 0x46505845) // FP_XSTATE_MAGIC2
	return size + 4
}

// erase takes the frames away.
func (in *injector) erase(mem *os.File) {
	mem.WriteAt(in.blank(), int64(in.at))
}

// fork makes a stopped thread fork: the child has the process's memory, its files and no signal at its end.
// It is stopped, never ran, and dies with us. All other threads must stand.
func (in *injector) fork(th *traced) (child int, err error) {
	result, child, err := in.call(th, frameWait, callClone, [5]uint64{cloneFlags, in.entry(frameExit), in.at + frameWait + frameContext + contextRegisters + 8*8})
	if err != nil {
		return child, err
	}
	if int64(result) < 0 {
		return 0, fmt.Errorf("the kernel lets it not fork: %w", unix.Errno(-int64(result)))
	}
	if child == 0 {
		return 0, errors.New("its fork was not seen")
	}
	return child, nil
}

// wait makes a stopped thread wait for a child that has died.
func (in *injector) wait(th *traced, child int) error {
	result, _, err := in.call(th, frameOwn, callWait, [5]uint64{uint64(child), 0, unix.WALL | unix.WNOHANG})
	if err == nil && int64(result) != int64(child) && int64(result) != -int64(unix.ECHILD) {
		err = fmt.Errorf("its child %d was not there any more: %w", child, unix.Errno(-int64(result)))
	}
	return err
}

// call makes a stopped thread execute a system call, and gives its registers back. Then is the frame to go
// on with when we are no more.
func (in *injector) call(th *traced, then uint64, number uint64, args [5]uint64) (result uint64, child int, err error) {
	saved := registersOf(th.general)
	var mask uint64
	if err := ptrace(ptraceGetSigmask, th.tid, 8, unsafe.Pointer(&mask)); err != nil {
		return 0, 0, in.p.gone(err)
	}
	if err := in.write(saved, mask, regset(th.tid, regsExtended)); err != nil {
		return 0, 0, err
	}
	if err := unix.PtraceSetOptions(th.tid, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_TRACESYSGOOD); err != nil {
		return 0, 0, in.p.gone(err)
	}
	r := *saved
	r.RIP, r.RSP, r.RAX, r.OrigRAX = in.gates.call, in.entry(then), number, ^uint64(0)
	r.RDI, r.RSI, r.RDX, r.R10, r.R8 = args[0], args[1], args[2], args[3], args[4]
	r.Flags &^= 0x500 // not single-stepped, strings upwards
	atStep("written")
	// From here on until its own registers are back the thread would go on through the frames. Signals
	// wait, in either order of events: the frame has the mask, too.
	if err := setRegisters(th.tid, &r); err != nil {
		return 0, 0, in.p.gone(err)
	}
	atStep("registers")
	all := ^uint64(0)
	err = ptrace(ptraceSetSigmask, th.tid, 8, unsafe.Pointer(&all))
	atStep("mask")
	entered := false
	for err == nil {
		if err = ptrace(unix.PTRACE_SYSCALL, th.tid, 0, nil); err != nil {
			break
		}
		atStep("running")
		var ws unix.WaitStatus
		if ws, err = waitFor(th.tid); err != nil {
			break
		}
		atStep("event")
		switch {
		case ws.Exited() || ws.Signaled():
			th.gone = true
			return 0, child, in.p.gone(unix.ESRCH)
		case uint32(ws)>>16 == eventClone:
			child, err = adopt(th.tid)
			atStep("child")
			if err == nil { // each stop costs a turn of the processor: not another for its end
				return uint64(child), child, in.giveBack(th, saved, mask)
			}
		case ws.StopSignal() == unix.SIGTRAP|0x80 && !entered:
			entered = true
		case ws.StopSignal() == unix.SIGTRAP|0x80:
			var now Registers
			if err = getRegisters(th.tid, &now); err != nil {
				break
			}
			return now.RAX, child, in.giveBack(th, saved, mask)
		case uint32(ws)>>16 == 0 && ws.StopSignal() != unix.SIGTRAP:
			th.resend = append(th.resend, ws.StopSignal()) // only SIGSTOP cannot be blocked
		}
	}
	return 0, child, in.p.gone(err)
}

// giveBack ends a call.
func (in *injector) giveBack(th *traced, saved *Registers, mask uint64) error {
	err := in.restore(th, saved, mask)
	if err == nil {
		in.erase(in.mem)
	}
	return err
}

// restore stops the thread where it would leave the kernel, and there gives it its registers: only there the
// kernel restarts the system call that it had been in.
func (in *injector) restore(th *traced, saved *Registers, mask uint64) error {
	if err := ptrace(unix.PTRACE_INTERRUPT, th.tid, 0, nil); err != nil {
		return in.p.gone(err)
	}
	for {
		if err := ptrace(unix.PTRACE_CONT, th.tid, 0, nil); err != nil {
			return in.p.gone(err)
		}
		atStep("leaving")
		ws, err := waitFor(th.tid)
		if err != nil {
			return in.p.gone(err)
		}
		if ws.Exited() || ws.Signaled() {
			th.gone = true
			return in.p.gone(unix.ESRCH)
		}
		if uint32(ws)>>16 == eventStop {
			break
		}
		th.resend = append(th.resend, ws.StopSignal())
	}
	if err := ptrace(ptraceSetSigmask, th.tid, 8, unsafe.Pointer(&mask)); err != nil {
		return in.p.gone(err)
	}
	atStep("unmasked")
	if err := setRegisters(th.tid, saved); err != nil {
		return in.p.gone(err)
	}
	atStep("restored")
	if err := unix.PtraceSetOptions(th.tid, 0); err != nil {
		return in.p.gone(err)
	}
	return nil
}

// adopt takes the child of a clone, which the kernel has stopped at its first instruction: it dies with us
// now, and first of all where memory is short.
func adopt(parent int) (int, error) {
	n, err := unix.PtraceGetEventMsg(parent)
	if err != nil {
		return 0, err
	}
	child := int(n)
	if _, err := waitFor(child); err != nil {
		return child, err
	}
	if err := unix.PtraceSetOptions(child, unix.PTRACE_O_EXITKILL); err != nil {
		return child, err
	}
	mark(child)
	return child, nil
}

func getRegisters(tid int, r *Registers) error {
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(r)), Len: registerBytes}
	return ptrace(unix.PTRACE_GETREGSET, tid, regsGeneral, unsafe.Pointer(&iov))
}

func setRegisters(tid int, r *Registers) error {
	iov := unix.Iovec{Base: (*byte)(unsafe.Pointer(r)), Len: registerBytes}
	return ptrace(unix.PTRACE_SETREGSET, tid, regsGeneral, unsafe.Pointer(&iov))
}
