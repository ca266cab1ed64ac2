package proxiertest

import "github.com/fairway-lb/fairway/proxier"

var externalPolicyScenarios = []Scenario{
	{Name: "externalpolicy/Local keeps outside traffic here",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), externalLocal, on("a", "f")),
			Flows: []Flow{
				{Name: "outside to the load balancer", From: Outside, To: "198.51.100.10:80", Want: Reaches("a").ClientKept()},
				{Name: "outside to the node port", From: Outside, To: "node-1:30080", Want: Reaches("a").ClientKept()},
				{Name: "another node", From: Node("node-2"), To: "198.51.100.10:80", Want: Reaches("a").ClientKept()},
				{Name: "the ClusterIP does not mind", From: Outside, To: "10.96.0.10:80", Want: Reaches("a", "f").Masqueraded()},
			},
		}}},

	{Name: "externalpolicy/Local short-circuits pods and processes",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), externalLocal, on("a", "f")),
			Flows: []Flow{
				{Name: "pod to the load balancer", From: client, To: "198.51.100.10:80", Want: Reaches("a", "f").ClientKept()},
				{Name: "pod to the node port", From: client, To: "node-1:30080", Want: Reaches("a", "f").ClientKept()},
				{Name: "process to the load balancer", From: process, To: "198.51.100.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "process to the node port", From: process, To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()},
			},
		}}},

	{Name: "externalpolicy/Local without endpoints here is silent",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), externalLocal, on("f")),
			Flows: []Flow{
				{Name: "outside to the load balancer", From: Outside, To: "198.51.100.10:80", Want: Dropped},
				{Name: "outside to the node port", From: Outside, To: "node-1:30080", Want: Dropped},
				{Name: "pod is short-circuited", From: client, To: "198.51.100.10:80", Want: Reaches("f").ClientKept()},
				{Name: "process is short-circuited", From: process, To: "node-1:30080", Want: Reaches("f").Masqueraded()},
				{Name: "the ClusterIP does not mind", From: client, To: "10.96.0.10:80", Want: Reaches("f").ClientKept()},
			},
		}}},

	{Name: "externalpolicy/Local for UDP", Needs: []Feature{UDP},
		Steps: []Step{
			{Objects: service("dns", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), udp(53), nodePort(30053), externalLocal, on("a", "f")),
				Flows: []Flow{
					{From: Outside, To: "198.51.100.10:53", Protocol: proxier.UDP, Want: Reaches("a").ClientKept()},
					{From: Outside, To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("a").ClientKept()},
				}},
			{Name: "none here",
				Objects: service("dns", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), udp(53), nodePort(30053), externalLocal, on("f")),
				Flows: []Flow{
					{From: Outside.At("192.168.20.10"), To: "198.51.100.10:53", Protocol: proxier.UDP, Want: Dropped},
					{From: client, To: "198.51.100.10:53", Protocol: proxier.UDP, Want: Reaches("f").ClientKept()},
				}},
		}},

	{Name: "externalpolicy/endpoints leave this node and the cluster",
		Steps: []Step{
			{Name: "both",
				Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), externalLocal, on("a", "f")),
				Flows:   []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a")}}},
			{Name: "only elsewhere",
				Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), externalLocal, on("f")),
				Flows:   []Flow{{From: Outside, To: "node-1:30080", Want: Dropped}}},
			{Name: "nowhere",
				Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), externalLocal),
				Flows:   []Flow{{From: Outside, To: "node-1:30080", Want: Rejected}}},
			{Name: "here again",
				Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), externalLocal, on("b")),
				Flows:   []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("b").ClientKept()}}},
		}},

	{Name: "externalpolicy/switched live",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a", "f")),
				Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()}}},
			{Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), externalLocal, on("a", "f")),
				Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a").ClientKept()}}},
			{Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a", "f")),
				Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()}}},
		}},

	{Name: "externalpolicy/Local where pods cannot be told apart",
		Config: Config{NoDetector: true},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), externalLocal, on("a", "f")),
			Flows: []Flow{
				{Name: "outside", From: Outside, To: "198.51.100.10:80", Want: Reaches("a").ClientKept()},
				{Name: "a pod counts as outside", From: client, To: "198.51.100.10:80", Want: Reaches("a").ClientKept()},
				{Name: "a process is known", From: process, To: "198.51.100.10:80", Want: Reaches("a", "f").Masqueraded()},
			},
		}}},

	{Name: "externalpolicy/both policies Local",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), externalLocal, internalLocal, on("a", "f")),
			Flows: []Flow{
				{Name: "inside stays here", From: client, To: "10.96.0.10:80", Want: Reaches("a").ClientKept()},
				{Name: "outside stays here", From: Outside, To: "198.51.100.10:80", Want: Reaches("a").ClientKept()},
				{Name: "a pod that uses the load balancer does not", From: client, To: "198.51.100.10:80", Want: Reaches("a", "f").ClientKept()},
			},
		}}},

	// The policy is for addresses outside clients can use; a plain ClusterIP has none.
	{Name: "externalpolicy/Local on a plain ClusterIP means nothing",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), externalLocal, on("a", "f")),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f").ClientKept()},
				{From: Outside, To: "10.96.0.10:80", Want: Reaches("a", "f").Masqueraded()},
			},
		}}},
}
