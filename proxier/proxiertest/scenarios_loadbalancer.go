package proxiertest

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/proxier"
)

var loadBalancerScenarios = []Scenario{
	{Name: "loadbalancer/from everywhere",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), on("a", "f")),
			Flows: []Flow{
				{Name: "outside", From: Outside, To: "198.51.100.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "pod", From: client, To: "198.51.100.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "process", From: process, To: "198.51.100.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "node port", From: Outside, To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()},
				{Name: "unknown port", From: Outside, To: "198.51.100.10:81", Want: Untouched},
			},
		}}},

	{Name: "loadbalancer/udp", Needs: []Feature{UDP},
		Steps: []Step{{
			Objects: service("dns", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), udp(53), externalLocal, on("a", "f")),
			Flows: []Flow{
				{Name: "outside", From: Outside, To: "198.51.100.10:53", Protocol: proxier.UDP, Want: Reaches("a").ClientKept()},
				{Name: "pod", From: client, To: "198.51.100.10:53", Protocol: proxier.UDP, Want: Reaches("a", "f").ClientKept()},
			},
		}}},

	{Name: "loadbalancer/without node ports",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), on("a")),
				Flows: []Flow{{From: Outside, To: "198.51.100.10:80", Want: Reaches("a")}}},
			{Name: "it gets one later",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), on("a")),
				Flows: []Flow{
					{From: Outside, To: "198.51.100.10:80", Want: Reaches("a")},
					{From: Outside, To: "node-1:30080", Want: Reaches("a")},
				}},
		}},

	{Name: "loadbalancer/addresses come, change and go",
		Steps: []Step{
			{Name: "none yet",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer(), nodePort(30080), on("a")),
				Flows: []Flow{
					{From: Outside, To: "198.51.100.10:80", Want: Untouched},
					{From: Outside, To: "node-1:30080", Want: Reaches("a")},
				}},
			{Name: "two",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10", "198.51.100.11"), nodePort(30080), on("a")),
				Flows: []Flow{
					{From: Outside, To: "198.51.100.10:80", Want: Reaches("a")},
					{From: Outside, To: "198.51.100.11:80", Want: Reaches("a")},
				}},
			{Name: "another",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.12"), nodePort(30080), on("a")),
				Flows: []Flow{
					{From: Outside, To: "198.51.100.10:80", Want: Untouched},
					{From: Outside, To: "198.51.100.12:80", Want: Reaches("a")},
				}},
		}},

	{Name: "loadbalancer/a host name means nothing here",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer(""), nodePort(30080), on("a"),
				edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
					s.Status.LoadBalancer.Ingress[0].Hostname = "lb.example.com"
				})),
			Flows: []Flow{
				{From: Outside, To: "node-1:30080", Want: Reaches("a")},
				{From: Outside, To: "198.51.100.10:80", Want: Untouched},
			},
		}}},

	{Name: "loadbalancer/ipMode Proxy leaves the address alone",
		Steps: []Step{
			{Name: "Proxy",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), ipMode("Proxy"), nodePort(30080), on("a")),
				Flows: []Flow{
					{From: client, To: "198.51.100.10:80", Want: Untouched},
					{From: Outside, To: "node-1:30080", Want: Reaches("a")},
				}},
			{Name: "VIP",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), ipMode("VIP"), nodePort(30080), on("a")),
				Flows:   []Flow{{From: client, To: "198.51.100.10:80", Want: Reaches("a")}}},
			{Name: "Proxy again",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), ipMode("Proxy"), nodePort(30080), on("a")),
				Flows:   []Flow{{From: client, To: "198.51.100.10:80", Want: Untouched}}},
		}},

	{Name: "loadbalancer/one address of each ipMode",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), ipMode("Proxy"),
				loadBalancer("198.51.100.11"), on("a")),
			Flows: []Flow{
				{From: Outside, To: "198.51.100.10:80", Want: Untouched},
				{From: Outside, To: "198.51.100.11:80", Want: Reaches("a")},
			},
		}}},
}

