package sourcemap

import (
	"strings"
	"sync"

	mangled "github.com/ianlancetaylor/demangle"
)

// demangled remembers what demangle has done: the same name comes with every location of a
// function. It is emptied when it is full, so that a server that lives for weeks stays bounded.
var demangled struct {
	sync.Mutex
	names map[string]string
}

const maxDemangled = 1 << 16

// maxMangled is the length above which a name is left as it is: a mangled name may stand for one
// exponentially longer.
const maxMangled = 1 << 14

// demangle is the source spelling of a C++ (Itanium ABI) or Rust (legacy or v0) symbol, and any
// other name itself. Names the ABI gives no meaning are returned as they are.
//
// Parameters are kept, as they tell overloads apart; the hash of a legacy Rust name is not. The
// result is at most 64 KiB long.
func demangle(name string) string {
	if !isMangled(name) || len(name) > maxMangled {
		return name
	}
	demangled.Lock()
	defer demangled.Unlock()
	if s, ok := demangled.names[name]; ok {
		return s
	}
	s := mangled.Filter(name, mangled.MaxLength(16))
	if demangled.names == nil || len(demangled.names) >= maxDemangled {
		demangled.names = make(map[string]string)
	}
	demangled.names[strings.Clone(name)] = s
	return s
}

// isMangled tells the prefixes that the two languages' ABIs reserve. They are _Z and _R; compilers
// of some platforms put one more underscore in front, and GCC marks constructors of a file's
// globals with _GLOBAL_.
func isMangled(name string) bool {
	return strings.HasPrefix(name, "_Z") || strings.HasPrefix(name, "_R") ||
		strings.HasPrefix(name, "__Z") || strings.HasPrefix(name, "___Z") || strings.HasPrefix(name, "_GLOBAL_")
}
