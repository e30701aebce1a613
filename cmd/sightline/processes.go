package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sightline-dev/sightline/lspserver"
	"github.com/sightline-dev/sightline/lspserver/rpc"
	"github.com/sightline-dev/sightline/profiler"
	"github.com/sightline-dev/sightline/profiler/process"
	"github.com/sightline-dev/sightline/profiler/profile"
)

// busyFor is how long processes are watched to tell which are busy: so short that a person who opens a
// list does not wait, and long enough for a tenth of a percent.
const busyFor = 200 * time.Millisecond

// commandRunes bounds a command line that is told; some have a hundred kilobytes.
const commandRunes = 512

// Processes lists what runs a program on this machine: the processes of this user first, then by how
// busy they are. Kernel threads, the dead and this process are left out. What keeps one from being
// recorded is found out by trying (profiler.Probe) while their time is taken.
func processes(ctx context.Context) ([]rpc.ProcessInfo, error) {
	abilities := make(chan []profiler.Ability, 1)
	go func() { abilities <- profiler.Probe() }()
	sampler, err := process.NewSampler(process.Options{Want: process.Status | process.Command | process.Program})
	if err != nil {
		return nil, err
	}
	list, err := sampler.Watch(ctx, busyFor)
	if err != nil {
		return nil, err
	}
	var able recordability
	select {
	case all := <-abilities:
		able = recordabilityOf(all)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	self := os.Geteuid()
	seen := slices.DeleteFunc(list.Processes, func(p process.Process) bool { return p.PID == os.Getpid() })
	slices.SortFunc(seen, func(a, b process.Process) int {
		return cmp.Or(-compareBool(a.UID == self, b.UID == self), cmp.Compare(b.CPU, a.CPU),
			cmp.Compare(b.Resident, a.Resident), cmp.Compare(a.PID, b.PID))
	})
	names := userNames{}
	infos := make([]rpc.ProcessInfo, 0, len(seen))
	for i := range seen {
		p := &seen[i]
		owner, name := names.of(p.UID), process.Printable(p.Name)
		infos = append(infos, rpc.ProcessInfo{
			PID: p.PID, Name: name, Command: commandText(p), User: owner,
			CPU:     lspserver.Percent(int64(p.CPU), int64(p.Over)),
			Memory:  lspserver.Weight(p.Resident, profile.Bytes),
			Go:      p.IsGo,
			Refused: able.refusal(p, self, owner),
		})
	}
	return infos, nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// commandText is the arguments of a process on one line; some write a text of their own over them.
func commandText(p *process.Process) string {
	if len(p.Args) == 0 {
		return process.Printable(p.Name)
	}
	return cut(process.Printable(strings.TrimSpace(p.CommandLine())), commandRunes)
}

// userNames remembers the names of users by number.
type userNames map[int]string

func (n userNames) of(uid int) string {
	name, known := n[uid]
	if !known {
		name = nameOfUser(uid)
		n[uid] = name
	}
	return name
}

func nameOfUser(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// A recordability is why processes cannot be recorded; "" where they can.
type recordability struct{ own, others string }

// The abilities that decide what can be recorded, as profiler.Probe names them.
const (
	abilityOwn    = "perf: own processes"
	abilityOthers = "perf: other users' processes"
	abilityBPF    = "bpf: kernel and user code"
	abilityLent   = "bpf: through sightline-capture"
)

func recordabilityOf(abilities []profiler.Ability) recordability {
	why := func(name string) string {
		for _, a := range abilities {
			switch {
			case a.Name != name || a.OK:
			case a.Remedy != "":
				return cmp.Or(a.Why, a.Detail) + "; what helps: " + a.Remedy
			default:
				return cmp.Or(a.Why, a.Detail)
			}
		}
		return ""
	}
	r := recordability{own: why(abilityOwn), others: why(abilityOthers)}
	lent := func(a profiler.Ability) bool { return a.Name == abilityLent && a.OK }
	if why(abilityBPF) == "" || slices.ContainsFunc(abilities, lent) { // it samples what perf may not
		r.own = ""
	}
	return r
}

// refusal is why a process cannot be recorded.
func (r recordability) refusal(p *process.Process, self int, owner string) string {
	switch {
	case p.UID == self && r.own != "":
		return r.own
	case p.UID == self && p.Guarded && r.others != "":
		return "it guards itself from other processes of its user, and " + r.others
	case p.UID != self && r.others != "":
		return fmt.Sprintf("it belongs to %s, and %s", owner, r.others)
	}
	return ""
}
