package view

// A PlaceRow is the cost of one source line under a filter. As JSON it is
// {"file","line","total","self","totalCount","selfCount"}.
type PlaceRow struct {
	File       string  `json:"file"` // as in Frame.File
	Line       int     `json:"line"` // 1-based
	Total      float64 `json:"total"`
	Self       float64 `json:"self"`
	TotalCount float64 `json:"totalCount"`
	SelfCount  float64 `json:"selfCount"`
}

// Lines is the cost of each source line in the selected samples, ordered by file and line. A focus
// keeps the samples in whose stack that name is and the lines of the frames that it stands for; an
// empty one keeps all. It fails with a *FocusError.
func (s *Selection) Lines(focus string) ([]PlaceRow, error) { return nil, nil }

// FunctionsOf is the cost of each function of a source file in the selected samples, whatever the
// groups, ordered by total. File is as in Frame.File, or the end of one path that no other has.
func (s *Selection) FunctionsOf(file string, c Columns) ([]StackRow, error) { return nil, nil }
