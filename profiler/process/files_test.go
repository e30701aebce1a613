package process

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func contextOfRole() context.Context { return context.Background() }

// openZoo opens one of each, at descriptors that it tells, in the folder that the environment names.
func openZoo() {
	dir := os.Getenv("SIGHTLINE_ZOO")
	var told []string
	tell := func(name string, fd int, err error) {
		if err != nil {
			fmt.Println(name, err)
			os.Exit(3)
		}
		told = append(told, fmt.Sprintf("%s=%d", name, fd))
	}
	fd, err := unix.Open(filepath.Join(dir, "a\nb\xff"), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	tell("odd", fd, err)
	unix.Write(fd, []byte("12345"))
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &lock)
	gone := filepath.Join(dir, "gone")
	fd, err = unix.Open(gone, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	tell("gone", fd, err)
	os.Remove(gone)
	fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	tell("folder", fd, err)
	fd, err = unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	tell("null", fd, err)
	var pipe [2]int
	err = unix.Pipe2(pipe[:], unix.O_CLOEXEC)
	tell("reader", pipe[0], err)
	tell("writer", pipe[1], err)
	event, err := unix.Eventfd(5, unix.EFD_CLOEXEC)
	tell("event", event, err)
	fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	tell("epoll", fd, err)
	unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN})
	fd, err = unix.InotifyInit1(unix.IN_CLOEXEC)
	tell("inotify", fd, err)
	unix.InotifyAddWatch(fd, dir, unix.IN_CREATE)
	fd, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	tell("timer", fd, err)
	fd, err = unix.Signalfd(-1, &unix.Sigset_t{Val: [16]uint64{1<<(unix.SIGINT-1) | 1<<(unix.SIGUSR1-1)}}, unix.SFD_CLOEXEC)
	tell("signal", fd, err)
	fd, err = unix.PidfdOpen(os.Getpid(), 0)
	tell("pid", fd, err)
	fd, err = unix.MemfdCreate("scratch", unix.MFD_CLOEXEC)
	tell("memory", fd, err)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	tell("left", pair[0], err)
	tell("right", pair[1], err)
	unix.Write(pair[0], []byte("unread"))
	named, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	tell("unix", named, err)
	unix.Bind(named, &unix.SockaddrUnix{Name: filepath.Join(dir, "so cket")})
	unix.Listen(named, 3)
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	tell("listener", listener, err)
	unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	unix.Listen(listener, 3)
	at, _ := unix.Getsockname(listener)
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	tell("client", client, err)
	if err := unix.Connect(client, at); err != nil {
		tell("connect", 0, err)
	}
	server, _, err := unix.Accept(listener)
	tell("server", server, err)
	unix.Write(client, []byte("1234567"))
	udp, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	tell("udp", udp, err)
	unix.Bind(udp, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	tell("unbound", fd, err)
	fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	tell("netlink", fd, err)
	unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	port := at.(*unix.SockaddrInet4).Port
	fmt.Printf("port=%d %s\n", port, strings.Join(told, " "))
	io.Copy(io.Discard, os.Stdin)
}

// zoo starts a process that has one of each open.
func zoo(t *testing.T) (pid int, dir string, at map[string]int) {
	t.Helper()
	dir = t.TempDir()
	p, line := play(t, "open", func(c *exec.Cmd) { c.Env = append(c.Env, "SIGHTLINE_ZOO="+dir) })
	at = map[string]int{}
	for word := range strings.FieldsSeq(line) {
		name, value, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(value)
		if err != nil {
			t.Fatalf("the zoo says %q", line)
		}
		at[name] = n
	}
	return p.Process.Pid, dir, at
}

