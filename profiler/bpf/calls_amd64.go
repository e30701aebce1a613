package bpf

import "golang.org/x/sys/unix"

// callsHere are system calls that amd64 has beside those of all architectures.
var callsHere = map[int]uint32{
	unix.SYS_OPEN: callReturn, unix.SYS_CREAT: callReturn, unix.SYS_DUP2: callReturn, unix.SYS_EVENTFD: callReturn,
	unix.SYS_EPOLL_CREATE: callReturn, unix.SYS_INOTIFY_INIT: callReturn, unix.SYS_SIGNALFD: callReturn, unix.SYS_PIPE: callPair0,
}
