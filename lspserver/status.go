package lspserver

import (
	"cmp"
	"context"
	"path/filepath"
	"time"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// statusInterval is how often a client is told how a recording goes. Twice a second is promised, and a
// busy machine delays it.
const statusInterval = 300 * time.Millisecond

// statusNow answers rpc.MethodStatus.
func (s *server) statusNow(context.Context, noParams) (rpc.StatusResult, error) {
	return s.status(), nil
}

// status is what the server is doing.
func (s *server) status() rpc.StatusResult {
	st := rpc.StatusResult{Version: s.cfg.Version, Log: s.cfg.LogFile}
	s.mu.Lock()
	r := s.recording
	s.mu.Unlock()
	if r == nil {
		return st
	}
	elapsed, samples, _ := r.state()
	st.Recording, st.Phase, st.Target = true, r.phase(), r.target
	st.Milliseconds, st.Samples = elapsed.Milliseconds(), samples
	switch st.Phase {
	case PhaseRecording:
		st.Text = Duration(elapsed) + " · " + Samples(int64(samples))
	default:
		st.Text = r.progress()
	}
	return st
}

// tellChanged tells a client that wants to know what is shown and what the server is doing. States
// are told in the order in which they were, so that the last one told is the last one.
func (s *server) tellChanged() {
	if !s.can.changed {
		return
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	p := rpc.ChangedParams{StatusResult: s.status()}
	s.mu.Lock()
	if s.opened != nil {
		p.Capture = string(s.opened.id)
	}
	s.mu.Unlock()
	s.notify(s.client.Notify(s.ctx, rpc.MethodChanged, p))
}

// tellWhile tells how a recording goes until it is over. It has a goroutine of its own, because whoever
// follows the recording is busy with its numbers at times.
func (s *server) tellWhile(r *attended) {
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	for {
		s.tellChanged()
		select {
		case <-r.done:
			return
		case <-tick.C:
		}
	}
}

// phase is what the recording does now, known before its first update.
func (r *recording) phase() string {
	_, _, phase := r.state()
	if r.builds {
		return cmp.Or(phase, PhaseBuilding)
	}
	return cmp.Or(phase, PhaseRecording)
}

// name is a request as its capture will be named: "go test ./fib -run TestFib".
func (req Request) name() string {
	t := profile.Target{Command: req.Command, PID: req.PID, Machine: req.Machine, Run: req.Name}
	if req.Native != nil {
		t.Run = req.Native.Title()
	}
	if req.Test != nil {
		t.Package = req.Test.Package
		if rel, err := filepath.Rel(req.Workspace, req.Test.Package); err == nil && rel == "." {
			t.Package = rel
		} else if err == nil && filepath.IsLocal(rel) {
			t.Package = "./" + rel
		}
		t.Run, t.Bench = testTitle(req.Test.Run, ""), testTitle("", req.Test.Bench)
	}
	return t.String()
}
