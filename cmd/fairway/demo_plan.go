package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// demoClient is the pod that connections of pods come from. It serves nothing.
const demoClient = "c"

// demoServers are the servers behind deploy/demo: pods, protocol and port.
var demoServers = []struct {
	pods     string
	protocol proxier.Protocol
	port     uint16
}{
	{"a b f", proxier.TCP, 8080},
	{"b f", proxier.UDP, 5353},
}

// A want is what a client must see: the pods it reaches, and whom they see as the client.
// Without pods, the connection must be refused.
type want struct{ pods, seen string }

// demoPlan is what must happen to connections to the Services of deploy/demo, by where they
// start: in a pod, on the node, outside. Masqueraded clients are seen as the node. A NodePort's
// address is "*"; every address stands for its IPv6 counterpart as well if both is set.
var demoPlan = []struct {
	service, kind, to string
	protocol          proxier.Protocol
	both              bool
	pod, node, out    want
}{
	{"web", "ClusterIP", "10.96.0.10:80", proxier.TCP, true, want{"a b f", "c"}, want{"a b f", "node-1"}, want{"a b f", "node-1"}},
	{"web", "NodePort", "*:30080", proxier.TCP, true, want{"a b f", "node-1"}, want{"a b f", "node-1"}, want{"a b f", "node-1"}},
	{"web", "LoadBalancer", "198.51.100.10:80", proxier.TCP, true, want{"a b f", "node-1"}, want{"a b f", "node-1"}, want{"a b f", "node-1"}},
	{"web", "ExternalIP", "203.0.113.10:80", proxier.TCP, true, want{"a b f", "node-1"}, want{"a b f", "node-1"}, want{"a b f", "node-1"}},
	{"till", "ClusterIP", "10.96.0.11:80", proxier.TCP, false, want{"a f", "c"}, want{"a f", "node-1"}, want{"a f", "node-1"}},
	{"till", "NodePort", "*:30081", proxier.TCP, false, want{"a f", "c"}, want{"a f", "node-1"}, want{"a", "outside"}},
	{"till", "LoadBalancer", "198.51.100.11:80", proxier.TCP, false, want{"a f", "c"}, want{"a f", "node-1"}, want{"a", "outside"}},
	{"prices", "ClusterIP", "10.96.0.12:53", proxier.UDP, false, want{"b f", "c"}, want{"b f", "node-1"}, want{"b f", "node-1"}},
	{"closed", "ClusterIP", "10.96.0.13:80", proxier.TCP, false, want{}, want{}, want{}},
}

// demoFrontends is how many frontends deploy/demo has.
const demoFrontends = 13

// A demoRow is one line of the demo's table: one frontend, asked from one place.
type demoRow struct {
	frontend, kind, client string // as the table shows them
	probe                  netlab.Probe
	want                   want
}

// demoRows spreads the plan into rows.
func demoRows() []demoRow {
	var rows []demoRow
	for _, p := range demoPlan {
		for _, v6 := range []bool{false, true} {
			if v6 && !p.both {
				continue
			}
			for _, c := range []struct {
				from, shown string
				want        want
			}{{demoClient, "pod c", p.pod}, {netlab.Node1, "node-1", p.node}, {netlab.Outside, "outside", p.out}} {
				to := demoTarget(p.to, c.from, v6)
				rows = append(rows, demoRow{
					frontend: p.service + " " + to.String() + "/" + p.protocol.String(), kind: p.kind, client: c.shown,
					probe: netlab.Probe{From: c.from, To: to, Protocol: p.protocol, Wait: 3 * time.Second},
					want:  c.want,
				})
			}
		}
	}
	return rows
}

// demoTarget returns the address that a client at a place connects to.
func demoTarget(to, from string, v6 bool) netip.AddrPort {
	node := netlab.Node1Addr
	if from == netlab.Outside {
		node = netlab.Node1Uplink
	}
	at := netip.MustParseAddrPort(strings.Replace(to, "*", node.String(), 1))
	if v6 {
		at = netip.AddrPortFrom(netlab.V6(at.Addr()), at.Port())
	}
	return at
}

// enough is how many connections a row makes at most, unless it has seen all that it wants
// before. With three endpoints, one is missed by chance once in 10¹¹ rows.
const enough = 66

// A sight is what a row saw.
type sight struct {
	pods, seen  []string // distinct, sorted
	connections int
	failure     netlab.Answer // of the connection that reached nobody
	failed      bool
}

// ask connects until every wanted pod has answered, and at least a dozen times.
func (r demoRow) ask(l *netlab.Lab) sight {
	var s sight
	for s.connections < enough && !s.failed && (s.connections < 12 || strings.Join(s.pods, " ") != r.want.pods) {
		for _, a := range l.Probes(r.probe, 6) {
			s.connections++
			if a.Verdict != netlab.Reached {
				s.failure, s.failed = a, true
				break
			}
			s.pods = add(s.pods, a.Name)
			s.seen = add(s.seen, netlab.PlaceOf(a.Seen.Addr()))
		}
	}
	return s
}

// add returns the sorted set with one more member.
func add(set []string, member string) []string {
	at, found := slices.BinarySearch(set, member)
	if found {
		return set
	}
	return slices.Insert(set, at, member)
}

// right reports whether the row saw what it must.
func (r demoRow) right(s sight) bool {
	if r.want.pods == "" {
		return s.failed && s.failure.Verdict == netlab.Refused && s.connections == 1
	}
	return !s.failed && strings.Join(s.pods, " ") == r.want.pods && strings.Join(s.seen, " ") == r.want.seen
}

// cells returns the row's line of the table.
func (r demoRow) cells(s sight) []string {
	reached, seen := strings.Join(s.pods, " "), strings.Join(s.seen, " ")
	switch {
	case s.failed && s.failure.Verdict == netlab.Refused:
		reached = strings.TrimSpace(reached + " refused")
	case s.failed:
		reached = strings.TrimSpace(reached + " " + s.failure.String())
	}
	switch {
	case seen == "":
		seen = "-"
	case r.probe.From == netlab.Node1:
	case seen == r.probe.From:
		seen += " (kept)"
	default:
		seen += " (masqueraded)"
	}
	verdict := "ok"
	if !r.right(s) {
		verdict = fmt.Sprintf("WRONG: want %s seen as %s", orDash(r.want.pods), orDash(r.want.seen))
		if r.want.pods == "" {
			verdict = "WRONG: want refused"
		}
	}
	return []string{r.frontend, r.kind, r.client, reached, seen, verdict}
}
