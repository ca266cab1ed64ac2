package zone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/dnstest"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/transfer"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/names"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// say asks the fast path, and the slow one where that has no answer, and returns what it says in
// one line: the code, TC, and the records of answer and additional without TTL. Names of the
// cluster's zone are left out.
func say(t testing.TB, z *Zone, query string) string {
	t.Helper()
	m, proto, err := dnstest.Parse(query)
	if err != nil {
		t.Fatal(err)
	}
	reply, path := fast(t, z, m, limitOf(m, proto)), "fast"
	if reply == nil {
		reply, path = slow(t, z, m, proto), "slow"
	}
	a := dnstest.Of(query, reply)
	out := []string{path, a.Rcode}
	for _, rr := range slices.Concat(a.Answer, a.Additional) {
		words := strings.Fields(rr)
		out = append(out, strings.Join(slices.Concat(words[:1], words[3:]), " "))
	}
	return strings.ReplaceAll(strings.Join(out, " | "), ".cluster.local.", "")
}

func service(namespace, name string, kind names.Kind, more ...func(*names.Service)) *names.Service {
	s := &names.Service{NamespacedName: proxier.NamespacedName{Namespace: namespace, Name: name}, Kind: kind,
		Ports: []names.Port{{Name: "http", Protocol: "tcp", Number: 80}}}
	for _, f := range more {
		f(s)
	}
	return s
}

func ip(list ...string) func(*names.Service) {
	return func(s *names.Service) {
		for _, a := range list {
			s.IPs = append(s.IPs, netip.MustParseAddr(a))
		}
	}
}

func endpoints(list ...string) func(*names.Service) {
	return func(s *names.Service) {
		sl := &names.Slice{Name: fmt.Sprint("s", len(s.Slices)), Width: 4, Ports: []names.Port{{Name: "http", Protocol: "tcp", Number: 8080}}}
		for _, a := range list {
			addr, zone, _ := strings.Cut(a, "@")
			sl.Addrs = append(sl.Addrs, netip.MustParseAddr(addr).AsSlice()...)
			sl.Zones = append(sl.Zones, zone)
		}
		s.Slices = append(s.Slices, sl)
	}
}

func inputs(services ...*names.Service) names.Inputs {
	slices.SortFunc(services, (*names.Service).Order)
	return names.Inputs{Synced: true, Namespaces: []string{"kube-system", "ns"}, Services: names.ListOf(services...)}
}

