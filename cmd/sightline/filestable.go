package main

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sightline-dev/sightline/profiler/process"
)

// PrintFiles prints a list as lsof does: a line for each file, the titles once.
func printFiles(io streams, o *filesOptions, list *process.FileList) error {
	switch {
	case o.asJSON:
		return writeLook(io.out, o.repeat > 0, filesToJSON(list))
	case o.pidsOnly:
		last := 0
		for i := range list.Files {
			if pid := list.Files[i].PID; pid != last {
				fmt.Fprintln(io.out, pid)
				last = pid
			}
		}
		return nil
	}
	names := userNames{}
	size := "SIZE/OFF"
	if o.offsets {
		size = "OFFSET"
	}
	t := table{width: width(io.out), uncut: true, p: paletteFor(io.out), columns: []tableColumn{
		{title: "COMMAND", left: true}, {title: "PID"}, {title: "USER", left: true}, {title: "FD"}, {title: "TYPE"},
		{title: "DEVICE"}, {title: size}, {title: "NODE"}, {title: "NAME", left: true},
	}}
	for i := range list.Files {
		f := &list.Files[i]
		t.rows = append(t.rows, []string{
			process.Printable(f.Owner.Name), strconv.Itoa(f.PID), process.Printable(names.of(f.UID)), fdText(f), string(f.Kind),
			deviceText(f), sizeText(f, o.offsets), nodeText(f), fileName(f),
		})
	}
	// What a person reads fits their screen; what a program reads does not wait.
	out := bufio.NewWriterSize(io.out, 64<<10)
	if len(t.rows) > 0 {
		t.print(out)
	}
	if o.repeat > 0 {
		fmt.Fprintln(out, "=======")
	}
	if err := out.Flush(); err != nil {
		return err
	}
	for _, w := range list.Warnings {
		fmt.Fprintln(io.err, "note: "+w)
	}
	if u := list.Unseen; len(list.Files) > 0 && (u.Guarded > 0 && o.selection.Everything() || u.Hidden || u.Container) {
		p := paletteFor(io.err)
		fmt.Fprintln(io.err, p.dim("note: "+lowerFirst(unseenFiles(u))))
	}
	return nil
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

func unseenFiles(u process.Unseen) string {
	text := unseenWords(process.Unseen{Hidden: u.Hidden, Container: u.Container}, false)
	if u.Guarded > 0 {
		more := fmt.Sprintf("this user may not see what %s open; their rows say so", haveOpen(u.Guarded))
		if text != "" {
			more += "; " + lowerFirst(text)
		}
		text = more
	}
	return text
}

func haveOpen(n int) string {
	if n == 1 {
		return "1 process has"
	}
	return fmt.Sprintf("%d processes have", n)
}

func fdText(f *process.File) string {
	text := process.FDName(f.FD)
	if f.FD >= 0 {
		if f.Mode != ' ' || f.Lock != ' ' {
			text += string(f.Mode)
		}
		if f.Lock != ' ' {
			text += string(f.Lock)
		}
	}
	return text
}

func deviceText(f *process.File) string {
	switch {
	case f.Socket != nil && f.Kind != process.KindUnix:
		return strconv.FormatUint(f.Inode, 10)
	case f.Kind == process.KindUnknown || f.Device == 0 && f.Kind != process.KindRegular:
		return ""
	}
	return fmt.Sprintf("%d,%d", unix.Major(f.Device), unix.Minor(f.Device))
}

func sizeText(f *process.File, offsets bool) string {
	switch {
	case f.Size >= 0 && !(offsets && f.Offset >= 0):
		return strconv.FormatInt(f.Size, 10)
	case f.Offset >= 0:
		return "0t" + strconv.FormatInt(f.Offset, 10)
	}
	return ""
}

func nodeText(f *process.File) string {
	switch {
	case f.Kind == process.KindUnknown:
		return ""
	case f.Socket != nil && (f.Kind == process.KindIPv4 || f.Kind == process.KindIPv6):
		return f.Socket.Protocol
	}
	return strconv.FormatUint(f.Inode, 10)
}

// FileName is the column NAME.
func fileName(f *process.File) string {
	text := process.Printable(f.Name)
	if f.Err != nil {
		return text + " (" + errnoText(f.Err) + ")"
	}
	if f.Detail != "" {
		text += " " + process.Printable(f.Detail)
	}
	for _, p := range f.Peers {
		text += fmt.Sprintf(" %d,%s,%d%c", p.PID, process.Printable(p.Name), p.FD, p.Mode)
	}
	return text
}

// A fileJSON is one file as `files --json` prints it: what is not known is absent.
type fileJSON struct {
	Command string      `json:"command"`
	PID     int         `json:"pid"`
	UID     int         `json:"uid"`
	User    string      `json:"user"`
	FD      string      `json:"fd"`
	Mode    string      `json:"mode,omitempty"`
	Lock    string      `json:"lock,omitempty"`
	Type    string      `json:"type"`
	Device  string      `json:"device,omitempty"`
	Size    *int64      `json:"size,omitempty"`
	Offset  *int64      `json:"offset,omitempty"`
	Links   *int64      `json:"links,omitempty"`
	Inode   uint64      `json:"inode,omitempty"`
	Name    string      `json:"name"`
	Detail  string      `json:"detail,omitempty"`
	Deleted bool        `json:"deleted,omitempty"`
	Socket  *socketJSON `json:"socket,omitempty"`
	Peers   []peerJSON  `json:"peers,omitempty"`
	Error   string      `json:"error,omitempty"`
}

type socketJSON struct {
	Protocol  string `json:"protocol"`
	State     string `json:"state,omitempty"`
	Local     string `json:"local,omitempty"`
	Remote    string `json:"remote,omitempty"`
	Path      string `json:"path,omitempty"`
	RecvQueue int64  `json:"recvQueue"`
	SendQueue int64  `json:"sendQueue"`
	Backlog   int64  `json:"backlog,omitempty"`
}

type peerJSON struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	FD      int    `json:"fd"`
}

