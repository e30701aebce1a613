package view

import "strings"

// A Preset is a stock text for the fields of a filter, under a name.
type Preset struct {
	Name  string `json:"name"`
	About string `json:"about"` // one line
	Group string `json:"group,omitempty"`
	Fold  string `json:"fold,omitempty"`
}

// notCode are the frames that are no functions: those of tasks, and pseudo-frames.
const notCode = "^Process|^Thread|^[->"

// Presets are the stock presets, in the order to offer them. Modules are the import paths of the
// workspace's Go modules or the names of its binaries; without any there is no "just my code".
func Presets(modules []string) []Preset {
	presets := []Preset{{Name: "no grouping", About: "Every function by itself"}}
	if mine := myCode(modules); mine != "" {
		presets = append(presets, Preset{
			Name: "just my code", About: "The workspace's functions; all else by how it was called from there",
			Group: "[just my code] " + notCode + ";" + mine + "->;*=>OTHER",
		})
	}
	return append(presets, []Preset{
		{Name: "module entries", About: "Each binary by the functions that were called in it from elsewhere", Group: "[group module entries] " + moduleEntries},
		{Name: "modules", About: "Each binary as one", Group: "[group modules] {%}!->module $1"},
		{Name: "full path module entries", About: "The same for binaries of one name in several folders", Group: "[group full path module entries] {*}!=>module $1"},
		{Name: "Go packages", About: "Each Go package as one", Group: "[group Go packages] " + goPattern + "->package $1"},
		{Name: "Go package entries", About: "Each Go package by the functions that were called in it from elsewhere", Group: "[group Go package entries] " + goPattern + "=>package $1"},
		{Name: "runtime", About: "The Go runtime by the functions that were called in it", Group: "[group runtime] !runtime.|!runtime/|!internal/|^runtime.|^runtime/|^internal/=>RUNTIME"},
		{Name: "kernel", About: "The kernel by the functions that were called in it", Group: "[group kernel] ^kernel!|^[kernel]=>KERNEL"},
		{Name: "class entries", About: "Each class or type by the functions that were called in it", Group: "[group class entries] {%!*}.%(=>class $1;{%!*}::=>class $1"},
		{Name: "classes", About: "Each class or type as one", Group: "[group classes] {%!*}.%(->class $1;{%!*}::->class $1"},
		{Name: "threads", About: "All threads of a process as one", Group: "[fold threads] ^Thread->Thread"},
		{Name: "processes", About: "Processes of one name as one, and all their threads", Group: "[ignore PID and TID] ^Process% {%}->$1;^Thread->Thread"},
	}...)
}

// myCode is the pattern of the workspace's own functions.
func myCode(modules []string) string {
	var parts []string
	goCode := false
	for _, m := range modules {
		if m = strings.TrimSpace(m); m == "" {
			continue
		}
		if strings.ContainsAny(m, "{}|;%^@<>") {
			continue // no import path and no reasonable binary has these, and patterns would misread them
		}
		if !strings.Contains(m, "/") {
			parts = append(parts, m+"!")
		}
		goCode = true
		for _, at := range []string{"!", "^"} {
			parts = append(parts, at+m+"/", at+m+".", at+m+"_test.")
		}
	}
	if goCode {
		parts = append(parts, "!main.", "^main.")
	}
	return strings.Join(parts, "|")
}

// With is f with a preset's fields in place of its own Group and, where the preset has one, Fold.
func (f Filter) With(p Preset) Filter {
	f.Group = p.Group
	if p.Fold != "" {
		f.Fold = p.Fold
	}
	return f
}
