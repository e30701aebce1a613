package convert

import (
	"strconv"
	"strings"

	"github.com/ianlancetaylor/demangle"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// clean makes a name valid UTF-8. All else is kept: newlines, NUL and `;` are the views' and writers'
// to show.
func clean(name string) string { return strings.ToValidUTF8(name, "\uFFFD") }

// commandWords takes a command line apart that is one text: at blanks, but for words in quotes, as
// profile.Target spells them.
func commandWords(s string) []string {
	var words []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if quoted, err := strconv.QuotedPrefix(s); err == nil && s[0] == '"' && quoted != "" {
			if rest := s[len(quoted):]; rest == "" || isBlank(rest[0]) {
				word, _ := strconv.Unquote(quoted)
				words = append(words, word)
				s = rest
				continue
			}
		}
		word, rest := s, ""
		if i := strings.IndexAny(s, " \t\n"); i >= 0 {
			word, rest = s[:i], s[i:]
		}
		words = append(words, word)
		s = rest
	}
	return words
}

// splitModule takes a full name apart, where what comes before the first `!` can be a module: it
// has no blank and no bracket but those around it, and does not look like the operator `!` or `!=` of
// a C++ class.
func splitModule(name string) profile.Frame {
	module, method, ok := strings.Cut(name, "!")
	switch {
	case !ok, module == "", method == "", strings.HasSuffix(module, "operator"), strings.Contains(module, "::"):
		return profile.Frame{Func: name}
	case strings.ContainsAny(strings.TrimSuffix(strings.TrimPrefix(module, "["), "]"), "<>(){}[]*&\t\n"):
		return profile.Frame{Func: name}
	}
	switch module {
	case "kernel":
		module = profile.Kernel
	case "vdso":
		module = "[vdso]"
	}
	return profile.Frame{Func: method, Module: module}
}

// maxMangled is the length above which a mangled name is left as it is.
const maxMangled = 1 << 12

// demangled is the source spelling of a C++ or Rust symbol, at most 16 KiB long, and any other name
// itself.
func demangled(name string) string {
	if len(name) > maxMangled || !strings.HasPrefix(name, "_Z") && !strings.HasPrefix(name, "_R") {
		return name
	}
	return demangle.Filter(name, demangle.MaxLength(14))
}
