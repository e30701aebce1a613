package profiler

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
	"github.com/sightline-dev/sightline/profiler/broker"
	"github.com/sightline-dev/sightline/profiler/perfevent"
)

// bpfLent has sightline-capture sample this thread. direct is what this process can by itself.
func (p *prober) bpfLent(direct Ability) Ability {
	a := Ability{Name: "bpf: through sightline-capture", Engine: BPFEngine}
	program := FindCapture()
	if direct.OK {
		a.OK = true
		a.Detail = "not needed: this process loads the program itself"
		return a
	}
	a.Remedy = "sudo " + bpf.ShellWord(self()) + " doctor --fix"
	if !program.OK {
		a.Detail = "not tried"
		a.Why = program.Why
		return a
	}
	granted, err := p.sampleLent()
	if err != nil {
		a.Detail = "started " + program.Path + ", which did not sample this process"
		a.Why = err.Error()
		if refusal := (*broker.Refusal)(nil); errors.As(err, &refusal) && p.paranoid > 2 {
			a.Remedy = "sudo sysctl kernel.perf_event_paranoid=2"
		}
		return a
	}
	a.OK, a.Remedy = true, ""
	a.Detail = program.Path + " sampled this process"
	if granted&broker.Kernel == 0 {
		a.Detail += "; time in the kernel is counted and not told apart"
		a.Why = "kernel code is shown to those whom /etc/sightline/capture.conf names"
		a.Remedy = "add to /etc/sightline/capture.conf as root: allow kernel to user:" + userName()
	}
	return a
}

func (p *prober) sampleLent() (granted broker.Grants, err error) {
	l, err := borrow(Target{PID: os.Getpid()}, bpf.Options{RingBytes: 64 << 10})
	if err != nil {
		return 0, err
	}
	defer l.Close()
	ring, err := perfevent.OpenRing(p.cpu, perfevent.MinRing)
	if err != nil {
		return 0, err
	}
	defer ring.Close()
	event, err := l.Open(perfevent.Clock{Period: probePeriod}, 0, ring)
	if err != nil {
		return 0, err
	}
	defer event.Close()
	if err := event.Enable(); err != nil {
		return 0, err
	}
	defer event.Disable()
	l.SetDeadline(time.Unix(1, 0))
	return l.Granted(), await(func() bool { return l.ReadInto(&bpf.Sample{}) == nil })
}

// An Obstacle is a setting of the machine, or a state of this process, that limits what sightline-capture
// can do for it.
type Obstacle struct {
	What   string `json:"what"`             // "kernel.perf_event_paranoid is 4"
	Effect string `json:"effect"`           // one sentence
	Remedy string `json:"remedy,omitempty"` // "" where none is known
}

// Obstacles tells what stands in the way of a sightline-capture that is, or is to be, installed in a
// folder: what no capability of the file overcomes. The order is fixed; where there are none it is empty.
func Obstacles(folder string) []Obstacle {
	p, err := bpf.ReadPrivileges()
	if err != nil {
		return []Obstacle{{What: err.Error(), Effect: "what this process may do cannot be told", Remedy: "sudo mount -t proc proc /proc"}}
	}
	s := surroundings{Privileges: p, paranoid: readSysctl("perf_event_paranoid"), kptr: readSysctl("kptr_restrict"), unprivileged: readSysctl("unprivileged_bpf_disabled")}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		s.release = unix.ByteSliceToString(u.Release[:])
	}
	if text, err := os.ReadFile("/sys/kernel/security/lockdown"); err == nil {
		s.lockdown = string(text)
	}
	_, err = os.Stat("/sys/kernel/btf/vmlinux")
	s.noTypes = errors.Is(err, os.ErrNotExist)
	for dir := folder; dir != "" && dir != "."; { // the nearest that there is
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil {
			s.nosuid = fs.Flags&unix.ST_NOSUID != 0
			break
		}
		if dir == "/" {
			break
		}
		dir = dir[:max(strings.LastIndexByte(dir, '/'), 1)]
	}
	s.folder = folder
	return s.obstacles()
}

// surroundings are what obstacles are told by.
type surroundings struct {
	bpf.Privileges
	paranoid, kptr, unprivileged int // unknown where they cannot be read
	release                      string
	lockdown                     string // /sys/kernel/security/lockdown: "none [integrity] confidentiality"
	noTypes                      bool   // the kernel has no BTF
	folder                       string
	nosuid                       bool // folder's file system is mounted so
}

func (s *surroundings) obstacles() (all []Obstacle) {
	add := func(is bool, what, effect, remedy string) {
		if is {
			all = append(all, Obstacle{what, effect, remedy})
		}
	}
	const needed = 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON
	add(s.UserNamespace, "this process is in a user namespace, as in a container without root",
		"capabilities count neither for BPF nor for perf there, those of files included", "run sightline outside of the container")
	add(!s.UserNamespace && s.Bounding&needed != needed, "the bounding set of this process excludes CAP_BPF or CAP_PERFMON, as in a container",
		"no program that it starts can have them", "start the container with --cap-add=BPF --cap-add=PERFMON, or run sightline outside of it")
	add(s.NoNewPrivs, "no_new_privs is set for this process, as by Flatpak and Snap editors, containers and systemd's NoNewPrivileges=",
		"capabilities of files are ignored for all that it starts", "start the editor, or sightline in a terminal, outside of the sandbox")
	add(s.Seccomp, "a seccomp filter is active", "it may refuse bpf and perf_event_open to this process and all that it starts",
		"allow both in the container's seccomp profile, or run sightline outside of it")
	add(s.nosuid, s.folder+" is on a file system that is mounted nosuid", "capabilities of files there are ignored",
		"sudo mount -o remount,suid the file system, or install sightline-capture on another one that is on PATH")
	add(s.paranoid > 2, fmt.Sprintf("kernel.perf_event_paranoid is %d", s.paranoid),
		"kernels of Debian (3) and Ubuntu (4) then keep perf events from everybody without CAP_SYS_ADMIN, whatever other capabilities a file has",
		"sudo sysctl kernel.perf_event_paranoid=2, and for good: echo kernel.perf_event_paranoid=2 | sudo tee /etc/sysctl.d/60-sightline.conf")
	add(!bpf.KernelAtLeast(s.release, 5, 8), "this is Linux "+s.release, "the bpf engine needs 5.8", "record with the perf engine")
	add(bpf.KernelAtLeast(s.release, 5, 8) && !bpf.KernelAtLeast(s.release, 5, 19) && s.unprivileged > 0,
		fmt.Sprintf("this is Linux %s, and kernel.unprivileged_bpf_disabled is %d", s.release, s.unprivileged),
		"before 5.19 a user cannot read a BPF ring that sightline-capture passes; the perf engine records",
		"record as root, or with another kernel")
	add(strings.Contains(s.lockdown, "[confidentiality]"), "the kernel is locked down (confidentiality)",
		"BPF programs may not read the kernel's memory, so that samples in the kernel lack the user's registers", "")
	add(s.noTypes, "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)",
		"sightline-capture tells its caller's tasks from others by their real user alone; sampling works", "")
	add(s.kptr >= 2, fmt.Sprintf("kernel.kptr_restrict is %d", s.kptr),
		"addresses of the kernel are hidden from everybody, so that kernel code is not shown whatever /etc/sightline/capture.conf allows",
		"sudo sysctl kernel.kptr_restrict=1")
	return all
}
