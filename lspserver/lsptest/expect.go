package lsptest

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.lsp.dev/protocol"
)

// A Verdict is how a condition stands.
type Verdict int

// The verdicts. What is unmeetable cannot become true any more: waiting ends at once.
const (
	Unmet Verdict = iota
	Met
	Unmeetable
)

func (v Verdict) String() string { return [...]string{"unmet", "met", "unmeetable"}[v] }

// An Expectation is a condition on what the server has told the editor. It is checked with each
// message, so that no state between two messages is missed.
type Expectation struct {
	What  string
	Check func(s *State) Verdict
}

// Expect makes an Expectation of a function; for the common ones see below.
func Expect(what string, check func(s *State) Verdict) Expectation { return Expectation{what, check} }

type waiter struct {
	all  []Expectation
	done chan verdicts
}

type verdicts []Verdict

// Await waits until all expectations are met at the same time. It fails the test as soon as one is
// unmeetable, when the connection ends, or after Options.Timeout.
func (e *Editor) Await(all ...Expectation) {
	e.t.Helper()
	w := &waiter{all: all, done: make(chan verdicts, 1)}
	e.mu.Lock()
	e.waiters = append(e.waiters, w)
	e.evaluate()
	e.mu.Unlock()
	select {
	case v := <-w.done:
		if !v.all(Met) {
			e.t.Fatalf("awaited what cannot come any more:\n%s", describe(all, v))
		}
	case <-time.After(e.opts.Timeout):
		e.mu.Lock()
		v := judge(all, &e.state)
		e.mu.Unlock()
		e.t.Fatalf("awaited in vain for %v:\n%s", e.opts.Timeout, describe(all, v))
	}
}

// Met tells whether an expectation is met now.
func (e *Editor) Met(x Expectation) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return x.Check(&e.state) == Met
}

// evaluate wakes those whose waiting is over. The caller holds mu.
func (e *Editor) evaluate() {
	rest := e.waiters[:0]
	for _, w := range e.waiters {
		v := judge(w.all, &e.state)
		if v.all(Met) || v.any(Unmeetable) {
			w.done <- v
		} else {
			rest = append(rest, w)
		}
	}
	e.waiters = rest
}

func judge(all []Expectation, s *State) verdicts {
	v := make(verdicts, len(all))
	for i, x := range all {
		v[i] = x.Check(s)
		if v[i] == Unmet && s.Ended {
			v[i] = Unmeetable
		}
	}
	return v
}

func (v verdicts) all(want Verdict) bool {
	for _, x := range v {
		if x != want {
			return false
		}
	}
	return true
}

func (v verdicts) any(want Verdict) bool {
	for _, x := range v {
		if x == want {
			return true
		}
	}
	return false
}

func describe(all []Expectation, v verdicts) string {
	var b strings.Builder
	for i, x := range all {
		fmt.Fprintf(&b, "  %-10v %s\n", v[i], x.What)
	}
	return b.String()
}

func met(ok bool) Verdict {
	if ok {
		return Met
	}
	return Unmet
}

// OnceMet says that at the moment when first becomes met, all the others are. If one is not, that
// can never be made good.
func OnceMet(first Expectation, others ...Expectation) Expectation {
	what := "once " + first.What
	for i, x := range others {
		what += [2]string{": ", " and "}[min(i, 1)] + x.What
	}
	decided := Unmet
	return Expect(what, func(s *State) Verdict {
		if decided != Unmet {
			return decided
		}
		switch first.Check(s) {
		case Unmeetable:
			decided = Unmeetable
		case Met:
			decided = Met
			for _, x := range others {
				if x.Check(s) != Met {
					decided = Unmeetable
				}
			}
		}
		return decided
	})
}

// AnyOf is met when one is, and unmeetable when all are.
func AnyOf(xs ...Expectation) Expectation {
	var what []string
	for _, x := range xs {
		what = append(what, x.What)
	}
	return Expect(strings.Join(what, " or "), func(s *State) Verdict {
		result := Unmeetable
		for _, x := range xs {
			switch x.Check(s) {
			case Met:
				return Met
			case Unmet:
				result = Unmet
			}
		}
		return result
	})
}

// Begun says that work whose title matches has begun.
func Begun(title string) Expectation {
	re := regexp.MustCompile(title)
	return Expect(fmt.Sprintf("work %q has begun", title), func(s *State) Verdict {
		return met(s.work(re, func(w *Work) bool { return w.Begun }))
	})
}

// Reported says that work whose title matches has reported a message that matches.
func Reported(title, message string) Expectation {
	re, m := regexp.MustCompile(title), regexp.MustCompile(message)
	return Expect(fmt.Sprintf("work %q has reported %q", title, message), func(s *State) Verdict {
		if s.work(re, func(w *Work) bool {
			for _, r := range w.Reports {
				if m.MatchString(r.Message) {
					return true
				}
			}
			return false
		}) {
			return Met
		}
		return Unmet
	})
}

