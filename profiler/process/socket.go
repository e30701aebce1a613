package process

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// A Socket is what the kernel's tables tell of one.
type Socket struct {
	Kind     Kind
	Inode    uint64
	Protocol string // "TCP", "UDP", "ICMP", "RAW"; of unix sockets the type, "STREAM"; of netlink "ROUTE"
	State    string // "LISTEN", "ESTABLISHED"; "" where it has none

	Local, Remote netip.AddrPort // not valid in other families
	Path          string         // of a unix socket: any bytes; "@name" for an abstract one
	PeerInode     uint64         // of a unix socket; 0: none or not known

	// RecvQueue is bytes that the process has not read, SendQueue bytes that the other side has not
	// acknowledged, and of a unix socket the memory that holds what it has not read. Of a socket that listens, RecvQueue is connections not accepted, and Backlog how many
	// there may be.
	RecvQueue, SendQueue, Backlog int64
}

// name is a socket as lsof's column NAME has it.
func (s *Socket) name() string {
	switch s.Kind {
	case KindUnix:
		name := "type=" + s.Protocol
		if s.Path != "" {
			name = s.Path + " " + name
		}
		return name
	case KindIPv4, KindIPv6, KindRaw:
		name := address(s.Local)
		if s.Remote.Port() != 0 || s.Remote.IsValid() && !s.Remote.Addr().IsUnspecified() {
			name += "->" + address(s.Remote)
		}
		return name
	}
	return s.Protocol
}

func address(a netip.AddrPort) string {
	host, port := "*", "*"
	if a.Addr().IsValid() && !a.Addr().IsUnspecified() {
		host = a.Addr().String()
		if a.Addr().Is6() {
			host = "[" + host + "]"
		}
	}
	if a.Port() != 0 {
		port = strconv.Itoa(int(a.Port()))
	}
	return host + ":" + port
}

// Words are the state and the queues: "(LISTEN, 3 of 128 not accepted)", "(ESTABLISHED, 12 B unread)";
// "" where there is nothing to say.
func (s *Socket) Words() string {
	var words []string
	if s.State != "" {
		words = append(words, s.State)
	}
	switch {
	case s.State == "LISTEN" && s.RecvQueue > 0:
		words = append(words, fmt.Sprintf("%d of %d not accepted", s.RecvQueue, s.Backlog))
	case s.State != "LISTEN" && s.RecvQueue > 0:
		words = append(words, fmt.Sprintf("%d B unread", s.RecvQueue))
	}
	if s.SendQueue > 0 && s.Kind != KindUnix { // whose is memory, and what the other side has not read
		words = append(words, fmt.Sprintf("%d B unsent", s.SendQueue))
	}
	if len(words) == 0 {
		return ""
	}
	return "(" + strings.Join(words, ", ") + ")"
}

// nameSockets finds out what the sockets of a list are: each network namespace's tables are read once.
// It says what could not be read.
func (l *lister) nameSockets(ctx context.Context, files []File) (warnings []string) {
	type space struct {
		sockets map[uint64]*Socket
	}
	spaces := map[uint64]*space{} // by inode of the namespace; 0 is those whose namespace may not be seen
	byOwner := map[*Owner]*space{}
	self := namespaceOf(l.o.Proc + "/self/ns/net")
	for i := range files {
		f := &files[i]
		if f.Kind != KindSocket || f.Err != nil {
			continue
		}
		sp := byOwner[f.Owner]
		if sp == nil {
			dir := filepath.Join(l.o.Proc, strconv.Itoa(f.PID))
			id := namespaceOf(dir + "/ns/net")
			if sp = spaces[id]; sp == nil {
				if ctx.Err() != nil {
					return nil
				}
				sp = &space{sockets: map[uint64]*Socket{}}
				warnings = append(warnings, readSockets(dir, id == self && id != 0, sp.sockets)...)
				spaces[id] = sp
			}
			byOwner[f.Owner] = sp
		}
		if s := sp.sockets[f.Inode]; s != nil {
			f.Socket, f.Kind, f.Name, f.Detail = s, s.Kind, s.name(), s.Words()
			continue
		}
		f.Name = "protocol: " + l.protocol(f)
	}
	return warnings
}

// protocol is the name that the kernel has for the protocol of a socket in none of the tables: one that
// is not bound yet, or of a family without one (sockfs_xattr_get, net/socket.c).
func (l *lister) protocol(f *File) string {
	var name [64]byte
	path := filepath.Join(l.o.Proc, strconv.Itoa(f.PID), "fd", strconv.Itoa(f.FD))
	n, err := unix.Getxattr(path, "system.sockprotoname", name[:])
	if err != nil || n <= 0 {
		return "unknown"
	}
	return string(bytes.TrimRight(name[:min(n, len(name))], "\x00"))
}

func namespaceOf(link string) uint64 {
	var st unix.Stat_t
	if unix.Stat(link, &st) != nil {
		return 0
	}
	return st.Ino
}

