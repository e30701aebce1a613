package lsptest

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
)

// testdata has one file per editor: what it says of itself in initialize, as far as it concerns what
// this project's server may offer, read from the editor's source.
//
//go:embed testdata/*.json
var testdata embed.FS

// An overlay is what makes one editor differ from another.
type overlay struct {
	Name         string          `json:"-"`
	Source       string          `json:"source"` // where the facts are from
	HasLenses    bool            `json:"lenses"` // it draws code lenses
	ClientInfo   json.RawMessage `json:"clientInfo"`
	Capabilities json.RawMessage `json:"capabilities"`
}

// Editors are the names of the editors there are.
func Editors() []string {
	files, _ := testdata.ReadDir("testdata")
	var names []string
	for _, f := range files {
		names = append(names, strings.TrimSuffix(f.Name(), ".json"))
	}
	return names
}

// load reads the overlay of an editor and applies a merge patch to its capabilities.
func (o *overlay) load(editor, patch string) error {
	if editor == "" {
		editor = "vscode"
	}
	data, err := testdata.ReadFile("testdata/" + editor + ".json")
	if err != nil {
		return fmt.Errorf("there is no editor %q; there are %q", editor, Editors())
	}
	if err := json.Unmarshal(data, o); err != nil {
		return fmt.Errorf("read testdata/%s.json: %v", editor, err)
	}
	o.Name = editor
	if patch == "" {
		return nil
	}
	var base, over any
	if err := json.Unmarshal(o.Capabilities, &base); err != nil {
		return fmt.Errorf("read the capabilities in testdata/%s.json: %v", editor, err)
	}
	if err := json.Unmarshal([]byte(patch), &over); err != nil {
		return fmt.Errorf("read Options.Capabilities: %v", err)
	}
	o.Capabilities = marshal(mergePatch(base, over))
	return nil
}

// mergePatch is RFC 7396: members of an object replace or, when null, remove.
func mergePatch(base, over any) any {
	patch, ok := over.(map[string]any)
	if !ok {
		return over
	}
	result := map[string]any{}
	if b, ok := base.(map[string]any); ok {
		for k, v := range b {
			result[k] = v
		}
	}
	for k, v := range patch {
		if v == nil {
			delete(result, k)
		} else {
			result[k] = mergePatch(result[k], v)
		}
	}
	return result
}
