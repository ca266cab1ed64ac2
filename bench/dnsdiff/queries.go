package dnsdiff

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/bench/nameserver"
)

// A Query is a question and how it is asked.
type Query struct {
	nameserver.Query
}

// String is the query in the notation of dnstest.Parse.
func (q Query) String() string {
	m := q.Msg
	x := m.Question[0]
	out := []string{x.Name, dnswire.Type(x.Qtype).String()}
	add := func(on bool, flag string) {
		if on {
			out = append(out, flag)
		}
	}
	add(q.TCP, "tcp")
	add(m.CheckingDisabled, "cd")
	add(m.AuthenticatedData, "ad")
	add(!m.RecursionDesired, "norec")
	add(x.Qclass != dnswire.ClassINET, "class="+dnswire.ClassToString[x.Qclass])
	if opt := m.IsEdns0(); opt != nil {
		add(true, fmt.Sprintf("buf=%d", opt.UDPSize()))
		add(opt.Do(), "do")
	}
	add(m.Opcode != dnswire.OpcodeQuery, "opcode="+strings.ToLower(dnswire.OpcodeToString[m.Opcode]))
	return strings.Join(out, " ")
}

// Names are the names that a cluster has or nearly has, with final dots, sorted: of Services,
// ports, endpoints, pods and addresses, of the levels above them, and of some of the Internet.
func (c *Cluster) Names(zone string) []string {
	names := []string{zone, "svc." + zone, "pod." + zone, "dns-version." + zone, "ns.dns." + zone, "dns." + zone,
		"www.example.com.", "chain.example.com.", "nobody.example.com.", "v4only.example.com.", "big.example.com.",
		"x.servfail.example.com.", "mail.example.com.", "example.com.", "deep.example.com.", "localhost."}
	add := func(format string, args ...any) { names = append(names, fmt.Sprintf(format, args...)) }
	for _, ns := range c.Namespaces {
		add("%s.svc.%s", ns.Name, zone)
		add("%s.pod.%s", ns.Name, zone)
		add("10-9-8-7.%s.pod.%s", ns.Name, zone)
		add("any.%s.svc.%s", ns.Name, zone)
	}
	for _, s := range c.Services {
		add("%s.%s.svc.%s", s.Name, s.Namespace, zone)
		for _, p := range s.Spec.Ports {
			name := p.Name
			if name == "" {
				name = "http"
			}
			add("_%s._%s.%s.%s.svc.%s", name, strings.ToLower(string(p.Protocol)), s.Name, s.Namespace, zone)
		}
		for _, ip := range slices.Concat(s.Spec.ClusterIPs, s.Spec.ExternalIPs) {
			names = append(names, reverse(ip)...)
		}
	}
	for _, s := range c.Slices {
		service := s.Labels["kubernetes.io/service-name"]
		for i, e := range s.Endpoints {
			if i > 8 {
				break // the ninth is like the eighth
			}
			for _, ip := range e.Addresses {
				add("%s.%s.%s.svc.%s", Dashed(ip), service, s.Namespace, zone)
				names = append(names, reverse(ip)...)
			}
			if e.Hostname != nil {
				add("%s.%s.%s.svc.%s", *e.Hostname, service, s.Namespace, zone)
			}
			if e.TargetRef != nil {
				add("%s.%s.%s.svc.%s", e.TargetRef.Name, service, s.Namespace, zone)
			}
		}
	}
	for _, p := range c.Pods {
		add("%s.%s.pod.%s", Dashed(p.Status.PodIP), p.Namespace, zone)
		names = append(names, reverse(p.Status.PodIP)...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(n string) bool {
		_, ok := dnswire.IsDomainName(n)
		return !ok
	})
}

// Dashed is an address as a label of a name.
func Dashed(ip string) string {
	out := strings.NewReplacer(".", "-", ":", "-").Replace(ip)
	if strings.HasSuffix(out, "-") {
		out += "0"
	}
	return out
}

func reverse(ip string) []string {
	name, err := dnswire.ReverseAddr(ip)
	if err != nil {
		return nil // "None" is not an address
	}
	return []string{name}
}

// labels that mutations put in.
var labels = []string{"x", "_http", "_tcp", "_", "*", "any", "web", "default", "svc", "pod", "prod", "10-244-1-1", "0", "-", "a--b", strings.Repeat("z", 63), `a\.b`, `\000`}

// mutate changes one label of a name, drops one, adds one, or turns the case of its letters.
func mutate(r *rand.Rand, name string) string {
	parts := dnswire.SplitDomainName(name)
	if len(parts) == 0 {
		return name
	}
	at := r.IntN(len(parts))
	if !chance(r, 3) {
		at = r.IntN(min(len(parts), 3)) // near the front are the differences
	}
	switch r.IntN(5) {
	case 0:
		parts[at] = pick(r, labels)
	case 1:
		parts = slices.Delete(parts, at, at+1)
	case 2:
		parts = slices.Insert(parts, at, pick(r, labels))
	case 3:
		b := []byte(parts[at])
		b[r.IntN(len(b))] = byte('a' + r.IntN(26))
		parts[at] = string(b)
	case 4:
		return flip(r, name)
	}
	return dnswire.Fqdn(strings.Join(parts, "."))
}

// flip turns the case of letters at random.
func flip(r *rand.Rand, name string) string {
	b := []byte(name)
	for i, c := range b {
		if (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') && chance(r, 2) {
			b[i] = c ^ 0x20
		}
	}
	return string(b)
}

// qtypes are those that are asked for, the usual ones more often.
var qtypes = []uint16{
	dnswire.TypeA, dnswire.TypeA, dnswire.TypeA, dnswire.TypeA, dnswire.TypeAAAA, dnswire.TypeAAAA, dnswire.TypeAAAA,
	dnswire.TypeSRV, dnswire.TypeSRV, dnswire.TypePTR, dnswire.TypeTXT, dnswire.TypeCNAME, dnswire.TypeMX, dnswire.TypeNS,
	dnswire.TypeSOA, dnswire.TypeANY, dnswire.TypeHTTPS, dnswire.TypeDS, dnswire.TypeDNSKEY, dnswire.TypeCAA, 65400,
}

// Ask makes a query for a name: of a type that suits it, or of any, with anything about it that a
// client may choose.
func Ask(r *rand.Rand, name string, from []netip.Addr) Query {
	qtype := pick(r, qtypes)
	switch {
	case strings.HasSuffix(strings.ToLower(name), ".arpa.") && !chance(r, 4):
		qtype = dnswire.TypePTR
	case strings.HasPrefix(name, "_") && !chance(r, 3):
		qtype = dnswire.TypeSRV
	}
	m := new(dnswire.Msg).SetQuestion(name, qtype)
	m.Id = uint16(r.Uint32())
	m.RecursionDesired = !chance(r, 10)
	m.CheckingDisabled = chance(r, 20)
	m.AuthenticatedData = chance(r, 20)
	if chance(r, 30) {
		m.Question[0].Qclass = pick(r, []uint16{dnswire.ClassCHAOS, dnswire.ClassANY, dnswire.ClassHESIOD})
	}
	q := Query{nameserver.Query{Msg: m, TCP: chance(r, 8)}}
	if chance(r, 2) {
		m.SetEdns0(pick(r, []uint16{0, 100, 512, 1232, 1232, 1232, 4096, 65535}), chance(r, 4))
	}
	if chance(r, 60) {
		m.Opcode = pick(r, []int{dnswire.OpcodeStatus, dnswire.OpcodeUpdate, dnswire.OpcodeIQuery})
	}
	if len(from) > 0 {
		q.From = pick(r, from)
	}
	return q
}

// Queries makes n queries: first one for each name of the cluster, then for names at random, half
// of them mutated.
func (c *Cluster) Queries(r *rand.Rand, n int, zone string, from []netip.Addr) []Query {
	names := c.Names(zone)
	var out []Query
	for _, at := range r.Perm(len(names)) {
		if len(out) == n/3 {
			break
		}
		out = append(out, Ask(r, names[at], from))
	}
	for len(out) < n {
		name := pick(r, names)
		for chance(r, 2) {
			if m := mutate(r, name); valid(m) {
				name = m
			}
		}
		out = append(out, Ask(r, name, from))
	}
	return out
}

// valid reports whether a name can be put into a message.
func valid(name string) bool {
	_, ok := dnswire.IsDomainName(name)
	return ok
}
