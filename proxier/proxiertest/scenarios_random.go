package proxiertest

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// How random stories are told.
const (
	randomStories = 4
	randomSteps   = 8
)

// randomFlows is how many flows of each kind a step has at most.
var randomFlows = map[DecisionKind]int{Forward: 5, Drop: 2, Reject: 1, NotOurs: 1}

// randomScenarios are clusters that change at random, with the oracle's word for what becomes of
// packets: nobody thought of what happens in them. They are the same in every run.
var randomScenarios = sync.OnceValue(func() []Scenario {
	var out []Scenario
	for seed := range randomStories {
		story := rapid.Custom(func(t *rapid.T) Scenario { return randomStory(t, seed) })
		out = append(out, story.Example(seed))
	}
	return out
})

func randomStory(t *rapid.T, seed int) Scenario {
	cluster, config := NewRandomCluster(true), RandomConfig(t)
	config.ServiceProxyName = "" // or hardly a Service is ours
	s := Scenario{Name: fmt.Sprintf("random/%d", seed), Families: DualStack, Config: config, Needs: []Feature{
		UDP, SCTP, Affinity, StaleFlows, RejectFromNode, ProblemsDecided, HostAddressReject}}
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	for i := range randomSteps {
		before := cluster.Objects
		changes := 4
		if i == 0 {
			changes = 40
		}
		for range changes {
			cluster.Change(t)
		}
		step := Step{Flows: randomTraffic(rng, cluster, config)}
		step.Objects, step.Delete = difference(before, cluster.Objects)
		s.Steps = append(s.Steps, step)
	}
	return s
}

// difference is what leads from one state to the other.
func difference(old, now *Objects) (apply, remove string) {
	objects := []string{toYAML(now.Node)}
	add := func(kind string, old, now []metav1.Object) {
		for _, x := range now {
			if !slices.Contains(old, x) {
				objects = append(objects, toYAML(x))
			}
		}
		for _, x := range old {
			gone := !slices.ContainsFunc(now, func(y metav1.Object) bool {
				return y.GetNamespace() == x.GetNamespace() && y.GetName() == x.GetName()
			})
			if gone {
				remove += kind + " " + x.GetNamespace() + "/" + x.GetName() + "\n"
			}
		}
	}
	add("Service", asObjects(old.Services), asObjects(now.Services))
	add("EndpointSlice", asObjects(old.Slices), asObjects(now.Slices))
	return all(objects...), remove
}

func asObjects[T metav1.Object](list []T) []metav1.Object {
	out := make([]metav1.Object, len(list))
	for i, x := range list {
		out[i] = x
	}
	return out
}

// randomTraffic draws flows that the lab can send, most of them to Services.
func randomTraffic(rng *rand.Rand, cluster *RandomCluster, config Config) []Flow {
	packets := cluster.Packets()
	rng.Shuffle(len(packets), func(i, j int) { packets[i], packets[j] = packets[j], packets[i] })
	var out []Flow
	have, seen := map[DecisionKind]int{}, map[netip.AddrPort]int{}
	for _, p := range packets {
		d := Oracle(cluster.Objects, config, p)
		if have[d.Kind] == randomFlows[d.Kind] || seen[p.Dst] > 1 {
			continue
		}
		if f, ok := flowOf(p, d); ok {
			have[d.Kind]++
			seen[p.Dst]++
			f.Name = fmt.Sprintf("%s from %s to %s", p.Protocol, p.Src, p.Dst)
			out = append(out, f)
		}
	}
	return out
}

// flowOf turns a packet and what becomes of it into a flow, if the lab can send it and see that.
func flowOf(p Packet, d Decision) (Flow, bool) {
	f := Flow{To: p.Dst.String(), Protocol: p.Protocol}
	place := netlab.PlaceOf(p.Src)
	if place == "" || strings.HasPrefix(p.Src.String(), "203.") {
		return f, false
	}
	f.From = Place{ns: place, source: p.Src.String()}
	switch d.Kind {
	case Reject:
		f.Want = Rejected
		return f, true
	case Drop:
		f.Want = Dropped
		return f, true
	case NotOurs:
		f.Want = Untouched
		return f, netlab.PlaceOf(p.Dst.Addr()) == ""
	}
	behindNode2 := func(place string) bool { return place == netlab.Node2 || netlab.PodNode(place) == netlab.Node2 }
	var names []string
	anySource := p.Src == netlab.Node1Addr || p.Src == netlab.V6(netlab.Node1Addr) // masquerading may choose it again
	for _, e := range d.Endpoints {
		name := netlab.PlaceOf(e.Addr())
		if !isAddrOf(e.Addr(), name) || behindNode2(place) && behindNode2(name) && !d.Masquerade {
			return f, false // nobody there, or the answer would not pass node-1
		}
		anySource = anySource || name == netlab.Node1 || name == place
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	f.Want = Reaches(names...)
	switch {
	case anySource:
	case d.Masquerade:
		f.Want = f.Want.Masqueraded()
	default:
		f.Want = f.Want.ClientKept()
	}
	if d.Sticky {
		f.Want = f.Want.Sticky()
	}
	return f, true
}

// isAddrOf reports whether a is the address that endpoints of the place have.
func isAddrOf(a netip.Addr, place string) bool {
	own := netlab.Addr(place)
	return own.IsValid() && (a == own || a == netlab.V6(own))
}