// Ended says that work whose title matches has ended. If endMessage is given, one that ends with
// another message is unmeetable.
func Ended(title string, endMessage ...string) Expectation {
	re := regexp.MustCompile(title)
	what := fmt.Sprintf("work %q has ended", title)
	if len(endMessage) == 0 {
		return Expect(what, func(s *State) Verdict { return met(s.work(re, func(w *Work) bool { return w.Ended })) })
	}
	m := regexp.MustCompile(endMessage[0])
	return Expect(fmt.Sprintf("%s with %q", what, endMessage[0]), func(s *State) Verdict {
		switch {
		case s.work(re, func(w *Work) bool { return w.Ended && m.MatchString(w.EndMessage) }):
			return Met
		case s.work(re, func(w *Work) bool { return w.Ended }):
			return Unmeetable
		}
		return Unmet
	})
}

// NoWork says that nothing runs that has begun.
func NoWork() Expectation {
	return Expect("no work is under way", func(s *State) Verdict {
		return met(!s.work(regexp.MustCompile(""), func(w *Work) bool { return w.Begun && !w.Ended }))
	})
}

func (s *State) work(title *regexp.Regexp, is func(*Work) bool) bool {
	for _, w := range s.Work {
		if w.Begun && title.MatchString(w.Title) && is(w) {
			return true
		}
	}
	return false
}

// Refreshed says that the server has asked to refresh "inlayHint", "codeLens" or "diagnostic" at
// least n times.
func Refreshed(kind string, n int) Expectation {
	return Expect(fmt.Sprintf("%s was refreshed %d times", kind, n), func(s *State) Verdict {
		return met(s.Refreshes["workspace/"+kind+"/refresh"] >= n)
	})
}

// NotRefreshed says that the server has not asked to; it is for OnceMet.
func NotRefreshed(kind string) Expectation {
	return Expect(fmt.Sprintf("%s was not refreshed", kind), func(s *State) Verdict {
		if s.Refreshes["workspace/"+kind+"/refresh"] > 0 {
			return Unmeetable
		}
		return Met
	})
}

// Shown says that the person was shown a message that matches.
func Shown(message string) Expectation {
	return inMessages("shown", message, func(s *State) []Message { return s.Messages })
}

// Logged says that a message that matches was logged.
func Logged(message string) Expectation {
	return inMessages("logged", message, func(s *State) []Message { return s.Logs })
}

func inMessages(did, message string, of func(*State) []Message) Expectation {
	re := regexp.MustCompile(message)
	return Expect(fmt.Sprintf("%q was %s", message, did), func(s *State) Verdict {
		for _, m := range of(s) {
			if re.MatchString(m.Text) {
				return Met
			}
		}
		return Unmet
	})
}

// NoErrorShown says that the person was shown no error.
func NoErrorShown() Expectation {
	return Expect("no error was shown", func(s *State) Verdict {
		for _, m := range s.Messages {
			if m.Type == protocol.MessageTypeError {
				return Unmeetable
			}
		}
		return Met
	})
}

// Notified says that a notification of a method has come.
func Notified(method string) Expectation {
	return Expect(method+" came", func(s *State) Verdict { return met(len(s.Notified[method]) > 0) })
}

// Asked says that the server has called a method.
func Asked(method string) Expectation {
	return Expect(method+" was asked", func(s *State) Verdict { return met(s.Asked[method] > 0) })
}

// Registered says that the server has registered for a method.
func Registered(method string) Expectation {
	return Expect(method+" was registered", func(s *State) Verdict {
		for _, r := range s.Registered {
			if r.Method == method {
				return Met
			}
		}
		return Unmet
	})
}

// ShownDocument says that the server has asked to show a document whose path ends so.
func ShownDocument(suffix string) Expectation {
	return Expect("a document …"+suffix+" was shown", func(s *State) Verdict {
		for _, d := range s.Shown {
			if strings.HasSuffix(string(d.URI), filepath.ToSlash(suffix)) {
				return Met
			}
		}
		return Unmet
	})
}

// Diagnosed says that the diagnostics last published for a document hold n, one of which has a
// message that matches if n is not 0.
func Diagnosed(path string, n int, message string) Expectation {
	re := regexp.MustCompile(message)
	return Expect(fmt.Sprintf("%s has %d diagnostics with %q", filepath.Base(path), n, message), func(s *State) Verdict {
		d, ok := s.Diagnostics[uriOf(path)]
		if !ok || len(d.Items) != n {
			return Unmet
		}
		for _, item := range d.Items {
			if re.MatchString(DiagnosticText(item)) {
				return Met
			}
		}
		return met(n == 0)
	})
}

// Refused says that the server has refused a message without an id, with such a code.
func Refused(code int) Expectation {
	return Expect(fmt.Sprintf("a message was refused with %d", code), func(s *State) Verdict {
		for _, r := range s.Refusals {
			if r.Code == code {
				return Met
			}
		}
		return Unmet
	})
}

// ConnectionEnded says that the server has closed the connection.
func ConnectionEnded() Expectation {
	return Expect("the connection has ended", func(s *State) Verdict { return met(s.Ended) })
}
