package proxiertest

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// How the proxy gets on with the machine it runs on.
var hostScenarios = []Scenario{
	// A predecessor may have left route_localnet on, which makes the kernel accept packets for
	// 127/8 from the network (CVE-2020-8558). IPv6 has nothing like it.
	{Name: "host/packets for loopback do not come in from the network", Needs: []Feature{LoopbackGuard}, Families: IPv4Only,
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
			Flows:   []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a")}},
			Check: func(t testing.TB, r *Running) {
				if !loopbackFromOutside(t, netlab.New(t, netlab.Options{Pods: []string{}})) {
					t.Fatal("the test is worth nothing: without any rules, the packet does not arrive either")
				}
				if loopbackFromOutside(t, r.Lab) {
					t.Error("a server on 127.0.0.1 was reached from outside")
				}
				if a := r.Lab.Probe(netlab.Probe{From: netlab.Node1, To: loopbackServer, Protocol: proxier.UDP}); a.Verdict != netlab.Reached {
					t.Errorf("a server on 127.0.0.1 is not reached by the node itself: %s", a)
				}
			},
		}}},

	// The "boom server": a segment outside of the window is INVALID to the connection table and not
	// translated back. The client, who knows no such connection, would reset the endpoint's.
	{Name: "host/invalid packets do not reach clients", Needs: []Feature{DropsInvalid},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), on("a")),
			Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a").ClientKept(), Hold: true}},
			Check:   checkInvalid,
		}}},

	{Name: "host/a FORWARD chain that drops", Needs: []Feature{OpensFirewall},
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a", "f")),
				Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()}},
				Check: func(t testing.TB, r *Running) { r.policy(t, "FORWARD", "DROP") }},
			{Name: "policy DROP",
				Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a", "b", "f")),
				Flows: []Flow{
					{Name: "the node port is let through", From: Outside, To: "node-1:30080", Want: Reaches("a", "b", "f").Masqueraded()},
					{Name: "what is not the proxy's is not", From: Outside, To: "a:8080", Want: Dropped},
				},
				Check: func(t testing.TB, r *Running) { r.policy(t, "FORWARD", "ACCEPT") }},
		}},

	{Name: "host/an INPUT chain that drops, and the health check port", Needs: []Feature{OpensFirewall},
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), externalLocal, healthCheckPort(32000), on("a")),
				Flows: []Flow{
					{From: Outside, To: "node-1:32000", Want: Reaches("node-1").ClientKept()},
					{From: Outside, To: "node-1:32001", Want: Reaches("node-1").ClientKept()},
				},
				Check: func(t testing.TB, r *Running) { r.policy(t, "INPUT", "DROP") }},
			{Name: "policy DROP",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), externalLocal, healthCheckPort(32000), on("b")),
				Flows: []Flow{
					{Name: "load balancers may ask", From: Outside, To: "node-1:32000", Want: Reaches("node-1").ClientKept()},
					{Name: "nobody else", From: Outside, To: "node-1:32001", Want: Dropped},
				}},
			{Name: "no health check port any more",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), on("b")),
				Flows:   []Flow{{From: Outside, To: "node-1:32000", Want: Dropped}},
				Check:   func(t testing.TB, r *Running) { r.policy(t, "INPUT", "ACCEPT") }},
		}},

	{Name: "host/the node gets another address",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
			Flows:   []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a")}},
			Check: func(t testing.TB, r *Running) {
				r.addAddress(t, "192.168.20.50/24", "outside")
				r.reaches(t, Outside, "192.168.20.50:30080", "a")
			},
		}}},

	// Some load balancers put their address on the node. Its own packets to it then have it as
	// their source too, which source ranges that name the node must let in.
	{Name: "host/the load balancer's address is on the node",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080),
				sourceRanges("192.168.10.0/24"), on("a")),
			Flows: []Flow{{From: Outside, To: "198.51.100.10:80", Want: Dropped}},
			Check: func(t testing.TB, r *Running) {
				r.addAddress(t, "198.51.100.10/32", "lo")
				r.reaches(t, Node("node-1"), "198.51.100.10:80", "a")
				if a := r.probe(t, Outside, "198.51.100.10:80", proxier.TCP, silenceWait); a.Verdict != netlab.Silent {
					t.Errorf("a client outside of the ranges: %s, want silence", a)
				}
			},
		}}},
}

