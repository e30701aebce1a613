// Stacks of Go, and of Go and C by turns, for a test that stops the program and walks.
package main

/*
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

extern int goCallback(int);
static volatile int sink;

static __attribute__((noinline)) int inC(int x) {
  syscall(SYS_tgkill, getpid(), (int)syscall(SYS_gettid), SIGSTOP);
  return x + sink;
}
static __attribute__((noinline)) int callsC(int x) { return inC(x + 1) + sink; }
static __attribute__((noinline)) int callsGo(int x) { return goCallback(x) + sink; }
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

//go:noinline
func stop() {
	var pcs [64]uintptr
	for _, pc := range pcs[:runtime.Callers(1, pcs[:])] {
		fmt.Printf("%x\n", pc)
	}
	fmt.Println("stop")
	syscall.RawSyscall(syscall.SYS_TGKILL, uintptr(os.Getpid()), uintptr(syscall.Gettid()), uintptr(syscall.SIGSTOP))
}

//go:noinline
func inner(n int) int {
	if n > 0 {
		return inner(n-1) + 1
	}
	stop()
	return 0
}

//export goCallback
func goCallback(x C.int) C.int { return x + C.int(inner(1)) }

func main() {
	runtime.LockOSThread()
	switch os.Args[1] {
	case "go":
		inner(3)
	case "goroutine":
		done := make(chan int)
		go func() {
			runtime.LockOSThread()
			done <- inner(2)
		}()
		<-done
	case "cgo":
		C.callsC(1)
	case "callback":
		C.callsGo(1)
	}
}
