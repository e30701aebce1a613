package freeze

import (
	"testing"
)

func TestFork(t *testing.T) {
	tg := startChurn(t, 8<<20)
	for n := range 5 {
		i, err := Take(t.Context(), tg.pid, Options{How: Forked})
		if err != nil {
			t.Fatal(n, err)
		}
		checkChurn(t, tg, i)
		t.Log(i.Stopped(), i.How(), i.Notes(), len(i.Threads()), i.Threads()[0].Regs != nil)
		i.Close()
		if ended, living := leftovers(tg.pid); len(ended)+living > 0 {
			t.Errorf("left %v, %d living", ended, living)
		}
	}
	for range 5 {
		tg.out.ReadString('\n')
	}
}
