package proxiertest

import "github.com/fairway-lb/fairway/proxier"

var portsScenarios = []Scenario{
	{Name: "ports/several of one Service",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), portTo("TCP", "http", 80, 8080), portTo("TCP", "tls", 443, 8443), on("a", "f")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")},
					{From: client, To: "10.96.0.10:443", Want: Reaches("a", "f")},
				}},
			{Name: "one is removed, one added",
				Objects: service("web", clusterIP("10.96.0.10"), portTo("TCP", "tls", 443, 8443), portTo("TCP", "admin", 9000, 9090), on("a", "f")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:80", Want: Untouched},
					{From: client, To: "10.96.0.10:443", Want: Reaches("a", "f")},
					{From: client, To: "10.96.0.10:9000", Want: Reaches("a", "f")},
				}},
			{Name: "the number of one changes",
				Objects: service("web", clusterIP("10.96.0.10"), portTo("TCP", "tls", 444, 8443), portTo("TCP", "admin", 9000, 9090), on("a", "f")),
				Flows: []Flow{
					{From: client, To: "10.96.0.10:443", Want: Untouched},
					{From: client, To: "10.96.0.10:444", Want: Reaches("a", "f")},
				}},
		}},

	{Name: "ports/one number for TCP and UDP", Needs: []Feature{UDP},
		Steps: []Step{{
			Objects: all(
				onlyService("dns", clusterIP("10.96.0.10"), portTo("TCP", "tcp", 53, 8053), portTo("UDP", "udp", 53, 8054)),
				onlySlice("dns", "dns-1", portTo("TCP", "tcp", 53, 8053), on("a")),
				onlySlice("dns", "dns-2", portTo("UDP", "udp", 53, 8054), on("b"))),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:53", Want: Reaches("a")},
				{From: client, To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("b")},
			},
		}}},

	{Name: "ports/one name for TCP and UDP", Needs: []Feature{UDP},
		Steps: []Step{{
			Objects: all(
				onlyService("dns", clusterIP("10.96.0.10"), portTo("TCP", "dns", 53, 8053), portTo("UDP", "dns", 53, 8053)),
				onlySlice("dns", "dns-1", portTo("TCP", "dns", 53, 8053), on("a")),
				onlySlice("dns", "dns-2", portTo("UDP", "dns", 53, 8053), on("b"))),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:53", Want: Reaches("a")},
				{From: client, To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("b")},
			},
		}}},

	{Name: "ports/a name with another number in each slice",
		Steps: []Step{{
			Objects: all(
				onlyService("web", clusterIP("10.96.0.10"), portTo("TCP", "http", 80, 8080)),
				onlySlice("web", "web-1", portTo("TCP", "http", 80, 8080), on("a")),
				onlySlice("web", "web-2", portTo("TCP", "http", 80, 9090), on("b", "f"))),
			Flows: []Flow{
				{From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "f")},
			},
		}}},

	{Name: "ports/slices are added and taken away",
		Steps: []Step{
			{Objects: all(
				service("web", clusterIP("10.96.0.10"), on("a")),
				onlySlice("web", "web-2", port(80), on("b")),
				onlySlice("web", "web-3", port(80), on("f"))),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "f")}}},
			{Delete: "EndpointSlice web-2",
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")}}},
			{Name: "an endpoint moves between slices",
				Objects: all(
					onlySlice("web", "web-1", port(80)),
					onlySlice("web", "web-3", port(80), on("a", "f"))),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")}}},
		}},

	{Name: "ports/an endpoint in two slices is one endpoint",
		Steps: []Step{{
			Objects: all(
				service("web", clusterIP("10.96.0.10"), on("a", "b")),
				onlySlice("web", "web-2", port(80), on("a", "b")),
				onlySlice("web", "web-3", port(80), on("f", "a"))),
			Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "f")}},
		}}},

	// Pod addresses are used again: the address is terminating in one slice, a new pod in another.
	{Name: "ports/of two with one address, the one that lives counts",
		Steps: []Step{
			{Objects: all(
				onlyService("web", clusterIP("10.96.0.10"), port(80)),
				onlySlice("web", "web-1", port(80), stopped("a")),
				onlySlice("web", "web-2", port(80), on("a", "f"))),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")}}},
			{Name: "in the other order",
				Objects: all(
					onlySlice("web", "web-1", port(80), on("a")),
					onlySlice("web", "web-2", port(80), terminating("a"), on("f"))),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")}}},
		}},

	{Name: "ports/the endpoints' number changes",
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), portTo("TCP", "", 80, 8080), on("a")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
			{Objects: service("web", clusterIP("10.96.0.10"), portTo("TCP", "", 80, 9090), on("a")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a")}}},
		}},

	{Name: "ports/a port that slices name otherwise has no endpoints",
		Steps: []Step{{
			Objects: all(
				onlyService("web", clusterIP("10.96.0.10"), portTo("TCP", "http", 80, 8080)),
				onlySlice("web", "web-1", portTo("TCP", "https", 80, 8080), on("a"))),
			Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Rejected}},
		}}},
}
