package proxiertest

import "github.com/fairway-lb/fairway/proxier"

// The kernel of the lab has no SCTP sockets: clients and servers craft their packets. That is
// enough for rules and connection tracking.
var sctpScenarios = []Scenario{
	{Name: "sctp/from everywhere", Needs: []Feature{SCTP},
		Steps: []Step{{
			Objects: service("sig", clusterIP("10.96.0.10"), portTo("SCTP", "", 38412, 8412), nodePort(30412), on("a", "f")),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:38412", Protocol: proxier.SCTP, Want: Reaches("a", "f").ClientKept()},
				{From: Outside, To: "10.96.0.10:38412", Protocol: proxier.SCTP, Want: Reaches("a", "f").Masqueraded()},
				{From: Outside, To: "node-1:30412", Protocol: proxier.SCTP, Want: Reaches("a", "f").Masqueraded()},
			},
		}}},

	{Name: "sctp/external policy Local", Needs: []Feature{SCTP},
		Steps: []Step{{
			Objects: service("sig", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), sctp(80), externalLocal, on("a", "f")),
			Flows: []Flow{
				{From: Outside, To: "198.51.100.10:80", Protocol: proxier.SCTP, Want: Reaches("a").ClientKept()},
				{From: client, To: "198.51.100.10:80", Protocol: proxier.SCTP, Want: Reaches("a", "f").ClientKept()},
			},
		}}},

	{Name: "sctp/one number for TCP, UDP and SCTP", Needs: []Feature{SCTP, UDP},
		Steps: []Step{{
			Objects: all(
				onlyService("web", clusterIP("10.96.0.10"), portTo("TCP", "t", 80, 8080), portTo("UDP", "u", 80, 8080), portTo("SCTP", "s", 80, 8080)),
				onlySlice("web", "web-1", portTo("TCP", "t", 80, 8080), on("a")),
				onlySlice("web", "web-2", portTo("UDP", "u", 80, 8080), on("b")),
				onlySlice("web", "web-3", portTo("SCTP", "s", 80, 8080), on("c"))),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
				{From: client, To: "10.96.0.10:80", Protocol: proxier.UDP, Want: Reaches("b")},
				{From: client, To: "10.96.0.10:80", Protocol: proxier.SCTP, Want: Reaches("c")},
			},
		}}},

	{Name: "sctp/no endpoints", Needs: []Feature{SCTP},
		Steps: []Step{{
			Objects: service("sig", clusterIP("10.96.0.10"), sctp(80), nodePort(30080)),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Protocol: proxier.SCTP, Want: Rejected},
				{From: Outside, To: "node-1:30080", Protocol: proxier.SCTP, Want: Rejected},
			},
		}}},
}
