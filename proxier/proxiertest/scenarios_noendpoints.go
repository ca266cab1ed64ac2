package proxiertest

import (
	"testing"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// A Service without endpoints refuses at once, so that clients need not wait for a time-out.
var noEndpointsScenarios = []Scenario{
	{Name: "noendpoints/every address refuses",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), externalIPs("203.0.113.10")),
			Flows: []Flow{
				{Name: "pod to ClusterIP", From: client, To: "10.96.0.10:80", Want: Rejected},
				{Name: "process to ClusterIP", From: process, To: "10.96.0.10:80", Want: Rejected},
				{Name: "outside to ClusterIP", From: Outside, To: "10.96.0.10:80", Want: Rejected},
				{Name: "pod to node port", From: client, To: "node-1:30080", Want: Rejected},
				{Name: "process to node port", From: process, To: "node-1:30080", Want: Rejected},
				{Name: "outside to node port", From: Outside, To: "node-1:30080", Want: Rejected},
				{Name: "pod to load balancer", From: client, To: "198.51.100.10:80", Want: Rejected},
				{Name: "outside to load balancer", From: Outside, To: "198.51.100.10:80", Want: Rejected},
				{Name: "pod to external address", From: client, To: "203.0.113.10:80", Want: Rejected},
				{Name: "outside to external address", From: Outside, To: "203.0.113.10:80", Want: Rejected},
				{Name: "other ports are nobody's", From: client, To: "10.96.0.10:81", Want: Untouched},
			},
		}}},

	{Name: "noendpoints/a process of the node is refused by outside addresses, too", Needs: []Feature{RejectFromNode},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), externalIPs("203.0.113.10")),
			Flows: []Flow{
				{Name: "load balancer", From: process, To: "198.51.100.10:80", Want: Rejected},
				{Name: "external address", From: process, To: "203.0.113.10:80", Want: Rejected},
			},
		}}},

	{Name: "noendpoints/udp refuses", Needs: []Feature{UDP},
		Steps: []Step{{
			Objects: service("dns", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), udp(53), nodePort(30053)),
			Flows: []Flow{
				{Name: "pod to ClusterIP", From: client, To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Rejected},
				{Name: "process to ClusterIP", From: process, To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Rejected},
				{Name: "outside to ClusterIP", From: Outside, To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Rejected},
				{Name: "outside to node port", From: Outside, To: "node-1:30053", Protocol: proxier.UDP, Want: Rejected},
				{Name: "outside to load balancer", From: Outside, To: "198.51.100.10:53", Protocol: proxier.UDP, Want: Rejected},
			},
		}}},

	{Name: "noendpoints/no slice at all",
		Steps: []Step{
			{Objects: onlyService("web", clusterIP("10.96.0.10"), nodePort(30080)),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Rejected},
					{From: Outside, To: "node-1:30080", Want: Rejected},
				}},
			{Name: "a slice arrives",
				Objects: onlySlice("web", "web-1", port(80), on("a")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
					{From: Outside, To: "node-1:30080", Want: Reaches("a")},
				}},
			{Name: "and is deleted",
				Delete: "EndpointSlice web-1",
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Rejected},
					{From: Outside, To: "node-1:30080", Want: Rejected},
				}},
		}},

	{Name: "noendpoints/slices are there before their Service",
		Steps: []Step{
			{Objects: onlySlice("web", "web-1", port(80), on("a")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Untouched}}},
			{Objects: onlyService("web", clusterIP("10.96.0.10"), port(80)),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
			{Name: "the Service goes, the slice stays",
				Delete: "Service web",
				Flows:  []Flow{{From: client, To: "10.96.0.10:80", Want: Untouched}}},
		}},

	{Name: "noendpoints/source ranges with no endpoints",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), sourceRanges("192.168.20.9/32")),
			Flows: []Flow{
				{Name: "who may come in is refused", From: Outside, To: "198.51.100.10:80", Want: Rejected},
			},
		}}},

	{Name: "noendpoints/an empty node port spares other addresses", Needs: []Feature{HostAddressReject},
		Config: Config{NodePortAddresses: []string{"192.168.10.0/24"}},
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("10.96.0.10"), nodePort(8080)),
				service("host", clusterIP("10.96.0.11"), on("node-1"))),
			Flows: []Flow{
				{Name: "the node's own server, reached through a Service", From: Outside, To: "10.96.0.11:80", Want: Reaches("node-1")},
				{Name: "the node port refuses", From: Outside, To: "192.168.10.1:8080", Want: Rejected},
				{Name: "the same number on an excluded address is the node's own", From: Outside, To: "192.168.20.1:8080", Want: Reaches("node-1").ClientKept()},
			},
		}}},

	{Name: "noendpoints/endpoints of another port do not help",
		Steps: []Step{{
			Objects: all(
				onlyService("web", clusterIP("10.96.0.10"), portTo("TCP", "http", 80, 8080), portTo("TCP", "tls", 443, 8443)),
				onlySlice("web", "web-1", portTo("TCP", "http", 80, 8080), on("a"))),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
				{From: client, To: "10.96.0.10:443", Want: Rejected},
			},
		}}},

	// An ICMPv6 refusal would take a client a second to notice (it waits for its own second
	// segment), a reset does not.
	{Name: "noendpoints/TCP is refused within 100 ms", Needs: []Feature{ProblemsDecided},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), loadBalancer("198.51.100.10")),
			Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Rejected}},
			Check: func(t testing.TB, r *Running) {
				const limit, tries = 100 * time.Millisecond, 10 // a busy machine may be late, not ten times
				for _, c := range []struct {
					from Place
					to   string
				}{{client, "10.96.0.10:80"}, {process, "10.96.0.10:80"}, {Outside, "10.96.0.10:80"},
					{client, "node-1:30080"}, {Outside, "node-1:30080"}, {Outside, "198.51.100.10:80"}} {
					fastest := time.Hour
					for range tries {
						a := r.probe(t, c.from, c.to, proxier.TCP, refusalWait)
						if a.Verdict != netlab.Refused {
							t.Errorf("%s to %s: %s, want refused", c.from, c.to, a)
							break
						}
						if fastest = min(fastest, a.Took); fastest < limit {
							break
						}
					}
					if fastest >= limit {
						t.Errorf("%s to %s: refused after %s at best, want less than %s", c.from, c.to, fastest, limit)
					}
				}
			},
		}}},
}
