package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Sockets are asked for by sock_diag(7): in one call the kernel gives all sockets of a family and
// protocol in the network namespace of who asks, in binary, with the peers of unix sockets, which /proc
// does not have.

// A diagQuery is one such question.
type diagQuery struct {
	family, protocol uint8
	name             string // what to call the protocol
	kind             Kind
}

// diagQueries are all that is asked. Ping sockets have no diagnosis, nor do others in other files of
// /proc (see netFiles).
var diagQueries = []diagQuery{
	{unix.AF_INET, unix.IPPROTO_TCP, "TCP", KindIPv4},
	{unix.AF_INET6, unix.IPPROTO_TCP, "TCP", KindIPv6},
	{unix.AF_INET, unix.IPPROTO_UDP, "UDP", KindIPv4},
	{unix.AF_INET6, unix.IPPROTO_UDP, "UDP", KindIPv6},
	{unix.AF_UNIX, 0, "", KindUnix},
}

const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY, include/uapi/linux/sock_diag.h

	// What of a unix socket is told: UDIAG_SHOW_NAME, _PEER, _RQLEN, include/uapi/linux/unix_diag.h.
	unixShow = 0x1 | 0x4 | 0x10

	inetRequestBytes = 56 // struct inet_diag_req_v2, include/uapi/linux/inet_diag.h
	unixRequestBytes = 24 // struct unix_diag_req
	inetMessageBytes = 72 // struct inet_diag_msg
	unixMessageBytes = 16 // struct unix_diag_msg
)

// Attributes of a unix_diag_msg: UNIX_DIAG_NAME, _PEER, _RQLEN.
const (
	unixDiagName   = 0
	unixDiagPeer   = 2
	unixDiagQueues = 4
)

// request is a netlink message that asks for all sockets of a query.
func (q diagQuery) request() []byte {
	body := inetRequestBytes
	if q.family == unix.AF_UNIX {
		body = unixRequestBytes
	}
	m := make([]byte, unix.NLMSG_HDRLEN+body)
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint16(m[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b := m[unix.NLMSG_HDRLEN:]
	b[0], b[1] = q.family, q.protocol
	binary.NativeEndian.PutUint32(b[4:], ^uint32(0)) // every state
	if q.family == unix.AF_UNIX {
		binary.NativeEndian.PutUint32(b[12:], unixShow)
	}
	return m
}

// dumpSockets asks for all sockets of a query in the network namespace of this thread, and adds them to
// a table by inode.
func dumpSockets(q diagQuery, to map[uint64]*Socket) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	// A kernel that answers nothing must not hold up a listing for ever.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Sendto(fd, q.request(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 64<<10) // the kernel fills 32 KiB at a time at most (netlink_dump)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		done, err := parseDump(buf[:n], q, to)
		if done || err != nil {
			return err
		}
	}
}

var errDump = errors.New("the kernel's answer is not as sock_diag(7) has it")

// parseDump reads one datagram of netlink messages: the sockets of a query. Done says that it was the
// last one.
//
//	+-----------------+-----------------------+------------------+
//	| nlmsghdr, 16    | inet_diag_msg, 72, or | attributes:      |
//	| length type …   | unix_diag_msg, 16     | length type data |
//	+-----------------+-----------------------+------------------+
func parseDump(data []byte, q diagQuery, to map[uint64]*Socket) (done bool, err error) {
	for len(data) > 0 {
		if len(data) < unix.NLMSG_HDRLEN {
			return false, errDump
		}
		length := int(binary.NativeEndian.Uint32(data))
		if length < unix.NLMSG_HDRLEN || length > len(data) {
			return false, errDump
		}
		body := data[unix.NLMSG_HDRLEN:length]
		switch kind := binary.NativeEndian.Uint16(data[4:]); kind {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return false, errDump
			}
			return true, unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
		case sockDiagByFamily:
			s, err := parseSocket(body, q)
			if err != nil {
				return false, err
			}
			if s.Inode != 0 { // one in TIME_WAIT is nobody's any more
				to[s.Inode] = s
			}
		}
		data = data[min(align4(length), len(data)):]
	}
	return false, nil
}

func align4(n int) int { return (n + 3) &^ 3 }

