package proxiertest

// Endpoints that are pods in the host network have their node's address.
var hostNetworkScenarios = []Scenario{
	{Name: "hostnetwork/endpoints on both nodes",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("node-1", "node-2")),
			Flows: []Flow{
				{Name: "pod", From: client, To: "10.96.0.10:80", Want: Reaches("node-1", "node-2").ClientKept()},
				{Name: "process of the node", From: Node("node-1"), To: "10.96.0.10:80", Want: Reaches("node-1", "node-2")},
				// What ends on the node itself leaves it by no interface, so nothing masquerades it.
				{Name: "node port from outside", From: Outside, To: "node-1:30080", Want: Reaches("node-1", "node-2")},
			},
		}}},

	{Name: "hostnetwork/internal policy Local",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), internalLocal, on("node-1", "node-2")),
			Flows: []Flow{
				{Name: "pod", From: client, To: "10.96.0.10:80", Want: Reaches("node-1").ClientKept()},
				{Name: "process of the node", From: Node("node-1"), To: "10.96.0.10:80", Want: Reaches("node-1")},
			},
		}}},

	{Name: "hostnetwork/external policy Local",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), externalLocal, on("node-1", "node-2")),
			Flows: []Flow{
				{Name: "outside keeps its address", From: Outside, To: "node-1:30080", Want: Reaches("node-1").ClientKept()},
				{Name: "pod is short-circuited", From: client, To: "node-1:30080", Want: Reaches("node-1", "node-2").ClientKept()},
			},
		}}},
}