// readSockets reads the tables of a process's network namespace. Own says that it is this process's. In
// another, asking the kernel takes a thread that goes there, and the privilege to do so; without it,
// the files in the process's folder tell the most of it.
func readSockets(dir string, own bool, to map[uint64]*Socket) (warnings []string) {
	dump := func() (missing []diagQuery) {
		for _, q := range diagQueries {
			if dumpSockets(q, to) != nil {
				missing = append(missing, q)
			}
		}
		return missing
	}
	missing := diagQueries
	if own {
		missing = dump()
	} else {
		done := make(chan []diagQuery)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			ns, err := open(dir+"/ns/net", unix.O_RDONLY)
			if err == nil {
				err = unix.Setns(ns, unix.CLONE_NEWNET)
				unix.Close(ns)
			}
			if err != nil {
				done <- diagQueries
				return
			}
			done <- dump()
		}()
		missing = <-done
	}
	proc, err := procfs.NewFS(dir)
	if err != nil {
		return nil // the process has ended; so have its sockets
	}
	for _, q := range missing {
		if err := readTable(dir, proc, q, to); err != nil && !gone(err) {
			warnings = append(warnings, fmt.Sprintf("%s sockets of %s are not known: %v", q.kind, dir, err))
		}
	}
	for _, file := range netFiles {
		if text, err := os.ReadFile(filepath.Join(dir, "net", file.name)); err == nil {
			for line := range bytes.Lines(text) {
				if s, ok := file.parse(line); ok {
					s.Kind = file.kind
					to[s.Inode] = s
				}
			}
		}
	}
	return warnings
}

// readTable reads the file of /proc that has what a query asks for.
func readTable(dir string, proc procfs.FS, q diagQuery, to map[uint64]*Socket) error {
	if q.kind == KindUnix {
		text, err := os.ReadFile(filepath.Join(dir, "net", "unix"))
		if err != nil {
			return err
		}
		parseUnix(text, to)
		return nil
	}
	add := func(inode, state uint64, local, remote netip.AddrPort, recv, send uint64) {
		s := &Socket{Kind: q.kind, Inode: inode, Protocol: q.name, State: inetState(q.name, byte(min(state, 255))),
			Local: local, Remote: remote, RecvQueue: int64(recv), SendQueue: int64(send)}
		if inode != 0 {
			to[inode] = s
		}
	}
	place := func(ip []byte, port uint64) netip.AddrPort {
		a, _ := netip.AddrFromSlice(ip)
		return netip.AddrPortFrom(a, uint16(port))
	}
	switch {
	case q.protocol == unix.IPPROTO_TCP:
		read := proc.NetTCP
		if q.family == unix.AF_INET6 {
			read = proc.NetTCP6
		}
		table, err := read()
		if err != nil {
			return err
		}
		for _, x := range table {
			add(x.Inode, x.St, place(x.LocalAddr, x.LocalPort), place(x.RemAddr, x.RemPort), x.RxQueue, x.TxQueue)
		}
	default:
		read := proc.NetUDP
		if q.family == unix.AF_INET6 {
			read = proc.NetUDP6
		}
		table, err := read()
		if err != nil {
			return err
		}
		for _, x := range table {
			add(x.Inode, x.St, place(x.LocalAddr, x.LocalPort), place(x.RemAddr, x.RemPort), x.RxQueue, x.TxQueue)
		}
	}
	return nil
}

// parseUnix reads /proc/net/unix:
//
//	Num       RefCount Protocol Flags    Type St Inode Path
//	0000000000000000: 00000002 00000000 00010000 0001 01 15555 /run/dbus/system_bus_socket
//
// Procfs gives up the whole table where a path has a newline, and cuts paths at a space.
func parseUnix(text []byte, to map[uint64]*Socket) {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		var f [7][]byte
		rest, ok := line, true
		for i := range f {
			rest = bytes.TrimLeft(rest, " ")
			f[i], rest, _ = bytes.Cut(rest, []byte(" "))
			ok = ok && len(f[i]) > 0
		}
		if !ok || !bytes.HasSuffix(f[0], []byte(":")) {
			continue // the head, or the rest of a path with a newline
		}
		flags, err1 := strconv.ParseUint(string(f[3]), 16, 32)
		kind, err2 := strconv.ParseUint(string(f[4]), 16, 16)
		state, err3 := strconv.ParseUint(string(f[5]), 16, 8)
		inode, err4 := strconv.ParseUint(string(f[6]), 10, 64)
		if err1 != nil || err2 != nil || err3 != nil || err4 != nil || inode == 0 {
			continue
		}
		s := &Socket{Kind: KindUnix, Inode: inode, Protocol: unixType(int(kind)), Path: string(rest), State: "UNCONNECTED"}
		switch {
		case flags&0x10000 != 0: // __SO_ACCEPTCON
			s.State = "LISTEN"
		case state == 3: // SS_CONNECTED, include/uapi/linux/net.h
			s.State = "CONNECTED"
		}
		to[inode] = s
	}
}

