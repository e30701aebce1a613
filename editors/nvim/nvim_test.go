package nvim_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Suites are Debian's names for what the set-up script fetches, and what it is there.
var suites = map[string]string{"trixie": "Neovim 0.10", "forky": "Neovim 0.12"}

// RequireEditors is the variable that makes a missing editor a failure.
const requireEditors = "SIGHTLINE_REQUIRE_EDITORS"

// Setup is how the editors are got, from the top of the tree.
const setup = "editors/nvim/test/setup.sh"

// Neovim is the path of a Neovim that the set-up script fetched.
func neovim(t *testing.T, suite string) string {
	t.Helper()
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache")
	}
	path := filepath.Join(cache, "sightline-test", "nvim-"+suite, "bin", "nvim")
	if _, err := os.Stat(path); err != nil {
		if os.Getenv(requireEditors) != "" {
			t.Fatalf("%s is not installed (%v): run %s", suites[suite], err, setup)
		}
		t.Skipf("%s is not installed: run %s", suites[suite], setup)
	}
	return path
}

// Server builds the server into a folder of its own and answers the folder.
func server(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "sightline"), "./cmd/sightline")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the server: %v\n%s", err, out)
	}
	return dir
}

// Watch has go test take note of all files below folders, so that its cached result is used only while
// none of them has changed: what is read by Neovim and by go build it does not see.
func watch(t *testing.T, folders ...string) {
	t.Helper()
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(_ string, _ os.DirEntry, err error) error { return err })
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Alone are the Lua tests whose server works without a daemon. All others have one of their own, as users do.
var alone = map[string]bool{"plugin": true}

// Ordinary are the Lua tests that Neovim runs as a user without any privilege, where this test may become one.
var ordinary = map[string]bool{"user": true}

// TestInNeovim runs each Lua test in each Neovim, in a process of its own, on a copy of the example with
// one capture that the command line recorded.
func TestInNeovim(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("test", "*_test.lua"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Lua tests found: %v", err)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	top := filepath.Join("..", "..")
	watch(t, ".", filepath.Join(top, "testdata", "example"), filepath.Join(top, "cmd"), filepath.Join(top, "lspserver"),
		filepath.Join(top, "profiler"), filepath.Join(top, "sourcemap"), filepath.Join(top, "memmap"), filepath.Join(top, "heap"))
	bin := sync.OnceValue(func() string { return server(t) }) // once the first Neovim is there
	for suite, name := range suites {
		t.Run(strings.ReplaceAll(name, " ", ""), func(t *testing.T) {
			nvim := neovim(t, suite)
			bin := bin()
			t.Parallel() // they mostly wait
			for _, file := range files {
				name := strings.TrimSuffix(filepath.Base(file), "_test.lua")
				t.Run(name, func(t *testing.T) {
					r := run{plugin: here, command: []string{nvim}, bin: bin, dir: t.TempDir(), test: name}
					if ordinary[name] && os.Geteuid() == 0 {
						r.become(t, nobody)
					}
					r.lua(t)
				})
			}
		})
	}
}

// A run is that of one Lua test.
type run struct {
	plugin  string   // the folder of the plugin and its tests
	command []string // starts Neovim
	bin     string   // the folder with the server
	dir     string   // for all that is written
	test    string   // name of the Lua test
	user    *syscall.Credential
	more    []string // environment
}

// Nobody is a user without any privilege.
var nobody = &syscall.Credential{Uid: 65534, Gid: 65534}

// Become has the test run by another user, who may not go where this one's files are: so Neovim and the
// plugin are copied to where he may, and as Neovim has the paths of its libraries in it, the copy is
// started by its loader. He is told of a process that is not his.
func (r *run) become(t *testing.T, user *syscall.Credential) {
	t.Helper()
	root := filepath.Join(filepath.Dir(filepath.Dir(r.command[0])), "root")
	copied := filepath.Join(r.dir, "nvim")
	for from, to := range map[string]string{root: copied, r.plugin: filepath.Join(r.dir, "plugin"), r.bin: filepath.Join(r.dir, "bin")} {
		if out, err := exec.Command("cp", "-r", from, to).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v\n%s", from, err, out)
		}
	}
	find := func(name string) string {
		found := ""
		_ = filepath.WalkDir(copied, func(path string, d os.DirEntry, err error) error {
			if ok, _ := filepath.Match(name, filepath.Base(path)); ok && err == nil && found == "" {
				found = path
			}
			return nil
		})
		if found == "" {
			t.Fatalf("there is no %s below %s", name, root)
		}
		return found
	}
	lib := filepath.Dir(find("libc.so.6"))
	share := filepath.Join(copied, "usr", "share")
	r.command = []string{find("ld-linux*.so.*"), "--library-path", lib + ":" + filepath.Join(copied, "lib", filepath.Base(lib)), filepath.Join(copied, "usr", "bin", "nvim")}
	other := exec.Command("sleep", "600")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	r.more = []string{
		"VIMRUNTIME=" + filepath.Join(share, "nvim", "runtime"),
		"LUA_CPATH=" + filepath.Join(lib, "lua", "5.1", "?.so") + ";;",
		"LUA_PATH=" + filepath.Join(share, "lua", "5.1", "?.lua") + ";" + filepath.Join(share, "lua", "5.1", "?", "init.lua") + ";;",
		"HOME=" + r.dir,
		fmt.Sprintf("SIGHTLINE_OTHER=%d", other.Process.Pid),
	}
	r.plugin, r.bin, r.user = filepath.Join(r.dir, "plugin"), filepath.Join(r.dir, "bin"), user
}

