package convert

import (
	"path"
	"strconv"
	"strings"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// Options of perf record that take an argument of their own, which may be the next one
// (tools/perf/builtin-record.c). Those of one letter, then the others.
const perfShortArguments = "eptrcCoFmGDukj"

var perfLongArguments = map[string]bool{
	"event": true, "filter": true, "pid": true, "tid": true, "realtime": true, "cpu": true, "count": true,
	"output": true, "freq": true, "mmap-pages": true, "call-graph": true, "cgroup": true, "delay": true,
	"uid": true, "clockid": true, "branch-filter": true, "max-size": true, "proc-map-timeout": true,
	"affinity": true, "vmlinux": true, "clang-path": true, "clang-opt": true, "num-thread-synthesize": true,
	"control": true, "synth": true, "debuginfod": false, "switch-max-files": true, "off-cpu-thresh": true,
}

// perfTarget tells from perf's own command line what was recorded; false where it does not say.
func perfTarget(args []string) (t profile.Target, ok bool) {
	if len(args) < 2 || !strings.HasPrefix(path.Base(args[0]), "perf") {
		return t, false
	}
	args = args[1:]
	for len(args) > 0 && args[0] != "record" {
		args = args[1:] // perf's own options, and words before it: "kvm", "sched"
	}
	if len(args) == 0 {
		return t, false
	}
	for args = args[1:]; len(args) > 0; args = args[1:] {
		arg := args[0]
		value := func(attached string) string {
			if attached == "" && len(args) > 1 {
				args = args[1:]
				attached = args[0]
			}
			return attached
		}
		switch {
		case arg == "--":
			args = args[1:]
			fallthrough
		case !strings.HasPrefix(arg, "-") || arg == "-":
			t.Command = append([]string(nil), args...)
			return t, t.Machine || len(t.Command) > 0
		case strings.HasPrefix(arg, "--"):
			name, attached, has := strings.Cut(arg[2:], "=")
			if !has && perfLongArguments[name] {
				attached = value("")
			}
			perfTargetOption(&t, name, attached)
		default:
			for i := 1; i < len(arg); i++ {
				if strings.IndexByte(perfShortArguments, arg[i]) >= 0 {
					perfTargetOption(&t, arg[i:i+1], value(arg[i+1:]))
					break
				}
				perfTargetOption(&t, arg[i:i+1], "")
			}
		}
	}
	return t, t.Machine || t.PID != 0
}

func perfTargetOption(t *profile.Target, name, value string) {
	switch name {
	case "a", "all-cpus":
		t.Machine = true
	case "p", "pid":
		if pid, err := strconv.Atoi(value); err == nil && pid > 0 {
			t.PID = pid
		}
	}
}