func TestNotSynced(t *testing.T) {
	z := newZone(t, defaults(), Options{})
	if z.Ready() {
		t.Error("ready without any state")
	}
	want := func(query, want string) {
		t.Helper()
		if got := say(t, z, query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	want("a.ns.svc.cluster.local A", "fast | SERVFAIL")
	want("1.0.96.10.in-addr.arpa PTR", "fast | SERVFAIL") // and not to the next plugin
	in := inputs(service("ns", "a", names.ClusterIP, ip("10.96.0.1")))
	in.Synced = false
	z.Update(in)
	want("a.ns.svc.cluster.local A", "fast | NOERROR | a.ns.svc A 10.96.0.1")
	want("a.ns.svc.cluster.local AAAA", "fast | NOERROR")
	want("b.ns.svc.cluster.local A", "fast | SERVFAIL")
	want("2.0.96.10.in-addr.arpa PTR", "fast | SERVFAIL")
	if z.index.Load().serial != 0 || z.Ready() {
		t.Error("a serial, or ready, before the first complete state")
	}
	in.Synced = true
	z.Update(in)
	want("b.ns.svc.cluster.local A", "fast | NXDOMAIN")
	want("2.0.96.10.in-addr.arpa PTR", "slow | REFUSED") // the next plugin's
	first := z.index.Load().serial
	if now := uint32(time.Now().Unix()); first == 0 || first > now || !z.Ready() {
		t.Errorf("serial %d at %d", first, now)
	}
	z.Update(in)
	if z.index.Load().serial != first {
		t.Error("another serial, and nothing changed")
	}
	z.Update(inputs())
	if s := z.index.Load().serial; !transfer.Newer(s, first) {
		t.Errorf("serial %d after %d", s, first)
	}
}

func TestOptions(t *testing.T) {
	world := inputs(
		service("ns", "a", names.ClusterIP, ip("10.96.0.1"), endpoints("10.244.0.1@east", "10.244.0.2@west")),
		service("ns", "empty", names.ClusterIP, ip("10.96.0.2")),
		service("ns", "h", names.Headless, endpoints("10.244.0.1@east", "10.244.0.2@west.1")),
		service("ns", "two", names.Headless, endpoints("10.244.0.1", "10.244.0.3"), endpoints("10.244.0.2", "10.244.0.3"), func(s *names.Service) {
			s.Slices[1].Ports = []names.Port{{Name: "dns", Protocol: "udp", Number: 53}}
		}),
		service("kube-system", "dns", names.ClusterIP, ip("10.96.0.10", "fd00::a"), endpoints("10.244.0.53")),
	)
	pods := []*names.Pod{
		{NamespacedName: proxier.NamespacedName{Namespace: "ns", Name: "p"}, IP: netip.MustParseAddr("10.244.0.1")},
		{NamespacedName: proxier.NamespacedName{Namespace: "kube-system", Name: "q"}, IP: netip.MustParseAddr("10.244.0.9")},
		{NamespacedName: proxier.NamespacedName{Namespace: "ns", Name: "r"}, IP: netip.MustParseAddr("10.244.0.9")},
	}
	slices.SortFunc(pods, (*names.Pod).Order)
	world.Pods = names.ListOf(pods...)
	none := func(*corefile.Kubernetes) {}
	verified := func(k *corefile.Kubernetes) { k.Pods = corefile.PodsVerified }
	local := Options{Local: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("10.244.0.53")} }}
	elsewhere := Options{Local: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.53")} }}
	tests := []struct {
		query   string
		with    func(*corefile.Kubernetes)
		options Options
		want    string
	}{
		{"a.ns.svc.cluster.local A", func(k *corefile.Kubernetes) { k.Namespaces = []string{"kube-system"} }, Options{}, "fast | NXDOMAIN"},
		{"1.0.96.10.in-addr.arpa PTR", func(k *corefile.Kubernetes) { k.Namespaces = []string{"kube-system"} }, Options{}, "slow | REFUSED"},
		{"2.0.244.10.in-addr.arpa PTR", func(k *corefile.Kubernetes) { k.Namespaces = []string{"kube-system"} }, Options{}, "slow | REFUSED"},
		{"53.0.244.10.in-addr.arpa PTR", func(k *corefile.Kubernetes) { k.Namespaces = []string{"kube-system"} }, Options{}, "fast | NOERROR | 53.0.244.10.in-addr.arpa. PTR 10-244-0-53.dns.kube-system.svc"},
		{"empty.ns.svc.cluster.local A", none, Options{}, "fast | NOERROR | empty.ns.svc A 10.96.0.2"},
		{"empty.ns.svc.cluster.local A", func(k *corefile.Kubernetes) { k.IgnoreEmpty = true }, Options{}, "fast | NXDOMAIN"},
		{"a.ns.svc.cluster.local A", func(k *corefile.Kubernetes) { k.IgnoreEmpty = true }, Options{}, "fast | NOERROR | a.ns.svc A 10.96.0.1"},
		{"two.ns.svc.cluster.local A", none, Options{}, "fast | NOERROR | two.ns.svc A 10.244.0.1 | two.ns.svc A 10.244.0.2 | two.ns.svc A 10.244.0.3"},
		{"_dns._udp.two.ns.svc.cluster.local A", none, Options{}, "fast | NOERROR | _dns._udp.two.ns.svc A 10.244.0.2 | _dns._udp.two.ns.svc A 10.244.0.3"},
		{"_dns._tcp.two.ns.svc.cluster.local A", none, Options{}, "fast | NXDOMAIN"},
		{"east.pin._zone.h.ns.svc.cluster.local A", none, Options{}, "fast | NXDOMAIN"},
		{"east.pin._zone.h.ns.svc.cluster.local A", func(k *corefile.Kubernetes) { k.Zonal = true }, Options{}, "fast | NOERROR | east.pin._zone.h.ns.svc A 10.244.0.1"},
		{"WEST.1.pin._zone.h.ns.svc.cluster.local SRV", func(k *corefile.Kubernetes) { k.Zonal = true }, Options{},
			"fast | NOERROR | WEST.1.pin._zone.h.ns.svc SRV 0 100 8080 10-244-0-2.h.ns.svc | 10-244-0-2.h.ns.svc A 10.244.0.2"},
		{"north.pin._zone.h.ns.svc.cluster.local A", func(k *corefile.Kubernetes) { k.Zonal = true }, Options{}, "fast | NOERROR"},
		{"north.prefer._zone.h.ns.svc.cluster.local A", func(k *corefile.Kubernetes) { k.Zonal = true }, Options{},
			"fast | NOERROR | north.prefer._zone.h.ns.svc A 10.244.0.1 | north.prefer._zone.h.ns.svc A 10.244.0.2"},
		{"east.pin._zone.a.ns.svc.cluster.local A", func(k *corefile.Kubernetes) { k.Zonal = true }, Options{}, "fast | NXDOMAIN"},
		{"east.other._zone.h.ns.svc.cluster.local A", func(k *corefile.Kubernetes) { k.Zonal = true }, Options{}, "fast | NXDOMAIN"},
		{"10-244-0-1.ns.pod.cluster.local A", verified, Options{}, "fast | NOERROR | 10-244-0-1.ns.pod A 10.244.0.1"},
		{"10-244-0-1.kube-system.pod.cluster.local A", verified, Options{}, "fast | NXDOMAIN"},
		{"10-244-0-1.ns.pod.cluster.local SRV", verified, Options{}, "fast | NOERROR"},
		{"x.10-244-0-1.ns.pod.cluster.local A", verified, Options{}, "fast | NXDOMAIN"},
		{"fd00--1.ns.pod.cluster.local AAAA", none, Options{}, "fast | NOERROR | fd00--1.ns.pod AAAA fd00::1"},
		{"fd00--1.ns.pod.cluster.local A", none, Options{}, "fast | NOERROR"},
		{"cluster.local NS", none, Options{}, "fast | NOERROR"},
		{"cluster.local NS", none, local, "fast | NOERROR | cluster.local. NS dns.kube-system.svc | dns.kube-system.svc A 10.96.0.10 | dns.kube-system.svc AAAA fd00::a"},
		{"ns.dns.cluster.local AAAA", none, local, "fast | NOERROR | ns.dns AAAA fd00::a"},
		{"CLUSTER.local NS", none, elsewhere, "fast | NOERROR | CLUSTER.local. NS ns.dns.CLUSTER.local. | ns.dns.CLUSTER.local. A 192.0.2.53"},
		{"ns.dns.cluster.local A", none, elsewhere, "fast | NOERROR | ns.dns A 192.0.2.53"},
		{"in-addr.arpa NS", none, local, "fast | NOERROR | in-addr.arpa. NS dns.kube-system.svc | dns.kube-system.svc A 10.96.0.10 | dns.kube-system.svc AAAA fd00::a"},
		{"cluster.local AXFR tcp", none, Options{}, "slow | REFUSED"},
		{"a.ns.svc.cluster.local A class=CH", none, Options{}, "slow | REFUSED"},
		{"a.ns.svc.example.org A", none, Options{}, "slow | REFUSED"},
	}
	for _, tc := range tests {
		d := defaults()
		tc.with(&d)
		z := newZone(t, d, tc.options)
		z.Update(world)
		if got := say(t, z, tc.query); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.query, got, tc.want)
		}
	}
	d := defaults()
	verified(&d)
	z := newZone(t, d, Options{})
	z.Update(world)
	for client, want := range map[string][]string{
		"10.244.0.1": {"ns.svc.cluster.local.", "svc.cluster.local.", "cluster.local."}, "::ffff:10.244.0.1": {"ns.svc.cluster.local.", "svc.cluster.local.", "cluster.local."},
		"10.244.0.9": nil, "10.244.0.8": nil,
	} {
		if got := z.SearchPath(netip.MustParseAddr(client)); !slices.Equal(got, want) {
			t.Errorf("search path of %s: %q, want %q", client, got, want)
		}
	}
}

