package zone

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/dns/dnstest"
	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/names"
)

// drawService draws a Service. The sets are small, so that things meet.
func drawService(t *rapid.T) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{
		Namespace: rapid.SampledFrom([]string{"a", "a", "a", "b", "nowhere"}).Draw(t, "namespace"),
		Name:      rapid.SampledFrom([]string{"x", "x", "y", "y", "http"}).Draw(t, "name"),
	}}
	for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 0, 3, rapid.ID).Draw(t, "ports") {
		s.Spec.Ports = append(s.Spec.Ports, []corev1.ServicePort{
			{Name: "http", Protocol: "TCP", Port: 80}, {Name: "dns", Protocol: "UDP", Port: 53},
			{Name: "dns-tcp", Protocol: "TCP", Port: 53}, {Protocol: "TCP", Port: 9}}[i])
	}
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "www.example.com"
	case 1, 2:
		s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
	default:
		ips := []string{fmt.Sprintf("10.96.0.%d", serviceNumber(s)), fmt.Sprintf("fd00:96::%d", serviceNumber(s))}
		s.Spec.ClusterIPs = [][]string{ips, ips[:1], ips[1:]}[rapid.IntRange(0, 2).Draw(t, "families")]
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	}
	return s
}

// serviceNumber is another number for each name: no two Services share a cluster IP.
func serviceNumber(s *corev1.Service) int {
	return 10*int(s.Namespace[0]-'a') + int(s.Name[0]-'a')%10
}

func drawSlice(t *rapid.T) *discoveryv1.EndpointSlice {
	v6 := rapid.Bool().Draw(t, "v6")
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: rapid.SampledFrom([]string{"a", "a", "a", "b", "nowhere"}).Draw(t, "namespace"),
			Name:      rapid.SampledFrom([]string{"s1", "s2", "s3", "s4"}).Draw(t, "slice"),
			Labels:    map[string]string{discoveryv1.LabelServiceName: rapid.SampledFrom([]string{"x", "x", "y", "y", "http", "orphan", ""}).Draw(t, "service")},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	if v6 {
		s.AddressType = discoveryv1.AddressTypeIPv6
	}
	for i := range rapid.IntRange(0, 5).Draw(t, "endpoints") {
		e := discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{
			Ready: []*bool{nil, ptr.To(true), ptr.To(true), ptr.To(false)}[rapid.IntRange(0, 3).Draw(t, "ready")]}}
		n := rapid.IntRange(0, 4).Draw(t, fmt.Sprint("address", i))
		if v6 {
			e.Addresses = []string{[]string{"fd00:10::", "fd00:10::1", "fd00:10::2", "fd00::10:1", "fd00:10:0:1::3"}[n]}
		} else {
			e.Addresses = []string{fmt.Sprintf("10.244.0.%d", n)}
		}
		if rapid.Bool().Draw(t, "named") {
			e.Hostname = ptr.To(rapid.SampledFrom([]string{"h-0", "h-1", "10-244-0-1", "fd00-10--0"}).Draw(t, "hostname"))
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, 3), 0, 3, rapid.ID).Draw(t, "ports") {
		s.Ports = append(s.Ports, []discoveryv1.EndpointPort{
			{Name: ptr.To("http"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(int32(8080))},
			{Name: ptr.To("dns"), Protocol: ptr.To(corev1.ProtocolUDP), Port: ptr.To(int32(53))},
			{Name: ptr.To("dns-tcp"), Protocol: ptr.To(corev1.ProtocolTCP), Port: ptr.To(int32(53))},
			{Name: ptr.To(""), Protocol: ptr.To(corev1.ProtocolTCP)}}[i])
	}
	return s
}

// A world is a set of objects that changes, with the inputs that a source would make of it.
type world struct {
	namespaces map[string]bool
	services   map[proxier.NamespacedName]*corev1.Service
	slices     map[proxier.NamespacedName]*discoveryv1.EndpointSlice
	last       names.Inputs
}

func newWorld() *world {
	return &world{map[string]bool{"a": true, "b": true}, map[proxier.NamespacedName]*corev1.Service{},
		map[proxier.NamespacedName]*discoveryv1.EndpointSlice{}, names.Inputs{}}
}

