package proxiertest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// A hostile is an object that is broken or means harm, next to Services that must not notice.
type hostile struct {
	name string
	// opts are of a Service with a ClusterIP of its own and its slice. It gets the endpoint b,
	// unless opts give it some.
	opts []option
	// reason is that of the problem which must be reported, "" for an object that is only odd.
	// The problem is the Service's, or its slice's, or that of the object whose name is about.
	reason string
	slice  bool
	about  string
	// want is what becomes of connections to the ClusterIP. The zero Outcome: they reach b.
	want Outcome
	// never is an address that no rule may name.
	never string
	flows []Flow
	// objects come besides, remove takes them away again.
	objects, remove string
}

// The healthy Services: one with an address of every kind, and the API server's.
var (
	healthy = all(
		service("web", clusterIP("10.96.0.10"), loadBalancer("198.51.100.10"), nodePort(30080), externalIPs("203.0.113.10"),
			externalLocal, healthCheckPort(32000), created("2026-01-01T00:00:00Z"), on("a")),
		service("kubernetes", clusterIP("10.96.0.1"), portTo("TCP", "https", 443, 6443),
			created("2026-01-01T00:00:00Z"), at("192.168.20.9")))
	healthyFlows = []Flow{
		{Name: "healthy ClusterIP", From: client, To: "10.96.0.10:80", Want: Reaches("a").ClientKept()},
		{Name: "healthy node port", From: Outside, To: "node-1:30080", Want: Reaches("a").ClientKept()},
		{Name: "healthy load balancer", From: Outside, To: "198.51.100.10:80", Want: Reaches("a").ClientKept()},
	}
	healthyAlways = []Flow{
		healthyFlows[0], healthyFlows[1], healthyFlows[2],
		{Name: "healthy external address", From: client, To: "203.0.113.10:80", Want: Reaches("a").ClientKept()},
		{Name: "API server", From: client, To: "10.96.0.1:443", Want: Reaches("outside")},
	}
)

// hostileScenarios let the objects of each family appear one after the other in one lab, each in
// the place of the one before, and in another lab all at once.
var hostileScenarios = func() []Scenario {
	var out []Scenario
	for _, group := range []struct {
		name     string
		families Families
		list     []hostile
	}{
		{"addresses", EachFamily, hostileAddresses},
		{"fields", EachFamily, hostileFields},
		{"IPv4 addresses", IPv4Only, hostileIPv4},
		{"IPv6 addresses", IPv6Only, hostileIPv6},
	} {
		needs := []Feature{ProblemsDecided}
		out = append(out,
			Scenario{Name: "hostile/" + group.name + ", one after the other", Families: group.families, Needs: needs, Steps: oneByOne(group.list, group.families)},
			Scenario{Name: "hostile/" + group.name + ", all at once", Families: group.families, Needs: needs, Steps: atOnce(group.list, group.families)})
	}
	return append(out, Scenario{Name: "hostile/ten thousand endpoints", Families: IPv4Only, Needs: []Feature{ProblemsDecided}, Steps: tenThousand()})
}()

// of translates the healthy Services for scenarios that are written with IPv6 addresses.
func of(families Families, s string) string {
	if families == IPv6Only {
		return netlab.V6Text(strings.ReplaceAll(s, "IPv4", "IPv6"))
	}
	return s
}

func flowsOf(families Families, flows []Flow) []Flow {
	out := make([]Flow, len(flows))
	for i, f := range flows {
		if host, port, ok := cutPort(f.To); ok && families == IPv6Only && !netlab.Addr(host).IsValid() {
			f.To = netip.AddrPortFrom(netlab.V6(netip.MustParseAddr(host)), port).String()
		}
		out[i] = f
	}
	return out
}

func cutPort(to string) (host string, port uint16, ok bool) {
	i := strings.LastIndexByte(to, ':')
	if i < 0 || strings.HasPrefix(to, "[") {
		return "", 0, false
	}
	_, err := fmt.Sscan(to[i+1:], &port)
	return to[:i], port, err == nil
}

// hostileIP is the ClusterIP of the nth hostile Service.
func hostileIP(families Families, n int) string { return of(families, fmt.Sprintf("10.96.1.%d", n)) }

// manifest is h with the nth ClusterIP, under a name.
func (h hostile) manifest(families Families, name string, n int) string {
	opts := append([]option{clusterIP(hostileIP(families, n))}, h.opts...)
	opts = append(opts, edit(func(svc *corev1.Service, s *discoveryv1.EndpointSlice) {
		w := &web{svc: *svc, slice: *s}
		if s.Endpoints == nil {
			on("b")(w)
			w.slice.Endpoints[0].Addresses[0] = of(families, w.slice.Endpoints[0].Addresses[0])
		}
		if families == IPv6Only && s.AddressType == discoveryv1.AddressTypeIPv4 {
			w.slice.AddressType = discoveryv1.AddressTypeIPv6
		}
		*s = w.slice
	}))
	objects := service(name, opts...)
	if h.objects != "" {
		objects = all(objects, of(families, h.objects))
	}
	return objects
}

