package stage

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// The pods of the lab: the client, and the one that has every endpoint's address.
const (
	Client = "a"
	Server = "e"
)

const (
	// PollEvery is the resolution of what Await tells of a Service that answers already.
	PollEvery = time.Millisecond
	// A connection that is tried again and again may take between these: see impatience.
	shortest = 5 * time.Millisecond
	longest  = 100 * time.Millisecond
	// Patience is how long one that is tried once may take. It is longer than the first
	// retransmission of a SYN, so that a lost packet is not taken for a missing rule.
	Patience = 1500 * time.Millisecond
)

func (s *Stage) run(ns, name string, args ...string) error {
	return s.Lab.In(ns, func() error {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
		}
		return nil
	})
}

// Dial connects to a Service from the calling thread's namespace and returns which endpoint
// answered, after at most the time given.
func Dial(to netip.AddrPort, wait time.Duration) (netip.Addr, error) {
	d := net.Dialer{Timeout: wait, KeepAlive: -1}
	c, err := d.Dial("tcp", to.String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.SetDeadline(time.Now().Add(wait))
	if _, err := c.Write([]byte{Who}); err != nil {
		return netip.Addr{}, err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(strings.TrimSpace(line))
}

// impatience is how long to wait for an answer after waiting so long in all. Nobody answers for an
// address that is not programmed yet, so this is the resolution of what Await tells then: a
// twentieth of the time.
func impatience(waited time.Duration) time.Duration {
	return min(max(waited/20, shortest), longest)
}

// Await connects from the client pod to the Services, one after the other, each until ok holds
// for the endpoint that answers, or until ctx is done, which is an error.
func (s *Stage) Await(ctx context.Context, services []int, ok func(netip.Addr) bool) error {
	start := time.Now()
	return s.Lab.In(Client, func() error {
		for _, i := range services {
			for {
				got, err := Dial(s.Service(i), impatience(time.Since(start)))
				if err == nil && ok(got) {
					break
				}
				select {
				case <-ctx.Done():
					return fmt.Errorf("service %d: %w, last answer: %v %v", i, ctx.Err(), got, err)
				case <-time.After(PollEvery):
				}
			}
		}
		return nil
	})
}

// Spread are Services from all over the range, the last one first: while that one does not work,
// few packets disturb the subject.
func (c Cluster) Spread() []int {
	out := []int{c.Last()}
	for i := range 50 {
		out = append(out, i*c.Last()/50)
	}
	return out
}

// Check connects to every Service once and returns an error for the first that does not answer
// from one of its endpoints.
func (s *Stage) Check(ctx context.Context) error {
	return s.Lab.In(Client, func() error {
		for i := range s.Services {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			got, err := Dial(s.Service(i), Patience)
			if err != nil {
				return fmt.Errorf("service %d of %d: %w", i, s.Services, err)
			}
			first, last := s.Endpoint(i, 0, 0), s.Endpoint(i, s.Endpoints-1, 0)
			if got.Less(first) || last.Less(got) {
				return fmt.Errorf("service %d of %d: answer from %s, which is not of %s to %s", i, s.Services, got, first, last)
			}
		}
		return nil
	})
}

// routes sends every endpoint's address to the server pod, which takes them for its own.
func (s *Stage) routes() error {
	for _, v6 := range []bool{false, true} {
		family, endpoints, via := "-4", endpointRange, netlab.Addr(Server)
		if v6 {
			family, endpoints, via = "-6", netlab.V6Prefix(endpoints), netlab.V6(via)
		}
		if err := s.run(netlab.Node1, "ip", family, "route", "add", endpoints.String(), "via", via.String()); err != nil {
			return err
		}
		// The kernel takes a route of type local for addresses of its own.
		if err := s.run(Server, "ip", family, "route", "add", "local", endpoints.String(), "dev", "lo"); err != nil {
			return err
		}
	}
	return nil
}