func nameOf(o metav1.Object) proxier.NamespacedName {
	return proxier.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

func (w *world) change(t *rapid.T) {
	switch rapid.IntRange(0, 7).Draw(t, "change") {
	case 0:
		s := drawService(t)
		delete(w.services, nameOf(s))
	case 1:
		s := drawSlice(t)
		delete(w.slices, nameOf(s))
	case 2:
		ns := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace")
		w.namespaces[ns] = !w.namespaces[ns]
	case 3, 4:
		s := drawService(t)
		w.services[nameOf(s)] = s
	default:
		s := drawSlice(t)
		w.slices[nameOf(s)] = s
	}
}

func (w *world) cluster() *dnstest.Cluster {
	c := &dnstest.Cluster{}
	for ns, there := range w.namespaces {
		if there {
			c.Namespaces = append(c.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
		}
	}
	for _, s := range w.services {
		c.Services = append(c.Services, s)
	}
	for _, s := range w.slices {
		c.Slices = append(c.Slices, s)
	}
	slices.SortFunc(c.Slices, func(a, b *discoveryv1.EndpointSlice) int { return nameOf(a).Compare(nameOf(b)) })
	return c
}

// inputs keeps the pointers of what did not change, as a source does.
func (w *world) inputs() names.Inputs {
	in := w.cluster().Inputs(names.Keep{})
	old := map[proxier.NamespacedName]*names.Service{}
	for s := range w.last.Services.All() {
		old[s.NamespacedName] = s
	}
	for s := range in.Services.All() {
		if was := old[s.NamespacedName]; was != nil && was.Equal(s) &&
			slices.EqualFunc(was.Slices, s.Slices, func(a, b *names.Slice) bool { return a.Equal(b) }) {
			in.Services = in.Services.Put(was)
		}
	}
	w.last = in
	return in
}

// queries are the names of an oracle and some beside them, with types.
func (o *oracle) queries(t *rapid.T) (out []dnswire.Question) {
	var list []string
	for n := range o.records {
		list = append(list, n)
	}
	slices.Sort(list)
	near := rapid.SampledFrom([]string{"x.", "_http._tcp.", "10-244-0-1.", "fd00-10--0.", "fd00-10--.", "h-0.", "nowhere.", "_."})
	for _, n := range list {
		switch rapid.IntRange(0, 3).Draw(t, "near") {
		case 0:
			list = append(list, near.Draw(t, "label")+n)
		case 1:
			_, parent, _ := strings.Cut(n, ".")
			list = append(list, parent)
		case 2:
			_, parent, _ := strings.Cut(n, ".")
			list = append(list, near.Draw(t, "label")+parent)
		}
	}
	types := []uint16{dnswire.TypeA, dnswire.TypeAAAA, dnswire.TypeSRV, dnswire.TypePTR, dnswire.TypeTXT, dnswire.TypeCNAME, dnswire.TypeHTTPS, dnswire.TypeMX}
	for _, n := range list {
		if !strings.HasSuffix(n, "cluster.local.") && !strings.HasSuffix(n, ".in-addr.arpa.") && !strings.HasSuffix(n, ".ip6.arpa.") {
			continue
		}
		if rapid.Bool().Draw(t, "upper") {
			n = strings.ToUpper(n[:1]) + n[1:]
		}
		for i := rapid.IntRange(0, 2).Draw(t, "types"); i < len(types); i += 3 {
			out = append(out, dnswire.Question{Name: n, Qtype: types[i], Qclass: dnswire.ClassINET})
		}
	}
	return out
}

func ask(t testing.TB, z *Zone, q dnswire.Question, limit int) *dnswire.Msg {
	m := &dnswire.Msg{Question: []dnswire.Question{q}}
	m.Id, m.RecursionDesired = 77, true
	m.SetEdns0(uint16(limit), false)
	return fast(t, z, m, limit)
}

// data returns the records of a section without owner, TTL and class, sorted, and checks these.
func data(t testing.TB, section []dnswire.RR, owner func(string) bool) (out []string) {
	for _, rr := range section {
		h := rr.Header()
		if h.Rrtype == dnswire.TypeOPT {
			continue
		}
		if h.Ttl != 30 && h.Rrtype != dnswire.TypeTXT || h.Class != dnswire.ClassINET || !owner(h.Name) {
			t.Fatalf("record %s", rr)
		}
		out = append(out, dnswire.TypeToString[h.Rrtype]+" "+strings.ReplaceAll(strings.TrimPrefix(rr.String(), h.String()), "\t", " "))
	}
	slices.Sort(out)
	return out
}

// After every change of any objects, each name has the records that the oracle wrote down, and a
// Zone that saw all changes answers as one that saw the last state only.
func TestOracle(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld()
		directive := defaults()
		directive.Fallthrough = nil
		z := newZone(t, directive, Options{Rotate: rapid.Bool().Draw(rt, "rotate")})
		for range rapid.IntRange(1, 4).Draw(rt, "rounds") {
			for range rapid.IntRange(1, 20).Draw(rt, "changes") {
				w.change(rt)
			}
			in := w.inputs()
			old := z.index.Load()
			before := tables(old)
			z.Update(in)
			if diff := cmp.Diff(before, tables(old)); diff != "" {
				t.Fatalf("an index that was published changed: %s", diff)
			}
			o := newOracle(w.cluster(), true)
			for _, q := range o.queries(rt) {
				checkAnswer(t, z, o, q)
			}
			fresh := newZone(t, directive, Options{})
			fresh.Update(in)
			sameTables(t, z, fresh)
		}
	})
}

