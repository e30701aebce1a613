package main

import (
	"context"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/sightline-dev/sightline/heap"
	"github.com/sightline-dev/sightline/heap/freeze"
)

// Take takes a snapshot of a process's heap.
func (hf *heapFlags) take(ctx context.Context, io streams, pid int) (*heapInput, error) {
	at := slices.IndexFunc(dumpWays, func(h freeze.How) bool { return h.String() == hf.how })
	bar := newHeapProgress(io)
	defer bar.end()
	img, err := freeze.Take(ctx, pid, freeze.Options{How: dumpWays[at], Progress: func(done, total int64) {
		bar.show("copying memory", float64(done)/float64(max(total, 1))/4)
	}})
	if err != nil {
		return nil, err
	}
	defer img.Close()
	return ofImage(ctx, img, bar, true)
}

// Core reads the heap of a core file.
func (hf *heapFlags) core(ctx context.Context, io streams, path string) (*heapInput, error) {
	img, err := freeze.OpenCore(path, hf.exe)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	bar := newHeapProgress(io)
	defer bar.end()
	in, err := ofImage(ctx, img, bar, false)
	if err == nil {
		in.core = path
	}
	return in, err
}

func ofImage(ctx context.Context, img *freeze.Image, bar *heapProgress, taken bool) (*heapInput, error) {
	s, err := heap.OfGo(ctx, img, func(what string, share float64) { bar.show(what, (1+3*share)/4) })
	if err != nil {
		return nil, err
	}
	return &heapInput{snapshot: s, taken: taken}, nil
}

// A heapProgress tells on a terminal how far a snapshot is.
type heapProgress struct {
	bar *progressbar.ProgressBar
}

func newHeapProgress(io streams) *heapProgress {
	if !isTerminal(io.err) {
		return &heapProgress{}
	}
	return &heapProgress{progressbar.NewOptions(1000,
		progressbar.OptionSetWriter(io.err), progressbar.OptionSetWidth(24), progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(50*time.Millisecond),
		progressbar.OptionSetTheme(progressbar.Theme{Saucer: "━", SaucerHead: "━", SaucerPadding: "╌", BarStart: " ", BarEnd: " "}),
	)}
}

func (p *heapProgress) show(what string, share float64) {
	if p.bar != nil {
		p.bar.Describe(what)
		p.bar.Set(min(int(share*1000), 999))
	}
}

func (p *heapProgress) end() {
	if p.bar != nil {
		p.bar.Finish()
	}
}
