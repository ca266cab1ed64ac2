package serve

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/fairway-lb/fairway/dns/wire"
	"golang.org/x/sys/unix"
)

// batch is how many datagrams are received, and sent, with one system call.
const batch = 64

// A worker is one UDP socket, and one goroutine that answers what comes.
type worker struct {
	sock  *socket
	o     *Options
	ctx   context.Context // of slow queries
	fast  wire.Fast
	timed Timed
	slow  sync.WaitGroup // queries of this socket that are in the pool
	stats counters

	overflow atomic.Uint64 // what the socket had dropped when run ended

	// What follows belongs to the goroutine.
	q     wire.Query
	next  int // of the batch: which message is answered
	ready int // of the batch: how many replies wait to be sent
	count tally
	*buffers
}

// buffers are those of one batch. Headers point at their buffers once and for all, but for
// replies, which take over the address and the control of the message they answer.
type buffers struct {
	in       [batch]mmsghdr
	out      [batch]mmsghdr
	inVec    [batch]unix.Iovec
	outVec   [batch]unix.Iovec
	peers    [batch]peer
	controls [batch]control
	queries  [batch][maxDatagram]byte
	replies  [][]byte
}

func newWorker(s *socket, o *Options, ctx context.Context, number int) *worker {
	w := &worker{sock: s, o: o, ctx: ctx, buffers: &buffers{replies: make([][]byte, batch)}}
	w.fast, w.timed = o.fast(UDP, number)
	for i := range batch {
		w.replies[i] = make([]byte, o.MaxUDP)
		w.inVec[i] = unix.Iovec{Base: &w.queries[i][0]}
		w.inVec[i].SetLen(maxDatagram)
		h := &w.in[i].hdr
		h.Name = (*byte)(unsafe.Pointer(&w.peers[i]))
		h.Iov, h.Iovlen = &w.inVec[i], 1
		h.Control = (*byte)(unsafe.Pointer(&w.controls[i]))
		w.rearm(i)
		w.outVec[i].Base = &w.replies[i][0]
		w.out[i].hdr.Iov, w.out[i].hdr.Iovlen = &w.outVec[i], 1
	}
	return w
}

// rearm makes a header ready to receive again.
func (w *worker) rearm(i int) {
	h := &w.in[i].hdr
	h.Namelen = unix.SizeofSockaddrInet6
	if w.sock.pktinf {
		h.SetControllen(controlLen)
	}
}

// run serves until stop, and then what is queued.
func (w *worker) run() {
	w.sock.acquire()
	defer func() {
		w.overflow.Store(w.sock.overflowed())
		w.sock.release()
	}()
	w.drain(w.sock.out) // what came before it was detached
	var n int
	var e syscall.Errno
	read := func(uintptr) bool {
		n, e = recv(w.sock.fd, w.in[:])
		return e != unix.EAGAIN
	}
	for w.sock.raw.Read(read) == nil {
		w.received(n, e)
	}
	w.drain(w.sock.fd) // told to stop: what is queued is the rest
}

// drain serves what is queued in a socket.
func (w *worker) drain(fd int) {
	for {
		n, e := recv(fd, w.in[:])
		if e == unix.EAGAIN {
			return
		}
		w.received(n, e)
	}
}

// received serves a batch, or passes over an error: the kernel is short of memory, or tells of an
// earlier reply.
func (w *worker) received(n int, e syscall.Errno) {
	switch {
	case n > 0:
		w.serve(n)
	case e != unix.EAGAIN && e != unix.EINTR:
		time.Sleep(time.Millisecond)
	}
}

// stop makes run return once the queue is empty.
func (w *worker) stop() {
	_ = w.sock.detach(w.sock.fd) // else too many are told to come here, and lost
	_ = w.sock.file.SetReadDeadline(time.Unix(1, 0))
}

// serve answers the first n messages of the batch.
func (w *worker) serve(n int) {
	var start time.Time
	if w.timed != nil {
		start = time.Now()
	}
	w.next, w.ready = 0, 0
	for w.next < n {
		w.answerAll(n)
	}
	if w.ready > 0 {
		w.count.unsent += uint64(w.sock.send(w.out[:w.ready]))
	}
	if w.timed != nil {
		w.timed.Done(time.Since(start))
	}
	w.stats.publish(&w.count)
}