// The TTLs of a block with a cache are those that come through it.
func TestPassing(t *testing.T) {
	z := newZone(t, defaults(), Options{Passing: func(denial bool, ttl uint32) uint32 {
		if denial {
			return ttl + 1000
		}
		return ttl + 2000
	}})
	z.Update(inputs(service("ns", "a", names.ClusterIP, ip("10.96.0.1"))))
	for query, want := range map[string]uint32{
		"a.ns.svc.cluster.local A": 2030, "b.ns.svc.cluster.local A": 1030, "dns-version.cluster.local TXT": 30800, "cluster.local SOA": 2030,
	} {
		m, _, err := dnstest.Parse(query)
		if err != nil {
			t.Fatal(err)
		}
		reply := fast(t, z, m, 512)
		if got := slices.Concat(reply.Answer, reply.Ns)[0].Header().Ttl; got != want {
			t.Errorf("%s: TTL %d, want %d", query, got, want)
		}
	}
}

// What a target outside of the zone says is what the name says.
func TestExternalName(t *testing.T) {
	external := func(target string) func(*names.Service) { return func(s *names.Service) { s.External = target } }
	fqdn := func(s *names.Service) {
		s.Slices = []*names.Slice{{Name: "f", Targets: []string{"www.example.com", "zzz.example.com"}}}
	}
	world := inputs(service("ns", "e", names.ExternalName, external("www.example.com")), service("ns", "in", names.ExternalName, external("h.ns.svc.cluster.local.")),
		service("ns", "h", names.Headless, endpoints("10.244.0.1")), service("ns", "loop", names.ExternalName, external("LOOP.ns.svc.cluster.local")),
		service("ns", "ip", names.ExternalName, external("192.0.2.1")), service("ns", "none", names.ExternalName, external("nothing.ns.svc.cluster.local")),
		service("ns", "f", names.Headless, fqdn))
	reply := func(rcode int, err error, records ...string) plugin.ResolverFunc {
		return func(_ context.Context, r *plugin.Request, name string, qtype uint16) plugin.Reply {
			m := r.Ask(name, qtype).Answer()
			m.Rcode = rcode
			for _, text := range records {
				rr, err := dnswire.NewRR(text)
				if err != nil {
					t.Fatal(err)
				}
				m.Answer = append(m.Answer, rr)
			}
			return plugin.Reply{Msg: m, Err: err}
		}
	}
	good := reply(dnswire.RcodeSuccess, nil, "www.example.com. 300 IN A 192.0.2.1")
	tests := []struct {
		query    string
		resolver plugin.Resolver
		want     string
	}{
		{"e.ns.svc.cluster.local A", good, "slow | NOERROR | e.ns.svc CNAME www.example.com. | www.example.com. A 192.0.2.1"},
		{"e.ns.svc.cluster.local A", nil, "slow | NOERROR | e.ns.svc CNAME www.example.com."},
		{"e.ns.svc.cluster.local A", reply(dnswire.RcodeServerFailure, plugin.ErrNoNext), "slow | NOERROR | e.ns.svc CNAME www.example.com."},
		{"e.ns.svc.cluster.local A", reply(dnswire.RcodeServerFailure, errors.New("timeout")), "slow | SERVFAIL"},
		{"e.ns.svc.cluster.local A", reply(dnswire.RcodeRefused, nil), "slow | SERVFAIL"},
		{"e.ns.svc.cluster.local A", plugin.ResolverFunc(func(context.Context, *plugin.Request, string, uint16) plugin.Reply {
			return plugin.Reply{Drop: true}
		}), "slow | SERVFAIL"},
		{"e.ns.svc.cluster.local AAAA", reply(dnswire.RcodeNameError, nil), "slow | NXDOMAIN | e.ns.svc CNAME www.example.com."},
		{"e.ns.svc.cluster.local CNAME", good, "fast | NOERROR | e.ns.svc CNAME www.example.com."},
		{"e.ns.svc.cluster.local SRV", good, "fast | NOERROR"},
		{"_http._tcp.e.ns.svc.cluster.local SRV", good, "fast | NXDOMAIN"},
		{"IN.ns.svc.cluster.local A", good, "slow | NOERROR | IN.ns.svc CNAME h.ns.svc | h.ns.svc A 10.244.0.1"},
		{"in.ns.svc.cluster.local AAAA", good, "slow | NOERROR"},
		{"loop.ns.svc.cluster.local A", good, "slow | NOERROR"},
		{"none.ns.svc.cluster.local A", good, "slow | NOERROR"},
		{"ip.ns.svc.cluster.local A", good, "fast | NXDOMAIN"},
		{"ip.ns.svc.cluster.local CNAME", good, "fast | NXDOMAIN"},
		{"f.ns.svc.cluster.local A", good, "slow | NOERROR | f.ns.svc CNAME www.example.com. | www.example.com. A 192.0.2.1"},
		{"zzz-example-com.f.ns.svc.cluster.local CNAME", good, "fast | NOERROR | zzz-example-com.f.ns.svc CNAME zzz.example.com."},
		{"f.ns.svc.cluster.local SRV", good, "fast | NOERROR"},
	}
	for _, tc := range tests {
		z := newZone(t, defaults(), Options{Resolver: tc.resolver})
		z.Update(world)
		if got := say(t, z, tc.query); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.query, got, tc.want)
		}
	}
}

