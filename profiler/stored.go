package profiler

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// OpenBinary opens the file that a mapping of a stored capture names, when the recording that held
// the very file is over, and checks by its build ID that it is still that binary. The caller closes
// it.
//
// Only a profile.FileCode mapping has a file. Each error is one sentence that says why there is no
// binary: it wraps fs.ErrNotExist where the file is gone or another one has its path, and
// fs.ErrPermission where this user may not read it. A mapping without a build ID is refused with a
// plain error, since any file could be at its path by now.
func OpenBinary(m profile.Mapping) (*os.File, error) {
	switch {
	case m.Kind != profile.FileCode:
		return nil, fmt.Errorf("open the binary %q of a capture: the mapping is no file", m.Path)
	case !filepath.IsAbs(m.Path):
		return nil, fmt.Errorf("open the binary %q of a capture: it is not an absolute path", m.Path)
	case m.BuildID == "":
		return nil, fmt.Errorf("open %s as it was recorded: it had no build ID, so that nothing tells whether this is still the same binary; link it with --build-id and record again", m.Path)
	}
	f, _, err := openRegular(m.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		return nil, &refusal{
			text:   fmt.Sprintf("open %s as it was recorded: it is gone; build it again from the same sources, or record again", m.Path),
			reason: fs.ErrNotExist, cause: err,
		}
	case errors.Is(err, fs.ErrPermission):
		return nil, &refusal{
			text:   fmt.Sprintf("open %s as it was recorded: this user may not read it; read the capture as its owner or as root", m.Path),
			reason: fs.ErrPermission, cause: err,
		}
	case errors.Is(err, unix.ENOEXEC):
		return nil, replaced(m, "no regular file", err)
	case err != nil:
		return nil, fmt.Errorf("open %s as it was recorded: %w", m.Path, err)
	}
	im, err := readImage(f)
	if err == nil && im.buildID == m.BuildID {
		return f, nil
	}
	f.Close()
	what := "build ID " + im.buildID
	switch {
	case err != nil && errors.As(err, new(*fs.PathError)):
		return nil, fmt.Errorf("open %s as it was recorded: %w", m.Path, err)
	case err != nil:
		what = "no program: " + err.Error()
	case im.buildID == "":
		what = "no build ID"
	}
	return nil, replaced(m, what, err)
}

// replaced is the error where a mapping's path is now that of something else.
func replaced(m profile.Mapping, what string, cause error) error {
	return &refusal{
		text:   fmt.Sprintf("open %s as it was recorded: it is another file now (%s; build ID %s was recorded); build it again from the same sources, or record again", m.Path, what, m.BuildID),
		reason: fs.ErrNotExist, cause: cause,
	}
}
