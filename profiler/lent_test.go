package profiler

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/bpf"
)

// What no capability of a file overcomes is told, on machines that are not here as well.
func TestObstacles(t *testing.T) {
	const all = 1<<41 - 1
	good := surroundings{Privileges: bpf.Privileges{Bounding: all}, paranoid: 2, kptr: 1, unprivileged: 2, release: "6.18.0", lockdown: "none [integrity] confidentiality", folder: "/f"}
	for _, test := range []struct {
		name   string
		change func(*surroundings)
		whats  []string // how each begins
		remedy string   // of the first
	}{
		{"none", func(*surroundings) {}, nil, ""},
		{"Debian", func(s *surroundings) { s.paranoid = 3 }, []string{"kernel.perf_event_paranoid is 3"}, "sudo sysctl kernel.perf_event_paranoid=2, and for good"},
		{"Ubuntu", func(s *surroundings) { s.paranoid = 4 }, []string{"kernel.perf_event_paranoid is 4"}, "sudo sysctl kernel.perf_event_paranoid=2"},
		{"sandbox", func(s *surroundings) { s.NoNewPrivs, s.Seccomp = true, true }, []string{"no_new_privs is set", "a seccomp filter is active"}, "start the editor"},
		{"Docker", func(s *surroundings) { s.Bounding = 0xa80425fb }, []string{"the bounding set"}, "start the container with --cap-add=BPF --cap-add=PERFMON"},
		{"rootless", func(s *surroundings) { s.UserNamespace, s.Bounding = true, 0 }, []string{"this process is in a user namespace"}, "run sightline outside"},
		{"nosuid", func(s *surroundings) { s.nosuid = true }, []string{"/f is on a file system that is mounted nosuid"}, "sudo mount -o remount,suid"},
		{"old", func(s *surroundings) { s.release, s.unprivileged = "5.4.0", 1 }, []string{"this is Linux 5.4.0"}, "record with the perf engine"},
		{"Debian 11", func(s *surroundings) { s.release, s.unprivileged = "5.10.0-33-amd64", 2 }, []string{"this is Linux 5.10.0-33-amd64, and kernel.unprivileged_bpf_disabled is 2"}, "record as root"},
		{"Debian 11 for everybody", func(s *surroundings) { s.release, s.unprivileged = "5.10.0-33-amd64", 0 }, nil, ""},
		{"locked down", func(s *surroundings) { s.lockdown = "none integrity [confidentiality]\n" }, []string{"the kernel is locked down"}, ""},
		{"no BTF", func(s *surroundings) { s.noTypes = true }, []string{"the kernel has no BTF"}, ""},
		{"hidden", func(s *surroundings) { s.kptr = 2 }, []string{"kernel.kptr_restrict is 2"}, "sudo sysctl kernel.kptr_restrict=1"},
		{"nothing known", func(s *surroundings) { s.paranoid, s.kptr, s.unprivileged, s.release = unknown, unknown, unknown, "" }, nil, ""},
	} {
		s := good
		test.change(&s)
		got := s.obstacles()
		ok := len(got) == len(test.whats)
		for i, o := range got {
			ok = ok && strings.HasPrefix(o.What, test.whats[i]) && o.Effect != ""
		}
		if !ok || len(got) > 0 && !strings.HasPrefix(got[0].Remedy, test.remedy) {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
	if os.Geteuid() == 0 { // here, where tests run, there is nothing that would keep root from it
		for _, o := range Obstacles("/nowhere/at/all") {
			t.Logf("here: %+v", o)
		}
	}
}

// Each reason for which a file's capabilities would have no effect.
func TestCaptureRefusal(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, captureName)
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	mine := bpf.Privileges{Bounding: 1<<41 - 1}
	if why := captureRefusal(path, mine); !strings.Contains(why, "has no capabilities") {
		t.Errorf("a copy: %q", why)
	}
	set := func(permitted uint64) bool {
		b := []byte{0, 0, 0, 2, byte(permitted), byte(permitted >> 8), byte(permitted >> 16), byte(permitted >> 24), 0, 0, 0, 0,
			byte(permitted >> 32), byte(permitted >> 40), 0, 0, 0, 0, 0, 0}
		return unix.Setxattr(path, "security.capability", b, 0) == nil
	}
	if !set(1 << unix.CAP_BPF) {
		t.Skip("needs root, and a file system that carries capabilities")
	}
	if has, known := bpf.FileCapabilities(path); !known || has != 1<<unix.CAP_BPF {
		t.Errorf("capabilities are %#x, %t", has, known)
	}
	if why := captureRefusal(path, mine); !strings.HasSuffix(why, "not both of CAP_BPF and CAP_PERFMON") {
		t.Errorf("one of two: %q", why)
	}
	set(1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON)
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_NOSUID != 0 {
		if why := captureRefusal(path, mine); !strings.Contains(why, "mounted nosuid") {
			t.Errorf("nosuid: %q", why)
		}
		return
	}
	for _, test := range []struct {
		mine bpf.Privileges
		why  string
	}{
		{mine, ""},
		{bpf.Privileges{Bounding: mine.Bounding, NoNewPrivs: true}, "no_new_privs is set"},
		{bpf.Privileges{Bounding: 1 << unix.CAP_BPF}, "the bounding set"},
		{bpf.Privileges{Bounding: mine.Bounding, UserNamespace: true}, "this process is in a user namespace"},
	} {
		if why := captureRefusal(path, test.mine); !strings.HasPrefix(why, test.why) || test.why == "" && why != "" {
			t.Errorf("%+v: %q", test.mine, why)
		}
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if why := captureRefusal(path, mine); !strings.HasPrefix(why, "this user may not run ") {
		t.Errorf("no program: %q", why)
	}
}
