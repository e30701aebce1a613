package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/broker"
)

// maxConfig bounds the administrator's file, in bytes.
const maxConfig = 64 << 10

// An identity is who is served: the user and groups of this process, as the kernel has them.
type identity struct {
	user   int
	groups []int
}

func whoCalls() (identity, error) {
	groups, err := unix.Getgroups()
	if err != nil {
		return identity{}, fmt.Errorf("ask for the caller's groups: %w", err)
	}
	return identity{unix.Getuid(), append(groups, unix.Getgid())}, nil
}

// granted is what the administrator's file grants. Without a file that is nothing. With an error it is
// nothing, too: a file that somebody else may have written grants nothing, and one with a mistake
// is not obeyed in part.
func granted(path string, who identity) (broker.Grants, error) {
	f, err := openTrusted(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	if len(text) > maxConfig {
		return 0, fmt.Errorf("read %s: it has more than %d KiB, so nothing in it is obeyed", path, maxConfig>>10)
	}
	g, err := parseConfig(text, who, names{})
	if err != nil {
		return 0, fmt.Errorf("read %s, of which nothing is obeyed: %w", path, err)
	}
	return g, nil
}

// openTrusted opens a file that only root can have written: no part of its path is a symbolic link, it and
// all folders are root's, and nobody else may write to it or to the folder it is in, nor replace one of the
// folders above.
func openTrusted(path string) (*os.File, error) {
	parts := strings.Split(strings.Trim(filepath.Clean(path), "/"), "/")
	at := "/"
	dir, err := unix.Open(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: at, Err: err}
	}
	defer func() { unix.Close(dir) }()
	for i, part := range parts {
		last := i == len(parts)-1
		at = filepath.Join(at, part)
		// O_NONBLOCK: a pipe in its place is not waited for.
		flags := unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
		if !last {
			flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
		}
		fd, err := unix.Openat(dir, part, flags, 0)
		switch {
		case errors.Is(err, unix.ELOOP):
			return nil, fmt.Errorf("open %s: it is a symbolic link, so what it says is not obeyed", at)
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: at, Err: err}
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			return nil, &fs.PathError{Op: "stat", Path: at, Err: err}
		}
		if err := trusted(at, &st, last, i == len(parts)-2); err != nil {
			unix.Close(fd)
			return nil, err
		}
		if last {
			return os.NewFile(uintptr(fd), path), nil
		}
		unix.Close(dir)
		dir = fd
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

// trusted says what is wrong with the owner, mode or kind of a part of the path.
func trusted(path string, st *unix.Stat_t, file, folder bool) error {
	kind := uint32(st.Mode) & unix.S_IFMT
	const byOthers = 0o022
	switch {
	case kind == unix.S_IFLNK:
		return fmt.Errorf("open %s: it is a symbolic link, so what it says is not obeyed", path)
	case file && kind != unix.S_IFREG:
		return fmt.Errorf("open %s: it is no regular file, so it is not obeyed", path)
	case !file && kind != unix.S_IFDIR:
		return &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
	case st.Uid != 0:
		return fmt.Errorf("open %s: it belongs to user %d and not to root, so what it says is not obeyed; sudo chown root %s", path, st.Uid, path)
	// In a sticky folder such as /tmp others cannot replace what is root's (unlink(2)).
	case st.Mode&byOthers != 0 && (file || folder || st.Mode&unix.S_ISVTX == 0):
		return fmt.Errorf("open %s: others than root may write to it (mode %#o), so what it says is not obeyed; sudo chmod go-w %s", path, st.Mode&0o7777, path)
	}
	return nil
}

// A directory of names: the system's, or a test's.
type directory interface {
	user(name string) (int, error)
	group(name string) (int, error)
}

// names are those of /etc/passwd and /etc/group.
type names struct{}

func (names) user(name string) (int, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Uid)
}

func (names) group(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

var grantNames = map[string]broker.Grants{"kernel": broker.Kernel, "users": broker.Users, "machine": broker.Machine}

// parseConfig reads lines of the form "allow WHAT… to WHO…" and says what they grant to one user:
//
//	# Everything after a # is a comment.
//	allow kernel to group:developers
//	allow kernel users machine to user:alice user:1001
//	allow kernel to everyone
//
// A name that nobody has is a mistake, as it is most likely meant for somebody.
func parseConfig(text []byte, who identity, dir directory) (all broker.Grants, err error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxConfig+1)
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' })
		if len(words) == 0 {
			continue
		}
		to := slices.Index(words, "to")
		if words[0] != "allow" || to < 2 || to == len(words)-1 {
			return 0, fmt.Errorf("line %d: %q is not of the form: allow WHAT… to WHO…", n, strings.TrimSpace(line))
		}
		var what broker.Grants
		for _, word := range words[1:to] {
			g, ok := grantNames[word]
			if !ok {
				return 0, fmt.Errorf("line %d: there is no %q to allow; there are kernel, users and machine", n, word)
			}
			what |= g
		}
		for _, word := range words[to+1:] {
			is, err := who.is(word, dir)
			if err != nil {
				return 0, fmt.Errorf("line %d: %w", n, err)
			}
			if is {
				all |= what
			}
		}
	}
	return all, lines.Err()
}

// is tells whether a word means this identity.
func (who identity) is(word string, dir directory) (bool, error) {
	if word == "everyone" {
		return true, nil
	}
	kind, name, _ := strings.Cut(word, ":")
	lookup, has := dir.user, func(id int) bool { return who.user == id }
	switch kind {
	case "user":
	case "group":
		lookup, has = dir.group, func(id int) bool { return slices.Contains(who.groups, id) }
	default:
		return false, fmt.Errorf("%q is nobody; write user:NAME, group:NAME or everyone", word)
	}
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		return has(int(id)), nil
	}
	id, err := lookup(name)
	if err != nil {
		return false, fmt.Errorf("there is no %s %q", kind, name)
	}
	return has(id), nil
}
