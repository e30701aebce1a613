package view

// IncludeItem is f keeping only samples in whose stack one of the names is; once more keeps those that
// have one of both.
func (f Filter) IncludeItem(names ...string) Filter { return f }

// ExcludeItem is f without the samples in whose stack any of the names is.
func (f Filter) ExcludeItem(names ...string) Filter { return f }

// FoldItem is f with the names folded into their callers.
func (f Filter) FoldItem(names ...string) Filter { return f }

// FoldModule is f with all of the names' modules folded into their callers.
func (f Filter) FoldModule(names ...string) Filter { return f }

// UngroupItem is f with the group that a row stands for opened.
func (f Filter) UngroupItem(name string) Filter { return f }

// UngroupModule is f with the functions of the names' modules out of every group.
func (f Filter) UngroupModule(names ...string) Filter { return f }

// GroupModule is f with each of the names' modules as one group.
func (f Filter) GroupModule(names ...string) Filter { return f }

// EntryGroup is f with each of the names' modules as a group that keeps its entry functions apart.
func (f Filter) EntryGroup(names ...string) Filter { return f }

// SetTimeRange is f bounded to a part of the When column, in milliseconds.
func (f Filter) SetTimeRange(start, end float64) Filter { return f }
