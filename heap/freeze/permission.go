package freeze

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// suitable says why a process cannot be held, before anything is tried.
func (p *process) suitable() error {
	status, err := p.statusFields("status")
	if err != nil {
		return p.gone(err)
	}
	if tracer := status["TracerPid"]; tracer != "" && tracer != "0" {
		name, _ := os.ReadFile("/proc/" + tracer + "/comm")
		return &tracedError{fmt.Sprintf("process %d (%s) is traced by process %s (%s) already, and the kernel allows one tracer: end that first",
			p.pid, p.name, tracer, strings.TrimSpace(string(name)))}
	}
	exe, err := p.open("exe")
	if err != nil {
		return p.forbidden(err)
	}
	defer exe.Close()
	var head [20]byte
	if _, err := exe.ReadAt(head[:], 0); err == nil && string(head[:4]) == elf.ELFMAG {
		if head[4] != byte(elf.ELFCLASS64) {
			return fmt.Errorf("process %d (%s) is a 32-bit program: images are taken of 64-bit ones", p.pid, p.name)
		}
		if m := elf.Machine(uint16(head[18]) | uint16(head[19])<<8); m != coreMachine {
			return fmt.Errorf("process %d (%s) is a program for %s, run by an emulator: its memory is not laid out as such a program's", p.pid, p.name, machineWords(m))
		}
	}
	return nil
}

// A tracedError says that somebody else traces the process: its memory may be read, but it cannot be held.
type tracedError struct{ text string }

func (e *tracedError) Error() string { return e.text }

// forbidden is the error of a process that may not be traced, and says why not: what the kernel checks is
// in ptrace(2) at "Ptrace access mode checking".
func (p *process) forbidden(err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, fs.ErrPermission) {
		return p.gone(err)
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("process %d (%s) may not be traced: %s", p.pid, p.name, fmt.Sprintf(format, args...))
	}
	status, serr := p.statusFields("status")
	if serr != nil {
		return p.gone(serr)
	}
	if t := status["TracerPid"]; t != "" && t != "0" {
		return p.suitable()
	}
	own, _ := os.ReadFile("/proc/self/status")
	capable := false
	for line := range strings.Lines(string(own)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			capable = set&(1<<unix.CAP_SYS_PTRACE) != 0
		}
	}
	scope, _ := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	yama := strings.TrimSpace(string(scope))
	user, namespace := os.Getuid(), p.namespace("user")
	switch {
	case yama == "3":
		return fail("kernel.yama.ptrace_scope is 3, which forbids all tracing until the machine is started anew with a lower value")
	case capable && namespace != "" && namespace != selfNamespace("user"):
		return fail("it is in another user namespace (%s), a container or sandbox, over which CAP_SYS_PTRACE of this one does not reach: run from the namespace that is above it", namespace)
	case capable:
		return fail("a security module or seccomp forbids it, though CAP_SYS_PTRACE is there: see the kernel's log")
	case firstNumber(status["Uid"]) != user:
		return fail("it belongs to user %d and this is user %d: run as that user, or as root (CAP_SYS_PTRACE)", firstNumber(status["Uid"]), user)
	case yama == "1":
		return fail("kernel.yama.ptrace_scope is 1, which allows one's own children only: `sudo sysctl kernel.yama.ptrace_scope=0`, or run as root (CAP_SYS_PTRACE)")
	case yama == "2":
		return fail("kernel.yama.ptrace_scope is 2, which needs CAP_SYS_PTRACE: run as root")
	case namespace != "" && namespace != selfNamespace("user"):
		return fail("it is in another user namespace (%s), a container or sandbox: run as root of the namespace that is above it (CAP_SYS_PTRACE)", namespace)
	}
	return fail("it has capabilities that this has not, or forbids to be read (prctl(2) at PR_SET_DUMPABLE), or this is in a container that forbids it: run as root (CAP_SYS_PTRACE)")
}

func (p *process) namespace(kind string) string {
	text, _ := p.link("ns/" + kind)
	return text
}

func selfNamespace(kind string) string {
	text, _ := os.Readlink("/proc/self/ns/" + kind)
	return text
}
