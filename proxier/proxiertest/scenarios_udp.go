package proxiertest

import "github.com/fairway-lb/fairway/proxier"

// Clients that keep their source port keep their entry in the connection table, and with it
// their endpoint, until somebody deletes it. TCP clients notice; UDP clients talk to nobody.
var udpScenarios = []Scenario{
	{Name: "udp/the endpoint is replaced", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), on("a")),
				Flows: []Flow{
					{Name: "pod", From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a")},
					{Name: "process", From: Node("node-1").Port(40002), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a")},
					{Name: "outside", From: Outside.Port(40003), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a")},
				}},
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), on("f")),
				Flows: []Flow{
					{Name: "pod", From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("f")},
					{Name: "process", From: Node("node-1").Port(40002), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("f")},
					{Name: "outside", From: Outside.Port(40003), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("f")},
				}},
		}},

	{Name: "udp/the endpoint of every kind of address is replaced", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: service("dns", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), externalIPs("203.0.113.10"), udp(53), nodePort(30053), on("a")),
				Flows: []Flow{
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("a")},
					{From: Outside.Port(40001), To: "198.51.100.10:53", Protocol: proxier.UDP, Want: Reaches("a")},
					{From: Outside.Port(40001), To: "203.0.113.10:53", Protocol: proxier.UDP, Want: Reaches("a")},
				}},
			{Objects: service("dns", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), externalIPs("203.0.113.10"), udp(53), nodePort(30053), on("b")),
				Flows: []Flow{
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("b")},
					{From: Outside.Port(40001), To: "198.51.100.10:53", Protocol: proxier.UDP, Want: Reaches("b")},
					{From: Outside.Port(40001), To: "203.0.113.10:53", Protocol: proxier.UDP, Want: Reaches("b")},
				}},
		}},

	{Name: "udp/policies Local, the endpoint here is replaced", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), nodePort(30053), internalLocal, externalLocal, on("a", "f")),
				Flows: []Flow{
					{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a")},
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("a").ClientKept()},
				}},
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), nodePort(30053), internalLocal, externalLocal, on("b", "f")),
				Flows: []Flow{
					{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("b")},
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("b").ClientKept()},
				}},
		}},

	{Name: "udp/all endpoints go, then others come", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), nodePort(30053), on("a")),
				Flows: []Flow{
					{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a")},
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("a")},
				}},
			{Name: "nobody",
				Objects: service("dns", clusterIP("10.96.0.10"), udp(53), nodePort(30053)),
				Flows: []Flow{
					{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Rejected},
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Rejected},
				}},
			{Name: "another",
				Objects: service("dns", clusterIP("10.96.0.10"), udp(53), nodePort(30053), on("b")),
				Flows: []Flow{
					{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("b")},
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("b")},
				}},
		}},

	{Name: "udp/an endpoint stops being ready", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), on("a")),
				Flows: []Flow{{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a")}}},
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), unready("a"), on("b")),
				Flows: []Flow{{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("b")}}},
		}},

	{Name: "udp/a client that came before the endpoints", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), nodePort(30053)),
				Flows: []Flow{
					{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Rejected},
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Rejected},
				}},
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), nodePort(30053), on("a")),
				Flows: []Flow{
					{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a")},
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("a")},
				}},
		}},

	{Name: "udp/a client that came before the Service", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.11"), on("a")),
				Flows: []Flow{
					{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Untouched},
					{From: Outside.Port(40001), To: "198.51.100.10:53", Protocol: proxier.UDP, Want: Untouched},
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Rejected},
				}},
			{Objects: service("dns", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), udp(53), nodePort(30053), on("a")),
				Flows: []Flow{
					{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a")},
					{From: Outside.Port(40001), To: "198.51.100.10:53", Protocol: proxier.UDP, Want: Reaches("a")},
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("a")},
				}},
		}},

	{Name: "udp/a Service gets an address that a client uses already", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: service("dns", clusterIP("10.96.0.10"), loadBalancer(), udp(53), nodePort(30053), on("a")),
				Flows: []Flow{
					{From: Outside.Port(40001), To: "198.51.100.10:53", Protocol: proxier.UDP, Want: Untouched},
					{From: client.Port(40001), To: "203.0.113.10:53", Protocol: proxier.UDP, Want: Untouched},
				}},
			{Objects: service("dns", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), externalIPs("203.0.113.10"), udp(53), nodePort(30053), on("a")),
				Flows: []Flow{
					{From: Outside.Port(40001), To: "198.51.100.10:53", Protocol: proxier.UDP, Want: Reaches("a")},
					{From: client.Port(40001), To: "203.0.113.10:53", Protocol: proxier.UDP, Want: Reaches("a")},
				}},
		}},

	{Name: "udp/the node port changes", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), nodePort(30053), on("a")),
				Flows: []Flow{
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("a")},
					{From: Outside.Port(40001), To: "node-1:30054", Protocol: proxier.UDP, Want: Rejected},
				}},
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), nodePort(30054), on("a")),
				Flows: []Flow{
					{From: Outside.Port(40001), To: "node-1:30053", Protocol: proxier.UDP, Want: Rejected},
					{From: Outside.Port(40001), To: "node-1:30054", Protocol: proxier.UDP, Want: Reaches("a")},
				}},
		}},

	{Name: "udp/the Service is deleted and made again", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), on("a")),
				Flows: []Flow{{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a")}}},
			{Name: "deleted",
				Delete: "Service dns\nEndpointSlice dns-1",
				Flows:  []Flow{{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Untouched}}},
			{Name: "again, with another endpoint",
				Objects: service("dns", clusterIP("10.96.0.10"), udp(53), on("b")),
				Flows:   []Flow{{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("b")}}},
		}},

	{Name: "udp/the address moves to another Service", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), on("a")),
				Flows: []Flow{{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a")}}},
			{Delete: "Service dns\nEndpointSlice dns-1",
				Objects: service("other", clusterIP("10.96.0.10"), udp(53), on("b")),
				Flows:   []Flow{{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("b")}}},
		}},

	{Name: "udp/the type becomes ExternalName", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: service("dns", clusterIP("10.96.0.10"), udp(53), on("a")),
				Flows: []Flow{{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a")}}},
			{Objects: service("dns", externalName("example.com"), udp(53), on("a")),
				Flows: []Flow{{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Untouched}}},
		}},

	{Name: "udp/flows to endpoints that stay are left alone", Needs: []Feature{UDP, StaleFlows},
		Steps: []Step{
			{Objects: all(
				service("dns", clusterIP("10.96.0.10"), udp(53), on("a", "b", "f")),
				service("ntp", clusterIP("10.96.0.11"), udp(123), nodePort(30123), on("c"))),
				Flows: []Flow{
					{Name: "first", From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a", "b", "f")},
					{Name: "second", From: client.Port(40002), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a", "b", "f")},
					{Name: "third", From: client.Port(40003), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a", "b", "f")},
				}},
			{Name: "endpoints of both change",
				Objects: all(
					service("dns", clusterIP("10.96.0.10"), udp(53), on("a", "b", "c", "d", "f", "g", "h")),
					service("ntp", clusterIP("10.96.0.11"), udp(123), nodePort(30124), on("d"))),
				Flows: []Flow{
					{From: client.Port(40001), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a", "b", "c", "d", "f", "g", "h").SameAs("first")},
					{From: client.Port(40002), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a", "b", "c", "d", "f", "g", "h").SameAs("second")},
					{From: client.Port(40003), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a", "b", "c", "d", "f", "g", "h").SameAs("third")},
				}},
		}},
}
