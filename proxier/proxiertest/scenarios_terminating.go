package proxiertest

// Endpoints that shut down still serve while no ready one is left (KEP-1669).
var terminatingScenarios = []Scenario{
	{Name: "terminating/not used while one is ready",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("f"), terminating("a", "b")),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("f")},
				{From: Outside, To: "node-1:30080", Want: Reaches("f")},
			},
		}}},

	{Name: "terminating/the last ones serve on, internal policy Cluster",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), on("a", "f")),
				Flows: []Flow{{Name: "long", From: client, To: "10.96.0.10:80", Want: Reaches("a", "f"), Hold: true}}},
			{Name: "all shut down",
				Objects: service("web", clusterIP("10.96.0.10"), terminating("a", "f")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f").ClientKept()},
					{From: process, To: "10.96.0.10:80", Want: Reaches("a", "f").Masqueraded()},
				}},
			{Name: "one is ready again",
				Objects: service("web", clusterIP("10.96.0.10"), terminating("a", "f"), on("b")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("b")}}},
		}},

	{Name: "terminating/the last ones serve on, external policy Cluster",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), loadBalancer("198.51.100.10"), terminating("a", "f")),
			Flows: []Flow{
				{From: Outside, To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()},
				{From: Outside, To: "198.51.100.10:80", Want: Reaches("a", "f").Masqueraded()},
			},
		}}},

	{Name: "terminating/the last one here serves on, internal policy Local",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), internalLocal, terminating("a"), on("f")),
			Flows: []Flow{
				{Name: "a ready one elsewhere does not help", From: client, To: "10.96.0.10:80", Want: Reaches("a").ClientKept()},
			},
		}}},

	{Name: "terminating/the last one here serves on, external policy Local",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), loadBalancer("198.51.100.10"), externalLocal,
				terminating("a"), on("f")),
			Flows: []Flow{
				{Name: "outside", From: Outside, To: "node-1:30080", Want: Reaches("a").ClientKept()},
				{Name: "outside, load balancer", From: Outside, To: "198.51.100.10:80", Want: Reaches("a").ClientKept()},
				{Name: "a pod uses the ready one", From: client, To: "198.51.100.10:80", Want: Reaches("f").ClientKept()},
				{Name: "a process uses the ready one", From: process, To: "198.51.100.10:80", Want: Reaches("f").Masqueraded()},
				{Name: "the ClusterIP uses the ready one", From: client, To: "10.96.0.10:80", Want: Reaches("f").ClientKept()},
			},
		}}},

	{Name: "terminating/here not used while one here is ready",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), externalLocal, internalLocal, terminating("a", "f"), on("b")),
			Flows: []Flow{
				{From: Outside, To: "node-1:30080", Want: Reaches("b")},
				{From: client, To: "10.96.0.10:80", Want: Reaches("b")},
			},
		}}},

	{Name: "terminating/elsewhere does not count as here",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), externalLocal, internalLocal, terminating("f")),
			Flows: []Flow{
				{Name: "outside", From: Outside, To: "node-1:30080", Want: Dropped},
				{Name: "inside", From: client, To: "10.96.0.10:80", Want: Dropped},
				{Name: "a pod is short-circuited", From: client, To: "node-1:30080", Want: Reaches("f").ClientKept()},
			},
		}}},

	{Name: "terminating/those that serve no more are no fallback",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), stopped("a", "f")),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Rejected},
				{From: Outside, To: "node-1:30080", Want: Rejected},
			},
		}}},

	{Name: "terminating/only those that still serve",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), stopped("a"), terminating("b"), unready("f")),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("b")},
			},
		}}},

	{Name: "terminating/unready ones are no fallback",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), unready("a", "f")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Rejected},
					{From: Outside, To: "node-1:30080", Want: Rejected},
				}},
			{Name: "ready",
				Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a"), unready("f")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
					{From: Outside, To: "node-1:30080", Want: Reaches("a")},
				}},
		}},

	{Name: "terminating/published ones count as ready",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), published("a"), on("f")),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")},
			},
		}}},
}
