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
// address is "*"; every address stands for its IPv6 counterpart as well if both is set. The pod
// is not told the address where there is a name: it looks the name up. Addresses with commas
// between them are those of a headless Service, which only pods connect to.
var demoPlan = []struct {
	service, name, kind, to string
	protocol                proxier.Protocol
	both                    bool
	pod, node, out          want
}{
	{"web", "web", "ClusterIP", "10.96.0.10:80", proxier.TCP, true, want{"a b f", "c"}, want{"a b f", "node-1"}, want{"a b f", "node-1"}},
	{"web", "", "NodePort", "*:30080", proxier.TCP, true, want{"a b f", "node-1"}, want{"a b f", "node-1"}, want{"a b f", "node-1"}},
	{"web", "", "LoadBalancer", "198.51.100.10:80", proxier.TCP, true, want{"a b f", "node-1"}, want{"a b f", "node-1"}, want{"a b f", "node-1"}},
	{"web", "", "ExternalIP", "203.0.113.10:80", proxier.TCP, true, want{"a b f", "node-1"}, want{"a b f", "node-1"}, want{"a b f", "node-1"}},
	{"till", "till.shop", "ClusterIP", "10.96.0.11:80", proxier.TCP, false, want{"a f", "c"}, want{"a f", "node-1"}, want{"a f", "node-1"}},
	{"till", "", "NodePort", "*:30081", proxier.TCP, false, want{"a f", "c"}, want{"a f", "node-1"}, want{"a", "outside"}},
	{"till", "", "LoadBalancer", "198.51.100.11:80", proxier.TCP, false, want{"a f", "c"}, want{"a f", "node-1"}, want{"a", "outside"}},
	{"prices", "prices.shop.svc.cluster.local", "ClusterIP", "10.96.0.12:53", proxier.UDP, false, want{"b f", "c"}, want{"b f", "node-1"}, want{"b f", "node-1"}},
	{"closed", "closed", "ClusterIP", "10.96.0.13:80", proxier.TCP, false, want{}, want{}, want{}},
	{"crew", "crew", "Headless", "10.244.1.11,10.244.1.12,10.244.2.21:8080", proxier.TCP, false, want{"a b f", "c"}, want{}, want{}},
	{"crew", "frida.crew", "Headless", "10.244.2.21:8080", proxier.TCP, false, want{"f", "c"}, want{}, want{}},
}

// demoFrontends is how many frontends deploy/demo has: those of the plan, and UDP and TCP of
// kube-dns in two families.
const demoFrontends = 13 + 4

// A demoRow is one line of the demo's table: one frontend, asked from one place.
type demoRow struct {
	name, frontend, kind, client string // as the table shows them
	from                         string // place of the client
	protocol                     proxier.Protocol
	addrs                        []netip.Addr // to connect to; with a name, those that it must have
	port                         uint16
	want                         want
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
				name, from, shown string
				want              want
			}{{p.name, demoClient, "pod c", p.pod}, {"", netlab.Node1, "node-1", p.node}, {"", netlab.Outside, "outside", p.out}} {
				if p.kind == "Headless" && c.from != demoClient {
					continue
				}
				r := demoRow{name: c.name, kind: p.kind, client: c.shown, from: c.from, protocol: p.protocol, want: c.want}
				r.addrs, r.port = demoTarget(p.to, c.from, v6)
				r.frontend = p.service + " " + netip.AddrPortFrom(r.addrs[0], r.port).String() + "/" + p.protocol.String()
				if len(r.addrs) > 1 {
					r.frontend = fmt.Sprintf("%s %d pods:%d/%s", p.service, len(r.addrs), r.port, p.protocol)
				}
				rows = append(rows, r)
			}
		}
	}
	return rows
}

// demoNames returns the names that rows look up, each once.
func demoNames(rows []demoRow) (names []string) {
	for _, r := range rows {
		if r.name != "" && !slices.Contains(names, r.name) {
			names = append(names, r.name)
		}
	}
	return names
}

// demoTarget returns the addresses and the port that a client at a place connects to.
func demoTarget(to, from string, v6 bool) (addrs []netip.Addr, port uint16) {
	node := netlab.Node1Addr
	if from == netlab.Outside {
		node = netlab.Node1Uplink
	}
	list, last, _ := strings.Cut(strings.Replace(to, "*", node.String(), 1), ":")
	for _, text := range strings.Split(list, ",") {
		at := netip.MustParseAddrPort(text + ":" + last)
		if v6 {
			at = netip.AddrPortFrom(netlab.V6(at.Addr()), at.Port())
		}
		addrs, port = append(addrs, at.Addr()), at.Port()
	}
	return addrs, port
}

// enough is how many connections a row makes at most, unless it has seen all that it wants
// before. With three endpoints, one is missed by chance once in 10¹¹ rows.
const enough = 66

// A sight is what a row saw.
type sight struct {
	addrs       []netip.Addr // that the name has, of the family of the row
	pods, seen  []string     // distinct, sorted
	connections int
	failure     netlab.Answer // of the connection that reached nobody
	failed      bool
}

// ask looks up the name among what the resolver said, and connects to its addresses until every
// wanted pod has answered, and at least a dozen times.
func (r demoRow) ask(l *netlab.Lab, names map[string][]netip.Addr) sight {
	s := sight{addrs: r.addrs}
	if r.name != "" {
		s.addrs = nil
		for _, a := range names[r.name] {
			if a.Is4() == r.addrs[0].Is4() {
				s.addrs = append(s.addrs, a)
			}
		}
	}
	for s.connections < enough && !s.failed && len(s.addrs) > 0 && (s.connections < 12 || strings.Join(s.pods, " ") != r.want.pods) {
		to := netip.AddrPortFrom(s.addrs[s.connections%len(s.addrs)], r.port)
		for _, a := range l.Probes(netlab.Probe{From: r.from, To: to, Protocol: r.protocol, Wait: 3 * time.Second}, 4) {
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
	if !slices.Equal(s.addrs, r.addrs) {
		return false
	}
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
	case r.from == netlab.Node1:
	case seen == r.from:
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
		if !slices.Equal(s.addrs, r.addrs) {
			verdict = fmt.Sprintf("WRONG: the name has %v, want %v", s.addrs, r.addrs)
		}
	}
	return []string{orDash(r.name), r.frontend, r.kind, r.client, reached, seen, verdict}
}
