package netlab

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/fairway-lb/fairway/proxier"
)

// PlaceOf returns the name of the pod, node or outside that has the address, "" if none has.
func PlaceOf(a netip.Addr) string {
	for _, name := range append([]string{Outside, Node1, Node2}, AllPods...) {
		if b := Addr(name); a == b || a == V6(b) {
			return name
		}
	}
	for _, name := range []string{Node1, Node2} {
		for _, b := range Local(name, false) {
			if a == b || a == V6(b) {
				return name
			}
		}
	}
	for _, b := range OutsideAddrs {
		if a == b || a == V6(b) {
			return Outside
		}
	}
	return ""
}

// Serve starts a server in a namespace, on one of its addresses, until the lab is closed. It
// answers every connection, datagram or SCTP INIT with "name client:port\n": its own name and
// the client's address as it sees it. On TCP connections it then echoes lines. Starting the same
// server twice is fine.
func (l *Lab) Serve(ns string, proto proxier.Protocol, at netip.AddrPort) error {
	key := fmt.Sprint(ns, " ", proto, " ", at)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.servers[key] {
		return nil
	}
	var stop func()
	err := l.In(ns, func() (err error) {
		switch proto {
		case proxier.TCP:
			stop, err = serveTCP(ns, at)
		case proxier.UDP:
			stop, err = serveUDP(ns, at)
		case proxier.SCTP:
			stop, err = serveSCTP(ns, at, &l.inits)
		default:
			err = fmt.Errorf("no server for %s", proto)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("server of %s on %s: %w", ns, at, err)
	}
	l.servers[key] = true
	l.closers = append(l.closers, stop)
	return nil
}

// greeting is what a server says first.
func greeting(name string, client netip.AddrPort) []byte {
	return fmt.Appendf(nil, "%s %s\n", name, unmap(client))
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func serveTCP(name string, at netip.AddrPort) (stop func(), err error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", at.String())
	if err != nil {
		return nil, err
	}
	conns := &connections{}
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if !conns.add(c) {
				_ = c.Close()
				return
			}
			conns.Go(func() {
				defer conns.remove(c)
				greetAndEcho(name, c.(*net.TCPConn))
			})
		}
	})
	return func() {
		_ = ln.Close()
		conns.close()
	}, nil
}

func greetAndEcho(name string, c *net.TCPConn) {
	client := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	if _, err := c.Write(greeting(name, client)); err != nil {
		return
	}
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		if _, err := c.Write(line); err != nil {
			return
		}
	}
}

func serveUDP(name string, at netip.AddrPort) (stop func(), err error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	conns := &connections{}
	conns.Go(func() {
		buf := make([]byte, 2048)
		for {
			_, client, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(greeting(name, client), client)
		}
	})
	return func() {
		_ = c.Close()
		conns.close()
	}, nil
}
