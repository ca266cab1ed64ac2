package proxiertest

var externalIPScenarios = []Scenario{
	{Name: "externalip/from everywhere",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), externalIPs("203.0.113.10"), on("a", "f")),
			Flows: []Flow{
				{Name: "outside", From: Outside, To: "203.0.113.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "pod", From: client, To: "203.0.113.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "process", From: process, To: "203.0.113.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "another node", From: Node("node-2"), To: "203.0.113.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "another port", From: Outside, To: "203.0.113.10:81", Want: Untouched},
				{Name: "another address", From: Outside, To: "203.0.113.11:80", Want: Untouched},
			},
		}}},

	{Name: "externalip/external policy Local on a ClusterIP Service",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), externalIPs("203.0.113.10"), externalLocal, on("a", "f")),
			Flows: []Flow{
				{Name: "outside stays here and keeps its address", From: Outside, To: "203.0.113.10:80", Want: Reaches("a").ClientKept()},
				{Name: "pod is short-circuited", From: client, To: "203.0.113.10:80", Want: Reaches("a", "f").ClientKept()},
				{Name: "process is short-circuited", From: process, To: "203.0.113.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "ClusterIP", From: client, To: "10.96.0.10:80", Want: Reaches("a", "f").ClientKept()},
			},
		}}},

	{Name: "externalip/several, changed live",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), externalIPs("203.0.113.10", "203.0.113.11"), on("a")),
				Flows: []Flow{
					{From: Outside, To: "203.0.113.10:80", Want: Reaches("a")},
					{From: Outside, To: "203.0.113.11:80", Want: Reaches("a")},
				}},
			{Objects: service("web", clusterIP("10.96.0.10"), externalIPs("203.0.113.11", "203.0.113.12"), on("a")),
				Flows: []Flow{
					{Name: "gone", From: Outside, To: "203.0.113.10:80", Want: Untouched},
					{Name: "stays", From: Outside, To: "203.0.113.11:80", Want: Reaches("a")},
					{Name: "new", From: Outside, To: "203.0.113.12:80", Want: Reaches("a")},
				}},
		}},

	{Name: "externalip/shared by two Services with different ports",
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("10.96.0.11"), externalIPs("203.0.113.10"), port(80), on("a")),
				service("tls", clusterIP("10.96.0.12"), externalIPs("203.0.113.10"), port(443), on("b"))),
			Flows: []Flow{
				{From: Outside, To: "203.0.113.10:80", Want: Reaches("a")},
				{From: Outside, To: "203.0.113.10:443", Want: Reaches("b")},
			},
		}}},

	{Name: "externalip/not limited by source ranges",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"),
				externalIPs("203.0.113.10"), sourceRanges("192.168.20.10/32"), on("a")),
			Flows: []Flow{
				{From: Outside, To: "203.0.113.10:80", Want: Reaches("a")},
				{From: Outside, To: "198.51.100.10:80", Want: Dropped},
			},
		}}},

	{Name: "externalip/switched off", Needs: []Feature{ProblemsDecided},
		Config: Config{DenyExternalIPs: true},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), externalIPs("203.0.113.10"), on("a")),
			Flows: []Flow{
				{From: Outside, To: "203.0.113.10:80", Want: Untouched},
				{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
			},
		}}},
}
