package sourcemap

import "testing"

// One warning tells of all binaries whose part of the debug information is missing.
func TestLackingText(t *testing.T) {
	for _, x := range []struct {
		binaries, files []string
		want            string
	}{
		{[]string{"/bin/a"}, []string{"shared"}, "/bin/a: some inlined calls have no names, as a part of the debug information, which dwz has put into files of their own, is missing (shared); install the debug packages anew"},
		{[]string{"/bin/a", "/lib/b", "/lib/c", "/lib/d", "/lib/e"}, []string{"y", "x", "y", "x", "x"},
			"/bin/a, /lib/b, /lib/c and 2 more: some inlined calls have no names, as a part of the debug information, which dwz has put into files of their own, is missing (x, y); install the debug packages anew"},
	} {
		if got := lackingText(x.binaries, x.files); got != x.want {
			t.Errorf("got  %s\nwant %s", got, x.want)
		}
	}
}
