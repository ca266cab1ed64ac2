package scale

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// The pods of the lab: the client, and the one that has every endpoint's address.
const (
	client = "a"
	server = "e"
)

// serveEndpoints makes the server pod answer on every address of endpointRange, with that
// address. It goes on until stop is called.
func serveEndpoints(lab *netlab.Lab) (stop func(), err error) {
	if err := run(lab, netlab.Node1, "ip", "route", "add", endpointRange.String(), "via", netlab.Addr(server).String()); err != nil {
		return nil, err
	}
	// The kernel takes a route of type local for addresses of its own.
	if err := run(lab, server, "ip", "route", "add", "local", endpointRange.String(), "dev", "lo"); err != nil {
		return nil, err
	}
	var l net.Listener
	err = lab.In(server, func() error {
		l, err = net.Listen("tcp4", fmt.Sprintf(":%d", endpointPort))
		return err
	})
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { answer(c) })
		}
	})
	return func() { _ = l.Close(); wg.Wait() }, nil
}

func answer(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = fmt.Fprintln(c, c.LocalAddr().(*net.TCPAddr).AddrPort().Addr())
	_, _ = c.Read(make([]byte, 1)) // the client resets, so neither side keeps a TIME_WAIT
}

func run(lab *netlab.Lab, ns, name string, args ...string) error {
	return lab.In(ns, func() error {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
		}
		return nil
	})
}

const (
	// pollEvery is the resolution of all times.
	pollEvery = time.Millisecond
	// impatience is how long a connection that is tried again and again may take.
	impatience = 100 * time.Millisecond
	// patience is how long one that is tried once may take. It is longer than the first
	// retransmission of a SYN, so that a lost packet is not taken for a missing rule.
	patience = 1500 * time.Millisecond
)

// dial connects to a Service from the calling thread's namespace and returns which endpoint
// answered.
func dial(to netip.AddrPort, wait time.Duration) (netip.Addr, error) {
	d := net.Dialer{Timeout: wait, KeepAlive: -1}
	c, err := d.Dial("tcp4", to.String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.SetDeadline(time.Now().Add(wait))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(strings.TrimSpace(line))
}

// await connects to the Services, one after the other, each until ok holds for the endpoint that
// answers.
func await(ctx context.Context, lab *netlab.Lab, services []int, ok func(netip.Addr) bool) error {
	return lab.In(client, func() error {
		for _, i := range services {
			for {
				got, err := dial(serviceAddr(i), impatience)
				if err == nil && ok(got) {
					break
				}
				select {
				case <-ctx.Done():
					return fmt.Errorf("service %d: %w, last answer: %v %v", i, ctx.Err(), got, err)
				case <-time.After(pollEvery):
				}
			}
		}
		return nil
	})
}

// check connects to every Service once and returns an error for the first that does not answer
// from one of its endpoints.
func (c cluster) check(ctx context.Context, lab *netlab.Lab) error {
	return lab.In(client, func() error {
		for i := range c.services {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			got, err := dial(serviceAddr(i), patience)
			if err != nil {
				return fmt.Errorf("service %d of %d: %w", i, c.services, err)
			}
			first, last := c.endpointAddr(i, 0, 0), c.endpointAddr(i, c.endpoints-1, 0)
			if got.Less(first) || last.Less(got) {
				return fmt.Errorf("service %d of %d: answer from %s, which is not of %s to %s", i, c.services, got, first, last)
			}
		}
		return nil
	})
}
