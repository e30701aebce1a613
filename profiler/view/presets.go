package view

// A Preset is a stock text for the fields of a filter, under a name. An empty field leaves the filter's
// own.
type Preset struct {
	Name  string `json:"name"`
	About string `json:"about"` // one line
	Group string `json:"group,omitempty"`
	Fold  string `json:"fold,omitempty"`
}

// Presets are the stock presets, in the order to offer them. Modules are the import paths of the
// workspace's Go modules or the names of its binaries; without any there is no "just my code".
func Presets(modules []string) []Preset { return nil }

// With is f with a preset's fields in place of its own Group and, where it has one, Fold.
func (f Filter) With(p Preset) Filter { return f }