// policy sets the policy of a built-in chain in the tables that the subject uses. Neighbours must
// go on finding each other meanwhile.
func (r *Running) policy(t testing.TB, chain, target string) {
	t.Helper()
	for _, command := range r.firewalls(t) {
		if chain == "INPUT" {
			op := "-I"
			if target == "ACCEPT" {
				op = "-D"
			}
			r.run(t, netlab.Node1, command, "-w", op, chain, "-i", "lo", "-j", "ACCEPT")
			if strings.HasPrefix(command, "ip6") {
				r.run(t, netlab.Node1, command, "-w", op, chain, "-p", "ipv6-icmp", "-j", "ACCEPT")
			}
		}
		r.run(t, netlab.Node1, command, "-w", "-P", chain, target)
	}
}

var loopbackServer = netip.MustParseAddrPort("127.0.0.1:8099")

// loopbackFromOutside makes node-1 accept 127/8 from the network, has the client outside send a
// datagram for a server on node-1's 127.0.0.1 there, and says whether it came to the server.
func loopbackFromOutside(t testing.TB, l *netlab.Lab) (arrived bool) {
	t.Helper()
	r := &Running{Lab: l, tale: &tale{text: same}}
	if err := l.Serve(netlab.Node1, proxier.UDP, loopbackServer); err != nil {
		t.Fatal(err)
	}
	r.run(t, netlab.Node1, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
	r.run(t, netlab.Outside, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
	r.run(t, netlab.Outside, "ip", "route", "del", "local", "127.0.0.0/8", "dev", "lo", "table", "local")
	r.run(t, netlab.Outside, "ip", "route", "del", "local", "127.0.0.1", "dev", "lo", "table", "local")
	r.run(t, netlab.Outside, "ip", "route", "add", "127.0.0.1/32", "via", "192.168.20.1", "dev", "eth0", "src", "192.168.20.9")
	before, err := l.Arrivals(netlab.Node1)
	if err != nil {
		t.Fatal(err)
	}
	// The answer, from 127.0.0.1, goes astray; what counts is whether the server is asked.
	l.Probe(netlab.Probe{From: netlab.Outside, To: loopbackServer, Protocol: proxier.UDP})
	after, err := l.Arrivals(netlab.Node1)
	if err != nil {
		t.Fatal(err)
	}
	return after > before
}

// checkInvalid sends segments from the endpoint to the client that belong to no connection.
func checkInvalid(t testing.TB, r *Running) {
	const ack, psh = 0x10, 0x08
	to, err := r.tale.address("10.96.0.10:80")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := r.Lab.Stream(client.ns, to)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	server := endpointOf(r, "a", 8080)
	// The first is of the connection's addresses and ports. The second, from another port, is of
	// no connection at all, so it arrives, and the first would have before it.
	other := netip.AddrPortFrom(server.Addr(), 9)
	from := func(packets []netlab.Sighting, a netip.AddrPort) bool {
		return slices.ContainsFunc(packets, func(s netlab.Sighting) bool { return s.Src == a })
	}
	var packets []netlab.Sighting
	// Nothing reports the end of what veth and softirqs do, which takes its time on a busy machine.
	for pause := 50 * time.Millisecond; pause < 10*time.Second && !from(packets, other); pause *= 2 {
		sniffed, err := r.Lab.Sniff(client.ns)
		if err != nil {
			t.Fatal(err)
		}
		r.inject(t, "a", server, stream.Seen, ack|psh)
		r.inject(t, "a", other, stream.Seen, ack|psh)
		time.Sleep(pause)
		packets = append(packets, sniffed()...)
	}
	if !from(packets, other) {
		t.Error("the test is worth nothing: the crafted segment of no connection did not arrive")
	}
	if from(packets, server) {
		t.Errorf("a segment of the endpoint came to the client untranslated")
	}
	if err := stream.Alive(aliveMessages); err != nil {
		t.Errorf("the connection: %v", err)
	}
}

// endpointOf is the address of a place of the lab in the scenario's family.
func endpointOf(r *Running, place string, port uint16) netip.AddrPort {
	a := netlab.Addr(place)
	if r.Env.IPv6 && !r.Env.IPv4 {
		a = netlab.V6(a)
	}
	return netip.AddrPortFrom(a, port)
}
