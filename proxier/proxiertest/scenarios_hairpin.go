package proxiertest

import "github.com/fairway-lb/fairway/proxier"

// A pod that reaches itself through its Service must see another source than its own, or the
// reply would never leave it.
var hairpinScenarios = []Scenario{
	{Name: "hairpin/through every address",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), externalIPs("203.0.113.10"), on("a")),
			Flows: []Flow{
				{Name: "ClusterIP", From: Pod("a"), To: "10.96.0.10:80", Want: Reaches("a").Masqueraded()},
				{Name: "node port", From: Pod("a"), To: "node-1:30080", Want: Reaches("a").Masqueraded()},
				{Name: "load balancer", From: Pod("a"), To: "198.51.100.10:80", Want: Reaches("a").Masqueraded()},
				{Name: "external address", From: Pod("a"), To: "203.0.113.10:80", Want: Reaches("a").Masqueraded()},
				{Name: "others keep their address", From: client, To: "10.96.0.10:80", Want: Reaches("a").ClientKept()},
			},
		}}},

	{Name: "hairpin/udp", Needs: []Feature{UDP},
		Steps: []Step{{
			Objects: service("dns", clusterIP("10.96.0.10"), udp(53), on("a")),
			Flows: []Flow{
				{From: Pod("a"), To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a").Masqueraded()},
				{From: client, To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a").ClientKept()},
			},
		}}},

	{Name: "hairpin/policy Local",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), internalLocal, externalLocal, on("a", "f")),
			Flows: []Flow{
				{Name: "inside", From: Pod("a"), To: "10.96.0.10:80", Want: Reaches("a").Masqueraded()},
				{Name: "other pod", From: Pod("b"), To: "10.96.0.10:80", Want: Reaches("a").ClientKept()},
			},
		}}},

	{Name: "hairpin/where pods cannot be told apart",
		Config: Config{NoDetector: true},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), externalLocal, on("a")),
			Flows: []Flow{
				{Name: "ClusterIP", From: Pod("a"), To: "10.96.0.10:80", Want: Reaches("a").Masqueraded()},
				{Name: "load balancer", From: Pod("a"), To: "198.51.100.10:80", Want: Reaches("a").Masqueraded()},
				{Name: "other pod", From: client, To: "10.96.0.10:80", Want: Reaches("a").ClientKept()},
			},
		}}},

	{Name: "hairpin/with affinity", Needs: []Feature{Affinity},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), affinity(600), on("a")),
			Flows: []Flow{
				{From: Pod("a"), To: "10.96.0.10:80", Want: Reaches("a").Masqueraded()},
				{From: Pod("a"), To: "10.96.0.10:80", Want: Reaches("a").Masqueraded()},
			},
		}}},
}
