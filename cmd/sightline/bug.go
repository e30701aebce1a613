package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/cmd/sightline/daemon"
)

// BugBytes is how much of the end of each log goes into a bundle.
const bugBytes = 2 << 20

func newBug(io streams) *cobra.Command {
	out := ""
	cmd := &cobra.Command{
		Use:   "bug",
		Short: "Put all that a report of a fault needs into one file",
		Long: `Writes an archive with the version, what sightline doctor says, the daemon's logs and the reports of
its crashes. There is no source text, no capture and no environment in it, but names of folders, of
programs that were recorded and of functions of Sightline itself. Look at it before you pass it on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				out = "sightline-bug-" + time.Now().UTC().Format("20060102-150405") + ".tar.gz"
			}
			names, err := writeBug(out, bugFiles(cmd))
			if err != nil {
				return err
			}
			fmt.Fprintf(io.out, "%s\n", out)
			for _, n := range names {
				fmt.Fprintf(io.out, "  %s\n", n)
			}
			fmt.Fprintln(io.out, "Nothing was sent. Names of folders, programs and tests are in it: look before you pass it on.")
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write this `file` (default: sightline-bug-TIME.tar.gz here)")
	return cmd
}

// A bugFile is one of a bundle.
type bugFile struct {
	name string
	text []byte
}

func bugFiles(cmd *cobra.Command) []bugFile {
	var files []bugFile
	add := func(name, text string) { files = append(files, bugFile{name, []byte(text)}) }
	v := version()
	kernel, _ := os.ReadFile("/proc/version")
	add("version.txt", fmt.Sprintf("sightline %s %s %s %s modified=%v\n%s", v.Version, v.Revision, v.Go, v.Platform, v.Modified, kernel))
	var doctor strings.Builder
	diagnose(storeOf(cmd)).print(&doctor)
	add("doctor.txt", doctor.String())
	p, err := daemonPlace()
	if err != nil {
		add("daemon.txt", err.Error()+"\n")
		return files
	}
	defer p.Close()
	var status strings.Builder
	if conn := daemonNow(wantStatus); conn == nil {
		fmt.Fprintf(&status, "no daemon of this build runs; socket %s\n", p.Socket())
	} else {
		_ = conn.SetDeadline(time.Now().Add(answerWithin))
		var s daemonStatus
		if err := conn.Receive(&s); err != nil {
			fmt.Fprintf(&status, "the daemon does not answer: %v\n", err)
		} else {
			s.print(&status, time.Now())
		}
		conn.Close()
	}
	add("daemon.txt", status.String())
	folder := logFolder(p)
	for _, path := range append(logFiles(folder), daemon.Reports(folder)...) {
		text, err := lastBytes(path, bugBytes)
		if err != nil {
			text = []byte(err.Error() + "\n")
		}
		files = append(files, bugFile{filepath.Base(path), text})
	}
	return files
}

// LastBytes is the end of a file.
func lastBytes(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	if info.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, n))
}

// WriteBug writes the archive and says what is in it. A file that is there is not replaced.
func writeBug(path string, files []bugFile) (names []string, err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write the bundle: %w; name another file with -o", err)
	}
	defer func() {
		if err != nil {
			os.Remove(path)
			err = fmt.Errorf("write the bundle %s: %w", path, err)
		}
	}()
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	folder := strings.TrimSuffix(filepath.Base(path), ".tar.gz")
	for _, x := range files {
		if err = w.WriteHeader(&tar.Header{Name: folder + "/" + x.name, Mode: 0o600, Size: int64(len(x.text)), ModTime: time.Now()}); err != nil {
			break
		}
		if _, err = w.Write(x.text); err != nil {
			break
		}
		names = append(names, fmt.Sprintf("%-40s %6d bytes", x.name, len(x.text)))
	}
	err = errors.Join(err, w.Close(), z.Close(), f.Close())
	return names, err
}
