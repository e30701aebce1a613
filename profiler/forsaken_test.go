package profiler_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// A program that the kernel will not have watched is named, whoever records it and whatever started
// it; the one beside it is not.
func TestRecordForsaken(t *testing.T) {
	modes := map[string]os.FileMode{"plain": 0o755, "unreadable": 0o111}
	var user *syscall.SysProcAttr
	if root() {
		user = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		var on unix.Statfs_t
		if err := unix.Statfs(t.TempDir(), &on); err != nil || on.Flags&unix.ST_NOSUID == 0 {
			modes["set-user-id"], modes["set-group-id"] = 0o755|os.ModeSetuid, 0o755|os.ModeSetgid
		}
	}
	engines(t, func(t *testing.T, e profiler.Engine) {
		for name, mode := range modes {
			path := copyProgram(t, "busy", name)
			folder := filepath.Dir(path)
			if err := errors.Join(os.Chmod(folder, 0o755), os.Chmod(filepath.Dir(folder), 0o755), os.Chmod(path, mode)); err != nil {
				t.Fatal(err)
			}
			for _, cmd := range []*exec.Cmd{
				exec.Command(path, "split", "0.1"),
				exec.Command("sh", "-c", path+" split 0.1; :"),
			} {
				cmd.SysProcAttr = user
				c := recordCommand(t, e, cmd)
				text := ""
				for _, w := range c.Warnings {
					if w.Kind == profile.WarnHidden && strings.Contains(w.Text, name+" is in no sample") && strings.Contains(w.Text, "as root") {
						text = w.Text
					}
				}
				seen := c.total() > 50*time.Millisecond
				if plain := name == "plain"; seen != plain || (text == "") != plain {
					t.Errorf("%v: %v sampled, warned of %+v", cmd.Args, c.total(), c.Warnings)
				}
			}
			if !root() {
				continue
			}
			if c := record(t, e, path, "split", "0.1"); name == "unreadable" && (c.total() < 50*time.Millisecond || warned(c.Capture, profile.WarnHidden) != "") {
				t.Errorf("%s as root: %v sampled, warned of %+v", path, c.total(), c.Warnings)
			}
		}
	})
}