type filesJSON struct {
	Time     time.Time  `json:"time"`
	Files    []fileJSON `json:"files"`
	Warnings []string   `json:"warnings,omitempty"`
	Unseen   string     `json:"unseen,omitempty"`
}

func filesToJSON(list *process.FileList) filesJSON {
	names := userNames{}
	r := filesJSON{Time: time.Now(), Files: []fileJSON{}, Warnings: list.Warnings, Unseen: unseenFiles(list.Unseen)}
	known := func(n *int64) *int64 {
		if *n < 0 {
			return nil
		}
		return n
	}
	for i := range list.Files {
		f := &list.Files[i]
		j := fileJSON{
			Command: jsonText(f.Owner.Name), PID: f.PID, UID: f.UID, User: jsonText(names.of(f.UID)), FD: process.FDName(f.FD),
			Mode: strings.TrimSpace(string(f.Mode)), Lock: strings.TrimSpace(string(f.Lock)), Type: string(f.Kind),
			Size: known(&f.Size), Offset: known(&f.Offset), Links: known(&f.Links), Inode: f.Inode,
			Name: jsonText(f.Name), Detail: jsonText(f.Detail), Deleted: f.Deleted,
		}
		if f.Kind != process.KindUnknown && f.Device != 0 {
			j.Device = fmt.Sprintf("%d,%d", unix.Major(f.Device), unix.Minor(f.Device))
		}
		if f.Err != nil {
			j.Error = f.Err.Error()
		}
		if s := f.Socket; s != nil {
			j.Socket = &socketJSON{Protocol: s.Protocol, State: s.State, Path: jsonText(s.Path), RecvQueue: s.RecvQueue, SendQueue: s.SendQueue, Backlog: s.Backlog}
			if s.Local.IsValid() {
				j.Socket.Local, j.Socket.Remote = s.Local.String(), s.Remote.String()
			}
		}
		for _, p := range f.Peers {
			j.Peers = append(j.Peers, peerJSON{p.PID, jsonText(p.Name), p.FD})
		}
		r.Files = append(r.Files, j)
	}
	return r
}
