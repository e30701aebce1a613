package main

import (
	"cmp"
	"context"

	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.lsp.dev/uri"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/process"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// InspectedFor is how long a process is kept under watch after it was asked for.
const inspectedFor = 10 * time.Second

// An inspector answers what single processes do, for pages that ask again and again. Any goroutine may
// use it.
type inspector struct {
	folder func() string // whose workspace's lines are preferred where the editor has none

	mu      sync.Mutex // guards what follows, and processes while they are read
	watched map[int]*inspected
}

// An inspected is one process, and what was seen of it before.
type inspected struct {
	id      process.ID
	sampler *process.Sampler
	threads *process.ThreadSampler
	leaks   *leakWatch // nil until asked for
	memory  *mapWatch  // nil until asked for
	end     *time.Timer
}

func newInspector(folder func() string) *inspector {
	return &inspector{folder: folder, watched: map[int]*inspected{}}
}

// Close ends every watch.
func (n *inspector) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for pid := range n.watched {
		n.forget(pid)
	}
}

func (n *inspector) forget(pid int) {
	if x := n.watched[pid]; x != nil {
		x.end.Stop()
		if x.leaks != nil && x.leaks.openers != nil {
			x.leaks.openers.close()
		}
		if x.memory != nil {
			x.memory.close()
		}
		delete(n.watched, pid)
	}
}

// Process answers rpc.MethodProcess.
func (n *inspector) process(ctx context.Context, p rpc.ProcessParams, workspace string) (*rpc.ProcessResult, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	workspace = cmp.Or(workspace, n.folder())
	x, err := n.watch(ctx, p, workspace)
	if err != nil {
		return nil, err
	}
	r, err := x.look(ctx, p, workspace)
	if err != nil && ctx.Err() == nil {
		n.forget(p.PID)
	}
	return r, err
}

// Watch is the process that is asked for, which is begun to be watched.
func (n *inspector) watch(ctx context.Context, p rpc.ProcessParams, workspace string) (*inspected, error) {
	id, err := process.Find(p.PID, "")
	if err != nil {
		n.forget(p.PID)
		return nil, err
	}
	if p.Start != "" && p.Start != startText(id) {
		n.forget(p.PID)
		return nil, fmt.Errorf("look at process %d: it has ended, and another has its number now", p.PID)
	}
	x := n.watched[p.PID]
	if x != nil && x.id != id {
		n.forget(p.PID)
		x = nil
	}
	if x == nil {
		sampler, err := process.NewSampler(process.Options{Want: process.AllFields | process.PSS, Kernel: true, Dead: true, Only: []int{p.PID}})
		if err != nil {
			return nil, err
		}
		if err := sampler.Begin(ctx); err != nil {
			return nil, err
		}
		x = &inspected{id: id, sampler: sampler, threads: process.NewThreadSampler(id, "")}
		x.end = time.AfterFunc(inspectedFor, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.watched[p.PID] == x {
				n.forget(p.PID)
			}
		})
		n.watched[p.PID] = x
		if _, err := x.threads.Look(ctx); err != nil {
			n.forget(p.PID)
			return nil, err
		}
		if !wait(ctx, busyFor) { // else the first answer would be of no time at all
			return nil, ctx.Err()
		}
	}
	x.end.Reset(inspectedFor)
	if p.Leaks && x.leaks == nil {
		x.leaks = &leakWatch{growing: process.NewGrowing(time.Now()), begun: time.Now()}
		if x.leaks.openers, err = startOpeners(ctx, workspaceOf(workspace), []int{p.PID}); err != nil {
			x.leaks.openers, x.leaks.note = nil, openersNote(err)
		}
	}
	return x, nil
}

func startText(id process.ID) string { return strconv.FormatUint(id.Start, 10) }

const defaultInspectLimit = 500