func parseSocket(b []byte, q diagQuery) (*Socket, error) {
	s := &Socket{Protocol: q.name, Kind: q.kind}
	if q.family == unix.AF_UNIX {
		if len(b) < unixMessageBytes {
			return nil, errDump
		}
		s.Protocol = unixType(int(b[1]))
		state := b[2]
		s.Inode = uint64(binary.NativeEndian.Uint32(b[4:]))
		s.State = unixState(state)
		attributes(b[unixMessageBytes:], func(kind uint16, value []byte) {
			switch {
			case kind == unixDiagName:
				s.Path = unixPath(value)
			case kind == unixDiagPeer && len(value) >= 4:
				s.PeerInode = uint64(binary.NativeEndian.Uint32(value))
			case kind == unixDiagQueues && len(value) >= 8:
				s.RecvQueue = int64(binary.NativeEndian.Uint32(value))
				s.SendQueue = int64(binary.NativeEndian.Uint32(value[4:]))
			}
		})
		if s.State == "LISTEN" { // of which these are connections: those that wait, and how many may
			s.Backlog, s.SendQueue = s.SendQueue, 0
		} else if s.PeerInode != 0 {
			s.State = "CONNECTED"
		}
		return s, nil
	}
	if len(b) < inetMessageBytes {
		return nil, errDump
	}
	// 0 family, 1 state, 4 source port, 6 destination port (big endian), 8 and 24 addresses, 40
	// interface, 44 cookie, 52 expires, 56 rqueue, 60 wqueue, 64 uid, 68 inode
	s.State = inetState(q.name, b[1])
	s.Local = addrPort(b[0], b[8:24], b[4:6])
	s.Remote = addrPort(b[0], b[24:40], b[6:8])
	s.RecvQueue = int64(binary.NativeEndian.Uint32(b[56:]))
	s.SendQueue = int64(binary.NativeEndian.Uint32(b[60:]))
	if s.State == "LISTEN" {
		s.Backlog, s.SendQueue = s.SendQueue, 0
	}
	s.Inode = uint64(binary.NativeEndian.Uint32(b[68:]))
	return s, nil
}

// attributes walks netlink attributes (netlink(7), struct nlattr).
func attributes(b []byte, each func(kind uint16, value []byte)) {
	for len(b) >= 4 {
		length := int(binary.NativeEndian.Uint16(b))
		if length < 4 || length > len(b) {
			return
		}
		each(binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED, b[4:length])
		b = b[min(align4(length), len(b)):]
	}
}

func addrPort(family byte, addr, port []byte) netip.AddrPort {
	p := binary.BigEndian.Uint16(port)
	if family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr)), p)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addr)), p)
}

// unixPath is the name of a unix socket: a path, or "@" and an abstract name (unix(7)).
func unixPath(name []byte) string {
	if len(name) > 0 && name[0] == 0 {
		return "@" + string(name[1:])
	}
	for len(name) > 0 && name[len(name)-1] == 0 {
		name = name[:len(name)-1]
	}
	return string(name)
}

func unixType(t int) string {
	switch t {
	case unix.SOCK_STREAM:
		return "STREAM"
	case unix.SOCK_DGRAM:
		return "DGRAM"
	case unix.SOCK_SEQPACKET:
		return "SEQPACKET"
	case unix.SOCK_RAW:
		return "RAW"
	}
	return fmt.Sprintf("type %d", t)
}

// unixState is a unix socket's state, which are those of TCP (unix_create1 and unix_listen,
// net/unix/af_unix.c).
func unixState(state byte) string {
	switch state {
	case 10:
		return "LISTEN"
	case 1:
		return "CONNECTED"
	}
	return "UNCONNECTED"
}

// tcpStates are by number (include/net/tcp_states.h), in the words of netstat and lsof.
var tcpStates = []string{
	1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT",
	7: "CLOSED", 8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "NEW_SYN_RECV", 13: "BOUND",
}

// TCPStates are the words that Socket.State has for TCP.
func TCPStates() []string { return append([]string(nil), tcpStates[1:]...) }

func inetState(protocol string, state byte) string {
	if protocol != "TCP" {
		if state == 1 {
			return "CONNECTED"
		}
		return "" // a state that datagrams do not have
	}
	if int(state) < len(tcpStates) && tcpStates[state] != "" {
		return tcpStates[state]
	}
	return fmt.Sprintf("state %d", state)
}
