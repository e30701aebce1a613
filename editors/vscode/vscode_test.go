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
	for _, kind := range []string{"unit", "host", "ui"} {
		t.Run(kind, func(t *testing.T) {
			if testing.Short() && kind != "unit" {
				t.Skip("the editor takes minutes; run without -short")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 13*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, filepath.Join("test", "node"), filepath.Join("test", "run.mjs"), kind)
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

// Skip skips a test for a reason that the person can remove; where the editors are required it fails.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("SIGHTLINE_REQUIRE_EDITORS") != "" {
		t.Fatalf("%s; SIGHTLINE_REQUIRE_EDITORS is set", why)
	}
	t.Skip(why)
}
