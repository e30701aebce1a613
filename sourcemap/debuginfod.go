package sourcemap

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNoDebugFile says that no server has the debug file that was asked for.
var ErrNoDebugFile = errors.New("no debuginfod server has it")

// Debuginfod fetches debug files by build ID from debuginfod servers (man 8 debuginfod, "WEBAPI"), and
// keeps them in a folder whose layout it shares with the other clients (man 3
// debuginfod_find_debuginfo): BUILDID/debuginfo, empty where the servers lately had none.
//
// A file is used only if its build ID is the one asked for. A server that hangs, that cannot be
// reached or that lies is not asked again for ten minutes, so that it delays one recording once.
//
// The fields are set before the first call and not changed after it. Any goroutine may call it.
type Debuginfod struct {
	// Servers are the base URLs, asked in order; the words of the environment's DEBUGINFOD_URLS.
	Servers []string
	// Cache is the folder, made when it is needed; usually $XDG_CACHE_HOME/debuginfod_client. It must
	// not be empty.
	Cache string
	// Timeout is how long a server may take to answer, and to send each further 100 KB. Default: 30 s.
	Timeout time.Duration
	// MaxSize is the size in bytes above which a file is not fetched. Default: 2 GiB.
	MaxSize int64
	// Progress is told what is asked for and, some times a second, how much has come, from several
	// goroutines at once. Where it returns false, this and all further fetches of this Debuginfod are
	// given up. nil: nobody is told.
	Progress func(Download) bool
	// GiveUp, when it is closed, ends all fetches at once and keeps further ones from beginning. nil: they
	// run to their end.
	GiveUp <-chan struct{}

	mu      sync.Mutex            // guards the two
	fetches map[string]chan error // by build ID, those under way
	silent  map[string]time.Time  // by server: until when it is not asked
	stopped atomic.Bool           // Progress has said false
}

// ErrGivenUp says that a file was not fetched because nobody wants to wait for it.
var ErrGivenUp = errors.New("fetching debug files was cancelled; record again to fetch them")

// over says whether fetches are given up.
func (d *Debuginfod) over() bool {
	select {
	case <-d.GiveUp:
		return true
	default:
		return d.stopped.Load()
	}
}

// A Download is the state of one fetch.
type Download struct {
	BuildID string
	Server  string
	Done    int64 // bytes that have come
	Size    int64 // bytes there are; 0 where the server does not say
}

const (
	missLasts     = 10 * time.Minute // how long a file that no server had is not asked for
	silenceLasts  = 10 * time.Minute
	leastProgress = 100 << 10 // bytes in each Timeout
)

// Fetch is the path of the debug file with a build ID (lower-case hexadecimal), fetched where the
// folder does not have it. The error wraps ErrNoDebugFile where no server has it, and is ErrGivenUp where
// that is not known because of Progress or GiveUp; others are a sentence that names server and remedy;
// that of ctx comes as it is.
func (d *Debuginfod) Fetch(ctx context.Context, buildID string) (path string, err error) {
	if !isBuildID(buildID) {
		return "", fmt.Errorf("fetch the debug file of build ID %q: it is no build ID: %w", buildID, ErrNoDebugFile)
	}
	path = filepath.Join(d.Cache, buildID, "debuginfo")
	for {
		if done, err := d.cached(path, buildID); done {
			return path, err
		}
		switch {
		case len(d.Servers) == 0:
			return "", ErrNoDebugFile
		case d.over():
			return "", ErrGivenUp
		}
		d.mu.Lock()
		under, ok := d.fetches[buildID]
		if !ok {
			under = make(chan error, 1)
			if d.fetches == nil {
				d.fetches = map[string]chan error{}
			}
			d.fetches[buildID] = under
		}
		d.mu.Unlock()
		if !ok {
			err := d.fetch(ctx, path, buildID)
			d.mu.Lock()
			delete(d.fetches, buildID)
			d.mu.Unlock()
			close(under)
			return path, err
		}
		select { // another goroutine fetches it: then look again
		case <-under:
		case <-d.GiveUp:
			return "", ErrGivenUp
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// isBuildID tells what may be part of a path and of a URL. The usual ones have 20 bytes; some have 8.
func isBuildID(id string) bool {
	return len(id) >= 8 && len(id) <= 128 && len(id)%2 == 0 && strings.Trim(id, "0123456789abcdef") == ""
}

// cached says whether the folder knows the file, or that there is none.
func (d *Debuginfod) cached(path, buildID string) (bool, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return false, nil
	case info.Size() == 0 && time.Since(info.ModTime()) < missLasts:
		return true, ErrNoDebugFile
	case info.Size() == 0 || checkFetched(path, buildID) != nil:
		return false, nil
	}
	return true, nil
}

// fetch asks one server after the other.
func (d *Debuginfod) fetch(ctx context.Context, path, buildID string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep the debug file of build ID %s: %w; make the folder writable or set DEBUGINFOD_CACHE_PATH", buildID, err)
	}
	var failure error
	asked, missing := 0, 0
	for _, server := range d.Servers {
		d.mu.Lock()
		silent := time.Now().Before(d.silent[server])
		d.mu.Unlock()
		if silent {
			continue
		}
		asked++
		err := d.ask(ctx, server, path, buildID)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case d.over():
			return ErrGivenUp
		case errors.Is(err, ErrNoDebugFile):
			missing++
			continue
		}
		failure = cmp.Or(failure, err)
		if !errors.Is(err, errUnusable) {
			d.mu.Lock()
			if d.silent == nil {
				d.silent = map[string]time.Time{}
			}
			d.silent[server] = time.Now().Add(silenceLasts)
			d.mu.Unlock()
		}
	}
	if failure != nil {
		return failure
	}
	if missing == asked && asked == len(d.Servers) {
		if f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err == nil {
			f.Close() // its time is when it was missing
			now := time.Now()
			os.Chtimes(path, now, now)
		}
	}
	return ErrNoDebugFile
}

