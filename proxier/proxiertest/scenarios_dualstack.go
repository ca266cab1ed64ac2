package proxiertest

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// slice6 makes the slice that of the counterparts of its IPv4 addresses.
var slice6 = edit(func(_ *corev1.Service, s *discoveryv1.EndpointSlice) {
	s.AddressType = discoveryv1.AddressTypeIPv6
	for i := range s.Endpoints {
		for j, a := range s.Endpoints[i].Addresses {
			s.Endpoints[i].Addresses[j] = netlab.V6Text(a)
		}
	}
})

var dualStackScenarios = []Scenario{
	{Name: "dualstack/both families", Families: DualStack,
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("10.96.0.10", "fd00:96::a"), nodePort(30080), loadBalancer("198.51.100.10", "2001:db8:100::a"), on("a", "f")),
				onlySlice("web", "web-6", port(80), on("b", "g"), slice6)),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f").ClientKept()},
				{From: client, To: "[fd00:96::a]:80", Want: Reaches("b", "g").ClientKept()},
				{From: Outside, To: "192.168.10.1:30080", Want: Reaches("a", "f").Masqueraded()},
				{From: Outside, To: "[fd00:10::1]:30080", Want: Reaches("b", "g").Masqueraded()},
				{From: Outside, To: "198.51.100.10:80", Want: Reaches("a", "f").Masqueraded()},
				{From: Outside, To: "[2001:db8:100::a]:80", Want: Reaches("b", "g").Masqueraded()},
			},
		}}},

	{Name: "dualstack/IPv6 first", Families: DualStack,
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("fd00:96::a", "10.96.0.10"), on("a")),
				onlySlice("web", "web-6", port(80), on("b"), slice6)),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
				{From: client, To: "[fd00:96::a]:80", Want: Reaches("b")},
			},
		}}},

	{Name: "dualstack/endpoints of one family only", Families: DualStack,
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10", "fd00:96::a"), on("a")),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
				{From: client, To: "[fd00:96::a]:80", Want: Rejected},
			},
		}}},

	{Name: "dualstack/a Service of one family is not there in the other", Families: DualStack,
		Steps: []Step{{
			Objects: all(
				service("four", clusterIP("10.96.0.14"), nodePort(30084), externalIPs("203.0.113.14", "2001:db8:113::e"), on("a")),
				service("six", clusterIP("fd00:96::10"), nodePort(30086), on("b"), slice6)),
			Flows: []Flow{
				{From: Outside, To: "192.168.10.1:30084", Want: Reaches("a")},
				{From: Outside, To: "[fd00:10::1]:30084", Want: Rejected},
				{From: Outside, To: "192.168.10.1:30086", Want: Rejected},
				{From: Outside, To: "[fd00:10::1]:30086", Want: Reaches("b")},
				{From: Outside, To: "203.0.113.14:80", Want: Reaches("a")},
				{From: Outside, To: "[2001:db8:113::e]:80", Want: Untouched},
			},
		}}},

	{Name: "dualstack/a family is added and taken away", Families: DualStack,
		Steps: []Step{
			{Objects: all(
				service("web", clusterIP("10.96.0.10"), on("a")),
				onlySlice("web", "web-6", port(80), on("b"), slice6)),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
					{From: client, To: "[fd00:96::a]:80", Want: Untouched},
				}},
			{Objects: service("web", clusterIP("10.96.0.10", "fd00:96::a"), on("a")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
					{From: client, To: "[fd00:96::a]:80", Want: Reaches("b")},
				}},
			{Objects: service("web", clusterIP("10.96.0.10"), on("a")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
					{From: client, To: "[fd00:96::a]:80", Want: Untouched},
				}},
		}},

	{Name: "dualstack/source ranges of each family", Families: DualStack,
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("10.96.0.10", "fd00:96::a"), loadBalancer("198.51.100.10", "2001:db8:100::a"),
					sourceRanges("192.168.20.10/32", "fd00:20::9/128"), on("a")),
				onlySlice("web", "web-6", port(80), on("b"), slice6)),
			Flows: []Flow{
				{From: Outside.At("192.168.20.10"), To: "198.51.100.10:80", Want: Reaches("a")},
				{From: Outside.At("192.168.20.9"), To: "198.51.100.10:80", Want: Dropped},
				{From: Outside.At("fd00:20::9"), To: "[2001:db8:100::a]:80", Want: Reaches("b")},
				{From: Outside.At("fd00:20::a"), To: "[2001:db8:100::a]:80", Want: Dropped},
			},
		}}},

	{Name: "dualstack/policies Local in both", Families: DualStack,
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("10.96.0.10", "fd00:96::a"), nodePort(30080), internalLocal, externalLocal, on("a", "f")),
				onlySlice("web", "web-6", port(80), on("f", "g"), slice6)),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
				{From: client, To: "[fd00:96::a]:80", Want: Dropped},
				{From: Outside, To: "192.168.10.1:30080", Want: Reaches("a").ClientKept()},
				{From: Outside, To: "[fd00:10::1]:30080", Want: Dropped},
				{From: client, To: "[fd00:10::1]:30080", Want: Reaches("f", "g").ClientKept()},
			},
		}}},
}
