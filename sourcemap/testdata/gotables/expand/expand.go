// Package expand asks the runtime for the frames at addresses of its own program.
package expand

import (
	"bufio"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"reflect"
	"runtime"
	"strings"
	"unsafe"
)

//go:linkname callers runtime/pprof.runtime_expandFinalInlineFrame
func callers(stack []uintptr) []uintptr

// Answer reads file addresses of the binary at path, in hex, one to the line, and writes for each
// the frames the runtime finds there, innermost first: function, file, line and start line,
// between tabs and ended by semicolons. For what is not Go code it writes nothing on the line, and for
// the last address of a function "last".
func Answer(path string, in io.Reader, out io.Writer) error {
	bias, err := loadBias(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	defer w.Flush()
	for {
		var addr uintptr
		if _, err := fmt.Fscanf(in, "%x\n", &addr); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		pc := addr + bias
		if runtime.FuncForPC(pc) == nil {
			// not Go code
		} else if next := runtime.FuncForPC(pc + 1); next == nil || next.Entry() > pc {
			fmt.Fprint(w, "last") // as a return address this one would be in the next function
		} else {
			// What takes the frames of a stack wants return addresses.
			frames := runtime.CallersFrames(callers([]uintptr{pc + 1}))
			for {
				f, more := frames.Next()
				start := reflect.ValueOf(f).FieldByName("startLine").Int()
				fmt.Fprintf(w, "%s\t%s\t%d\t%d;", f.Function, f.File, f.Line, start)
				if !more {
					break
				}
			}
		}
		fmt.Fprintln(w)
	}
}

// loadBias is the distance from file addresses to runtime addresses.
func loadBias(path string) (uintptr, error) {
	f, err := elf.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if f.Type == elf.ET_EXEC {
		return 0, nil
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, err
	}
	for _, line := range strings.Split(string(maps), "\n") {
		if strings.HasSuffix(line, path) {
			var start uintptr
			_, err := fmt.Sscanf(line, "%x-", &start)
			for _, p := range f.Progs {
				if p.Type == elf.PT_LOAD {
					return start - uintptr(p.Vaddr), err
				}
			}
		}
	}
	return 0, fmt.Errorf("%s is not mapped", path)
}

var _ unsafe.Pointer // for go:linkname
