package sourcemap

// isEntry tells functions that nothing calls: a whole stack ends with one of them. name is as its
// table spells it, without arguments or a symbol version.
func isEntry(name string) bool {
	return entries[name]
}

var entries = map[string]bool{
	"_start":         true,
	"runtime.goexit": true,
}