// traffic is the flows that are the object's own.
func (h hostile) traffic(families Families, n int) []Flow {
	want := h.want
	if want.kind == reaches && want.names == nil {
		want = Reaches("b")
	}
	to := netip.AddrPortFrom(netip.MustParseAddr(hostileIP(families, n)), 80).String()
	own := Flow{Name: h.name, From: client, To: to, Want: want}
	return append([]Flow{own}, flowsOf(families, h.flows)...)
}

func oneByOne(list []hostile, families Families) []Step {
	steps := []Step{{Name: "healthy", Objects: of(families, healthy), Flows: flowsOf(families, healthyAlways)}}
	remove := ""
	for _, h := range list {
		steps = append(steps, Step{
			Name:    h.name,
			Objects: h.manifest(families, "bad", 1),
			Delete:  remove,
			Flows:   append(h.traffic(families, 1), flowsOf(families, healthyFlows)...),
			Check:   func(t testing.TB, r *Running) { h.check(t, r, "bad") },
		})
		remove = h.remove
	}
	return append(steps, Step{Name: "healthy again", Delete: "Service bad\nEndpointSlice bad-1\n" + remove,
		Flows: flowsOf(families, healthyAlways),
		Check: func(t testing.TB, r *Running) {
			for _, p := range r.Snapshot.Problems {
				t.Errorf("left over: %s", p)
			}
		}})
}

func atOnce(list []hostile, families Families) []Step {
	objects, flows := []string{of(families, healthy)}, flowsOf(families, healthyAlways)
	for i, h := range list {
		objects = append(objects, h.manifest(families, fmt.Sprintf("bad-%d", i), i+1))
		if h.want.kind == reaches { // the others are slow, and each of them was seen alone
			flows = append(flows, h.traffic(families, i+1)[0])
		}
	}
	return []Step{{Objects: all(objects...), Flows: flows, Check: func(t testing.TB, r *Running) {
		for i, h := range list {
			h.check(t, r, fmt.Sprintf("bad-%d", i))
		}
	}}}
}

// check requires the problem of h, whose Service has that name, and that no rule names its
// address.
func (h hostile) check(t testing.TB, r *Running, name string) {
	t.Helper()
	found, have := false, []string{}
	for _, p := range r.Snapshot.Problems {
		mine := p.Object.Name == name || p.Object.Name == name+"-1" || h.about != "" && p.Object.Name == h.about
		found = found || mine && p.Reason == h.reason && (p.Kind == "EndpointSlice") == h.slice
		if mine {
			have = append(have, p.String())
		}
	}
	switch {
	case h.reason != "" && !found:
		t.Errorf("%s: no problem %s is reported of %s, but %v", h.name, h.reason, name, have)
	case h.reason == "" && len(have) > 0:
		t.Errorf("%s: is nothing to report, but %v", h.name, have)
	}
	dump, err := kernelDump(r.Lab)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(dump, "reboot") {
		t.Errorf("%s: an evil name is in the kernel:\n%s", h.name, dump)
	}
	if h.never == "" {
		return
	}
	a := netip.MustParseAddr(r.tale.text(h.never))
	for line := range strings.Lines(dump) {
		if names(line, a) {
			t.Errorf("%s: a rule names %s: %s", h.name, a, line)
		}
	}
}

// names reports whether a line of a dump names the address as a destination: alone, as a prefix
// of full length or with a port. Loopback's own guards may do the former.
func names(line string, a netip.Addr) bool {
	for _, word := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n{},\"", r) }) {
		if ap, err := netip.ParseAddrPort(word); err == nil && ap.Addr() == a {
			return true
		}
		if a.IsLoopback() {
			continue
		}
		if p, err := netip.ParsePrefix(word); err == nil && p.Addr() == a && p.IsSingleIP() {
			return true
		}
		if x, err := netip.ParseAddr(word); err == nil && x == a {
			return true
		}
	}
	return false
}

// tenThousand is a Service of that many endpoints, which no pod of the lab is behind.
func tenThousand() []Step {
	const slices, perSlice = 10, 1000
	objects := []string{healthy, onlyService("huge", clusterIP("10.96.1.1"), port(80))}
	remove := "Service huge\n"
	for i := range slices {
		addrs := make([]string, perSlice)
		for j := range addrs {
			n := i*perSlice + j
			addrs[j] = fmt.Sprintf("10.244.%d.%d", 64+n/250, 1+n%250)
		}
		name := fmt.Sprintf("huge-%d", i)
		objects = append(objects, onlySlice("huge", name, port(80), at(addrs...)))
		remove += "EndpointSlice " + name + "\n"
	}
	endpoints := func(want int) func(testing.TB, *Running) {
		return func(t testing.TB, r *Running) {
			got := 0
			if svc := r.Snapshot.Service(proxier.NamespacedName{Namespace: "default", Name: "huge"}); svc != nil {
				got = len(svc.Port("", proxier.TCP).Endpoints)
			}
			if got != want {
				t.Errorf("the snapshot has %d endpoints, want %d", got, want)
			}
		}
	}
	return []Step{
		{Objects: all(objects...), Flows: healthyAlways, Check: endpoints(slices * perSlice)},
		{Name: "they go", Delete: remove, Flows: healthyAlways, Check: endpoints(0)},
	}
}