// checkAnswer compares one answer.
func checkAnswer(t *testing.T, z *Zone, o *oracle, q dnswire.Question) {
	t.Helper()
	typ := dnswire.TypeToString[q.Qtype]
	name := strings.ToLower(q.Name)
	reply := ask(t, z, q, 65535)
	if reply == nil {
		if !o.leadsAway(name) || typ != "A" && typ != "AAAA" {
			t.Fatalf("%s %s: not answered", q.Name, typ)
		}
		return
	}
	if strings.HasPrefix(name, "1") && strings.Contains(name, ".pod.") || strings.HasPrefix(name, "f") && strings.Contains(name, ".pod.") {
		return // a pod's address: see TestPods
	}
	rcode, want := o.answer(name, typ)
	got := data(t, reply.Answer, func(owner string) bool { return owner == q.Name })
	if dnswire.RcodeToString[reply.Rcode] != rcode || cmp.Diff(want, got) != "" || reply.Truncated || !reply.Authoritative {
		t.Fatalf("%s %s: %s\n%s\nwant %s: %s", q.Name, typ, reply, cmp.Diff(want, got), rcode, want)
	}
	if soa := len(reply.Ns) == 1; soa != (len(want) == 0) {
		t.Fatalf("%s %s: authority %v", q.Name, typ, reply.Ns)
	}
	targets := map[string]bool{}
	for _, rr := range reply.Answer {
		switch r := rr.(type) {
		case *dnswire.SRV:
			targets[r.Target] = true
		case *dnswire.PTR:
			if list := o.records[r.Ptr]; len(list) > 0 && !list[address(addressOf(name))] {
				t.Fatalf("%s leads to %s, which does not have it", name, r.Ptr)
			}
		}
	}
	var glue []string
	for target := range targets {
		for r := range o.records[strings.ToLower(target)] {
			if strings.HasPrefix(r, "A") {
				glue = append(glue, r)
			}
		}
	}
	slices.Sort(glue)
	have := data(t, reply.Extra, func(owner string) bool { return targets[owner] })
	once := map[string]bool{}
	for _, rr := range reply.Extra {
		if once[rr.String()] {
			t.Fatalf("%s %s: %s twice", q.Name, typ, rr)
		}
		once[rr.String()] = true
	}
	if !subset(slices.Compact(have), slices.Compact(glue)) || len(targets) > 0 && len(have) == 0 {
		t.Fatalf("%s %s: additional %v, want of %v", q.Name, typ, have, glue)
	}
}

func subset(a, b []string) bool {
	return !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
}

// addressOf returns the address of a reverse name.
func addressOf(name string) string {
	wireName := make([]byte, 256)
	n, _ := dnswire.PackDomainName(name, wireName, 0, nil, false)
	a, _ := reverseAddr(wireName[:n])
	return a.String()
}