// A transfer lists the records that questions are answered with.
func TestTransfer(t *testing.T) {
	d := defaults()
	d.Zones, d.MulticlusterZones = append(d.Zones, "clusterset.local."), []string{"clusterset.local."}
	z := newZone(t, d, Options{Local: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.53")} }})
	if _, err := z.Transfer("cluster.local.", 0); err == nil {
		t.Error("a transfer before there is anything to transfer")
	}
	z.Update(fixtures(t, names.Keep{}))
	records, err := z.Transfer("Cluster.local.", 0)
	if err != nil {
		t.Fatal(err)
	}
	var list []dnswire.RR
	kinds := map[string]int{}
	for rr := range records {
		list = append(list, rr)
		kinds[dnswire.TypeToString[rr.Header().Rrtype]]++
	}
	if list[0].Header().Rrtype != dnswire.TypeSOA || list[len(list)-1] != list[0] {
		t.Error("the SOA is not first and last")
	}
	if kinds["CNAME"] != 12 || kinds["NS"] != 1 || kinds["A"] < 5000 || kinds["SRV"] < 5000 {
		t.Errorf("%v", kinds)
	}
	for i, rr := range list[:len(list)-1] {
		if rr.Header().Rrtype == dnswire.TypeSRV && i%50 != 0 || i > 300 && i%997 != 0 {
			continue
		}
		h := rr.Header()
		m := new(dnswire.Msg)
		m.SetQuestion(h.Name, h.Rrtype)
		reply := fast(t, z, m, 65535)
		found := reply != nil && slices.ContainsFunc(reply.Answer, func(o dnswire.RR) bool {
			return dnswire.IsDuplicate(rr, o) || h.Rrtype == dnswire.TypeSRV && o.(*dnswire.SRV).Target == rr.(*dnswire.SRV).Target
		})
		if !found && !(reply != nil && reply.Truncated) {
			t.Errorf("%s is in the transfer, and not answered: %v", rr, reply)
		}
	}
	for _, zone := range []string{"in-addr.arpa.", "example.org."} {
		if _, err := z.Transfer(zone, 0); !errors.Is(err, transfer.ErrNotAuthoritative) {
			t.Errorf("%s: %v", zone, err)
		}
	}
	count := func(zone string, serial uint32) (n int) {
		records, err := z.Transfer(zone, serial)
		if err != nil {
			t.Fatal(err)
		}
		for range records {
			n++
		}
		return n
	}
	serial := list[0].(*dnswire.SOA).Serial
	if n := count("cluster.local.", serial); n != 1 {
		t.Errorf("%d records for a secondary that has them", n)
	}
	if n := count("cluster.local.", serial-1); n != len(list) {
		t.Errorf("%d records for a secondary that has older ones", n)
	}
	if n := count("clusterset.local.", 0); n < 8 {
		t.Errorf("%d records of imported Services", n)
	}
}

// Questions and changes at once; the race detector watches. Every answer is of one state.
func TestConcurrency(t *testing.T) {
	z := newZone(t, defaults(), Options{Rotate: true})
	states := [2]names.Inputs{
		inputs(service("ns", "a", names.ClusterIP, ip("10.96.0.1")), service("ns", "h", names.Headless, endpoints("10.244.0.1", "10.244.0.2"))),
		inputs(service("ns", "a", names.ClusterIP, ip("10.96.0.2")), service("ns", "h", names.Headless, endpoints("10.244.0.3", "10.244.0.4"))),
	}
	z.Update(states[0])
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				z.Update(states[i%2])
			}
		}
	})
	var askers sync.WaitGroup
	for range 3 {
		askers.Go(func() {
			for range 300 {
				a, h := say(t, z, "a.ns.svc.cluster.local A"), say(t, z, "h.ns.svc.cluster.local A")
				if a != "fast | NOERROR | a.ns.svc A 10.96.0.1" && a != "fast | NOERROR | a.ns.svc A 10.96.0.2" {
					t.Error(a)
				}
				if h != "fast | NOERROR | h.ns.svc A 10.244.0.1 | h.ns.svc A 10.244.0.2" && h != "fast | NOERROR | h.ns.svc A 10.244.0.3 | h.ns.svc A 10.244.0.4" {
					t.Error(h)
				}
				_, _ = z.Transfer("cluster.local.", 0)
			}
		})
	}
	askers.Wait()
	close(stop)
	wg.Wait()
}

