package sourcemap

import (
	"strconv"
	"strings"
	"sync"

	mangled "github.com/ianlancetaylor/demangle"
)

// demangled remembers what Demangle has done: the same name comes with every location of a
// function. It is emptied when it is full, so that a server that lives for weeks stays bounded.
var demangled struct {
	sync.Mutex
	names map[string]string
}

const maxDemangled = 1 << 16

// maxMangled is the length above which a name is left as it is: a mangled name may stand for one
// exponentially longer.
const maxMangled = 1 << 14

// Demangle is the source spelling of a C++ (Itanium ABI) or Rust (legacy or v0) symbol, and any
// other name itself. Names the ABI gives no meaning are returned as they are.
//
// Parameters are kept, as they tell overloads apart; the hash of a legacy Rust name is not. The
// result is at most 64 KiB long.
func Demangle(name string) string {
	if !isMangled(name) || len(name) > maxMangled {
		return name
	}
	demangled.Lock()
	s, ok := demangled.names[name]
	demangled.Unlock()
	if ok {
		return s
	}
	s = mangled.Filter(separated(name), mangled.MaxLength(16))
	if strings.HasPrefix(name, "_R") && strings.Contains(s, "::") {
		s = constructors.Replace(s)
	}
	demangled.Lock()
	defer demangled.Unlock()
	if demangled.names == nil || len(demangled.names) >= maxDemangled {
		demangled.names = make(map[string]string)
	}
	demangled.names[strings.Clone(name)] = s
	return s
}

// constructors take the last "::" from Rust's constructors used as functions, whose own name is
// empty ("map::<A, Option<A>::Some::>"), as rustc's demangler writes them.
var constructors = strings.NewReplacer("::>", ">", "::,", ",", "::)", ")")

// separated gives each identifier of a legacy Rust name that begins with an underscore another one.
// The demangler takes the first to separate the identifier from its length, as it may in a v0 name
// (legacy form: _ZN, identifiers with their lengths, the last of them a hash, and E).
func separated(name string) string {
	path, ok := strings.CutPrefix(name, "_ZN")
	if !ok || len(path) < 20 || !strings.HasPrefix(path[len(path)-20:], "17h") || path[len(path)-1] != 'E' || !strings.Contains(path, "_") {
		return name
	}
	var b strings.Builder
	b.WriteString("_ZN")
	for path != "E" {
		digits := 0
		for digits < len(path) && path[digits] >= '0' && path[digits] <= '9' {
			digits++
		}
		n, err := strconv.Atoi(path[:digits])
		if err != nil || n > len(path)-digits {
			return name // it is C++ after all
		}
		id := path[digits:][:n]
		path = path[digits+n:]
		if strings.HasPrefix(id, "_") {
			id = "_" + id
		}
		b.WriteString(strconv.Itoa(len(id)))
		b.WriteString(id)
	}
	b.WriteByte('E')
	return b.String()
}

// isMangled tells the prefixes that the two languages' ABIs reserve. They are _Z and _R; compilers
// of some platforms put one more underscore in front, and GCC marks constructors of a file's
// globals with _GLOBAL_.
func isMangled(name string) bool {
	return strings.HasPrefix(name, "_Z") || strings.HasPrefix(name, "_R") ||
		strings.HasPrefix(name, "__Z") || strings.HasPrefix(name, "___Z") || strings.HasPrefix(name, "_GLOBAL_")
}