// sameTables checks that two Zones hold the same, however they came to it.
func sameTables(t *testing.T, a, b *Zone) {
	t.Helper()
	x, y := a.index.Load(), b.index.Load()
	if diff := cmp.Diff(tables(y), tables(x)); diff != "" {
		t.Fatalf("another index than that of a fresh start: %s", diff)
	}
}

func tables(x *index) (out []string) {
	x.entries.all(func(e *entry) { out = append(out, fmt.Sprintf("%s %x %x %v", e.key.name, e.v4(), e.v6(), e.order)) })
	x.reverse.all(func(k *key) { out = append(out, "reverse "+string(k.name)) })
	for ns := range x.namespaces {
		out = append(out, "namespace "+ns)
	}
	slices.Sort(out)
	return out
}

// An answer never exceeds its limit, is cut only if something is left out, and then says so.
func TestLimits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 400).Draw(rt, "endpoints")
		in := names.Inputs{Synced: true, Namespaces: []string{"ns-00"}}
		s := bigService(0, n)
		if rapid.Bool().Draw(rt, "named") {
			s.Slices[0].Hosts = make([]string, n)
			for i := range n {
				s.Slices[0].Hosts[i] = fmt.Sprintf("host-%d", i/8)
			}
		}
		in.Services = names.ListOf(s)
		z := newZone(t, defaults(), Options{Rotate: rapid.Bool().Draw(rt, "rotate")})
		z.Update(in)
		limit := rapid.IntRange(512, 9000).Draw(rt, "limit")
		q := dnswire.Question{Name: "service-00000.ns-00.svc.cluster.local.", Qclass: dnswire.ClassINET,
			Qtype: rapid.SampledFrom([]uint16{dnswire.TypeA, dnswire.TypeSRV}).Draw(rt, "type")}
		if rapid.Bool().Draw(rt, "upper") {
			q.Name = strings.Replace(q.Name, "service", "SERVICE", 1)
		}
		whole, reply := ask(t, z, q, 65535), ask(t, z, q, limit)
		all := map[string]bool{}
		for _, rr := range slices.Concat(whole.Answer, whole.Extra) {
			all[rr.String()] = true
		}
		seen := map[string]bool{}
		for _, rr := range slices.Concat(reply.Answer, reply.Extra) {
			if rr.Header().Rrtype == dnswire.TypeOPT {
				continue
			}
			if !all[rr.String()] || seen[rr.String()] {
				t.Fatalf("%s is not of the whole answer, or twice", rr)
			}
			seen[rr.String()] = true
		}
		cut := len(reply.Answer)+len(reply.Extra) < len(whole.Answer)+len(whole.Extra)
		if reply.Truncated != cut || whole.Truncated {
			t.Fatalf("%d of %d records in %d bytes, truncated %v", len(reply.Answer), len(whole.Answer), limit, reply.Truncated)
		}
		if cut {
			reply.Compress = true
			if room := limit - reply.Len(); q.Qtype == dnswire.TypeA && room >= lenA {
				t.Fatalf("cut with %d bytes left", room)
			}
		}
	})
}

// The label of an address leads to that address, and dashes are read as colons are.
func TestLabels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a netip.Addr
		if rapid.Bool().Draw(t, "v6") {
			b := [16]byte(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0, 0, 1, 16, 255}), 16, 16).Draw(t, "bytes"))
			b[0] = 0xfd // no endpoint has an IPv4 address in IPv6
			a = netip.AddrFrom16(b)
		} else {
			a = netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "bytes")))
		}
		e := entry{details: &details{svc: &names.Service{Slices: []*names.Slice{{Width: len(a.AsSlice()), Addrs: a.AsSlice()}}}}}
		label := e.label(nil, ref{})
		if got, ok := parseDashed(label[1:]); !ok || got != a {
			t.Fatalf("%s is written %q, which is %s", a, label, got)
		}
		other := slices.Clone(label[1:])
		other[rapid.IntRange(0, len(other)-1).Draw(t, "at")] = rapid.SampledFrom([]byte("0123456789abcdefg-z")).Draw(t, "byte")
		want, err := netip.ParseAddr(strings.ReplaceAll(string(other), "-", ":"))
		if got, ok := dashed6(other); ok != (err == nil) || ok && got != want {
			t.Fatalf("%q: %v %v, want %v %v", other, got, ok, want, err)
		}
	})
}
