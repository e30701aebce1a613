package process

import (
	"fmt"
	"net/netip"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Selection says which open files are wanted, in the words of lsof. Its parts are ORed, or ANDed where
// And is set; what is excluded is excluded first. The zero value selects everything.
type Selection struct {
	PIDs, NotPIDs         []int
	Commands, NotCommands []*CommandPattern
	Users, NotUsers       []int
	FDs, NotFDs           []FDRange
	Internet              []Internet
	Unix                  bool
	States, NotStates     map[string][]string // by protocol, upper case
	Links                 int64               // files with fewer links than this; 0: not asked
	Paths                 []PathPattern
	And                   bool
}

// A CommandPattern is the beginning of a command's name, or a regular expression.
type CommandPattern struct {
	prefix string
	re     *regexp.Regexp
	exact  bool // the name or the command's file, as Process.Called; of a word that is no option
}

// NamedExactly is a pattern for the processes of just that name.
func NamedExactly(name string) *CommandPattern { return &CommandPattern{prefix: name, exact: true} }

// ParseCommand reads what follows -c: "ngin" for names that begin so, "/re/" for a regular expression,
// "/re/i" without regard to case.
func ParseCommand(text string) (*CommandPattern, error) {
	if text == "" {
		return nil, fmt.Errorf("select commands: the name is empty; give its beginning, or /re/")
	}
	rest, isRE := strings.CutPrefix(text, "/")
	if !isRE {
		return &CommandPattern{prefix: text}, nil
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return nil, fmt.Errorf("select commands: %q has no second slash; a regular expression is /re/", text)
	}
	flags := ""
	for _, c := range rest[i+1:] {
		switch c {
		case 'i':
			flags = "(?i)"
		case 'b', 'x': // basic and extended, which Go's are near enough to
		default:
			return nil, fmt.Errorf("select commands: %q ends in %q; after the second slash there may be i", text, rest[i+1:])
		}
	}
	re, err := regexp.Compile(flags + rest[:i])
	if err != nil {
		return nil, fmt.Errorf("select commands: %q is no regular expression: %w", rest[:i], err)
	}
	return &CommandPattern{re: re}, nil
}

func (p *CommandPattern) matches(name string) bool {
	switch {
	case p.re != nil:
		return p.re.MatchString(name)
	case p.exact:
		// The kernel keeps 15 bytes of a name.
		return name == p.prefix || len(p.prefix) > 15 && name == p.prefix[:15]
	}
	return strings.HasPrefix(name, p.prefix)
}

// An FDRange is descriptors from one number to another, or one of those without a number twice.
type FDRange struct{ From, To int }

func (r FDRange) has(fd int) bool { return r.From <= fd && fd <= r.To }

// ParseFDs reads what follows -d: "0-2,txt,^mem".
func ParseFDs(text string) (all, not []FDRange, err error) {
	for part := range strings.SplitSeq(text, ",") {
		word, excluded := strings.CutPrefix(part, "^")
		r, ok := parseFDRange(word)
		if !ok {
			return nil, nil, fmt.Errorf("select descriptors: %q is neither a number, a range such as 0-2, nor one of cwd, rtd, txt, mem, DEL, NOFD", part)
		}
		if excluded {
			not = append(not, r)
		} else {
			all = append(all, r)
		}
	}
	if len(all) > 0 && len(not) > 0 {
		return nil, nil, fmt.Errorf("select descriptors: %q both names and excludes; give one or the other", text)
	}
	return all, not, nil
}

func parseFDRange(word string) (FDRange, bool) {
	for fd := FDFolder; fd >= FDNone; fd-- {
		if strings.EqualFold(word, FDName(fd)) {
			return FDRange{fd, fd}, true
		}
	}
	switch word {
	case "fd": // every descriptor with a number
		return FDRange{0, 1 << 31}, true
	}
	a, b, ranged := strings.Cut(word, "-")
	from, err1 := strconv.ParseUint(a, 10, 31)
	to, err2 := from, error(nil)
	if ranged {
		to, err2 = strconv.ParseUint(b, 10, 31)
	}
	if err1 != nil || err2 != nil || to < from {
		return FDRange{}, false
	}
	return FDRange{int(from), int(to)}, true
}

// An Internet is one -i: what a network file has to be. Zero values are whatever.
type Internet struct {
	Version  int    // 4, 6
	Protocol string // "TCP", "UDP", upper case
	Host     netip.Addr
	Ports    [][2]uint16
}

// ParseInternet reads what follows -i: [46][tcp|udp][@host][:port,port-port]. Hosts are addresses and
// ports are numbers or the names of /etc/services; no name server is asked, except for localhost.
func ParseInternet(text string) (x Internet, err error) {
	rest := text
	if len(rest) > 0 && (rest[0] == '4' || rest[0] == '6') {
		x.Version = int(rest[0] - '0')
		rest = rest[1:]
	}
	end := strings.IndexAny(rest, "@:")
	if end < 0 {
		end = len(rest)
	}
	x.Protocol = strings.ToUpper(rest[:end])
	rest = rest[end:]
	switch x.Protocol {
	case "", "TCP", "UDP", "UDPLITE", "ICMP":
	default:
		return Internet{}, fmt.Errorf("select network files: %q: there is no protocol %q; say [46][tcp|udp][@host][:port]", text, x.Protocol)
	}
	if host, ok := strings.CutPrefix(rest, "@"); ok {
		host, rest, err = cutHost(host)
		if err != nil {
			return Internet{}, fmt.Errorf("select network files: %q: %w", text, err)
		}
		if host != "" {
			if host == "localhost" {
				host = "127.0.0.1"
				if x.Version == 6 {
					host = "::1"
				}
			}
			if x.Host, err = netip.ParseAddr(host); err != nil {
				return Internet{}, fmt.Errorf("select network files: %q: %q is no address; names are not looked up", text, host)
			}
		}
	}
	if ports, ok := strings.CutPrefix(rest, ":"); ok {
		for part := range strings.SplitSeq(ports, ",") {
			r, err := parsePorts(part, x.Protocol)
			if err != nil {
				return Internet{}, fmt.Errorf("select network files: %q: %w", text, err)
			}
			x.Ports = append(x.Ports, r)
		}
	} else if rest != "" {
		return Internet{}, fmt.Errorf("select network files: %q: nobody knows what %q is; say [46][tcp|udp][@host][:port]", text, rest)
	}
	return x, nil
}

func cutHost(text string) (host, rest string, err error) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		i := strings.IndexByte(inner, ']')
		if i < 0 {
			return "", "", fmt.Errorf("the bracket of the address is not closed")
		}
		return inner[:i], inner[i+1:], nil
	}
	i := strings.IndexByte(text, ':')
	if i < 0 {
		return text, "", nil
	}
	return text[:i], text[i:], nil
}

