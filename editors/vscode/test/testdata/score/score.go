// Package score counts notes. Its text is what editors get wrong: lines end in CR LF, they begin with
// tabs, and there are characters of two, three and four bytes on and above hot lines: é, ♪, 𝄞.
package score

import "strings"

// Count says how often each note of a tune is played.
func Count(tune string) map[string]int {
	notes := map[string]int{}
	for _, bar := range strings.Split(tune, "𝄀") {
		/* 𝄞é */ for _, note := range strings.Fields(strings.ToUpper(bar)) { // é𝄞: the hot line
			notes[note] += len(strings.Split(note, "é"))
		}
	}
	return notes
}