// errUnusable marks answers that say nothing against the server: a file too large to fetch, a folder
// that is full.
var errUnusable = errors.New("the file cannot be used")

// An unusable error is one of the sort.
type unusable struct{ error }

func (unusable) Is(target error) bool { return target == errUnusable }

// ask fetches the file from one server to path.
func (d *Debuginfod) ask(ctx context.Context, server, path, buildID string) error {
	what := fmt.Sprintf("fetch the debug file of build ID %s from %s", buildID, server)
	base, err := url.Parse(server)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return fmt.Errorf("%s: it is no http or https URL; correct DEBUGINFOD_URLS", what)
	}
	timeout := cmp.Or(d.Timeout, 30*time.Second)
	limit := cmp.Or(d.MaxSize, 2<<30)

	// The request ends when too little has come for too long.
	hung := fmt.Errorf("%s: nothing, or next to nothing, came for %v; take it out of DEBUGINFOD_URLS if it stays so", what, timeout)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(timeout, func() { cancel(hung) })
	defer timer.Stop()
	if d.GiveUp != nil {
		answered := make(chan struct{})
		defer close(answered)
		go func() { // ends with this call
			select {
			case <-d.GiveUp:
				cancel(ErrGivenUp)
			case <-answered:
			}
		}()
	}
	state := Download{BuildID: buildID, Server: server}
	if d.Progress != nil && !d.Progress(state) {
		d.stopped.Store(true)
		return ErrGivenUp
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("buildid", buildID, "debuginfo").String(), nil)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	req.Header.Set("User-Agent", "sightline")
	resp, err := debuginfodClient.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause == hung {
			return hung
		}
		return fmt.Errorf("%s: %w; check the network, or take the server out of DEBUGINFOD_URLS", what, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return ErrNoDebugFile
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: it answers %q", what, resp.Status)
	}
	size := max(resp.ContentLength, 0)
	if told, err := strconv.ParseInt(resp.Header.Get("X-DEBUGINFOD-SIZE"), 10, 64); err == nil && told > 0 {
		size = told // of the file; the length is that of what is sent, which may be compressed
	}
	if size > limit {
		return unusable{fmt.Errorf("%s: it has %d bytes, more than the %d that are fetched", what, size, limit)}
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "debuginfo.*.part")
	if err != nil {
		return unusable{fmt.Errorf("%s: %w", what, err)}
	}
	defer os.Remove(tmp.Name()) // it has another name by then where all went well
	defer tmp.Close()

	state.Size = size
	var told time.Time
	var counted int64 // bytes when the timer was last set
	buf := make([]byte, 256<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			if _, err := tmp.Write(buf[:n]); err != nil {
				return unusable{fmt.Errorf("%s: %w; make room, or set DEBUGINFOD_CACHE_PATH to another disk", what, err)}
			}
			state.Done += int64(n)
			if state.Done-counted >= leastProgress {
				counted = state.Done
				timer.Reset(timeout)
			}
		}
		if state.Done > limit {
			return unusable{fmt.Errorf("%s: it has more than the %d bytes that are fetched", what, limit)}
		}
		if d.Progress != nil && (err != nil || time.Since(told) > 200*time.Millisecond) {
			told = time.Now()
			if !d.Progress(state) {
				d.stopped.Store(true)
				return ErrGivenUp
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			if cause := context.Cause(ctx); cause == hung {
				return hung
			}
			return fmt.Errorf("%s: its answer ends after %d bytes: %w", what, state.Done, err)
		}
	}
	if err := tmp.Close(); err != nil {
		return unusable{fmt.Errorf("%s: %w", what, err)}
	}
	if err := checkFetched(tmp.Name(), buildID); err != nil {
		return fmt.Errorf("%s: it sent %w; the answer is not used", what, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return unusable{fmt.Errorf("%s: %w", what, err)}
	}
	return nil
}

// checkFetched tells what is wrong with a fetched file, as the end of a sentence.
func checkFetched(path, id string) error {
	file, info, err := openUnder("", path)
	if err != nil {
		return err
	}
	defer file.Close()
	f, err := elf.NewFile(file)
	if err != nil {
		return whyNotELF(file, uint64(info.Size()), true, err)
	}
	if got := buildID(f); got != id {
		return fmt.Errorf("a file of another build (build ID %s)", cmp.Or(got, "none"))
	}
	for _, s := range f.Sections {
		if size := uint64(info.Size()); s.Type != elf.SHT_NOBITS && s.Type != elf.SHT_NULL && (s.Offset > size || s.FileSize > size-s.Offset) {
			return fmt.Errorf("a file that is cut short: section %s lies beyond its %d bytes", s.Name, info.Size())
		}
	}
	return nil
}

// debuginfodClient follows redirections, as servers pass on what they do not have, but not from
// https to http.
var debuginfodClient = &http.Client{
	Transport: func() http.RoundTripper {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxResponseHeaderBytes = 64 << 10
		t.MaxConnsPerHost = 8
		return t
	}(),
	CheckRedirect: func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) >= 10:
			return errors.New("it redirects in circles")
		case via[0].URL.Scheme == "https" && req.URL.Scheme != "https":
			return fmt.Errorf("it redirects to %s, which is not encrypted", req.URL.Host)
		}
		return nil
	},
}
