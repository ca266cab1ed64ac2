package proxiertest

import (
	"strings"

	"github.com/fairway-lb/fairway/proxier"
)

var nodePortScenarios = []Scenario{
	{Name: "nodeport/from everywhere",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a", "f")),
			Flows: []Flow{
				{Name: "outside", From: Outside, To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()},
				{Name: "outside, the node's other address", From: Outside, To: "192.168.20.1:30080", Want: Reaches("a", "f").Masqueraded()},
				{Name: "another node", From: Node("node-2"), To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()},
				{Name: "a pod", From: client, To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()},
				{Name: "a pod of another node", From: Pod("j"), To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()},
				{Name: "a process of the node", From: process, To: "node-1:30080", Want: Reaches("a", "f").Masqueraded()},
				{Name: "the ClusterIP", From: client, To: "10.96.0.10:80", Want: Reaches("a", "f").ClientKept()},
			},
		}}},

	{Name: "nodeport/udp", Needs: []Feature{UDP},
		Steps: []Step{{
			Objects: service("dns", clusterIP("10.96.0.10"), udp(53), nodePort(30053), on("a", "f")),
			Flows: []Flow{
				{Name: "outside", From: Outside, To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("a", "f").Masqueraded()},
				{Name: "pod", From: client, To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("a", "f").Masqueraded()},
				{Name: "process", From: process, To: "node-1:30053", Protocol: proxier.UDP, Want: Reaches("a", "f").Masqueraded()},
			},
		}}},

	{Name: "nodeport/only on this node, only on its number",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
			Flows: []Flow{
				{Name: "here", From: client, To: "node-1:30080", Want: Reaches("a")},
				{Name: "the Service's port is the node's own", From: Outside, To: "node-1:80", Want: Rejected},
				{Name: "the next number", From: Outside, To: "node-1:30081", Want: Rejected},
				{Name: "another protocol", From: Outside, To: "node-1:30080", Protocol: proxier.UDP, Want: Rejected},
				{Name: "not on the ClusterIP", From: client, To: "10.96.0.10:30080", Want: Untouched},
				{Name: "another node is not ours", From: client, To: "node-2:30080", Want: Rejected},
			},
		}}},

	{Name: "nodeport/on addresses of a range",
		Config: Config{NodePortAddresses: []string{"192.168.10.0/24"}},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
			Flows: []Flow{
				{Name: "inside", From: Outside, To: "192.168.10.1:30080", Want: Reaches("a")},
				{Name: "beside, from outside", From: Outside, To: "192.168.20.1:30080", Want: Rejected},
				{Name: "beside, from a pod", From: client, To: "192.168.20.1:30080", Want: Rejected},
				{Name: "beside, from the node", From: process, To: "192.168.20.1:30080", Want: Rejected},
				{Name: "the ClusterIP does not mind", From: client, To: "10.96.0.10:80", Want: Reaches("a")},
			},
		}}},

	{Name: "nodeport/on addresses of two ranges",
		Config: Config{NodePortAddresses: []string{"192.168.20.1/32", "10.244.1.0/24"}},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
			Flows: []Flow{
				{Name: "first", From: Outside, To: "192.168.20.1:30080", Want: Reaches("a")},
				{Name: "second", From: client, To: "10.244.1.1:30080", Want: Reaches("a")},
				{Name: "neither", From: Outside, To: "192.168.10.1:30080", Want: Rejected},
			},
		}}},

	{Name: "nodeport/on the primary address",
		Config: Config{NodePortAddresses: []string{"primary"}},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
			Flows: []Flow{
				{Name: "primary", From: Outside, To: "node-1:30080", Want: Reaches("a")},
				{Name: "other", From: Outside, To: "192.168.20.1:30080", Want: Rejected},
			},
		}}},

	{Name: "nodeport/the primary address changes",
		Config: Config{NodePortAddresses: []string{"primary"}},
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
				Flows: []Flow{
					{From: Outside, To: "192.168.10.1:30080", Want: Reaches("a")},
					{From: Outside, To: "192.168.20.1:30080", Want: Rejected},
				}},
			{Objects: strings.ReplaceAll(node1("zone-a"), "192.168.10.1", "192.168.20.1"),
				Flows: []Flow{
					{From: Outside, To: "192.168.10.1:30080", Want: Rejected},
					{From: Outside, To: "192.168.20.1:30080", Want: Reaches("a")},
				}},
		}},

	{Name: "nodeport/no ranges of this node",
		Config: Config{NodePortAddresses: []string{"192.168.99.0/24"}},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
			Flows: []Flow{
				{From: Outside, To: "192.168.10.1:30080", Want: Rejected},
				{From: Outside, To: "192.168.20.1:30080", Want: Rejected},
				{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
			},
		}}},

	{Name: "nodeport/changed and taken away",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
				Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a")}}},
			{Name: "changed",
				Objects: service("web", clusterIP("10.96.0.10"), nodePort(30090), on("a")),
				Flows: []Flow{
					{From: Outside, To: "node-1:30080", Want: Rejected},
					{From: Outside, To: "node-1:30090", Want: Reaches("a")},
				}},
			{Name: "taken away",
				Objects: service("web", clusterIP("10.96.0.10"), on("a")),
				Flows: []Flow{
					{From: Outside, To: "node-1:30080", Want: Rejected},
					{From: Outside, To: "node-1:30090", Want: Rejected},
					{From: client, To: "10.96.0.10:80", Want: Reaches("a")},
				}},
		}},

	{Name: "nodeport/moves to another Service",
		Steps: []Step{
			{Objects: all(
				service("one", clusterIP("10.96.0.11"), nodePort(30080), on("a")),
				service("two", clusterIP("10.96.0.12"), on("b"))),
				Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a")}}},
			{Objects: all(
				service("one", clusterIP("10.96.0.11"), on("a")),
				service("two", clusterIP("10.96.0.12"), nodePort(30080), on("b"))),
				Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("b")}}},
		}},

	{Name: "nodeport/one number for TCP and UDP", Needs: []Feature{UDP},
		Steps: []Step{
			{Objects: all(
				service("web", clusterIP("10.96.0.11"), port(80), nodePort(30080), on("a")),
				service("dns", clusterIP("10.96.0.12"), udp(53), nodePort(30080), on("b"))),
				Flows: []Flow{
					{From: Outside, To: "node-1:30080", Want: Reaches("a")},
					{From: Outside, To: "node-1:30080", Protocol: proxier.UDP, Want: Reaches("b")},
				}},
			{Name: "one of them goes",
				Delete: "Service web\nEndpointSlice web-1",
				Flows: []Flow{
					{From: Outside, To: "node-1:30080", Want: Rejected},
					{From: Outside, To: "node-1:30080", Protocol: proxier.UDP, Want: Reaches("b")},
				}},
		}},

	// A NodePort on loopback needs route_localnet, which exposes the node (CVE-2020-8558).
	{Name: "nodeport/not on loopback", Needs: []Feature{NoLoopbackPort},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), on("a")),
			Flows: []Flow{
				{From: Node("node-1"), To: "127.0.0.1:30080", Want: Rejected},
				{From: Node("node-1"), To: "node-1:30080", Want: Reaches("a")},
			},
		}}},
}
