package process

import (
	"bytes"
	"strings"
)

// containerOf is the container that a process's control groups tell of: "docker 3f2a9c0d1e4b",
// "lxc web1", "nspawn build"; "" for none. The names are those that the programs give to the groups
// they make:
//
//	docker          /docker/ID, /system.slice/docker-ID.scope
//	podman          …/libpod-ID.scope
//	containerd      …/cri-containerd-ID.scope; Kubernetes /kubepods/…/ID
//	cri-o           …/crio-ID.scope
//	lxc             /lxc/NAME, /lxc.payload.NAME
//	systemd-nspawn  /machine.slice/machine-NAME.scope
//
// Text is /proc/PID/cgroup: a line for each hierarchy, "9:name=systemd:/docker/ID" (cgroups(7)).
func containerOf(text []byte) string {
	for line := range bytes.Lines(text) {
		// Most processes are in groups that are not worth taking apart.
		at := bytes.IndexByte(line, '/')
		if at < 0 || len(line)-at < 6 {
			continue
		}
		if c := containerOfPath(string(bytes.TrimSuffix(line[at:], []byte("\n")))); c != "" {
			return c
		}
	}
	return ""
}

func containerOfPath(path string) string {
	engine := ""
	parts := strings.Split(path, "/")
	for i, part := range parts {
		switch {
		case part == "docker":
			engine = "docker"
		case part == "libpod":
			engine = "podman"
		case strings.HasPrefix(part, "kubepods"):
			engine = "kubernetes"
		}
		unit := strings.TrimSuffix(part, ".scope")
		for _, e := range []struct{ prefix, name string }{
			{"docker-", "docker"}, {"libpod-", "podman"}, {"cri-containerd-", "containerd"}, {"crio-", "cri-o"},
		} {
			if id, ok := strings.CutPrefix(unit, e.prefix); ok && isContainerID(id) {
				return e.name + " " + id[:12]
			}
		}
		if isContainerID(unit) && engine != "" {
			return engine + " " + unit[:12]
		}
		if name, ok := strings.CutPrefix(part, "lxc.payload."); ok && name != "" {
			return "lxc " + Printable(name)
		}
		if part == "lxc" && i+1 < len(parts) && parts[i+1] != "" {
			return "lxc " + Printable(parts[i+1])
		}
		if name, ok := strings.CutPrefix(unit, "machine-"); ok && name != "" && unit != part && i > 0 && parts[i-1] == "machine.slice" {
			return "nspawn " + Printable(name)
		}
	}
	return ""
}

// isContainerID says that a text is the 64 hexadecimal digits that container engines name by.
func isContainerID(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