func parsePorts(text, protocol string) ([2]uint16, error) {
	a, b, ranged := strings.Cut(text, "-")
	from, err := strconv.ParseUint(a, 10, 16)
	if err != nil {
		port, ok := servicePort(text, protocol)
		if !ok {
			return [2]uint16{}, fmt.Errorf("%q is neither a port nor a service of /etc/services", text)
		}
		return [2]uint16{port, port}, nil
	}
	to := from
	if ranged {
		if to, err = strconv.ParseUint(b, 10, 16); err != nil || to < from {
			return [2]uint16{}, fmt.Errorf("%q is no range of ports", text)
		}
	}
	return [2]uint16{uint16(from), uint16(to)}, nil
}

// Matches says whether a socket is one of those meant.
func (x *Internet) Matches(s *Socket) bool {
	if s == nil || s.Kind != KindIPv4 && s.Kind != KindIPv6 {
		return false
	}
	if x.Version == 4 && s.Kind != KindIPv4 || x.Version == 6 && s.Kind != KindIPv6 {
		return false
	}
	if x.Protocol != "" && x.Protocol != s.Protocol {
		return false
	}
	side := func(a netip.AddrPort) bool {
		if x.Host.IsValid() && a.Addr().Unmap() != x.Host.Unmap() {
			return false
		}
		return len(x.Ports) == 0 || slices.ContainsFunc(x.Ports, func(r [2]uint16) bool { return r[0] <= a.Port() && a.Port() <= r[1] })
	}
	return side(s.Local) || side(s.Remote)
}

// A PathPattern is a file, or a folder with what is in it.
type PathPattern struct {
	file      deviceInode
	device    uint64 // of a device's own file: the device; 0 for others
	path      string // without a slash at its end
	Recursive bool   // what is in folders below, too
	Inside    bool   // what is in the folder
	socket    bool
}

// ParsePath is the pattern for a file that exists. Inside is lsof's +d, and with recursive +D: the folder
// and what is in it, by path, so that files which were removed are found too.
func ParsePath(path string, inside, recursive bool) (PathPattern, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return PathPattern{}, fmt.Errorf("select open files by path: look at %s: %w", Printable(path), err)
	}
	if inside && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return PathPattern{}, fmt.Errorf("select open files below a folder: %s is no folder", Printable(path))
	}
	p := PathPattern{file: deviceInode{st.Dev, st.Ino}, Inside: inside, Recursive: recursive, socket: st.Mode&unix.S_IFMT == unix.S_IFSOCK}
	if k := st.Mode & unix.S_IFMT; k == unix.S_IFCHR || k == unix.S_IFBLK {
		p.device = st.Rdev
	}
	whole, err := filepath.Abs(path)
	if err == nil {
		if real, err := filepath.EvalSymlinks(whole); err == nil {
			whole = real
		}
	}
	p.path = whole
	return p, nil
}

func (p *PathPattern) matches(f *File) bool {
	switch {
	case f.Kind == KindUnix:
		return p.socket && f.Socket != nil && f.Socket.Path == p.path || p.Inside && f.Socket != nil && p.below(f.Socket.Path)
	case p.device != 0:
		return (f.Kind == KindChar || f.Kind == KindBlock) && f.Device == p.device
	case f.Err != nil:
		return false
	case f.Device == p.file.dev && f.Inode == p.file.ino:
		return f.Kind != KindPipe || f.Name != "pipe"
	}
	return p.Inside && p.below(f.Name)
}

