package process

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
)

// namePeers finds the other ends of pipes and of connections within this machine.
func (l *lister) namePeers(ctx context.Context, files []File) error {
	all := files
	if l.o.Only != nil || l.o.Keep != nil || l.o.Uses&SocketsOnly != 0 {
		// Others have the other ends.
		list, err := Files(ctx, FilesOptions{Uses: Descriptors, Proc: l.o.Proc})
		if err != nil {
			return err
		}
		all = list.Files
	}
	type connection struct{ local, remote netip.AddrPort }
	pipes, unixes, tcp := map[uint64][]*File{}, map[uint64][]*File{}, map[connection][]*File{}
	for i := range all {
		f := &all[i]
		switch {
		case f.Kind == KindPipe && f.FD >= 0:
			pipes[f.Inode] = append(pipes[f.Inode], f)
		case f.Socket == nil:
		case f.Kind == KindUnix:
			unixes[f.Inode] = append(unixes[f.Inode], f)
		case f.Socket.Protocol == "TCP" && f.Socket.State != "LISTEN":
			c := connection{f.Socket.Local, f.Socket.Remote}
			tcp[c] = append(tcp[c], f)
		}
	}
	for i := range files {
		f := &files[i]
		var ends []*File
		switch {
		case f.Kind == KindPipe && f.FD >= 0:
			for _, e := range pipes[f.Inode] {
				if f.Mode == 'u' || e.Mode == 'u' || e.Mode != f.Mode {
					ends = append(ends, e)
				}
			}
		case f.Socket == nil:
		case f.Kind == KindUnix && f.Socket.PeerInode != 0:
			ends = unixes[f.Socket.PeerInode]
		case f.Socket.Protocol == "TCP":
			ends = tcp[connection{f.Socket.Remote, f.Socket.Local}]
		}
		const most = 8 // a pipe for the output of a whole build has hundreds
		for _, e := range ends {
			if e.PID == f.PID && e.FD == f.FD || len(f.Peers) == most {
				continue
			}
			f.Peers = append(f.Peers, Peer{PID: e.PID, Name: e.Owner.Name, FD: e.FD, Mode: e.Mode})
		}
		slices.SortFunc(f.Peers, func(a, b Peer) int { return cmp.Or(cmp.Compare(a.PID, b.PID), cmp.Compare(a.FD, b.FD)) })
	}
	return nil
}
