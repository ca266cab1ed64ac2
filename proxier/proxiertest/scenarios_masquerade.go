package proxiertest

import "github.com/fairway-lb/fairway/proxier"

var masqueradeScenarios = []Scenario{
	{Name: "masqueradeall/pods are masqueraded, too",
		Config: Config{MasqueradeAll: true},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), externalLocal, on("a", "f")),
			Flows: []Flow{
				{Name: "pod to ClusterIP", From: client, To: "10.96.0.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "process to ClusterIP", From: process, To: "10.96.0.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "outside under policy Local is not", From: Outside, To: "198.51.100.10:80", Want: Reaches("a").ClientKept()},
				{Name: "nor a pod that is short-circuited", From: client, To: "198.51.100.10:80", Want: Reaches("a", "f").ClientKept()},
			},
		}}},

	{Name: "masqueradeall/without telling pods apart",
		Config: Config{MasqueradeAll: true, NoDetector: true},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), on("a", "f")),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f").Masqueraded()},
				{From: process, To: "10.96.0.10:80", Want: Reaches("a", "f").Masqueraded()},
				{From: Outside, To: "10.96.0.10:80", Want: Reaches("a", "f").Masqueraded()},
			},
		}}},

	{Name: "masquerade/nobody on ClusterIPs where pods cannot be told apart",
		Config: Config{NoDetector: true},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a", "f")),
			Flows: []Flow{
				{Name: "pod", From: client, To: "10.96.0.10:80", Want: Reaches("a", "f").ClientKept()},
				{Name: "process", From: process, To: "10.96.0.10:80", Want: Reaches("a", "f").ClientKept()},
				{Name: "outside", From: Outside, To: "10.96.0.10:80", Want: Reaches("a", "f").ClientKept()},
				{Name: "node ports as ever", From: Outside, To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()},
			},
		}}},

	{Name: "masquerade/only this node's pods are known by its range",
		Config: Config{DetectMode: "NodeCIDR"},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), on("a", "b")),
			Flows: []Flow{
				{Name: "pod here", From: client, To: "10.96.0.10:80", Want: Reaches("a", "b").ClientKept()},
				{Name: "pod elsewhere", From: Pod("j"), To: "10.96.0.10:80", Want: Reaches("a", "b").Masqueraded()},
				{Name: "outside", From: Outside, To: "10.96.0.10:80", Want: Reaches("a", "b").Masqueraded()},
			},
		}}},

	{Name: "masquerade/pods are known by their interface",
		Config: Config{DetectMode: "InterfaceNamePrefix"},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), externalLocal, on("a", "b")),
			Flows: []Flow{
				{Name: "pod here", From: client, To: "10.96.0.10:80", Want: Reaches("a", "b").ClientKept()},
				{Name: "pod elsewhere", From: Pod("j"), To: "10.96.0.10:80", Want: Reaches("a", "b").Masqueraded()},
				{Name: "process", From: process, To: "10.96.0.10:80", Want: Reaches("a", "b").Masqueraded()},
				{Name: "pod here is short-circuited", From: client, To: "node-1:30080", Want: Reaches("a", "b").ClientKept()},
			},
		}}},

	{Name: "masquerade/udp", Needs: []Feature{UDP}, Config: Config{MasqueradeAll: true},
		Steps: []Step{{
			Objects: service("dns", clusterIP("10.96.0.10"), udp(53), on("a", "f")),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a", "f").Masqueraded()},
			},
		}}},
}
