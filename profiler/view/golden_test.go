package view

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/sightline-dev/sightline/profiler/profile"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

// TestGolden computes the views that the archives in testdata name. In each, "profile" is a profile's
// text and "want VIEW KIND ARG…" the view's answer:
//
//	lines KIND FILE           by-name KIND          ranks KIND
//	call-tree KIND [SHARE [DEPTH]]                  hottest KIND N
//	detail KIND FILE LINE     function KIND NAME [MODULE]
//
// "only TASK" before the view keeps that task's samples.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no archives in testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			a := txtar.Parse(data)
			if len(a.Files) < 2 || a.Files[0].Name != "profile" {
				t.Fatal(`the archive does not begin with "-- profile --" and an expectation`)
			}
			p, err := profile.ParseProfile(a.Files[0].Data)
			if err != nil {
				t.Fatal(err)
			}
			for i := range a.Files[1:] {
				f := &a.Files[1+i]
				args, ok := strings.CutPrefix(f.Name, "want ")
				if !ok {
					t.Fatalf(`%q does not begin with "want"`, f.Name)
				}
				got := render(t, p, strings.Fields(args))
				if *update {
					f.Data = got
				} else if diff := cmp.Diff(string(f.Data), string(got)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", args, diff)
				}
			}
			if updated := txtar.Format(a); *update && !bytes.Equal(updated, data) {
				if err := os.WriteFile(file, updated, 0o666); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func render(t *testing.T, p *profile.Profile, args []string) []byte {
	t.Helper()
	arg := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	number := func(i int) int {
		n, err := strconv.Atoi(arg(i))
		if err != nil {
			t.Fatalf("want %s: argument %d is not a number", strings.Join(args, " "), i)
		}
		return n
	}
	if arg(0) == "only" {
		task := profile.TaskID(number(1))
		p = Only(p, func(id profile.TaskID) bool { return id == task })
		args = args[2:]
	}
	if arg(1) != string(p.Kind) {
		t.Fatalf("want %s: the profile's kind is %s", strings.Join(args, " "), p.Kind)
	}
	var b bytes.Buffer
	switch arg(0) {
	case "lines":
		for _, f := range Lines(p) {
			for _, l := range f.Lines {
				if f.File == arg(2) {
					fmt.Fprintf(&b, "%d self=%d total=%d\n", l.Line, l.Self.Weight, l.Total.Weight)
				}
			}
		}
	case "hottest":
		for _, l := range NewSums(p).Hottest(number(2)) {
			fmt.Fprintf(&b, "%s:%d self=%d total=%d\n", l.File, l.Line.Line, l.Self.Weight, l.Total.Weight)
		}
	case "by-name":
		printRows(&b, "", ByName(p))
	case "ranks":
		rows := ByName(p)
		for i, r := range Ranks(rows) {
			fmt.Fprintf(&b, "%s by-self=%d by-total=%d\n", rows[i].Name, r.BySelf, r.ByTotal)
		}
	case "call-tree":
		var o TreeOptions
		if arg(2) != "" {
			share, err := strconv.ParseFloat(arg(2), 64)
			if err != nil {
				t.Fatal(err)
			}
			o.MinShare = share
		}
		if arg(3) != "" {
			o.Depth = number(3)
		}
		sel, err := NewSource(p).Filter(t.Context(), Filter{})
		if err != nil {
			t.Fatal(err)
		}
		printTree(&b, "", sel.Tree(NoColumns).Expand(o))
	case "detail":
		printDetail(&b, DetailOf(p, arg(2), number(3)))
	case "function":
		printDetail(&b, FunctionDetail(p, arg(2), arg(3)))
	default:
		t.Fatalf("unknown view %q", arg(0))
	}
	return b.Bytes()
}

func printRow(b *bytes.Buffer, indent string, r *Row) {
	b.WriteString(indent)
	if r.Module != "" {
		b.WriteString(r.Module + "!")
	}
	b.WriteString(r.Name)
	if r.File != "" {
		fmt.Fprintf(b, "@%s:%d", r.File, r.Line)
	}
	fmt.Fprintf(b, " self=%d total=%d\n", r.Self.Weight, r.Total.Weight)
}

func printRows(b *bytes.Buffer, indent string, rows []Row) {
	for i := range rows {
		printRow(b, indent, &rows[i])
	}
}

func printTree(b *bytes.Buffer, indent string, n *StackNode) {
	b.WriteString(indent + n.Name)
	if f := n.Frame; f.File != "" {
		fmt.Fprintf(b, "@%s:%d", f.File, f.StartLine)
	}
	fmt.Fprintf(b, " self=%g total=%g\n", n.Self, n.Total)
	for _, c := range n.Children {
		printTree(b, indent+"  ", c)
	}
	if n.Rest != 0 || n.RestCount != 0 {
		fmt.Fprintf(b, "%s  … total=%g\n", indent, n.Rest)
	}
}

func printDetail(b *bytes.Buffer, d LineDetail) {
	fmt.Fprintf(b, "self=%d/%d total=%d/%d\n", d.Self.Weight, d.Self.Count, d.Total.Weight, d.Total.Count)
	for _, part := range []struct {
		name string
		rows []Row
	}{{"functions", d.Functions}, {"callers", d.Callers}, {"callees", d.Callees}} {
		if len(part.rows) > 0 {
			fmt.Fprintln(b, part.name)
			printRows(b, "  ", part.rows)
		}
	}
	if len(d.Threads) > 0 {
		fmt.Fprintln(b, "threads")
	}
	for _, r := range d.Threads {
		fmt.Fprintf(b, "  %d %s self=%d total=%d\n", r.ID, r.Task.Comm, r.Self.Weight, r.Total.Weight)
	}
}