// A source is a names.Source that a test sets.
type source struct {
	mu      sync.Mutex
	in      names.Inputs
	changed chan struct{}
}

func (s *source) set(in names.Inputs) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in = in
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *source) Inputs() names.Inputs {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.in
}

func (s *source) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *source) Synced() <-chan struct{}  { return nil }
func (s *source) Staleness() time.Duration { return 0 }

// Replies with SRV records are no longer than CoreDNS's library packs them, so that no more of them
// are cut. The name of a target stands once, however many ports it has.
func TestShort(t *testing.T) {
	ports := []names.Port{{Name: "http", Protocol: "tcp", Number: 80}, {Name: "metrics", Protocol: "tcp", Number: 90}, {Name: "dns", Protocol: "udp", Number: 53}}
	z := newZone(t, defaults(), Options{})
	z.Update(inputs(
		service("ns", "a", names.Headless, endpoints("10.0.0.1", "10.0.0.2", "10.0.0.3"), func(s *names.Service) { s.Slices[0].Ports = ports }),
		service("ns", "b", names.ClusterIP, ip("10.96.0.1"), func(s *names.Service) { s.Ports = ports })))
	for query, most := range map[string]int{
		"a.ns.svc.cluster.local. SRV tcp":            12 + 28 + 3*(29+20+20+16),
		"_http._tcp.a.ns.svc.cluster.local. SRV tcp": 12 + 39 + 3*(29+16),
		"b.ns.svc.cluster.local. SRV tcp":            12 + 28 + 3*20 + 16,
	} {
		m, proto, err := dnstest.Parse(query)
		if err != nil {
			t.Fatal(err)
		}
		packed, err := m.Pack()
		var q wire.Query
		if err != nil || q.Parse(packed) != wire.OK {
			t.Fatal(query, err)
		}
		out := make([]byte, limitOf(m, proto))
		n, ok := z.Answer(&q, len(out), out)
		reply := new(dnswire.Msg)
		if err := reply.Unpack(out[:n]); err != nil || !ok {
			t.Fatal(query, ok, err)
		}
		reply.Compress = true
		theirs, err := reply.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if n > most || n > len(theirs) {
			t.Errorf("%s: %d bytes, want %d; the library needs %d", query, n, most, len(theirs))
		}
	}
}

