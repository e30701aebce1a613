package score

import (
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	tune := strings.Repeat("dé ré mi 𝄞 fa sol 𝄀 la si dé 𝄀", 4000)
	if n := Count(tune)["DÉ"]; n == 0 {
		t.Fatal("no note was counted")
	}
}