func TestFiles(t *testing.T) {
	pid, dir, at := zoo(t)
	list, err := Files(t.Context(), FilesOptions{Only: []int{pid}, Peers: true})
	if err != nil || len(list.Warnings) > 0 {
		t.Fatal(err, list.Warnings)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	byFD := map[int]*File{}
	uses := map[int]int{}
	for i := range list.Files {
		f := &list.Files[i]
		if f.PID != pid || f.Err != nil {
			t.Errorf("%+v", f)
		}
		byFD[f.FD] = f
		uses[f.FD]++
	}
	for _, fd := range []int{FDFolder, FDRoot, FDProgram} {
		if uses[fd] != 1 {
			t.Errorf("%s is listed %d times", FDName(fd), uses[fd])
		}
	}
	port := at["port"]
	for name, want := range map[string]struct {
		kind         Kind
		mode         byte
		text, detail string
	}{
		"odd": {KindRegular, 'u', dir + "/a\nb\xff", ""}, "gone": {KindRegular, 'w', dir + "/gone (deleted)", ""},
		"folder": {KindFolder, 'r', dir, ""}, "null": {KindChar, 'w', "/dev/null", ""},
		"reader": {KindPipe, 'r', "pipe", ""}, "writer": {KindPipe, 'w', "pipe", ""},
		"event": {KindAnonymous, 'u', "[eventfd:", "count 5"}, "epoll": {KindAnonymous, 'u', fmt.Sprintf("[eventpoll:%d]", at["event"]), ""},
		"inotify": {KindAnonymous, 'r', "inotify", "1 watch"}, "timer": {KindAnonymous, 'u', "[timerfd]", "monotonic, not set"},
		"signal": {KindAnonymous, 'u', "[signalfd]", "SIGINT SIGUSR1"}, "pid": {KindAnonymous, 'u', fmt.Sprintf("[pidfd:%d]", pid), ""},
		"memory": {KindRegular, 'u', "/memfd:scratch (deleted)", ""},
		"left":   {KindUnix, 'u', "type=STREAM", "(CONNECTED)"}, "right": {KindUnix, 'u', "type=STREAM", "(CONNECTED"},
		"unix":     {KindUnix, 'u', dir + "/so cket type=STREAM", "(LISTEN)"},
		"listener": {KindIPv4, 'u', fmt.Sprintf("127.0.0.1:%d", port), "(LISTEN)"},
		"server":   {KindIPv4, 'u', fmt.Sprintf("127.0.0.1:%d->127.0.0.1:", port), "(ESTABLISHED, 7 B unread)"},
		"client":   {KindIPv4, 'u', "127.0.0.1:", "(ESTABLISHED)"}, "udp": {KindIPv4, 'u', "127.0.0.1:", ""},
		"unbound": {KindSocket, 'u', "protocol: TCP", ""}, "netlink": {KindNetlink, 'u', "ROUTE", ""},
	} {
		f := byFD[at[name]]
		if f == nil {
			t.Errorf("%s, descriptor %d, is not listed", name, at[name])
			continue
		}
		if f.Kind != want.kind || f.Mode != want.mode || !strings.HasPrefix(f.Name, want.text) || !strings.HasPrefix(f.Detail, want.detail) {
			t.Errorf("%s is %s %c %q %q, want %+v", name, f.Kind, f.Mode, f.Name, f.Detail, want)
		}
	}
	if f := byFD[at["odd"]]; f.Size != 5 || f.Lock != 'W' || f.Deleted || f.Links != 1 {
		t.Errorf("the odd file is %+v", f)
	}
	if f := byFD[at["gone"]]; !f.Deleted || f.Links != 0 || f.Size != 0 {
		t.Errorf("the removed file is %+v", f)
	}
	peer := func(of, is string) {
		p := byFD[at[of]].Peers
		if !slices.ContainsFunc(p, func(p Peer) bool { return p.PID == pid && p.FD == at[is] }) {
			t.Errorf("the other end of %s is %v, want descriptor %d", of, p, at[is])
		}
	}
	peer("reader", "writer")
	peer("writer", "reader")
	peer("left", "right")
	peer("client", "server")
	peer("server", "client")

	offsets, err := Files(t.Context(), FilesOptions{Only: []int{pid}, Uses: Descriptors, Offsets: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range offsets.Files {
		if f.FD < 0 || f.FD == at["odd"] && f.Offset != 5 {
			t.Errorf("%+v", f)
		}
	}
}

// The kernel's answer and the files of /proc tell the same of sockets.
func TestSocketTablesAgree(t *testing.T) {
	pid, _, at := zoo(t)
	dir := fmt.Sprintf("/proc/%d", pid)
	asked, files := map[uint64]*Socket{}, map[uint64]*Socket{}
	for _, q := range diagQueries {
		if err := dumpSockets(q, asked); err != nil {
			t.Errorf("%s %s: %v", q.kind, q.name, err)
		}
	}
	readSockets(dir, true, map[uint64]*Socket{})
	if w := readSockets("/proc/self/task/none", false, files); len(w) != 0 {
		t.Errorf("of a process that is gone: %v", w)
	}
	proc := newProcfs(t, dir)
	for _, q := range diagQueries {
		if err := readTable(dir, proc, q, files); err != nil {
			t.Errorf("%s %s: %v", q.kind, q.name, err)
		}
	}
	for _, name := range []string{"left", "unix", "listener", "client", "server", "udp"} {
		link, err := os.Readlink(fmt.Sprintf("%s/fd/%d", dir, at[name]))
		if err != nil {
			t.Fatal(err)
		}
		inode, _ := inodeOf(link, "socket:[")
		a, b := asked[inode], files[inode]
		if a == nil || b == nil {
			t.Errorf("%s: asked %v, read %v", name, a, b)
			continue
		}
		x := *a
		x.PeerInode, x.Backlog = 0, 0 // which only the kernel's answer has
		if x.Kind == KindUnix {
			x.RecvQueue, x.SendQueue = 0, 0
		}
		y := *b
		if d := cmp.Diff(y, x, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
			t.Errorf("%s (-file +asked):\n%s", name, d)
		}
	}
}

// Sockets of another network namespace are named from its own tables, by root and by an ordinary user.
// The kernel's answers about single mappings agree with its list of them.
func TestMappedFilesAgree(t *testing.T) {
	removed := filepath.Join(t.TempDir(), "a\nb")
	if err := os.WriteFile(removed, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(removed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	memory, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(memory)
	os.Remove(removed)
	shared, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(shared)
	r := &fileReader{procReader: newProcReader(""), lister: &lister{}}
	if err := r.enter(os.Getpid()); err != nil {
		t.Fatal(err)
	}
	defer r.leave()
	all := func(queries bool) []mapping {
		r.lister.queries.Store(queries)
		var list []mapping
		seen := map[deviceInode]bool{}
		r.mappedFiles(os.Getpid(), func(k deviceInode) bool { known := seen[k]; seen[k] = true; return !known }, func(m mapping) { list = append(list, m) })
		return list
	}
	if diff := cmp.Diff(all(false), all(true), cmp.AllowUnexported(mapping{})); diff != "" {
		t.Error(diff)
	}
	if !r.lister.queries.Load() {
		t.Log("this kernel has no PROCMAP_QUERY, which came with Linux 6.11")
	}
	if list := all(true); !slices.ContainsFunc(list, func(m mapping) bool { return m.name == removed+" (deleted)" }) {
		t.Errorf("%q is not among %+v", removed, list)
	}
}

func TestOtherNetworkNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it takes root to make a network namespace")
	}
	p, line := play(t, "listen", func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	})
	list, err := Files(t.Context(), FilesOptions{Only: []int{p.Process.Pid}, Uses: Descriptors | SocketsOnly})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(list.Files, func(f File) bool { return f.Name == line && f.Socket != nil && f.Socket.State == "LISTEN" }) {
		t.Errorf("%s is not among %+v", line, list.Files)
	}
	read := map[uint64]*Socket{}
	dir := fmt.Sprintf("/proc/%d", p.Process.Pid)
	if err := readTable(dir, newProcfs(t, dir), diagQueries[1], read); err != nil || len(read) != 1 {
		t.Errorf("its file has %v, %v", read, err)
	}
}

func listenRole() {
	// The loopback device of a new namespace is down: an address of it can be bound nevertheless.
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("*:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	io.Copy(io.Discard, os.Stdin)
}

func TestParseFDInfo(t *testing.T) {
	for text, want := range map[string]string{
		"pos:\t0\nflags:\t02\neventfd-count:               1f\neventfd-id: 7\n": "[eventfd:7] count 31",
		"Pid:\t-1\nNSpid:\t-1\n": "[pidfd:-1] the process has ended",
		"clockid: 0\nit_value: (1, 0)\nit_interval: (0, 500000000)\n":    "x realtime, every 500ms",
		"clockid: 77\nit_value: (1, 500000000)\nit_interval: (0, 0)\n":   "x clock 77, in 1.5s",
		"map_type:\t1\nmap_id:\t12\n":                                    "x map 12",
		"fanotify flags:0 event-flags:0\nfanotify ino:1 sdev:2 mask:3\n": "x 1 watch",
		"garbage\n:\n": "x ",
	} {
		f := File{Kind: KindAnonymous, Name: "x"}
		f.describe(parseFDInfo([]byte(text)))
		if got := f.Name + " " + f.Detail; got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	many := strings.Repeat("tfd:        4 events:       19 data:  4\n", 50)
	f := File{Kind: KindAnonymous, Name: "[eventpoll]"}
	if f.describe(parseFDInfo([]byte(many))); f.Detail != "waits for 50 descriptors" || len(f.Name) > 80 {
		t.Errorf("%+v", f)
	}
}

func FuzzFDInfo(f *testing.F) {
	f.Add([]byte("pos:\t0\nflags:\t02\nlock:\t1: POSIX  ADVISORY  WRITE 3568 fd:00:2531452 0 EOF\ntfd: 9 events\nsigmask:\tffffffffffffffff\n"))
	f.Add([]byte("clockid: 1\nit_value: (9999999999, 999999999)\nit_interval: (1, -1)\nPid:\t5\ninotify wd:1\n"))
	f.Add([]byte("55d0c8a3c000-55d0c8a41000 r-xp 00002000 08:01 1835029    /usr/bin/c\\012at (deleted)"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file := File{Kind: KindAnonymous, Name: "x", Offset: -1}
		file.describe(parseFDInfo(text))
		if len(file.Name)+len(file.Detail) > 2048 || file.Offset != -1 {
			t.Errorf("%+v", file)
		}
		if l, ok := parseLock(text); ok != (l.kind != 0) {
			t.Errorf("%+v, %t", l, ok)
		}
		if m, ok := parseMapping(text); !ok && m.name != "" || len(m.name) > len(text) {
			t.Errorf("%+v, %t", m, ok)
		}
		for name, port := range parseServices(text) {
			if name == "" {
				t.Errorf("a service without a name has port %d", port)
			}
		}
	})
}

func dumpOf(messages ...[]byte) (all []byte) {
	for _, m := range messages {
		all = append(all, m...)
		for len(all)%4 != 0 {
			all = append(all, 0)
		}
	}
	return all
}

func message(kind uint16, body []byte) []byte {
	m := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(body))
	binary.NativeEndian.PutUint32(m, uint32(unix.NLMSG_HDRLEN+len(body)))
	binary.NativeEndian.PutUint16(m[4:], kind)
	return append(m, body...)
}

func FuzzSockets(f *testing.F) {
	inet := make([]byte, inetMessageBytes)
	inet[0], inet[1], inet[68] = unix.AF_INET, 10, 9
	f.Add(dumpOf(message(sockDiagByFamily, inet), message(unix.NLMSG_DONE, []byte{0, 0, 0, 0})))
	f.Add(dumpOf(message(sockDiagByFamily, append([]byte{1, 1, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 7, 0, 0, 0, 0, 'a', 'b', 0))))
	f.Add(dumpOf(message(unix.NLMSG_ERROR, []byte{0xfe, 0xff, 0xff, 0xff})))
	f.Add([]byte("000000006aa18ebb: 00000002 00000000 00010000 0001 01 1427758 /tmp/a b\n"))
	f.Add([]byte("193: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1426994 2 0 0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, q := range diagQueries {
			to := map[uint64]*Socket{}
			_, err := parseDump(data, q, to)
			if len(to) > len(data)/unix.NLMSG_HDRLEN {
				t.Errorf("%d sockets in %d bytes, %v", len(to), len(data), err)
			}
			for inode, s := range to {
				if inode == 0 || s.Inode != inode || s.Kind != q.kind {
					t.Errorf("%d: %+v", inode, s)
				}
				_, _ = s.name(), s.Words()
			}
		}
		to := map[uint64]*Socket{}
		parseUnix(data, to)
		for line := range bytes.Lines(data) {
			for _, file := range netFiles {
				if s, ok := file.parse(line); ok && (s == nil || s.Inode == 0) {
					t.Errorf("%q is %+v", line, s)
				}
			}
		}
	})
}

func TestParseDumpRefuses(t *testing.T) {
	q := diagQueries[0]
	for _, data := range [][]byte{{1}, make([]byte, 16), message(sockDiagByFamily, make([]byte, 71)), message(unix.NLMSG_ERROR, nil), dumpOf(message(unix.NLMSG_ERROR, []byte{0xfe, 0xff, 0xff, 0xff}))} {
		if done, err := parseDump(data, q, map[uint64]*Socket{}); err == nil {
			t.Errorf("%x is %t", data, done)
		}
	}
}

func TestGrowing(t *testing.T) {
	owner := &Owner{ID: ID{7, 1}, Name: "srv"}
	file := func(fd int, name string) File {
		f := newFile(owner, fd)
		f.Kind, f.Name = KindRegular, name
		return f
	}
	now := time.Now()
	g := NewGrowing(now)
	var files []File
	for i := range 10 {
		files = append(files, file(i, fmt.Sprintf("/tmp/part-%d.tmp", i)))
	}
	steady := file(90, "/etc/passwd")
	g.Look(now, append(slices.Clone(files), steady))
	for i := range 5 {
		files = append(files, file(20+i, fmt.Sprintf("/tmp/part-%d.tmp", 100+i)))
		g.Look(now.Add(time.Duration(i+1)*time.Second), append(slices.Clone(files), steady))
	}
	leaks := g.Leaks()
	want := []Growth{{Group: Group{owner.ID, "srv", KindRegular, "/tmp/part-*.tmp"}, First: 10, Last: 15, Most: 15, Rises: 5, Since: 5 * time.Second, Example: 20, Now: "/tmp/part-100.tmp"}}
	if d := cmp.Diff(want, leaks); d != "" {
		t.Error(d)
	}
	g.Look(now.Add(6*time.Second), nil)
	if len(g.Leaks()) != 0 || len(g.groups) != 0 || len(g.first) != 0 {
		t.Errorf("of a process that has ended there is %v", g.Leaks())
	}
}

func TestPatterns(t *testing.T) {
	tcp := func(local, remote, state string) *Socket {
		s := &Socket{Kind: KindIPv4, Protocol: "TCP", State: state, Local: netip.MustParseAddrPort(local)}
		if remote != "" {
			s.Remote = netip.MustParseAddrPort(remote)
		}
		return s
	}
	for _, c := range []struct {
		f    File
		want string
	}{
		{File{Kind: KindRegular, Name: "/var/log/app-2024.log.7"}, "/var/log/app-*.log.*"},
		{File{Kind: KindRegular, Name: "/cache/9f8e7d6c5b/x"}, "/cache/*/x"},
		{File{Kind: KindRegular, Name: "/usr/lib/libc.so"}, "/usr/lib/libc.so"},
		{File{Kind: KindRegular, Name: "/proc/1234/stat"}, "/proc/*/stat"},
		{File{Kind: KindAnonymous, Name: "[eventfd:4]"}, "eventfd"},
		{File{Kind: KindAnonymous, Name: "inotify"}, "inotify"},
		{File{Kind: KindIPv4, Socket: tcp("10.0.0.1:55555", "10.0.0.7:5432", "ESTABLISHED")}, "TCP *->10.0.0.7:5432 (ESTABLISHED)"},
		{File{Kind: KindIPv4, Socket: tcp("10.0.0.1:80", "10.9.9.9:44444", "CLOSE_WAIT")}, "TCP 10.0.0.1:80->* (CLOSE_WAIT)"},
		{File{Kind: KindIPv4, Socket: tcp("0.0.0.0:80", "", "LISTEN")}, "TCP *:80 (LISTEN)"},
		{File{Kind: KindPipe, Name: "pipe"}, "pipe"},
	} {
		if got := PatternOf(&c.f); got != c.want {
			t.Errorf("%q is %q, want %q", c.f.Name, got, c.want)
		}
	}
}
