package view

// A Selection is a Source under a Filter: what every view of the stack viewer is computed from.
//
// It is read-only; any number of goroutines may use it.
type Selection struct{}

// Source is what was filtered.
func (s *Selection) Source() *Source { return nil }

// Filter is what it was filtered by.
func (s *Selection) Filter() Filter { return Filter{} }

// Root is the row of the whole selection, named Root.
func (s *Selection) Root(c Columns) StackRow { return StackRow{} }

// Range is the time that the When column shows, in milliseconds.
func (s *Selection) Range() (start, end float64) { return 0, 0 }

// NameRows is the by-name view. As JSON it is {"root":ROW,"rows":[…]}.
type NameRows struct {
	Root StackRow   `json:"root"`
	Rows []StackRow `json:"rows"`
}

// ByName is the cost of each name, Root included, ordered by self, then total, largest first, then by
// name. A sample counts once in a name's total however often its stack comes by.
func (s *Selection) ByName(c Columns) NameRows { return NameRows{} }

// Find are the names that match a pattern, in the order of ByName. It fails with a *FilterError.
func (s *Selection) Find(pattern string) ([]StackRow, error) { return nil, nil }

// A FocusError is a name that no row has.
type FocusError struct {
	Focus   string
	Nearest []string // at most three names of rows, the nearest first
	Several bool     // Focus is the short form of all of Nearest
}

func (e *FocusError) Error() string { return "" }

// Name is the name of the row that focus means: that name itself, or what follows the ! in one name
// only. It fails with a *FocusError.
func (s *Selection) Name(focus string) (string, error) { return "", nil }

// Calls is the caller-callee view. As JSON it is {"focus":ROW,"callers":[…],"callees":[…]}.
//
// Where a stack has the focus k times each of them counts for 1/k, so the callers' totals add up to
// that of the focus, and so do its self and the callees' totals.
type Calls struct {
	Focus   StackRow   `json:"focus"`
	Callers []StackRow `json:"callers"`
	Callees []StackRow `json:"callees"`
}

// CallerCallee is what calls a name and what it calls. It fails with a *FocusError.
func (s *Selection) CallerCallee(focus string, c Columns) (*Calls, error) { return nil, nil }
