package proxiertest

import "github.com/fairway-lb/fairway/proxier"

// The usual cast: web is served by a, on the node under test, and f, on node-2. Pod e is a client
// on the node under test. Node processes bind node-1's second address, so that masquerading can
// be seen.
var (
	client  = Pod("e")
	process = Node("node-1").At("192.168.20.1")
)

var clusterIPScenarios = []Scenario{
	{Name: "clusterip/from everywhere",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), on("a", "f")),
			Flows: []Flow{
				{Name: "a pod keeps its address", From: client, To: "10.96.0.10:80", Want: Reaches("a", "f").ClientKept()},
				{Name: "a node process is masqueraded", From: process, To: "10.96.0.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "an outside client is masqueraded", From: Outside, To: "10.96.0.10:80", Want: Reaches("a", "f").Masqueraded()},
				{Name: "another node is masqueraded", From: Node("node-2"), To: "10.96.0.10:80", Want: Reaches("a", "f").Masqueraded()},
			},
		}}},

	{Name: "clusterip/pod of another node",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), on("a", "b")),
			Flows: []Flow{
				{Name: "keeps its address", From: Pod("j"), To: "10.96.0.10:80", Want: Reaches("a", "b").ClientKept()},
			},
		}}},

	{Name: "clusterip/udp from everywhere", Needs: []Feature{UDP},
		Steps: []Step{{
			Objects: service("dns", clusterIP("10.96.0.10"), udp(53), on("a", "f")),
			Flows: []Flow{
				{Name: "pod", From: client, To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a", "f").ClientKept()},
				{Name: "node", From: process, To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a", "f").Masqueraded()},
				{Name: "outside", From: Outside, To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a", "f").Masqueraded()},
			},
		}}},

	{Name: "clusterip/five endpoints, every one is chosen",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), on("a", "b", "c", "f", "g")),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "c", "f", "g")},
			},
		}}},

	{Name: "clusterip/endpoints come and go",
		Steps: []Step{
			{Name: "one",
				Objects: service("web", clusterIP("10.96.0.10"), on("a")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
			{Name: "three",
				Objects: service("web", clusterIP("10.96.0.10"), on("a", "b", "f")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "f")}}},
			{Name: "two others",
				Objects: service("web", clusterIP("10.96.0.10"), on("c", "g")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("c", "g")}}},
			{Name: "the first again",
				Objects: service("web", clusterIP("10.96.0.10"), on("a")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
		}},

	{Name: "clusterip/two Services go up and down",
		Steps: []Step{
			{Name: "both",
				Objects: all(
					service("one", clusterIP("10.96.0.11"), on("a")),
					service("two", clusterIP("10.96.0.12"), on("b"))),
				Flows: []Flow{
					{From: client, To: "10.96.0.11:80", Want: Reaches("a")},
					{From: client, To: "10.96.0.12:80", Want: Reaches("b")},
				}},
			{Name: "one is deleted",
				Delete: "Service one\nEndpointSlice one-1",
				Flows: []Flow{
					{Name: "its address is nobody's", From: client, To: "10.96.0.11:80", Want: Untouched},
					{Name: "its neighbour lives", From: client, To: "10.96.0.12:80", Want: Reaches("b")},
				}},
			{Name: "one comes back with another address",
				Objects: service("one", clusterIP("10.96.0.13"), on("a")),
				Flows: []Flow{
					{From: client, To: "10.96.0.11:80", Want: Untouched},
					{From: client, To: "10.96.0.13:80", Want: Reaches("a")},
					{From: client, To: "10.96.0.12:80", Want: Reaches("b")},
				}},
		}},

	{Name: "clusterip/two Services share their endpoints",
		Steps: []Step{{
			Objects: all(
				service("one", clusterIP("10.96.0.11"), on("a", "f")),
				service("two", clusterIP("10.96.0.12"), on("a", "f"), internalLocal)),
			Flows: []Flow{
				{From: client, To: "10.96.0.11:80", Want: Reaches("a", "f")},
				{From: client, To: "10.96.0.12:80", Want: Reaches("a")},
			},
		}}},

	{Name: "clusterip/same name in two namespaces",
		Steps: []Step{
			{Objects: all(
				service("web", namespace("one"), clusterIP("10.96.0.11"), on("a")),
				service("web", namespace("two"), clusterIP("10.96.0.12"), on("b"))),
				Flows: []Flow{
					{From: client, To: "10.96.0.11:80", Want: Reaches("a")},
					{From: client, To: "10.96.0.12:80", Want: Reaches("b")},
				}},
			{Delete: "Service one/web\nEndpointSlice one/web-1",
				Flows: []Flow{
					{From: client, To: "10.96.0.11:80", Want: Untouched},
					{From: client, To: "10.96.0.12:80", Want: Reaches("b")},
				}},
		}},

	{Name: "clusterip/unknown ports pass untouched",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), on("a")),
			Flows: []Flow{
				{Name: "the port it has", From: client, To: "10.96.0.10:80", Want: Reaches("a")},
				{Name: "a port it does not have", From: client, To: "10.96.0.10:81", Want: Untouched},
				{Name: "the endpoints' port", From: client, To: "10.96.0.10:8080", Want: Untouched},
				{Name: "from outside", From: Outside, To: "10.96.0.10:81", Want: Untouched},
				{Name: "another protocol", From: client, To: "10.96.0.10:80", Protocol: proxier.UDP, Want: Untouched},
				{Name: "the address beside it", From: client, To: "10.96.0.11:80", Want: Untouched},
			},
		}}},

	{Name: "clusterip/endpoint outside the cluster",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), on("outside")),
			Flows: []Flow{
				{Name: "pod", From: client, To: "10.96.0.10:80", Want: Reaches("outside").ClientKept()},
				{Name: "node", From: Node("node-1"), To: "10.96.0.10:80", Want: Reaches("outside")},
			},
		}}},

	{Name: "clusterip/pods are reached directly, too",
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), on("a", "f")),
			Flows: []Flow{
				{Name: "on this node", From: client, To: "a:8080", Want: Reaches("a").ClientKept()},
				{Name: "on the other", From: client, To: "f:8080", Want: Reaches("f").ClientKept()},
				{Name: "from outside", From: Outside, To: "a:8080", Want: Reaches("a").ClientKept()},
			},
		}}},

	{Name: "clusterip/an open connection outlives changes of its Service",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), on("a")),
				Flows: []Flow{{Name: "long", From: client, To: "10.96.0.10:80", Want: Reaches("a"), Hold: true}}},
			{Objects: service("web", clusterIP("10.96.0.10"), on("a", "b", "f")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "f")}}},
			{Objects: service("web", clusterIP("10.96.0.10"), port(80), nodePort(30080), externalLocal, on("a")),
				Flows: []Flow{{From: Outside, To: "node-1:30080", Want: Reaches("a").ClientKept()}}},
		}},
}
