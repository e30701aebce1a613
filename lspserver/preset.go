package lspserver

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/store"
	"github.com/sightline-dev/sightline/profiler/view"
	"github.com/sightline-dev/sightline/sourcemap"
)

// presets answers rpc.MethodPresets: those that were saved in the workspaces, by name, and then the
// stock ones.
func (s *server) presets(_ context.Context, p rpc.PresetsParams) ([]rpc.Preset, error) {
	presets := []rpc.Preset{}
	known := func(name string) bool {
		return slices.ContainsFunc(presets, func(q rpc.Preset) bool { return strings.EqualFold(q.Name, name) })
	}
	var modules []string
	for _, w := range s.allWorkspaces() {
		if p.Root != "" && w.root != filepath.Clean(p.Root) {
			continue
		}
		modules = append(modules, sourcemap.Modules(w.root)...)
		s.list(w)
		w.mu.Lock()
		st := w.store
		w.mu.Unlock()
		if st == nil {
			continue
		}
		saved, err := st.Presets()
		if err != nil {
			return nil, errState("%v", err)
		}
		for _, k := range saved {
			var f view.Filter
			if json.Unmarshal([]byte(k.Text), &f) != nil || known(k.Name) {
				continue // saved by a newer version
			}
			presets = append(presets, rpc.Preset{Name: k.Name, Detail: "saved here", Filter: filterText(f)})
		}
	}
	slices.Sort(modules)
	for i, x := range view.Presets(slices.Compact(modules)) {
		if !known(x.Name) {
			presets = append(presets, rpc.Preset{Name: x.Name, Detail: x.About, Stock: true, Default: i == 0, Filter: filterText(view.Filter{}.With(x))})
		}
	}
	return presets, nil
}

type savePresetArgs struct {
	Name   string          `json:"name"`
	Root   string          `json:"root"`   // workspace folder that keeps it; "" is the first
	Filter rpc.StackFilter `json:"filter"` // as rpc.StacksResult.Fields has it
	Remove bool            `json:"remove"` // forget it instead
}

// savePreset keeps a filter under a name, or forgets it.
func (s *server) savePreset(_ call, a savePresetArgs) (any, error) {
	var st *store.Store
	for _, w := range s.allWorkspaces() {
		if a.Root == "" || w.root == filepath.Clean(a.Root) {
			s.list(w)
			w.mu.Lock()
			st = w.store
			w.mu.Unlock()
			break
		}
	}
	if st == nil {
		return nil, errState("preset %.60q is not saved: no folder is open that could keep it", a.Name)
	}
	if a.Remove {
		if err := st.RemovePreset(a.Name); err != nil {
			return nil, errState("%v", err)
		}
		return s.presets(s.ctx, rpc.PresetsParams{Root: a.Root})
	}
	f, _, err := s.filterOf(a.Filter, a.Root)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	if err := st.SetPreset(store.Preset{Name: a.Name, Text: string(text)}); err != nil {
		return nil, errState("%v", err)
	}
	return s.presets(s.ctx, rpc.PresetsParams{Root: a.Root})
}
