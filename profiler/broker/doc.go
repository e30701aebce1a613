// Package broker is how a recorder that has no privileges of its own has perf events and the BPF program
// from sightline-capture, a small program that may carry them: the messages, the socket that they go
// over, and the recorder's end of it. What is granted, and how it is checked, is that program's.
//
// The recorder starts sightline-capture with one end of a pair of sockets as its standard input. It sends
// a request and waits for the reply, one at a time; descriptors come beside the replies (SCM_RIGHTS,
// unix(7)). When either end is closed the other one has nothing more to do: no descriptor that was
// passed is needed by the one that passed it.
package broker