// Follow takes every change, and the metric learns of those after the first complete state.
func TestFollow(t *testing.T) {
	var mu sync.Mutex
	var told []string
	z := newZone(t, defaults(), Options{Programmed: func(kind string, at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprint(kind, " ", at.Unix()))
	}})
	at := func(second int64) func(*names.Service) {
		return func(s *names.Service) { s.Slices[0].Trigger = second * 1e9 }
	}
	src := &source{changed: make(chan struct{})}
	src.in = inputs(service("ns", "h", names.Headless, endpoints("10.244.0.1"), at(1)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Follow(ctx, src, z)
	}()
	defer func() {
		cancel()
		<-done
	}()
	for i := range 5 {
		a := fmt.Sprintf("10.244.0.%d", i+1)
		if i > 0 {
			src.set(inputs(service("ns", "h", names.Headless, endpoints(a), at(int64(i+1))), service("ns", "a", names.ClusterIP, ip("10.96.0.1"), endpoints("10.244.0.9"))))
		}
		deadline := time.Now().Add(20 * time.Second)
		for say(t, z, "h.ns.svc.cluster.local A") != "fast | NOERROR | h.ns.svc A "+a {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not come: %s", a, say(t, z, "h.ns.svc.cluster.local A"))
			}
			time.Sleep(time.Millisecond)
		}
	}
	cancel()
	<-done
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"headless_with_selector 2", "headless_with_selector 3", "headless_with_selector 4", "headless_with_selector 5"}, told); diff != "" {
		t.Error(diff)
	}
}

// Every rule of the comparison is a row of the list that users read.
func TestRulesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/dns-differences.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range dnstest.Rules {
		if !strings.Contains(string(text), "| "+r.ID+" |") {
			t.Errorf("docs/dns-differences.md has no row %s", r.ID)
		}
	}
}
