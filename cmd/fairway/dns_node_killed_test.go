package main

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestNodeDNSKilled: when the process is killed, the Service's pods answer from that moment, although
// nobody has changed a rule, and the next start takes over without a loss.
func TestNodeDNSKilled(t *testing.T) {
	const other = "a" // a pod that has not asked before: none of its ports has a flow to the killed process
	for _, variant := range variants {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			s := newNodeStage(t, variant)
			s.start().kill() // kube-dns leads to its pods
			a := s.start(s.flags...)
			s.answeredBy("with a resolver on the node", ttlNode)
			flows := s.flowsToNode()
			before := s.rules()
			a.kill()
			for range 20 {
				for _, server := range dnsVIPs {
					for _, network := range []string{"udp", "tcp"} {
						if ttl, err := s.ask(other, network, server, askedName); err != nil || ttl != ttlCluster {
							t.Fatalf("killed: %s over %s: TTL %d, %v; want %d at once", server, network, ttl, err, ttlCluster)
						}
					}
				}
			}
			s.answeredBy("killed", ttlCluster)
			if diff := lineDiff(before, s.rules()); diff != "" {
				t.Errorf("somebody changed rules:\n%s", diff)
			}
			for _, c := range flows {
				if ttl, err := exchange(c, false, askedName, patience); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("killed: a flow that led to the process: TTL %d, %v, want refused: see docs/dns.md", ttl, err)
				}
			}

			var pesters []*pester
			for _, server := range dnsVIPs {
				pesters = append(pesters, s.pester(other, server))
			}
			for _, p := range pesters {
				p.meets(t, ttlCluster)
			}
			s.start(s.flags...)
			s.answeredBy("started again", ttlNode)
			for i, p := range pesters {
				p.meets(t, ttlNode)
				p.end(t, 0, "started again, "+dnsVIPs[i])
			}
			for _, c := range flows {
				s.eventually("a flow that led to the killed process", "true", func() string {
					ttl, err := exchange(c, false, askedName, exchangeTime)
					return strconv.FormatBool(err == nil && ttl > 0)
				})
			}
		})
	}
}

// flowsToNode returns UDP sockets of the client pod whose queries the node's resolver answers.
func (s *nodeStage) flowsToNode() (out []net.Conn) {
	s.t.Helper()
	for _, server := range dnsVIPs {
		s.eventually("a flow to "+server, strconv.Itoa(ttlNode), func() string {
			var ttl int
			err := s.In(demoClient, func() error {
				c, err := net.DialTimeout("udp", server, 10*time.Second)
				if err != nil {
					return err
				}
				if ttl, err = exchange(c, false, askedName, exchangeTime); ttl != ttlNode {
					c.Close()
					return err
				}
				s.t.Cleanup(func() { c.Close() })
				out = append(out, c)
				return nil
			})
			if err != nil {
				return err.Error()
			}
			return strconv.Itoa(ttl)
		})
	}
	return out
}
