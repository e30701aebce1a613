package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/profiler/view"
)

func newStacks(io streams) *cobra.Command {
	var (
		which  string
		asJSON bool
		top    int
		least  float64
	)
	cmd := &cobra.Command{
		Use:   "stacks [CAPTURE]",
		Short: "Show where the weight is, by function or as a call tree",
		Example: `  sightline stacks                           the newest capture by function
  sightline stacks @2 --view call-tree       the one before as a call tree
  sightline stacks --top 0 --json            every function, for another program`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if which != "by-name" && which != "call-tree" {
				return fmt.Errorf("there is no view %s; use by-name or call-tree", which)
			}
			if top < 0 || least < 0 || least > 100 {
				return fmt.Errorf("--top %d --min %g: neither may be negative, and --min is a percentage", top, least)
			}
			st, id, err := oneCapture(cmd, args)
			if err != nil {
				return err
			}
			o, err := openCapture(st, id)
			if err != nil {
				return err
			}
			if which == "call-tree" {
				if asJSON {
					return writeJSON(io.out, o.sums.CallTree(view.TreeOptions{}))
				}
				o.summary(io.out, age(o.meta.Start))
				printTree(io.out, o.sums.CallTree(view.TreeOptions{MinShare: least / 100}))
				return nil
			}
			rows := o.sums.ByName()
			if top > 0 && !(asJSON && !cmd.Flags().Changed("top")) {
				rows = rows[:min(top, len(rows))]
			}
			if asJSON {
				return writeJSON(io.out, rows)
			}
			o.summary(io.out, age(o.meta.Start))
			printRows(io.out, rows, o)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&which, "view", "by-name", "by-name or call-tree")
	f.IntVar(&top, "top", 30, "show this many rows by name; 0 is all")
	f.Float64Var(&least, "min", 1, "leave out branches of the call tree below this many percent")
	f.BoolVar(&asJSON, "json", false, "print JSON: every row, weights in the capture's unit")
	return cmd
}

func printRows(out io.Writer, rows []view.Row, o *opened) {
	p := paletteFor(out)
	whole := o.profile.Total().Weight
	room := width(out) - 44
	fmt.Fprintln(out)
	fmt.Fprintln(out, p.dim(fmt.Sprintf("%17s  %17s  %s", "self", "total", "function")))
	for _, r := range rows {
		fmt.Fprintf(out, "%s  %s  %s\n",
			p.heat(fmt.Sprintf("%7s %9s", lspserver.Percent(r.Self.Weight, whole), lspserver.Weight(r.Self.Weight, o.profile.Unit)), r.Self.Weight, whole),
			fmt.Sprintf("%7s %9s", lspserver.Percent(r.Total.Weight, whole), lspserver.Weight(r.Total.Weight, o.profile.Unit)),
			nameAndPlace(p, r, room))
	}
}

// NameAndPlace is a row's function and, where room is left, where it is.
func nameAndPlace(p palette, r view.Row, room int) string {
	name := cut(expand(r.Name), room)
	place := baseName(r.Module)
	if r.File != "" {
		place = fmt.Sprintf("%s:%d", baseName(r.File), r.Line)
	}
	if place == "" || len([]rune(name))+len([]rune(place))+2 > room {
		return name
	}
	return name + "  " + p.dim(place)
}

func baseName(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// PrintTree draws a call tree. A run of calls with one way to go on stays in one column, so that
// depth on the screen is depth of decision.
func printTree(out io.Writer, root *view.Node) {
	p := paletteFor(out)
	whole := root.Total.Weight
	if whole == 0 {
		return
	}
	room := width(out) - 20
	fmt.Fprintln(out)
	fmt.Fprintln(out, p.dim(fmt.Sprintf("%7s %7s  %s", "total", "self", "call")))
	var walk func(n *view.Node, indent string, mark string)
	walk = func(n *view.Node, indent, mark string) {
		fmt.Fprintf(out, "%s %7s  %s%s\n",
			p.heat(fmt.Sprintf("%7s", lspserver.Percent(n.Total.Weight, whole)), n.Total.Weight, whole),
			blankZero(lspserver.Percent(n.Self.Weight, whole), n.Self.Weight),
			p.dim(indent+mark), nameAndPlace(p, n.Row, room-len([]rune(indent+mark))))
		switch mark {
		case "├ ":
			indent += "│ "
		case "└ ":
			indent += "  "
		}
		for i, c := range n.Children {
			switch {
			case len(n.Children) == 1:
				walk(c, indent, "")
			case i == len(n.Children)-1:
				walk(c, indent, "└ ")
			default:
				walk(c, indent, "├ ")
			}
		}
	}
	walk(root, "", "")
}
