package store

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sightline-dev/sightline/profiler/profile"
)

// killsVariable says how often TestKilledAtAnyInstant kills, and others a part of it; `make soak` asks for many.
const killsVariable = "SIGHTLINE_KILLS"

func killsAsked(t *testing.T) int {
	t.Helper()
	if n, err := strconv.Atoi(os.Getenv(killsVariable)); err == nil {
		return n
	}
	if testing.Short() {
		return 5
	}
	return 50
}

// churnBudget is so small that most captures that are stored push older ones out.
const churnBudget = 120 << 10

// churned is a capture that is stored while somebody kills, small enough to be stored often.
func churned(seed uint64) *profile.Capture {
	sh := small
	sh.samples, sh.stacks, sh.files = 400, 60, 4
	return generate(sh, seed)
}

// churn records, stores, pins, prunes, removes and compacts until it is killed, and says what it did,
// or is about to do where that takes something away:
//
//	stored ID SEED · flushed ID SEED SAMPLES · pinned ID · removing ID
func churn(s *Store, args []string) error {
	seed, _ := strconv.ParseUint(args[0], 10, 64)
	s, err := Open(s.Path(), Options{Wait: 60 * time.Second, Budget: churnBudget})
	if err != nil {
		return err
	}
	for round := 0; ; round++ {
		seed++
		c := churned(seed)
		w, err := s.Begin(prefix(c, 10))
		if err != nil {
			return err
		}
		for n := 100; n <= 400; n += 100 {
			if err := w.Flush(prefix(c, n)); err != nil {
				return err
			}
			fmt.Println("flushed", w.ID(), seed, n)
		}
		m, err := w.Finish(c)
		if err != nil {
			return err
		}
		fmt.Println("stored", m.ID, seed)
		if round%3 == 0 {
			if err := s.Pin(m.ID, true); err != nil {
				return err
			}
			fmt.Println("pinned", m.ID)
		}
		list, err := s.List()
		if err != nil {
			return err
		}
		var pinned []ID
		for _, m := range list {
			if m.Pinned {
				pinned = append(pinned, m.ID)
			}
		}
		if len(pinned) > 6 {
			oldest := pinned[len(pinned)-3:]
			for _, id := range oldest {
				fmt.Println("removing", id)
			}
			if err := s.Remove(oldest...); err != nil {
				return err
			}
		}
		if round%4 == 3 {
			if err := s.Compact(); err != nil {
				return err
			}
		}
	}
}

// Whenever a process is killed, the store opens and is whole: what was finished is as it was, and what
// was being recorded is there up to its last flush.
func TestKilledAtAnyInstant(t *testing.T) {
	kills := killsAsked(t)
	path := filepath.Join(t.TempDir(), "captures.db")
	type known struct {
		seed    uint64
		flushed int // samples; -1 when it was finished
		pinned  bool
	}
	captures := map[ID]*known{} // what must be there, by what was said
	random := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	finished := 0
	for kill := range kills {
		cmd, out := another(t, "churn", path, strconv.Itoa(1+kill*1000))
		if !out.Scan() {
			t.Fatalf("kill %d: the other process said nothing", kill)
		}
		// How far it is to come is counted in what it does, so that a slow machine finishes as much, and
		// the instant within that is any.
		lines := []string{out.Text()}
		for range random.IntN(14) {
			if out.Scan() {
				lines = append(lines, out.Text())
			}
		}
		time.Sleep(time.Duration(random.Int64N(int64(12 * time.Millisecond))))
		cmd.Process.Kill()
		for out.Scan() {
			lines = append(lines, out.Text())
		}
		cmd.Wait()
		for _, line := range lines {
			f := strings.Fields(line)
			id := ID(f[1])
			switch f[0] {
			case "flushed", "stored":
				k := &known{flushed: -1}
				k.seed, _ = strconv.ParseUint(f[2], 10, 64)
				if f[0] == "flushed" {
					k.flushed, _ = strconv.Atoi(f[3])
				} else {
					finished++
				}
				captures[id] = k
			case "pinned":
				captures[id].pinned = true
			case "removing":
				delete(captures, id)
			}
		}

		s, err := Open(path, Options{})
		if err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		if err := s.Check(); err != nil {
			t.Fatalf("kill %d: %v", kill, err)
		}
		list := must[[]Meta](t)(s.List())
		for id, k := range captures {
			i := slices.IndexFunc(list, func(m Meta) bool { return m.ID == id })
			if i < 0 {
				// To make room the oldest went, which none that is older and could go as well outlived.
				if k.pinned || slices.ContainsFunc(list, func(m Meta) bool { return m.ID < id && !m.Pinned && captures[m.ID] != nil }) {
					t.Fatalf("kill %d: capture %s is lost", kill, id)
				}
				delete(captures, id)
				continue
			}
			got := must[*profile.Capture](t)(s.Load(id))
			want := churned(k.seed)
			if list[i].Interrupted {
				n := got.Series[0].Samples.Len()
				if k.flushed < 0 || n < k.flushed || !got.Interrupted {
					t.Fatalf("kill %d: capture %s has %d samples, %d were flushed (-1: finished)", kill, id, n, k.flushed)
				}
				want = prefix(want, n)
				got.Warnings, got.Interrupted = want.Warnings, false
			}
			if d := diff(want, got); d != "" {
				t.Fatalf("kill %d: capture %s: %s", kill, id, d)
			}
		}
	}
	if finished < kills/5 {
		t.Errorf("only %d captures were finished before %d kills: the kills come too early to mean much", finished, kills)
	}
	t.Logf("%d kills, %d captures finished, %d there at the end", kills, finished, len(captures))
}

// The same with the process that opens a store first, again and again.
func TestKilledWhileMaking(t *testing.T) {
	for range 5 {
		path := filepath.Join(t.TempDir(), "new", "captures.db")
		cmd := exec.Command("/proc/self/exe", path, "1")
		cmd.Env = append(os.Environ(), roleVariable+"=churn")
		out := must[interface{ Read([]byte) (int, error) }](t)(cmd.StdoutPipe())
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(60 * time.Second); ; { // until the folder is there: the file comes next
			if _, err := os.Stat(filepath.Dir(path)); err == nil || time.Now().After(deadline) {
				break
			}
		}
		syscall.Kill(cmd.Process.Pid, syscall.SIGKILL)
		for s := bufio.NewScanner(out); s.Scan(); {
		}
		cmd.Wait()
		s := openAt(t, path, Options{})
		if _, err := s.Put(churned(1)); err != nil {
			t.Error(err)
		}
	}
}