// Program is a command of this run, in its environment and by its user.
func (r *run) program(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = filepath.Join(r.dir, "example")
	noDaemon := ""
	if alone[r.test] {
		noDaemon = "1"
	}
	cmd.Env = append(os.Environ(),
		"PATH="+r.bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		"SIGHTLINE_EXAMPLE="+cmd.Dir,
		"XDG_RUNTIME_DIR="+filepath.Join(r.dir, "run"), // the user's daemon stays out of it
		"SIGHTLINE_NO_DAEMON="+noDaemon,
		"XDG_STATE_HOME="+filepath.Join(r.dir, "state"),
		"XDG_CONFIG_HOME="+filepath.Join(r.dir, "config"),
		"XDG_DATA_HOME="+filepath.Join(r.dir, "data"),
		"NVIM_LOG_FILE="+filepath.Join(r.dir, "nvim.log"),
		"LC_ALL=C.UTF-8",
	)
	cmd.Env = append(cmd.Env, r.more...)
	if r.user != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.user}
	}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (r *run) lua(t *testing.T) {
	example := filepath.Join(r.dir, "example")
	if err := os.CopyFS(example, os.DirFS(filepath.Join("..", "..", "testdata", "example"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(r.dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	if r.user != nil {
		// What is built is built by this user, whose cache of builds is full.
		build := exec.CommandContext(ctx, "go", "test", "-c", "-o", "accesslog.test", ".")
		build.Dir = example
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build the example's test: %v\n%s", err, out)
		}
		r.hand(t)
	} else {
		record := r.program(ctx, filepath.Join(r.bin, "sightline"), "test", "-run", "TestPages", "--samples", "300")
		if out, err := record.CombinedOutput(); err != nil {
			t.Fatalf("record the example: %v\n%s", err, out)
		}
	}
	defer r.end(t)

	// An error of the script would leave Neovim waiting for ever, so it is caught.
	script := fmt.Sprintf(`lua package.path = [[%s/test/?.lua;]] .. package.path; local ok, e = xpcall(dofile, debug.traceback, [[%s]]); if not ok then io.stdout:write(e .. "\n") vim.cmd("cquit 1") end`,
		r.plugin, filepath.Join(r.plugin, "test", r.test+"_test.lua"))
	args := append(r.command[1:], "--headless", "--clean", "--cmd", "set runtimepath^="+r.plugin, "-c", script)
	cmd := r.program(ctx, r.command[0], args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	text := strings.ReplaceAll(out.String(), "\r", "")
	if err != nil {
		t.Errorf("%s: %v\n%s", r.test, err, text)
	} else {
		t.Log("\n" + text)
	}
}

// Hand gives all that lies in the run's folder to its user, and lets him get there.
func (r *run) hand(t *testing.T) {
	t.Helper()
	for dir := filepath.Dir(r.dir); dir != os.TempDir() && dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(r.dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(r.user.Uid), int(r.user.Gid))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// End ends the run's daemon; nothing that the run started may be left.
func (r *run) end(t *testing.T) {
	if !alone[r.test] {
		stop := r.program(context.Background(), filepath.Join(r.bin, "sightline"), "daemon", "stop") // the test's context may be over
		if out, err := stop.CombinedOutput(); err != nil {
			t.Errorf("end the daemon: %v\n%s", err, out)
		} else if !strings.Contains(string(out), "has ended") {
			t.Errorf("the editor was not served by a daemon: %s", out)
		}
	}
	var left []string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if left = r.processes(); len(left) == 0 {
			return
		}
	}
	t.Errorf("processes are left: %s", strings.Join(left, ", "))
}

// Processes are those that have the run's environment.
func (r *run) processes() []string {
	var found []string
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range all {
		if env, err := os.ReadFile(file); err == nil && bytes.Contains(env, []byte("XDG_RUNTIME_DIR="+filepath.Join(r.dir, "run")+"\x00")) {
			args, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
			found = append(found, strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	return found
}
