package proxiertest

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

const (
	proxyName = "service.kubernetes.io/service-proxy-name"
	headless  = "service.kubernetes.io/headless"
)

// Not every Service is this proxy's to serve.
var ownershipScenarios = []Scenario{
	{Name: "proxyname/a Service of another proxy, toggled live",
		Steps: []Step{
			{Name: "ours",
				Objects: all(
					service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
					service("other", clusterIP("10.96.0.11"), on("b"))),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
					{From: client, To: "10.96.0.11:80", Want: Reaches("b")},
				}},
			{Name: "another's",
				Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), label(proxyName, "mesh"), on("a")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Untouched},
					{From: Outside, To: "node-1:30080", Want: Rejected},
					{From: client, To: "10.96.0.11:80", Want: Reaches("b")},
				}},
			{Name: "ours again",
				Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
					{From: Outside, To: "node-1:30080", Want: Reaches("a")},
				}},
		}},

	{Name: "proxyname/the label counts, not its value",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), label(proxyName, ""), on("a")),
			Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Untouched}},
		}}},

	{Name: "proxyname/a proxy with a name serves its own only", Needs: []Feature{ProblemsDecided},
		Config: Config{ServiceProxyName: "mesh"},
		Steps: []Step{{
			Objects: all(
				service("mine", clusterIP("10.96.0.10"), label(proxyName, "mesh"), on("a")),
				service("theirs", clusterIP("10.96.0.11"), label(proxyName, "other"), on("a")),
				service("nobodys", clusterIP("10.96.0.12"), on("a"))),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
				{From: client, To: "10.96.0.11:80", Want: Untouched},
				{From: client, To: "10.96.0.12:80", Want: Untouched},
			},
		}}},

	{Name: "headless/endpoints of a labelled slice do not count",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), on("a")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
			{Name: "labelled",
				Objects: service("web", clusterIP("10.96.0.10"), sliceLabel(headless, ""), on("a")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Rejected}}},
			{Name: "not any more",
				Objects: service("web", clusterIP("10.96.0.10"), on("a")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
		}},

	{Name: "headless/a Service without address beside one with",
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("10.96.0.10"), on("a")),
				service("db", clusterIP(corev1.ClusterIPNone), on("b", "f"))),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
				{Name: "its pods are reached by their own addresses", From: client, To: "b:8080", Want: Reaches("b").ClientKept()},
			},
		}}},
}

var typeChangeScenarios = []Scenario{
	{Name: "typechange/ExternalName to ClusterIP and back",
		Steps: []Step{
			{Name: "only a name",
				Objects: service("web", externalName("example.com"), on("a")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Untouched}}},
			{Name: "an address",
				Objects: service("web", clusterIP("10.96.0.10"), on("a")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
			{Name: "only a name again",
				Objects: service("web", externalName("example.com"), on("a")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Untouched}}},
		}},

	{Name: "typechange/ExternalName to NodePort and back",
		Steps: []Step{
			{Objects: service("web", externalName("example.com"), on("a")),
				Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Rejected}}},
			{Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
				Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a")}}},
			{Objects: service("web", externalName("example.com"), on("a")),
				Flows: []Flow{
					{From: Outside, To: "node-1:30080", Want: Rejected},
					{From: client, To: "10.96.0.10:80", Want: Untouched},
				}},
		}},

	// Older API servers left the address of a Service in place when its type became ExternalName.
	{Name: "typechange/ExternalName that has kept its address",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), externalIPs("203.0.113.10"), externalName("example.com"), on("a")),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Untouched},
				{From: Outside, To: "203.0.113.10:80", Want: Untouched},
			},
		}}},

	{Name: "typechange/ClusterIP to NodePort to LoadBalancer and back",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), on("a")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
					{From: Outside, To: "node-1:30080", Want: Rejected},
				}},
			{Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
				Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a")}}},
			{Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), on("a")),
				Flows: []Flow{
					{From: Outside, To: "node-1:30080", Want: Reaches("a")},
					{From: Outside, To: "198.51.100.10:80", Want: Reaches("a")},
				}},
			{Objects: service("web", clusterIP("10.96.0.10"), on("a")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
					{From: Outside, To: "node-1:30080", Want: Rejected},
					{From: Outside, To: "198.51.100.10:80", Want: Untouched},
				}},
		}},

	// A status that is left from an earlier type means nothing.
	{Name: "typechange/load balancer addresses of a Service that is none",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), on("a"),
				edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.Type = corev1.ServiceTypeClusterIP })),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
				{From: client, To: "198.51.100.10:80", Want: Untouched},
			},
		}}},

	{Name: "typechange/to headless and back",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), on("a")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
			{Objects: service("web", clusterIP(corev1.ClusterIPNone), on("a")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Untouched}}},
			{Objects: service("web", clusterIP("10.96.0.12"), on("a")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Untouched},
					{From: client, To: "10.96.0.12:80", Want: Reaches("a")},
				}},
		}},
}
