package rpc

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Stdio takes over standard input and output as a connection. Descriptor 0 then is /dev/null and 1
// is standard error, so that nothing else in the process, and no program it starts, can take a byte
// from the editor's messages or put one between them. It may be called once, before anything reads
// os.Stdin or starts a program.
//
// Because the connection no longer is descriptor 1, writing to an editor that is gone is an error
// and not SIGPIPE, which would end the process.
func Stdio() (io.ReadWriteCloser, error) {
	in, err := takeOver(0, func() (int, error) { return unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, fmt.Errorf("take over standard input: %w", err)
	}
	out, err := takeOver(1, func() (int, error) { return unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3) })
	if err != nil {
		return nil, fmt.Errorf("take over standard output: %w", err)
	}
	return duplex{in, out}, nil
}

// takeOver moves a descriptor elsewhere and puts another in its place.
func takeOver(fd int, replacement func() (int, error)) (*os.File, error) {
	moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	other, err := replacement()
	if err != nil {
		return nil, err
	}
	if err := unix.Dup3(other, fd, 0); err != nil {
		return nil, err
	}
	unix.Close(other)
	// A pipe or socket whose other end is the editor's alone may be made not blocking, so that Close
	// ends a Read. A terminal may not: its state is the shell's too.
	var st unix.Stat_t
	if err := unix.Fstat(moved, &st); err == nil && (st.Mode&unix.S_IFMT == unix.S_IFIFO || st.Mode&unix.S_IFMT == unix.S_IFSOCK) {
		_ = unix.SetNonblock(moved, true)
	}
	return os.NewFile(uintptr(moved), []string{"stdin", "stdout"}[fd]), nil
}

// duplex joins the two ends.
type duplex struct{ in, out *os.File }

func (d duplex) Read(p []byte) (int, error)  { return d.in.Read(p) }
func (d duplex) Write(p []byte) (int, error) { return d.out.Write(p) }
func (d duplex) Close() error                { return errors.Join(d.in.Close(), d.out.Close()) }
