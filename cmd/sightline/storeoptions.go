package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/cmd/sightline/daemon"
	"github.com/sightline-dev/sightline/profiler/store"
)

// BudgetVariable says how much a store may take before the oldest captures go, as "500MB"; "0" is
// without limit.
const budgetVariable = "SIGHTLINE_STORE_BUDGET"

// StoreOptions are those of every store that this program opens.
func (s *surroundings) storeOptions() (store.Options, error) {
	o := store.Options{Getenv: s.getenv, Migrate: takeOver}
	if text := s.getenv(budgetVariable); text != "" {
		n, err := parseBytes(text)
		if err != nil {
			return o, fmt.Errorf("%s=%s: %w", budgetVariable, text, err)
		}
		o.Budget = n
		if n == 0 {
			o.Budget = -1
		}
	}
	return o, nil
}

// ParseBytes reads an amount such as "500MB", "2GiB" or "1048576".
func parseBytes(text string) (int64, error) {
	suffix := strings.TrimLeft(strings.TrimSpace(text), "0123456789")
	number := strings.TrimSuffix(strings.TrimSpace(text), suffix)
	factor := int64(1)
	if unit := strings.TrimSpace(suffix); unit != "" {
		base := int64(1000)
		unit = strings.TrimSuffix(unit, "B")
		if rest, ok := strings.CutSuffix(unit, "i"); ok {
			unit, base = rest, 1024
		}
		power := strings.Index("KMGT", unit)
		if len(unit) != 1 || power < 0 {
			number = "" // no amount
		}
		for range power + 1 {
			factor *= base
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > 1<<62/factor {
		return 0, errors.New("that is no amount of bytes; give one such as 500MB, or 0 for no limit")
	}
	return n * factor, nil
}

// TakeOver has the daemons of other builds let go of their stores before one that they may use is
// written anew: they could not read it any more. One that has nothing to do is ended; the error, the
// rest of a sentence, names one that has.
func takeOver(string, int) error {
	if noDaemon() {
		return nil
	}
	p, err := daemonPlace()
	if err != nil {
		return nil // then there is no daemon to be reached
	}
	defer p.Close()
	for _, other := range p.Others() {
		if err := endIdle(other); err != nil {
			return err
		}
	}
	return nil
}

func endIdle(p *daemon.Place) error {
	hello := daemon.Hello{Wants: wantStatus, Version: version().Version, PID: os.Getpid()}
	conn, err := daemon.Dial(p, hello, tellWithin)
	if errors.Is(err, daemon.ErrNone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("a daemon of another build may use it (%w)", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(tellWithin))
	var s daemonStatus
	if err := conn.Receive(&s); err != nil {
		return fmt.Errorf("the daemon of another build (process %d) may use it and does not answer (%w); `kill %[1]d` ends it", conn.Welcome.PID, err)
	}
	if len(s.Sessions)+len(s.Recordings) > 0 {
		return fmt.Errorf("the daemon of another build (process %d, version %s) still has %s and %s; close those editors, or end it with `kill %[1]d`, which keeps what it records",
			s.PID, s.Version, plural(len(s.Sessions), "editor"), plural(len(s.Recordings), "recording"))
	}
	hello.Wants = wantStop
	stop, err := daemon.Dial(p, hello, tellWithin)
	if err != nil {
		return nil // it has ended already
	}
	defer stop.Close()
	_ = stop.SetDeadline(time.Now().Add(answerWithin))
	// The connection ends with the process.
	if err := stop.Receive(&struct{}{}); errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the daemon of another build (process %d) does not end; `kill -9 %[1]d` does", s.PID)
	}
	return nil
}
