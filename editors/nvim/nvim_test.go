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
				t.Run(strings.TrimSuffix(filepath.Base(file), "_test.lua"), func(t *testing.T) {
					runLua(t, here, nvim, bin, file)
				})
			}
		})
	}
}

func runLua(t *testing.T, here, nvim, bin, file string) {
	dir := t.TempDir()
	example := filepath.Join(dir, "example")
	if err := os.CopyFS(example, os.DirFS(filepath.Join("..", "..", "testdata", "example"))); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(),
		"PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		"SIGHTLINE_EXAMPLE="+example,
		"XDG_STATE_HOME="+filepath.Join(dir, "state"),
		"SIGHTLINE_NO_DAEMON=1", // the user's daemon stays out of it
		"XDG_CONFIG_HOME="+filepath.Join(dir, "config"),
		"XDG_DATA_HOME="+filepath.Join(dir, "data"),
		"NVIM_LOG_FILE="+filepath.Join(dir, "nvim.log"),
		"LC_ALL=C.UTF-8",
	)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()

	record := exec.CommandContext(ctx, filepath.Join(bin, "sightline"), "test", "-run", "TestPages", "--samples", "300")
	record.Dir, record.Env = example, env
	if out, err := record.CombinedOutput(); err != nil {
		t.Fatalf("record the example: %v\n%s", err, out)
	}

	// An error of the script would leave Neovim waiting for ever, so it is caught.
	script := fmt.Sprintf(`lua package.path = [[%s/test/?.lua;]] .. package.path; local ok, e = xpcall(dofile, debug.traceback, [[%s]]); if not ok then io.stdout:write(e .. "\n") vim.cmd("cquit 1") end`,
		here, filepath.Join(here, file))
	cmd := exec.CommandContext(ctx, nvim, "--headless", "--clean", "--cmd", "set runtimepath^="+here, "-c", script)
	cmd.Dir, cmd.Env = example, env
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	text := strings.ReplaceAll(out.String(), "\r", "")
	if err != nil {
		t.Errorf("%s: %v\n%s", file, err, text)
	} else {
		t.Log("\n" + text)
	}
}
