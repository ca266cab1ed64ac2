package proxiertest

import (
	"testing"
	"time"

	"github.com/fairway-lb/fairway/proxier"
)

var affinityScenarios = []Scenario{
	{Name: "affinity/a client stays with its endpoint", Needs: []Feature{Affinity},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), affinity(600), on("a", "b", "f")),
			Flows: []Flow{
				{Name: "pod", From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "f").Sticky()},
				{Name: "again", From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "f").SameAs("pod")},
				{Name: "process", From: Node("node-1"), To: "10.96.0.10:80", Want: Reaches("a", "b", "f").Sticky()},
				{Name: "outside", From: Outside, To: "10.96.0.10:80", Want: Reaches("a", "b", "f").Sticky()},
			},
		}}},

	{Name: "affinity/node ports and load balancers", Needs: []Feature{Affinity},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), affinity(600), on("a", "b", "f")),
			Flows: []Flow{
				{Name: "node port", From: Outside, To: "node-1:30080", Want: Reaches("a", "b", "f").Sticky()},
				{Name: "load balancer", From: Outside.At("192.168.20.10"), To: "198.51.100.10:80", Want: Reaches("a", "b", "f").Sticky()},
			},
		}}},

	{Name: "affinity/udp", Needs: []Feature{Affinity, UDP},
		Steps: []Step{{
			Objects: service("dns", clusterIP("10.96.0.10"), udp(53), affinity(600), on("a", "b", "f")),
			Flows: []Flow{
				{Name: "pod", From: client, To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a", "b", "f").Sticky()},
				{Name: "again", From: client, To: "10.96.0.10:53", Protocol: proxier.UDP, Want: Reaches("a", "b", "f").SameAs("pod")},
			},
		}}},

	{Name: "affinity/external policy Local keeps it here", Needs: []Feature{Affinity},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), externalLocal, affinity(600), on("a", "b", "f", "g", "h")),
			Flows: []Flow{
				{From: Outside, To: "node-1:30080", Want: Reaches("a", "b").Sticky()},
				{From: Outside.At("192.168.20.10"), To: "node-1:30080", Want: Reaches("a", "b").Sticky()},
				{From: Outside.At("192.168.20.11"), To: "node-1:30080", Want: Reaches("a", "b").Sticky()},
			},
		}}},

	{Name: "affinity/switched on and off", Needs: []Feature{Affinity},
		Steps: []Step{
			{Name: "off",
				Objects: service("web", clusterIP("10.96.0.10"), on("a", "f")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")}}},
			{Name: "on",
				Objects: service("web", clusterIP("10.96.0.10"), affinity(600), on("a", "f")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f").Sticky()}}},
			{Name: "off again",
				Objects: service("web", clusterIP("10.96.0.10"), on("a", "f")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f")}}},
		}},

	{Name: "affinity/survives other changes of the Service", Needs: []Feature{Affinity},
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), affinity(600), on("a", "b", "f")),
				Flows: []Flow{{Name: "first", From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "f").Sticky()}}},
			{Name: "more endpoints, another address",
				Objects: service("web", clusterIP("10.96.0.10"), affinity(600), externalIPs("203.0.113.10"), on("a", "b", "c", "f", "g")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "c", "f", "g").SameAs("first")}}},
			{Name: "more Services",
				Objects: service("other", clusterIP("10.96.0.11"), on("a", "b")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "c", "f", "g").SameAs("first")}}},
		}},

	{Name: "affinity/ends with the endpoint", Needs: []Feature{Affinity},
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), affinity(600), on("a", "f")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a", "f").Sticky()}}},
			{Name: "both are gone, others serve",
				Objects: service("web", clusterIP("10.96.0.10"), affinity(600), on("b", "g")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("b", "g").Sticky()}}},
			{Name: "gone is everybody",
				Objects: service("web", clusterIP("10.96.0.10"), affinity(600)),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Rejected}}},
			{Name: "and one is back",
				Objects: service("web", clusterIP("10.96.0.10"), affinity(600), on("c")),
				Flows:   []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("c")}}},
		}},

	{Name: "affinity/an endpoint that is not ready is left", Needs: []Feature{Affinity},
		Steps: []Step{
			{Objects: service("web", clusterIP("10.96.0.10"), affinity(600), on("a")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("a").Sticky()}}},
			{Objects: service("web", clusterIP("10.96.0.10"), affinity(600), unready("a"), on("b")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("b").Sticky()}}},
			{Objects: service("web", clusterIP("10.96.0.10"), affinity(600), terminating("b"), on("c")),
				Flows: []Flow{{From: client, To: "10.96.0.10:80", Want: Reaches("c").Sticky()}}},
		}},

	{Name: "affinity/ends after a time without connections", Needs: []Feature{Affinity},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), affinity(2), on("a", "b", "f")),
			Flows:   []Flow{{Name: "first", From: client, To: "10.96.0.10:80", Want: Reaches("a", "b", "f").Sticky()}},
			Check: func(t testing.TB, r *Running) {
				// Two in three attempts meet another endpoint, so that all miss is no chance.
				for range 20 {
					time.Sleep(2500 * time.Millisecond)
					if a := r.probe(t, client, "10.96.0.10:80", proxier.TCP, answerWait); a.Name != r.last["first"] {
						return
					}
				}
				t.Errorf("still with %s, though each time the client stayed away longer than the time-out", r.last["first"])
			},
		}}},

	{Name: "affinity/each client for itself", Needs: []Feature{Affinity},
		Steps: []Step{{
			Objects: service("web", clusterIP("10.96.0.10"), nodePort(30080), externalLocal, affinity(600), on("a", "b", "c", "d")),
			Flows: []Flow{
				{Name: "one", From: Outside, To: "node-1:30080", Want: Reaches("a", "b", "c", "d").Sticky()},
				{Name: "two", From: Outside.At("192.168.20.10"), To: "node-1:30080", Want: Reaches("a", "b", "c", "d").Sticky()},
				{Name: "three", From: Outside.At("192.168.20.11"), To: "node-1:30080", Want: Reaches("a", "b", "c", "d").Sticky()},
				{From: Outside, To: "node-1:30080", Want: Reaches("a", "b", "c", "d").SameAs("one")},
				{From: Outside.At("192.168.20.10"), To: "node-1:30080", Want: Reaches("a", "b", "c", "d").SameAs("two")},
				{From: Outside.At("192.168.20.11"), To: "node-1:30080", Want: Reaches("a", "b", "c", "d").SameAs("three")},
			},
		}}},
}