var sourceRangeScenarios = []Scenario{
	{Name: "sourceranges/let in whom they name",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080),
				sourceRanges("192.168.20.10/32", "10.244.1.14/32"), on("a", "f")),
			Flows: []Flow{
				{Name: "a client that is named", From: Outside.At("192.168.20.10"), To: "198.51.100.10:80", Want: Reaches("a", "f")},
				{Name: "a client that is not", From: Outside, To: "198.51.100.10:80", Want: Dropped},
				{Name: "a pod that is named", From: Pod("d"), To: "198.51.100.10:80", Want: Reaches("a", "f")},
				{Name: "a pod that is not", From: client, To: "198.51.100.10:80", Want: Dropped},
				{Name: "a process that is not", From: process, To: "198.51.100.10:80", Want: Dropped},
				{Name: "node ports are free", From: Outside, To: "node-1:30080", Want: Reaches("a", "f")},
				{Name: "the ClusterIP is free", From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")},
			},
		}}},

	{Name: "sourceranges/changed live",
		Steps: []Step{
			{Name: "everybody",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), on("a")),
				Flows:   []Flow{{From: Outside, To: "198.51.100.10:80", Want: Reaches("a")}}},
			{Name: "one",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), sourceRanges("192.168.20.9/32"), on("a")),
				Flows: []Flow{
					{From: Outside, To: "198.51.100.10:80", Want: Reaches("a")},
					{From: Outside.At("192.168.20.10"), To: "198.51.100.10:80", Want: Dropped},
				}},
			{Name: "another",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), sourceRanges("192.168.20.10/32"), on("a")),
				Flows: []Flow{
					{From: Outside, To: "198.51.100.10:80", Want: Dropped},
					{From: Outside.At("192.168.20.10"), To: "198.51.100.10:80", Want: Reaches("a")},
				}},
			{Name: "a range",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), sourceRanges("192.168.20.0/24"), on("a")),
				Flows: []Flow{
					{From: Outside, To: "198.51.100.10:80", Want: Reaches("a")},
					{From: client, To: "198.51.100.10:80", Want: Dropped},
				}},
			{Name: "everybody again",
				Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), on("a")),
				Flows: []Flow{
					{From: Outside, To: "198.51.100.10:80", Want: Reaches("a")},
					{From: client, To: "198.51.100.10:80", Want: Reaches("a")},
				}},
		}},

	{Name: "sourceranges/all addresses is no limit",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"),
				sourceRanges("192.168.20.10/32", " 0.0.0.0/0 "), on("a")),
			Flows: []Flow{
				{From: Outside, To: "198.51.100.10:80", Want: Reaches("a")},
				{From: client, To: "198.51.100.10:80", Want: Reaches("a")},
			},
		}}},

	{Name: "sourceranges/of the other family are no limit", Families: IPv4Only,
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"),
				sourceRanges("2001:db8:77::/64"), on("a")),
			Flows: []Flow{
				{From: Outside, To: "198.51.100.10:80", Want: Reaches("a")},
			},
		}}},

	{Name: "sourceranges/spaces and host bits do not matter",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"),
				sourceRanges("  192.168.20.9/30\t"), on("a")),
			Flows: []Flow{
				{Name: "inside", From: Outside.At("192.168.20.10"), To: "198.51.100.10:80", Want: Reaches("a")},
				{Name: "not inside", From: client, To: "198.51.100.10:80", Want: Dropped},
			},
		}}},

	{Name: "sourceranges/with the node's own address",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"),
				sourceRanges("192.168.10.0/24"), on("a")),
			Flows: []Flow{
				{Name: "the node", From: Node("node-1").At("192.168.10.1"), To: "198.51.100.10:80", Want: Reaches("a")},
				{Name: "the other node", From: Node("node-2"), To: "198.51.100.10:80", Want: Reaches("a")},
				{Name: "outside", From: Outside, To: "198.51.100.10:80", Want: Dropped},
			},
		}}},

	{Name: "sourceranges/with external policy Local",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), externalLocal,
				sourceRanges("192.168.20.9/32", "10.244.0.0/16"), on("a", "f")),
			Flows: []Flow{
				{Name: "named", From: Outside, To: "198.51.100.10:80", Want: Reaches("a").ClientKept()},
				{Name: "not named", From: Outside.At("192.168.20.10"), To: "198.51.100.10:80", Want: Dropped},
				{Name: "pod", From: client, To: "198.51.100.10:80", Want: Reaches("a", "f").ClientKept()},
			},
		}}},
}
