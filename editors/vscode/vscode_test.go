package vscode_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// NotSetUp is the exit status of test/node and test/run.mjs where the test bed is not set up.
const notSetUp = 3

// TestExtension runs the extension's own tests: those that need no editor, those inside the real
// extension host, and the workbench as a person uses it.
func TestExtension(t *testing.T) {
	watch(t)
	for _, kinds := range [][]string{{"unit"}, {"host", "ui"}} {
		t.Run(strings.Join(kinds, "+"), func(t *testing.T) {
			if testing.Short() && kinds[0] != "unit" {
				t.Skip("the editor takes minutes; run without -short")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 13*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, filepath.Join("test", "node"), append([]string{filepath.Join("test", "run.mjs")}, kinds...)...)
			cmd.Env = append(os.Environ(), "FORCE_COLOR=0")
			cmd.WaitDelay = 5 * time.Second
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			switch {
			case errors.As(err, &exit) && exit.ExitCode() == notSetUp:
				skip(t, strings.TrimSpace(string(out)))
			case err != nil:
				t.Errorf("%v\n%s", err, out)
			case !bytes.Contains(out, []byte("ok ")):
				t.Errorf("no test ran:\n%s", out)
			default:
				t.Logf("%s", out)
			}
		})
	}
}

// Watch has go test take note of all files that the tests are made of, so that its cached result is used
// only while none of them has changed: what is read by other programs it does not see. What the tests
// write beside them is left out.
func watch(t *testing.T) {
	t.Helper()
	top := filepath.Join("..", "..")
	folders := []string{"src", "webview", "test", "media", "schema", "package.json", "package-lock.json", "esbuild.mjs", "package.mjs", ".vscodeignore", "README.md", "CHANGELOG.md"}
	for _, name := range []string{"cmd", "lspserver", "profiler", "sourcemap", "heap", "memmap", "testdata/example", "go.mod", "go.sum"} {
		folders = append(folders, filepath.Join(top, name))
	}
	for _, folder := range folders {
		if err := filepath.WalkDir(folder, func(_ string, _ os.DirEntry, err error) error { return err }); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(folder); err != nil { // which notes a single file
			t.Fatal(err)
		}
	}
}

// Skip skips a test for a reason that the person can remove; where the editors are required it fails.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("SIGHTLINE_REQUIRE_EDITORS") != "" {
		t.Fatalf("%s; SIGHTLINE_REQUIRE_EDITORS is set", why)
	}
	t.Skip(why)
}
