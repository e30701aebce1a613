package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/broker"
)

// people are users and groups of the tests.
type people map[string]int

func (p people) user(name string) (int, error)  { return p.find("user:" + name) }
func (p people) group(name string) (int, error) { return p.find("group:" + name) }
func (p people) find(name string) (int, error) {
	if id, ok := p[name]; ok {
		return id, nil
	}
	return 0, errors.New("unknown")
}

func TestConfig(t *testing.T) {
	dir := people{"user:alice": 1000, "user:bob": 1001, "group:dev": 50, "user:to": 1000}
	alice := identity{1000, []int{1000, 50}}
	const none, some = broker.Grants(0), broker.Kernel | broker.Users
	for _, test := range []struct {
		text  string
		want  broker.Grants
		wrong string // a part of the error
	}{
		{"", none, ""},
		{"# a comment\n\n   \t\n", none, ""},
		{"allow kernel to user:alice", broker.Kernel, ""},
		{"allow kernel to user:bob", none, ""},
		{"allow kernel to user:1000 # she", broker.Kernel, ""},
		{"allow kernel to group:dev", broker.Kernel, ""},
		{"allow kernel to group:50", broker.Kernel, ""},
		{"allow kernel to group:1001", none, ""},
		{"allow kernel, users to user:bob, group:dev", some, ""},
		{"allow kernel to user:alice\r\nallow users to everyone\r\n", some, ""},
		{"allow kernel to user:alice\nallow users to everyone\n", some, ""},
		{"allow machine to user:to", broker.Machine, ""},
		{"allow kernel to user:alcie", none, `line 1: there is no user "alcie"`},
		{"allow kernel to user:alice\nallow users to group:dve", none, `line 2: there is no group "dve"`},
		{"allow kernels to user:alice", none, `there is no "kernels" to allow`},
		{"allow kernel user:alice", none, "not of the form"},
		{"allow to user:alice", none, "not of the form"},
		{"allow kernel to", none, "not of the form"},
		{"deny kernel to user:alice", none, "not of the form"},
		{"allow kernel to alice", none, `"alice" is nobody`},
		{"allow kernel to user:-1", none, `there is no user "-1"`},
		{"allow kernel to user:", none, `there is no user ""`},
		{strings.Repeat("#", maxConfig), none, ""},
	} {
		got, err := parseConfig([]byte(test.text), alice, dir)
		if got != test.want || (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
			t.Errorf("%.60q grants %d and %v, want %d and %q", test.text, got, err, test.want, test.wrong)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("allow kernel, users to user:alice group:dev # x\nallow machine to everyone"))
	f.Add([]byte("allow kernel to group:50\n\n#\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		g, err := parseConfig(text, identity{1000, []int{50}}, people{"user:alice": 1000})
		if err != nil && g != 0 {
			t.Fatalf("%d and %v", g, err)
		}
		if g != 0 && !strings.Contains(string(text), "allow") {
			t.Fatalf("%q grants %d", text, g)
		}
	})
}

// A file that root alone has written is obeyed, and no other.
func TestConfigOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make files of root's")
	}
	who := identity{nobody, nil}
	for name, test := range map[string]struct {
		spoil func(dir, file string) error
		wrong string
	}{
		"good":                   {func(string, string) error { return nil }, ""},
		"somebody else's":        {func(_, file string) error { return os.Chown(file, nobody, 0) }, "belongs to user 65534"},
		"written by a group":     {func(_, file string) error { return os.Chmod(file, 0o664) }, "others than root may write to it (mode 0664)"},
		"written by others":      {func(_, file string) error { return os.Chmod(file, 0o646) }, "others than root may write to it"},
		"somebody's folder":      {func(dir, _ string) error { return os.Chown(dir, nobody, 0) }, "belongs to user 65534"},
		"a folder for others":    {func(dir, _ string) error { return os.Chmod(dir, 0o757) }, "others than root may write to it"},
		"a sticky folder":        {func(dir, _ string) error { return os.Chmod(dir, 0o777|os.ModeSticky) }, "others than root may write to it"},
		"a symbolic link":        {func(dir, file string) error { return link(file, filepath.Join(dir, "real")) }, "symbolic link"},
		"a folder that is one":   {func(dir, _ string) error { return link(dir, dir+".real") }, "symbolic link"},
		"a folder":               {func(_, file string) error { return errors.Join(os.Remove(file), os.Mkdir(file, 0o755)) }, "no regular file"},
		"a pipe":                 {func(_, file string) error { return errors.Join(os.Remove(file), unix.Mkfifo(file, 0o644)) }, "no regular file"},
		"too long":               {func(_, file string) error { return os.Truncate(file, maxConfig+1) }, "more than 64 KiB"},
		"a folder that is none":  {func(dir, _ string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o644)) }, "not a directory"},
		"not there":              {func(_, file string) error { return os.Remove(file) }, "nothing"},
		"a folder not there":     {func(dir, _ string) error { return os.RemoveAll(dir) }, "nothing"},
		"a link that leads away": {func(_, file string) error { return errors.Join(os.Remove(file), os.Symlink("/nowhere", file)) }, "symbolic link"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "etc")
			file := filepath.Join(dir, "capture.conf")
			// t.TempDir may lie where others may write.
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(file, []byte("allow kernel to everyone\n"), 0o644), test.spoil(dir, file)); err != nil {
				t.Fatal(err)
			}
			got, err := granted(file, who)
			switch test.wrong {
			case "":
				if got != broker.Kernel || err != nil {
					t.Errorf("%d, %v", got, err)
				}
			case "nothing":
				if got != 0 || err != nil {
					t.Errorf("%d, %v", got, err)
				}
			default:
				if got != 0 || err == nil || !strings.Contains(err.Error(), test.wrong) || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%d, %v", got, err)
				}
			}
		})
	}
}

// link moves a file and leaves a symbolic link in its place.
func link(path, to string) error {
	return errors.Join(os.Rename(path, to), os.Symlink(to, path))
}
