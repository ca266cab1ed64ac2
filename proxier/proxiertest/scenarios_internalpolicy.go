package proxiertest

var internalPolicyScenarios = []Scenario{
	{Name: "internalpolicy/Local stays on the node",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), internalLocal, on("a", "f")),
			Flows: []Flow{
				{Name: "pod", From: client, To: "10.96.0.10:80", Want: Reaches("a").ClientKept()},
				{Name: "process", From: process, To: "10.96.0.10:80", Want: Reaches("a").Masqueraded()},
				{Name: "outside", From: Outside, To: "10.96.0.10:80", Want: Reaches("a").Masqueraded()},
				{Name: "node ports are not inside traffic", From: Outside, To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()},
			},
		}}},

	{Name: "internalpolicy/Local without endpoints here is silent",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), internalLocal, on("f", "g")),
			Flows: []Flow{
				{Name: "pod", From: client, To: "10.96.0.10:80", Want: Dropped},
				{Name: "process", From: process, To: "10.96.0.10:80", Want: Dropped},
				{Name: "outside", From: Outside, To: "10.96.0.10:80", Want: Dropped},
				{Name: "the node port has some", From: Outside, To: "node-1:30080", Want: Reaches("f", "g").Masqueraded()},
			},
		}}},

	{Name: "internalpolicy/Local without endpoints anywhere refuses",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), internalLocal),
			Flows: []Flow{
				{Name: "pod", From: client, To: "10.96.0.10:80", Want: Rejected},
				{Name: "process", From: process, To: "10.96.0.10:80", Want: Rejected},
			},
		}}},

	{Name: "internalpolicy/endpoints leave this node and the cluster",
		Steps: []Step{
			{Name: "both",
				Objects: service("web", clusterIP("10.96.0.10"), internalLocal, on("a", "f")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
			{Name: "only elsewhere",
				Objects: service("web", clusterIP("10.96.0.10"), internalLocal, on("f")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Dropped}}},
			{Name: "nowhere",
				Objects: service("web", clusterIP("10.96.0.10"), internalLocal),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Rejected}}},
			{Name: "here again",
				Objects: service("web", clusterIP("10.96.0.10"), internalLocal, on("b")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("b")}}},
		}},

	{Name: "internalpolicy/switched live",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), on("a", "f")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")}}},
			{Objects: service("web", clusterIP("10.96.0.10"), internalLocal, on("a", "f")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
			{Objects: service("web", clusterIP("10.96.0.10"), on("a", "f")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")}}},
		}},

	// Whether an endpoint is here is told by its nodeName only, never by its address.
	{Name: "internalpolicy/an endpoint of no node is not here",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), internalLocal, at("10.244.1.11"), on("b")),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("b")},
			},
		}}},
}
