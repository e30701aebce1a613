//go:build !amd64

package freeze

import (
	"errors"
	"os"
	"runtime"
)

// An injector makes threads of another program execute system calls. On this machine there is none.
type injector struct{ mem *os.File }

func newInjector(*process) (*injector, error) {
	return nil, errors.New("a fork needs an x86-64 machine, this is " + runtime.GOARCH)
}

func (in *injector) close()                            {}
func (in *injector) check() error                      { return nil }
func (in *injector) choose([]*traced) (*traced, error) { return nil, errors.ErrUnsupported }
func (in *injector) fork(*traced) (int, error)         { return 0, errors.ErrUnsupported }
func (in *injector) wait(*traced, int) error           { return errors.ErrUnsupported }
func (in *injector) erase(*os.File)                    {}
