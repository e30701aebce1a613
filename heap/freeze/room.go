package freeze

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ownMemory is how many bytes a process has written to and nobody else has, in memory or in swap: what a
// copy of all of it takes, and what it may take once more while it has a child and writes to all of it.
func (p *process) ownMemory() int64 {
	status, err := p.statusFields("status")
	if err != nil {
		return 0
	}
	return 1024 * int64(firstNumber(status["RssAnon"])+firstNumber(status["RssShmem"])+firstNumber(status["VmSwap"]))
}

// room is how many bytes the control groups of a process and the machine let it have more, and what it is
// that limits it. What the kernel would give up for it, files that nobody used lately, counts as free.
func (p *process) room() (int64, string) {
	free, who := availableMemory(), "of the machine"
	groups, err := p.read("cgroup")
	if err != nil {
		return free, who
	}
	return groupRoom("/sys/fs/cgroup", string(groups), free, who)
}

// groupRoom is the least of what is free and what control groups allow. Groups are the lines of
// /proc/PID/cgroup (cgroups(7)): 0::PATH of version 2, N:memory:PATH of version 1.
func groupRoom(root, groups string, free int64, who string) (int64, string) {
	for line := range strings.Lines(groups) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		kinds, path, ok := strings.Cut(rest, ":")
		if !ok || !strings.HasPrefix(path, "/") {
			continue
		}
		base, limit, usage, idle := root, "memory.max", "memory.current", "inactive_file"
		if kinds != "" {
			if !strings.Contains(","+kinds+",", ",memory,") {
				continue
			}
			base, limit, usage, idle = filepath.Join(root, "memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
		} else if _, err := os.Stat(filepath.Join(root, "unified")); err == nil {
			base = filepath.Join(root, "unified")
		}
		for dir := filepath.Join(base, path); strings.HasPrefix(dir, base); dir = filepath.Dir(dir) {
			most, ok1 := groupNumber(filepath.Join(dir, limit))
			used, ok2 := groupNumber(filepath.Join(dir, usage))
			if ok1 && ok2 && most < math.MaxInt64/2 {
				left := most - used
				stat, _ := os.ReadFile(filepath.Join(dir, "memory.stat"))
				for line := range strings.Lines(string(stat)) {
					if value, ok := strings.CutPrefix(line, idle+" "); ok {
						n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
						left += n
					}
				}
				if left = max(left, 0); left < free {
					free, who = left, fmt.Sprintf("of its control group (%s is %s)", limit, bytesText(most))
				}
			}
			if dir == base {
				break
			}
		}
	}
	return free, who
}

func groupNumber(path string) (int64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil // "max" is none
}

// availableMemory is MemAvailable of proc_meminfo(5).
func availableMemory() int64 {
	b, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			return 1024 * int64(firstNumber(strings.TrimSpace(value)))
		}
	}
	return math.MaxInt64
}