// Look is the process as it is now.
func (x *inspected) look(ctx context.Context, p rpc.ProcessParams, workspace string) (*rpc.ProcessResult, error) {
	list, err := x.sampler.Look(ctx)
	if err != nil {
		return nil, err
	}
	if len(list.Processes) == 0 || list.Processes[0].ID != x.id {
		return nil, process.ErrGone{PID: x.id.PID}
	}
	now := &list.Processes[0]
	threads, err := x.threads.Look(ctx)
	if err != nil {
		return nil, err
	}
	files, err := process.Files(ctx, process.FilesOptions{Only: []int{x.id.PID}, Uses: process.Descriptors})
	if err != nil {
		return nil, err
	}
	limit := cmp.Or(p.Limit, defaultInspectLimit)
	name := process.Printable(now.Name)
	r := &rpc.ProcessResult{
		PID: now.PID, Start: startText(now.ID), Name: name, Command: process.Printable(now.CommandLine()),
		Title: fmt.Sprintf("%s (%d) · %s · %s · for %s", name, now.PID, nameOfUser(now.UID), now.State,
			lspserver.Duration(list.Time.Sub(now.Started(list.Time)).Round(time.Second))),
		CPU: now.Busy(), Memory: now.Resident, Facts: factsOf(now),
	}
	slices.SortStableFunc(threads, func(a, b process.Thread) int { return cmp.Compare(b.Share(), a.Share()) })
	r.MoreThreads = max(0, len(threads)-limit)
	for i := range threads[:min(limit, len(threads))] {
		t := &threads[i]
		r.Threads = append(r.Threads, rpc.ProcessThread{
			TID: t.TID, Name: process.Printable(t.Name), State: t.State.String(), Share: t.Share(), Text: busy(t.Running, t.Over), Wait: process.Printable(t.Wait),
		})
	}
	r.MoreFiles = max(0, len(files.Files)-limit)
	for i := range files.Files[:min(limit, len(files.Files))] {
		f := &files.Files[i]
		r.Files = append(r.Files, rpc.ProcessFile{FD: fdText(f), Type: string(f.Kind), Name: fileName(f)})
	}
	if now.Guarded || files.Unseen.Guarded > 0 {
		r.Note = unseenWords(process.Unseen{Guarded: 1}, false)
	}
	if x.leaks != nil {
		if err := x.fillLeaks(ctx, r, files.Files, now.Started(list.Time)); err != nil {
			return nil, err
		}
	}
	if p.Map {
		if err := x.fillMap(ctx, r, p, workspaceOf(workspace), now.Started(list.Time)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// FillLeaks adds what grows, and the lines that opened it.
func (x *inspected) fillLeaks(ctx context.Context, r *rpc.ProcessResult, files []process.File, started time.Time) error {
	at := time.Now()
	x.leaks.looks++
	x.leaks.growing.Look(at, files)
	report, err := x.leaks.report(ctx, files, at)
	if err != nil {
		return err
	}
	if x.leaks.note != "" && r.Note == "" {
		r.Note = x.leaks.note
	}
	const most, mostLines = 20, 5
	for _, g := range report.leaks[:min(most, len(report.leaks))] {
		leak := rpc.ProcessLeak{
			Type: string(g.Kind), Name: process.Printable(g.Pattern), Open: g.Last, Grew: g.Last - g.First,
			Text: fmt.Sprintf("%d open, %+d in %s", g.Last, g.Last-g.First, lspserver.Duration(g.Since.Round(100*time.Millisecond))),
		}
		for _, l := range g.lines[:min(mostLines, len(g.lines))] {
			line := rpc.ProcessLine{Count: l.count, Text: fmt.Sprintf("%d by %s", l.count, process.Printable(x.leaks.openers.pagePlace(l.frame)))}
			line.Location, line.Stale = locationOf(l.frame, started)
			leak.Lines = append(leak.Lines, line)
		}
		if g.unknown > 0 && x.leaks.openers != nil {
			leak.Lines = append(leak.Lines, rpc.ProcessLine{Count: g.unknown, Text: fmt.Sprintf("%d opened before the watch began", g.unknown)})
		}
		r.Leaks = append(r.Leaks, leak)
	}
	return nil
}

// LocationOf is the place of a frame, nil where its file is not here, and whether the file was changed
// after a time.
func locationOf(f profile.Frame, started time.Time) (*rpc.Location, bool) {
	if f.File == "" || f.Line <= 0 {
		return nil, false
	}
	info, err := os.Stat(f.File)
	if err != nil {
		return nil, false
	}
	return &rpc.Location{URI: string(uri.File(f.File)), Line: f.Line - 1}, info.ModTime().After(started)
}

// FactsOf are the numbers of a process with what they mean; those that are not known are left out.
func factsOf(p *process.Process) []rpc.ProcessFact {
	var facts []rpc.ProcessFact
	add := func(known bool, name, text, detail string) {
		if known && text != "" {
			facts = append(facts, rpc.ProcessFact{Name: name, Text: text, Detail: detail})
		}
	}
	size := func(n int64) string { return lspserver.Weight(n, profile.Bytes) }
	add(true, "CPU", busy(p.CPU, p.Over), "Share of one processor over the last moments, all threads together.")
	add(true, "CPU time", lspserver.Duration(p.CPUTotal), "Processor time since it started.")
	add(!p.Kernel, "resident", size(p.Resident), "Bytes of its memory that are in the machine's, shared ones too.")
	add(p.Has(process.Status) && !p.Kernel, "private", size(p.Private), "Resident bytes without a file behind: nobody else's.")
	add(p.Has(process.PSS), "PSS", size(p.PSS), "Resident bytes, those shared by n processes counted as an nth.")
	add(p.Has(process.Status) && !p.Kernel, "swapped", size(p.Swap), "Bytes that were moved to swap.")
	add(p.Has(process.IO), "read", size(p.Read), "Bytes read from storage since it started.")
	add(p.Has(process.IO), "written", size(p.Written), "Bytes written to storage since it started.")
	add(true, "threads", strconv.Itoa(p.Threads), "Threads of the operating system.")
	add(p.Has(process.OpenFiles), "open files", strconv.Itoa(p.Files), "Open descriptors.")
	if p.IsGo && p.Has(process.GoRuntime) {
		add(p.Go.Why == "", "goroutines", strconv.Itoa(p.Go.Goroutines), "As runtime.NumGoroutine counts them.")
		add(p.Go.Why == "", "Go heap", size(p.Go.Heap), "Bytes live after the last collection, and allocated since.")
		add(true, "Go", cmp.Or(p.Go.Version, "unknown"), cmp.Or(p.Go.Why, "The release that built it."))
	}
	add(p.Has(process.Program), "architecture", p.Arch, "Of its program.")
	add(p.Has(process.Container), "container", p.Container, "By its control group.")
	return facts
}