func (p *PathPattern) below(name string) bool {
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(p.path, "/")+"/")
	return ok && rest != "" && (p.Recursive || !strings.Contains(rest, "/"))
}

// ParseUser is the number of a user who is named, or numbered.
func ParseUser(name string) (int, error) {
	if u, err := user.Lookup(name); err == nil {
		if uid, err := strconv.Atoi(u.Uid); err == nil {
			return uid, nil
		}
	}
	if uid, err := strconv.ParseUint(name, 10, 32); err == nil {
		return int(uid), nil
	}
	return 0, fmt.Errorf("select users: there is no user %q", name)
}

// Everything says that nothing is selected, so that all files are.
func (s *Selection) Everything() bool { return !s.byProcess() && !s.byFile() }

func (s *Selection) byProcess() bool { return len(s.PIDs)+len(s.Commands)+len(s.Users) > 0 }

func (s *Selection) byFile() bool {
	return len(s.FDs) > 0 || len(s.Internet) > 0 || s.Unix || s.Links > 0 || len(s.Paths) > 0
}

// Options are those with which Files reads no more than has to be read for the selection.
func (s *Selection) Options() FilesOptions {
	var o FilesOptions
	o.Keep = s.keep
	onlyPIDs := len(s.PIDs) > 0 && len(s.Commands)+len(s.Users) == 0
	if onlyPIDs && (s.And || !s.byFile()) {
		o.Only = s.PIDs
	}
	if !s.byProcess() || s.And {
		sockets := len(s.Internet) > 0 || s.Unix
		others := len(s.FDs) > 0 || s.Links > 0 || len(s.Paths) > 0
		switch {
		case sockets && (!others || s.And):
			o.Uses = Descriptors | SocketsOnly
		case len(s.FDs) > 0 && (s.And || !sockets && s.Links == 0 && len(s.Paths) == 0):
			o.Uses = usesOf(s.FDs)
		}
	}
	return o
}

func usesOf(fds []FDRange) (u Uses) {
	for _, r := range fds {
		switch {
		case r.To >= 0, r.From == FDNone:
			u |= Descriptors
		case r.From == FDMapped || r.From == FDDeleted:
			u |= Mapped | Folders // of the program it is known that it is not among the mappings
		default:
			u |= Folders
		}
	}
	return u
}

// keep says whether a process's files may be wanted.
func (s *Selection) keep(o *Owner) bool {
	if slices.Contains(s.NotPIDs, o.PID) || slices.Contains(s.NotUsers, o.UID) || anyCommand(s.NotCommands, o.Name) {
		return false
	}
	if !s.byProcess() {
		return true
	}
	if !s.And && s.byFile() {
		return true
	}
	return s.processMatches(o)
}

func anyCommand(all []*CommandPattern, name string) bool {
	return slices.ContainsFunc(all, func(p *CommandPattern) bool { return p.matches(name) })
}

// processMatches says whether what is selected of processes fits one: each with And, else any.
func (s *Selection) processMatches(o *Owner) bool {
	tests := []struct{ asked, is bool }{
		{len(s.PIDs) > 0, slices.Contains(s.PIDs, o.PID)},
		{len(s.Commands) > 0, anyCommand(s.Commands, o.Name)},
		{len(s.Users) > 0, slices.Contains(s.Users, o.UID)},
	}
	for _, t := range tests {
		if !t.asked {
			continue
		}
		if t.is != s.And {
			return t.is
		}
	}
	return s.And
}

// Matches says whether a file is selected.
func (s *Selection) Matches(f *File) bool {
	if slices.ContainsFunc(s.NotFDs, func(r FDRange) bool { return r.has(f.FD) }) || !s.keep(f.Owner) {
		return false
	}
	if f.Socket != nil && len(s.NotStates[f.Socket.Protocol]) > 0 && slices.Contains(s.NotStates[f.Socket.Protocol], f.Socket.State) {
		return false
	}
	if s.Everything() {
		return true
	}
	inet := false
	for i := range s.Internet {
		inet = inet || s.Internet[i].Matches(f.Socket)
	}
	if inet && len(s.States[f.Socket.Protocol]) > 0 {
		inet = slices.Contains(s.States[f.Socket.Protocol], f.Socket.State)
	}
	path := false
	for i := range s.Paths {
		path = path || s.Paths[i].matches(f)
	}
	tests := []struct{ asked, is bool }{
		{s.byProcess(), s.byProcess() && s.processMatches(f.Owner)},
		{len(s.FDs) > 0, slices.ContainsFunc(s.FDs, func(r FDRange) bool { return r.has(f.FD) })},
		{len(s.Internet) > 0, inet},
		{s.Unix, f.Kind == KindUnix},
		{s.Links > 0, f.Links >= 0 && f.Links < s.Links && f.Kind == KindRegular},
		{len(s.Paths) > 0, path},
	}
	for _, t := range tests {
		if !t.asked {
			continue
		}
		if t.is != s.And {
			return t.is
		}
	}
	return s.And
}
