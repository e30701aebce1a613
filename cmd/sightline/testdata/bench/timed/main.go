// Command timed runs a command and writes the CPU time that it took with all its children, and that
// of timed itself, to a file: user and system time in nanoseconds.
//
//	timed FILE COMMAND ARG…
package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: timed FILE COMMAND ARG…")
		os.Exit(2)
	}
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	status := 0
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "timed:", err)
		status = 1
	}
	var user, system int64
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var used syscall.Rusage
		if err := syscall.Getrusage(who, &used); err != nil {
			fmt.Fprintln(os.Stderr, "timed:", err)
			os.Exit(1)
		}
		user += used.Utime.Nano()
		system += used.Stime.Nano()
	}
	if err := os.WriteFile(os.Args[1], fmt.Appendf(nil, "%d %d\n", user, system), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "timed:", err)
		status = 1
	}
	os.Exit(status)
}
