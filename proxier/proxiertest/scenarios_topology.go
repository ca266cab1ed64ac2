package proxiertest

// node-1 is in zone-a. PreferSameZone and PreferSameNode reach the proxy as hints in the slices.
var topologyScenarios = []Scenario{
	{Name: "topology/the zone's endpoints are preferred",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080),
				on("a"), forZones("zone-a"), on("f"), forZones("zone-b"), on("g"), forZones("zone-a")),
			Flows: []Flow{
				{Name: "pod", From: client, To: "10.96.0.10:80", Want: Reaches("a", "g").ClientKept()},
				{Name: "process", From: process, To: "10.96.0.10:80", Want: Reaches("a", "g").Masqueraded()},
				{Name: "node port", From: Outside, To: "node-1:30080", Want: Reaches("a", "g").Masqueraded()},
			},
		}}},

	{Name: "topology/an endpoint for several zones",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"),
				on("a"), forZones("zone-b", "zone-a"), on("f"), forZones("zone-b", "zone-c")),
			Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}},
		}}},

	{Name: "topology/one endpoint without a hint ends it",
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("10.96.0.10"), on("a"), forZones("zone-a"), on("f"), forZones("zone-b")),
				onlySlice("web", "web-2", port(80), on("g"))),
			Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f", "g")}},
		}}},

	{Name: "topology/nobody is for this zone",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), on("a"), forZones("zone-b"), on("f"), forZones("zone-c")),
			Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")}},
		}}},

	{Name: "topology/the node's endpoints come before the zone's",
		Steps: []Step{
			{Name: "one on the node",
				Objects: service("web", clusterIP("10.96.0.10"),
					on("a"), forZones("zone-a"), forNodes("node-1"),
					on("f"), forZones("zone-a"), forNodes("node-2"),
					on("g"), forZones("zone-b"), forNodes("node-2")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
			{Name: "none on the node",
				Objects: service("web", clusterIP("10.96.0.10"),
					on("f"), forZones("zone-a"), forNodes("node-2"),
					on("g"), forZones("zone-b"), forNodes("node-2")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("f")}}},
			{Name: "none in the zone",
				Objects: service("web", clusterIP("10.96.0.10"),
					on("f"), forZones("zone-c"), forNodes("node-2"),
					on("g"), forZones("zone-b"), forNodes("node-2")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("f", "g")}}},
		}},

	{Name: "topology/a hint that is missing for the node leaves the zone's",
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("10.96.0.10"), on("a"), forZones("zone-a"), forNodes("node-1")),
				onlySlice("web", "web-2", port(80), on("b"), forZones("zone-a"), on("f"), forZones("zone-b"))),
			Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "b")}},
		}}},

	{Name: "topology/hints of endpoints that are not ready do not count",
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("10.96.0.10"), on("f"), forZones("zone-a"), on("g"), forZones("zone-b")),
				onlySlice("web", "web-2", port(80), unready("a"), terminating("b"))),
			Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("f")}},
		}}},

	{Name: "topology/no fallback into shutting down in the zone",
		Steps: []Step{
			{Name: "ready in another zone beats terminating in ours",
				Objects: service("web", clusterIP("10.96.0.10"), terminating("a"), forZones("zone-a"), on("f"), forZones("zone-b")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("f")}}},
			{Name: "all terminate: zones do not matter",
				Objects: service("web", clusterIP("10.96.0.10"), terminating("a"), forZones("zone-a"), terminating("f"), forZones("zone-b")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")}}},
		}},

	{Name: "topology/the node moves to another zone",
		Steps: []Step{
			{Objects: all(node1("zone-a"),
				service("web", clusterIP("10.96.0.10"), on("a"), forZones("zone-a"), on("f"), forZones("zone-b"))),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
			{Objects: node1("zone-b"),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("f")}}},
			{Name: "no zone",
				Objects: node1(""),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")}}},
		}},

	{Name: "topology/policy Local does not care",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), internalLocal, externalLocal,
				on("a"), forZones("zone-b"), on("b", "f"), forZones("zone-a")),
			Flows: []Flow{
				{Name: "inside", From: client, To: "10.96.0.10:80", Want: Reaches("a", "b")},
				{Name: "outside", From: Outside, To: "node-1:30080", Want: Reaches("a", "b")},
				{Name: "but the short-circuit does", From: client, To: "node-1:30080", Want: Reaches("b", "f")},
			},
		}}},

	{Name: "topology/each port for itself",
		Steps: []Step{{
			Objects: all(
				onlyService("web", clusterIP("10.96.0.10"), portTo("TCP", "http", 80, 8080), portTo("TCP", "tls", 443, 8443)),
				onlySlice("web", "web-1", portTo("TCP", "http", 80, 8080), on("a"), forZones("zone-a"), on("f"), forZones("zone-b")),
				onlySlice("web", "web-2", portTo("TCP", "tls", 443, 8443), on("a", "f"))),
			Flows: []Flow{
				{Name: "with hints", From: client, To: "10.96.0.10:80", Want: Reaches("a")},
				{Name: "without", From: client, To: "10.96.0.10:443", Want: Reaches("a", "f")},
			},
		}}},
}
