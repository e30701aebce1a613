package process

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"sync"
)

var services = sync.OnceValue(func() map[string]uint16 {
	text, err := os.ReadFile("/etc/services")
	if err != nil {
		return nil
	}
	return parseServices(text)
})

// servicePort is the port of a service, of any protocol where none is said.
func servicePort(name, protocol string) (uint16, bool) {
	for _, p := range []string{protocol, "TCP", "UDP"} {
		if port, ok := services()[name+"/"+strings.ToLower(p)]; ok && (protocol == "" || p == protocol) {
			return port, true
		}
	}
	return 0, false
}

// parseServices reads services(5): "http 80/tcp www # comment".
func parseServices(text []byte) map[string]uint16 {
	ports := map[string]uint16{}
	for line := range bytes.Lines(text) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		f := strings.Fields(string(line))
		if len(f) < 2 {
			continue
		}
		number, protocol, ok := strings.Cut(f[1], "/")
		port, err := strconv.ParseUint(number, 10, 16)
		if !ok || err != nil {
			continue
		}
		for i, name := range f {
			if i != 1 {
				ports[name+"/"+protocol] = uint16(port)
			}
		}
	}
	return ports
}