// netFiles are the tables that are read from files in any case: there are few such sockets.
var netFiles = []struct {
	name  string
	kind  Kind
	parse func(line []byte) (*Socket, bool)
}{
	{"udplite", KindIPv4, inetLine("UDPLITE")}, {"udplite6", KindIPv6, inetLine("UDPLITE")},
	{"raw", KindRaw, inetLine("RAW")}, {"raw6", KindRaw, inetLine("RAW")},
	{"icmp", KindIPv4, inetLine("ICMP")}, {"icmp6", KindIPv6, inetLine("ICMP")},
	{"netlink", KindNetlink, netlinkLine}, {"packet", KindPacket, packetLine},
}

// inetLine reads a line of /proc/net/raw and of its like, which are as /proc/net/udp:
//
//	193: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000  0  0 1426994 2 …
func inetLine(protocol string) func([]byte) (*Socket, bool) {
	return func(line []byte) (*Socket, bool) {
		f := bytes.Fields(line)
		if len(f) < 10 {
			return nil, false
		}
		local, ok1 := hexAddress(f[1])
		remote, ok2 := hexAddress(f[2])
		a, b, ok3 := bytes.Cut(f[4], []byte(":"))
		send, err1 := strconv.ParseInt(string(a), 16, 64)
		recv, err2 := strconv.ParseInt(string(b), 16, 64)
		inode, err3 := strconv.ParseUint(string(f[9]), 10, 64)
		if !ok1 || !ok2 || !ok3 || err1 != nil || err2 != nil || err3 != nil || inode == 0 {
			return nil, false
		}
		return &Socket{Inode: inode, Protocol: protocol, Local: local, Remote: remote, SendQueue: send, RecvQueue: recv}, true
	}
}

// hexAddress reads "0100007F:1F90": the words of the address in the machine's order of bytes.
func hexAddress(text []byte) (netip.AddrPort, bool) {
	host, port, ok := bytes.Cut(text, []byte(":"))
	p, err := strconv.ParseUint(string(port), 16, 16)
	if !ok || err != nil || len(host) != 8 && len(host) != 32 {
		return netip.AddrPort{}, false
	}
	var b [16]byte
	for i := 0; i < len(host); i += 8 {
		w, err := strconv.ParseUint(string(host[i:i+8]), 16, 32)
		if err != nil {
			return netip.AddrPort{}, false
		}
		for k := range 4 {
			b[i/2+k] = byte(w >> (8 * k))
		}
	}
	if len(host) == 8 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), uint16(p)), true
	}
	return netip.AddrPortFrom(netip.AddrFrom16(b), uint16(p)), true
}

// netlinkNames are protocols of netlink(7), include/uapi/linux/netlink.h.
var netlinkNames = map[int]string{
	0: "ROUTE", 2: "USERSOCK", 3: "FIREWALL", 4: "SOCK_DIAG", 5: "NFLOG", 6: "XFRM", 7: "SELINUX", 8: "ISCSI",
	9: "AUDIT", 10: "FIB_LOOKUP", 11: "CONNECTOR", 12: "NETFILTER", 13: "IP6_FW", 14: "DNRTMSG",
	15: "KOBJECT_UEVENT", 16: "GENERIC", 18: "SCSITRANSPORT", 19: "ECRYPTFS", 20: "RDMA", 21: "CRYPTO", 22: "SMC",
}

// netlinkLine reads a line of /proc/net/netlink:
//
//	sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
//	0000000074e51c35 0   6504       00000000 0        0        0     2        0        1426991
func netlinkLine(line []byte) (*Socket, bool) {
	f := bytes.Fields(line)
	if len(f) < 10 {
		return nil, false
	}
	protocol, err1 := strconv.Atoi(string(f[1]))
	recv, err2 := strconv.ParseInt(string(f[4]), 10, 64)
	send, err3 := strconv.ParseInt(string(f[5]), 10, 64)
	inode, err4 := strconv.ParseUint(string(f[9]), 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || inode == 0 {
		return nil, false
	}
	name := netlinkNames[protocol]
	if name == "" {
		name = fmt.Sprintf("protocol %d", protocol)
	}
	return &Socket{Inode: inode, Protocol: name, RecvQueue: recv, SendQueue: send}, true
}

// packetLine reads a line of /proc/net/packet:
//
//	sk               RefCnt Type Proto  Iface R Rmem   User   Inode
//	000000000eb50e8e 3      2    0003   0     1 213304 0      1426993
func packetLine(line []byte) (*Socket, bool) {
	f := bytes.Fields(line)
	if len(f) < 9 {
		return nil, false
	}
	kind, err1 := strconv.Atoi(string(f[2]))
	_, err2 := strconv.ParseUint(string(f[3]), 16, 16)
	recv, err3 := strconv.ParseInt(string(f[6]), 10, 64)
	inode, err4 := strconv.ParseUint(string(f[8]), 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || inode == 0 {
		return nil, false
	}
	protocol := "type=" + unixType(kind) + " protocol=0x" + string(f[3])
	return &Socket{Inode: inode, Protocol: protocol, RecvQueue: recv}, true
}
