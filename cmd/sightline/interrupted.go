package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/sourcemap"
)

const namedLater = "the recorder was killed before it named the functions; they were named afterwards, from the binaries that were still there"

// Naming is held by who names: two in one process would do it twice.
var naming sync.Mutex

// NameInterrupted names the functions of captures whose recorder was killed before it did: as far
// as the binaries that ran are still on this machine, which their build IDs tell. It happens once
// for each, when the store is opened next. What goes wrong leaves the capture as it was. One without a
// sample is of no use and goes, as it does when a recording ends by itself.
func nameInterrupted(ctx context.Context, st *store.Store, workspace string) {
	naming.Lock()
	defer naming.Unlock()
	list, err := st.List()
	if err != nil {
		return // whoever uses the store is told
	}
	for _, m := range list {
		if !m.Interrupted || m.Recording || len(m.Files) > 0 || wasNamed(m.Warnings) {
			continue
		}
		if !slices.ContainsFunc(m.Kinds, func(k store.KindMeta) bool { return k.Samples > 0 }) {
			_ = st.Remove(m.ID)
			continue
		}
		if c, err := st.Load(m.ID); err == nil && nameStored(ctx, c, workspace) == nil {
			_, _ = st.Replace(m.ID, c)
		}
	}
}

func wasNamed(warnings []profile.Warning) bool {
	for _, w := range warnings {
		if w.Text == namedLater {
			return true
		}
	}
	return false
}

func nameStored(ctx context.Context, c *profile.Capture, workspace string) error {
	paths, _ := sourcemap.FindPaths(ctx, []string{workspace})
	symbols := sourcemap.NewSymbolizer(sourcemap.Config{Paths: paths})
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	err := symbols.Symbolize(ctx, c, func(id profile.MappingID) (io.ReaderAt, error) {
		m := c.Mappings[id]
		if m.Kind != profile.FileCode {
			return nil, errors.New("it ended with its process")
		}
		f, err := profiler.OpenBinary(m)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		return f, nil
	})
	if err != nil {
		return err
	}
	c.Warn(profile.WarnInterrupted, 0, namedLater)
	return symbols.Sources(ctx, c)
}