// answerAll answers the messages from next on. When Fast panics it answers that one with SERVFAIL
// and returns before the end.
func (w *worker) answerAll(n int) {
	defer func() {
		if v := recover(); v != nil {
			w.count.panics++
			w.attach(w.next-1, wire.Refuse(&w.q, wire.ServFail, w.replies[w.ready]))
			w.o.Panic(v)
		}
	}()
	for w.next < n {
		i := w.next
		w.next++ // before anything that may panic: no message is tried twice
		w.attach(i, w.answer(i))
	}
}

// answer answers message i of the batch and returns the length of the reply: 0 if there is none,
// or none yet.
func (w *worker) answer(i int) int {
	m := &w.in[i]
	if w.o.Clients != nil && !w.o.Clients(addr(&w.peers[i])) {
		w.count.strange++
		return 0
	}
	msg, out := w.queries[i][:m.n], w.replies[w.ready]
	v := w.q.Parse(msg)
	if m.hdr.Flags&unix.MSG_TRUNC != 0 && v != wire.Drop {
		v = wire.BadForm
	}
	w.count.verdicts[v]++
	switch v {
	case wire.OK:
		w.q.V6 = isV6(&w.peers[i])
		if n, ok := w.fast.Answer(&w.q, w.q.Limit(w.o.MaxUDP), out); ok {
			_ = out[:n]
			return n
		}
		fallthrough
	case wire.Slow:
		w.count.slow++
		w.handOver(i, msg)
		return 0
	}
	return wire.Reject(&w.q, v, out)
}

// attach makes a reply of n bytes the next to be sent, to where message i came from. The header of
// that message is made ready to receive again.
func (w *worker) attach(i, n int) {
	if n > 0 {
		from, to := &w.in[i].hdr, &w.out[w.ready].hdr
		to.Name, to.Namelen = from.Name, from.Namelen
		if w.sock.pktinf {
			w.controls[i].neutral(w.sock.v6)
			to.Control, to.Controllen = from.Control, from.Controllen
		}
		w.outVec[w.ready].SetLen(n)
		w.ready++
	}
	w.rearm(i)
}

// handOver gives message i to the pool.
func (w *worker) handOver(i int, msg []byte) {
	h := &w.in[i].hdr
	j := &datagram{w: w, peer: w.peers[i], peerLen: h.Namelen}
	if w.sock.pktinf {
		j.control, j.controlLen = w.controls[i], uint64(h.Controllen)
	}
	j.msg = Message{Msg: bytes.Clone(msg), Client: w.sock.client(&j.peer), Local: j.control.local(w.sock, j.controlLen), Proto: UDP}
	w.slow.Add(1)
	w.sock.acquire()
	w.o.Pool.submit(j)
}

// A datagram is a slow query over UDP, and the Writer of its reply.
type datagram struct {
	w          *worker
	msg        Message
	peer       peer
	peerLen    uint32
	control    control
	controlLen uint64
}

func (d *datagram) run() {
	defer d.drop()
	defer func() {
		if v := recover(); v != nil {
			d.w.o.Panic(v)
			servFail(d.msg.Msg, d)
		}
	}()
	d.w.o.Slow(d.w.ctx, &d.msg, d)
}

func (d *datagram) drop() {
	d.w.sock.release()
	d.w.slow.Done()
}

// servFail answers a query of which nobody knows what happened to it.
func servFail(msg []byte, w Writer) {
	var q wire.Query
	var out [wire.MinUDP]byte
	if v := q.Parse(msg); v == wire.OK || v == wire.Slow {
		_ = w.Write(out[:wire.Refuse(&q, wire.ServFail, out[:])])
	}
}

var errNotSent = errors.New("send reply: the client cannot be reached")

// Write sends a reply from the socket that the query came to.
func (d *datagram) Write(msg []byte) error {
	if len(msg) == 0 {
		return nil
	}
	d.control.neutral(d.w.sock.v6)
	vec := unix.Iovec{Base: &msg[0]}
	vec.SetLen(len(msg))
	var m [1]mmsghdr
	h := &m[0].hdr
	h.Name, h.Namelen = (*byte)(unsafe.Pointer(&d.peer)), d.peerLen
	h.Iov, h.Iovlen = &vec, 1
	if d.controlLen > 0 {
		h.Control = (*byte)(unsafe.Pointer(&d.control))
		h.SetControllen(int(d.controlLen))
	}
	if d.w.sock.send(m[:]) > 0 {
		d.w.stats.unsent.Add(1)
		return errNotSent
	}
	return nil
}
