package process

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/procfs"
)

func newProcfs(t *testing.T, dir string) procfs.FS {
	t.Helper()
	fs, err := procfs.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestParseInternet(t *testing.T) {
	for text, want := range map[string]Internet{
		"":                     {},
		"4":                    {Version: 4},
		"6TCP":                 {Version: 6, Protocol: "TCP"},
		"udp:53":               {Protocol: "UDP", Ports: [][2]uint16{{53, 53}}},
		"TCP@127.0.0.1:80,443": {Protocol: "TCP", Host: netip.MustParseAddr("127.0.0.1"), Ports: [][2]uint16{{80, 80}, {443, 443}}},
		"@[::1]:8000-8100":     {Host: netip.MustParseAddr("::1"), Ports: [][2]uint16{{8000, 8100}}},
		":1":                   {Ports: [][2]uint16{{1, 1}}},
		"@localhost":           {Host: netip.MustParseAddr("127.0.0.1")},
	} {
		got, err := ParseInternet(text)
		if err != nil || !cmp.Equal(got, want, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "tcp80", ":", ":99999", ":5-4", ":-", "@nobody.example", "@[::1", "4@::1:x", ":nosuchservice!", "@1.2.3.4x", "\x00"} {
		if got, err := ParseInternet(text); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func FuzzSelection(f *testing.F) {
	f.Add("6TCP@[::1]:80-90,ssh")
	f.Add("0-2,^txt,mem")
	f.Add("/re(/i")
	f.Fuzz(func(t *testing.T, text string) {
		x, err := ParseInternet(text)
		if err == nil {
			for _, r := range x.Ports {
				if r[0] > r[1] {
					t.Errorf("%q: ports %v", text, r)
				}
			}
		}
		if all, not, err := ParseFDs(text); err == nil && len(all)+len(not) == 0 {
			t.Errorf("%q selects no descriptors", text)
		}
		if p, err := ParseCommand(text); (err == nil) != (p != nil) {
			t.Errorf("%q: %v, %v", text, p, err)
		}
	})
}

func TestSelection(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	folder, err := ParsePath(dir, true, true)
	if err != nil {
		t.Fatal(err)
	}
	one, err := ParsePath(path, false, false)
	if err != nil {
		t.Fatal(err)
	}
	null, err := ParsePath("/dev/null", false, false)
	if err != nil {
		t.Fatal(err)
	}
	command := func(text string) []*CommandPattern {
		p, err := ParseCommand(text)
		if err != nil {
			t.Fatal(err)
		}
		return []*CommandPattern{p}
	}
	nginx := &Owner{ID: ID{PID: 7}, Name: "nginx", UID: 33}
	shell := &Owner{ID: ID{PID: 8}, Name: "bash", UID: 0}
	real := folder.path
	listen := &Socket{Kind: KindIPv4, Protocol: "TCP", State: "LISTEN", Local: netip.MustParseAddrPort("0.0.0.0:80")}
	files := []File{
		{Owner: nginx, FD: FDFolder, Kind: KindFolder, Name: "/", Links: 20},
		{Owner: nginx, FD: 3, Kind: KindIPv4, Socket: listen, Links: -1},
		{Owner: nginx, FD: 4, Kind: KindRegular, Name: real + "/gone (deleted)", Links: 0},
		{Owner: shell, FD: 0, Kind: KindChar, Name: "/dev/null", Device: null.device, Links: 1},
		{Owner: shell, FD: 1, Kind: KindRegular, Name: "/elsewhere", Device: one.file.dev, Inode: one.file.ino, Links: 1},
		{Owner: shell, FD: 5, Kind: KindUnix, Name: "type=STREAM", Links: -1, Socket: &Socket{Kind: KindUnix}},
	}
	for name, c := range map[string]struct {
		s    Selection
		want []int // of files
	}{
		"everything":       {Selection{}, []int{0, 1, 2, 3, 4, 5}},
		"a process":        {Selection{PIDs: []int{8}}, []int{3, 4, 5}},
		"not a process":    {Selection{NotPIDs: []int{8}}, []int{0, 1, 2}},
		"a command":        {Selection{Commands: command("ngi")}, []int{0, 1, 2}},
		"a pattern":        {Selection{Commands: command("/^BASH$/i")}, []int{3, 4, 5}},
		"not a command":    {Selection{NotCommands: command("ngi")}, []int{3, 4, 5}},
		"a user":           {Selection{Users: []int{33}}, []int{0, 1, 2}},
		"not a user":       {Selection{NotUsers: []int{33}}, []int{3, 4, 5}},
		"network":          {Selection{Internet: []Internet{{}}}, []int{1}},
		"a port":           {Selection{Internet: []Internet{{Ports: [][2]uint16{{80, 80}}}}}, []int{1}},
		"another port":     {Selection{Internet: []Internet{{Ports: [][2]uint16{{81, 90}}}}}, nil},
		"a state":          {Selection{Internet: []Internet{{}}, States: map[string][]string{"TCP": {"LISTEN"}}}, []int{1}},
		"another state":    {Selection{Internet: []Internet{{}}, States: map[string][]string{"TCP": {"CLOSED"}}}, nil},
		"not a state":      {Selection{Internet: []Internet{{}}, NotStates: map[string][]string{"TCP": {"LISTEN"}}}, nil},
		"unix":             {Selection{Unix: true}, []int{5}},
		"or":               {Selection{Unix: true, PIDs: []int{7}}, []int{0, 1, 2, 5}},
		"and":              {Selection{Internet: []Internet{{}}, PIDs: []int{7}, And: true}, []int{1}},
		"and, none":        {Selection{Internet: []Internet{{}}, PIDs: []int{8}, And: true}, nil},
		"two and":          {Selection{PIDs: []int{7}, Users: []int{0}, And: true}, nil},
		"removed":          {Selection{Links: 1}, []int{2}},
		"a folder":         {Selection{Paths: []PathPattern{folder}}, []int{2}},
		"a file":           {Selection{Paths: []PathPattern{one}}, []int{4}},
		"a device":         {Selection{Paths: []PathPattern{null}}, []int{3}},
		"descriptors":      {Selection{FDs: []FDRange{{0, 1}}}, []int{3, 4}},
		"a folder's use":   {Selection{FDs: []FDRange{{FDFolder, FDFolder}}}, []int{0}},
		"not descriptors":  {Selection{NotFDs: []FDRange{{0, 5}}}, []int{0}},
		"descriptors, and": {Selection{FDs: []FDRange{{0, 9}}, Users: []int{33}, And: true}, []int{1, 2}},
	} {
		var got []int
		for i := range files {
			if c.s.Matches(&files[i]) {
				got = append(got, i)
			}
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if _, err := ParsePath(filepath.Join(dir, "a\nb"), false, false); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("a path that is not there: %v", err)
	}
	if _, err := ParsePath(path, true, true); err == nil {
		t.Error("a file has files in it")
	}
}

// What is read for a selection has all that it selects.
func TestSelectionReadsEnough(t *testing.T) {
	pid, dir, at := zoo(t)
	all, err := Files(t.Context(), FilesOptions{Only: []int{pid}})
	if err != nil {
		t.Fatal(err)
	}
	folder, err := ParsePath(dir, true, true)
	if err != nil {
		t.Fatal(err)
	}
	port := Internet{Ports: [][2]uint16{{uint16(at["port"]), uint16(at["port"])}}}
	for name, s := range map[string]Selection{
		"process": {PIDs: []int{pid}}, "port": {Internet: []Internet{port}}, "folder": {Paths: []PathPattern{folder}},
		"mappings": {FDs: []FDRange{{FDMapped, FDMapped}}, PIDs: []int{pid}, And: true}, "unix": {Unix: true, PIDs: []int{pid}, And: true},
		"removed": {Links: 1, PIDs: []int{pid}, And: true}, "or": {PIDs: []int{pid}, Internet: []Internet{port}},
	} {
		list, err := Files(t.Context(), s.Options())
		if err != nil {
			t.Fatal(err)
		}
		got, want := map[string]bool{}, map[string]bool{}
		for _, x := range []struct {
			files []File
			to    map[string]bool
		}{{list.Files, got}, {all.Files, want}} {
			for i := range x.files {
				if f := &x.files[i]; f.PID == pid && s.Matches(f) {
					x.to[FDName(f.FD)+" "+f.Name] = true
				}
			}
		}
		if len(want) == 0 {
			t.Errorf("%s selects nothing", name)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-all +read):\n%s", name, d)
		}
	}
}
