package proxiertest

// Two Services that ask for one address: the older one has it, then the one whose name comes
// first; the other keeps everything else. kube-proxy leaves it to chance.
var conflictScenarios = []Scenario{
	{Name: "conflict/external address claimed twice", Needs: []Feature{ProblemsDecided},
		Steps: []Step{
			{Objects: all(
				service("first", clusterIP("10.96.0.11"), externalIPs("203.0.113.10"), on("a")),
				service("second", clusterIP("10.96.0.12"), externalIPs("203.0.113.10", "203.0.113.12"), on("b"))),
				Flows: []Flow{
					{Name: "the first name has it", From: Outside, To: "203.0.113.10:80", Want: Reaches("a")},
					{Name: "the other keeps the rest", From: Outside, To: "203.0.113.12:80", Want: Reaches("b")},
					{Name: "and its ClusterIP", From: client, To: "10.96.0.12:80", Want: Reaches("b")},
				}},
			{Name: "the winner goes",
				Delete: "Service first\nEndpointSlice first-1",
				Flows:  []Flow{{From: Outside, To: "203.0.113.10:80", Want: Reaches("b")}}},
			{Name: "and comes back",
				Objects: service("first", clusterIP("10.96.0.11"), externalIPs("203.0.113.10"), on("a")),
				Flows:   []Flow{{From: Outside, To: "203.0.113.10:80", Want: Reaches("a")}}},
		}},

	{Name: "conflict/the older Service has it", Needs: []Feature{ProblemsDecided},
		Steps: []Step{{
			Objects: all(
				service("aaa", clusterIP("10.96.0.11"), loadBalancer("198.51.100.10"), created("2026-02-01T00:00:00Z"), on("a")),
				service("bbb", clusterIP("10.96.0.12"), loadBalancer("198.51.100.10"), created("2026-01-01T00:00:00Z"), on("b"))),
			Flows: []Flow{
				{From: Outside, To: "198.51.100.10:80", Want: Reaches("b")},
				{From: client, To: "10.96.0.11:80", Want: Reaches("a")},
			},
		}}},

	{Name: "conflict/load balancer address claimed twice, the winner gives it up", Needs: []Feature{ProblemsDecided},
		Steps: []Step{
			{Objects: all(
				service("first", clusterIP("10.96.0.11"), loadBalancer("198.51.100.10"), on("a")),
				service("second", clusterIP("10.96.0.12"), loadBalancer("198.51.100.10"), on("b"))),
				Flows: []Flow{{From: Outside, To: "198.51.100.10:80", Want: Reaches("a")}}},
			{Objects: service("first", clusterIP("10.96.0.11"), loadBalancer("198.51.100.11"), on("a")),
				Flows: []Flow{
					{From: Outside, To: "198.51.100.10:80", Want: Reaches("b")},
					{From: Outside, To: "198.51.100.11:80", Want: Reaches("a")},
				}},
		}},

	{Name: "conflict/one address, different ports, is none",
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("10.96.0.11"), loadBalancer("198.51.100.10"), port(80), on("a")),
				service("tls", clusterIP("10.96.0.12"), loadBalancer("198.51.100.10"), port(443), on("b"))),
			Flows: []Flow{
				{From: Outside, To: "198.51.100.10:80", Want: Reaches("a")},
				{From: Outside, To: "198.51.100.10:443", Want: Reaches("b")},
			},
		}}},

	{Name: "conflict/node port claimed twice", Needs: []Feature{ProblemsDecided},
		Steps: []Step{
			{Objects: all(
				service("first", clusterIP("10.96.0.11"), nodePort(30080), on("a")),
				service("second", clusterIP("10.96.0.12"), nodePort(30080), on("b"))),
				Flows: []Flow{
					{From: Outside, To: "node-1:30080", Want: Reaches("a")},
					{From: client, To: "10.96.0.12:80", Want: Reaches("b")},
				}},
			{Delete: "Service first\nEndpointSlice first-1",
				Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("b")}}},
		}},
}
