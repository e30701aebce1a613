package lspserver

import (
	"context"
	"strings"

	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler/profile"
	"github.com/sightline-dev/sightline/profiler/view"
)

const (
	flameLeast = 0.0005  // share of the narrowest box that is answered where nobody says which
	flameBoxes = 200_000 // at most: more than a picture can show
)

// flame answers rpc.MethodFlame.
func (s *server) flame(ctx context.Context, p rpc.FlameParams) (*rpc.FlameResult, error) {
	const method = rpc.MethodFlame
	if p.Least < 0 || p.Least >= 1 {
		return nil, rpc.ErrParams("%s: boxes narrower than %g are left out: give a share of the whole below 1", method, p.Least)
	}
	src, err := s.stackSource(ctx, method, p.SourceRef)
	if err != nil {
		return nil, err
	}
	if p.Before != nil {
		before, err := s.stackSource(ctx, method, *p.Before)
		if err != nil {
			return nil, err
		}
		if src, err = s.difference(before, src); err != nil {
			return nil, err
		}
	}
	f, fields, err := s.filterOf(p.Filter, p.Root)
	if err != nil {
		return nil, err
	}
	v, err := s.viewOf(ctx, src, f)
	if err != nil {
		return nil, err
	}
	head := s.stackResult(src, v, f, fields)
	res := &rpc.FlameResult{
		Capture: head.Capture, Title: head.Title, Text: head.Text,
		Names: []string{}, Labels: []string{}, Modules: []string{}, Locations: []*rpc.Location{}, Boxes: []rpc.FlameBox{},
	}
	if p.SVG {
		if s.cfg.Picture == nil {
			return nil, errState("this build of the server cannot draw: run \"sightline stacks --view flame\" in a terminal")
		}
		picture, err := v.selection.Profile(ctx, true)
		if err != nil {
			return nil, err
		}
		if res.SVG, err = s.cfg.Picture(picture, head.Title, src.before != nil); err != nil {
			return nil, errState("%v", err)
		}
		return res, ctx.Err()
	}
	least := p.Least
	if least == 0 {
		least = flameLeast
	}
	boxes := v.selection.Flame(view.FlameOptions{MinWidth: least})
	if p.Focus != "" {
		b, err := v.selection.Callees(p.Focus, view.NoColumns)
		if err != nil {
			return nil, filterError(err)
		}
		boxes = b.Flame(view.FlameOptions{MinWidth: least})
	}
	if len(boxes) > flameBoxes {
		return nil, errState("the flame graph has %s boxes, which is more than can be drawn: give \"least\" above %g, or filter", Count(int64(len(boxes))), least)
	}
	w := &stackWriter{s: s, src: src, v: v, places: s.places(ctx)}
	frames := framesOf(v.selection)
	names := map[string]int{}
	for _, b := range boxes {
		name, known := names[b.Name]
		if !known {
			name = len(res.Names)
			names[b.Name] = name
			frame := frames[b.Name]
			res.Names, res.Labels = append(res.Names, b.Name), append(res.Labels, rowLabel(b.Name, frame))
			res.Modules = append(res.Modules, moduleOf(b.Name, frame))
			var at *rpc.Location
			if frame.File != "" {
				at = w.places.of(src.l.fileAt(frame.File), frame.StartLine)
			}
			res.Locations = append(res.Locations, at)
		}
		box := rpc.FlameBox{Parent: b.Parent, Name: name, Depth: b.Depth, X: b.X, Width: b.Width, Text: w.words(b.Weight)}
		if b.Self != 0 {
			box.Self = w.words(b.Self)
		}
		if src.before != nil && b.Weight > 0 {
			box.Sign = 1
		} else if src.before != nil && b.Weight < 0 {
			box.Sign = -1
		}
		res.Depth = max(res.Depth, b.Depth)
		res.Boxes = append(res.Boxes, box)
	}
	return res, ctx.Err()
}

// moduleOf is what a box is coloured by: a Go function's package, else the binary.
func moduleOf(name string, f profile.Frame) string {
	fn := f.Func
	if slash := strings.LastIndexByte(fn, '/') + 1; f.File != "" && strings.HasSuffix(f.File, ".go") {
		if dot := strings.IndexByte(fn[slash:], '.'); dot > 0 {
			return fn[:slash+dot]
		}
	}
	if module, _, ok := strings.Cut(name, "!"); ok {
		return module
	}
	return ""
}
