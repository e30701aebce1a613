package main

import (
	"bytes"
	"context"

	"github.com/sightline-dev/sightline/profiler/convert"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/store"
)

// ImportFor is lspserver.Config.Import.
func (s *surroundings) importFor(ctx context.Context, path, workspace string) (store.ID, error) {
	st, err := s.openStore(workspace)
	if err != nil {
		return "", err
	}
	meta, _, err := importFile(ctx, nil, st, workspace, path, convert.Options{Experimental: true})
	return meta.ID, err
}

// ReadFileFor is lspserver.Config.ReadFile.
func readFileFor(ctx context.Context, path string) (*profile.Capture, error) {
	c, _, err := readForeign(ctx, nil, path, convert.Options{Experimental: true})
	return c, err
}

// Picture is lspserver.Config.Picture.
func picture(p *profile.Profile, title string, difference bool) (string, error) {
	var b bytes.Buffer
	err := convert.Write(&b, convert.SVG, convert.Export{Profile: p, Name: title, Difference: difference})
	return b.String(), err
}
