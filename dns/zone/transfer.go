package zone

import (
	"cmp"
	"errors"
	"iter"
	"net/netip"
	"slices"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/transfer"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/names"
)

var _ transfer.Transferer = &Zone{}

// Transfer returns the records of a zone: SOA, NS and their addresses, Services sorted by name, and
// the SOA again. Reverse zones are not transferred, nor are names of pods, and those of endpoints
// only of headless Services.
func (z *Zone) Transfer(zone string, serial uint32) (iter.Seq[dnswire.RR], error) {
	t := lister{z: z, x: z.index.Load(), zone: plugin.Canonical(zone)}
	for i := range z.zones {
		if wire.Text(z.zones[i].name) == t.zone && !z.zones[i].reverse {
			t.apex = &z.zones[i]
		}
	}
	if t.apex == nil {
		return nil, transfer.ErrNotAuthoritative
	}
	if !t.x.synced {
		return nil, errUnsynced
	}
	soa := t.soa()
	return func(yield func(dnswire.RR) bool) {
		if !yield(soa) || serial != 0 && !transfer.Newer(soa.Serial, serial) {
			return
		}
		t.yield = yield
		if t.top() && t.all() {
			yield(soa)
		}
	}, nil
}

var errUnsynced = errors.New("transfer of the zone of the cluster: its state is not complete yet")

// A lister writes the records of a zone.
type lister struct {
	z     *Zone
	x     *index
	apex  *apex
	zone  string
	yield func(dnswire.RR) bool
}

func (t *lister) header(name string, typ uint16) dnswire.RR_Header {
	return dnswire.RR_Header{Name: name, Rrtype: typ, Class: dnswire.ClassINET, Ttl: t.z.ttl.address}
}

func (t *lister) soa() *dnswire.SOA {
	serial := t.x.serial
	if t.apex.cluster {
		serial = t.x.imported
	}
	h := t.header(t.zone, dnswire.TypeSOA)
	h.Ttl = t.z.ttl.soa
	return &dnswire.SOA{Hdr: h, Ns: "ns.dns." + t.zone, Mbox: "hostmaster." + t.zone, Serial: serial,
		Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: t.z.ttl.minimum}
}

// top writes NS and their addresses.
func (t *lister) top() bool {
	p := t.z.ask(dnswire.Question{Name: t.zone, Qtype: dnswire.TypeNS, Qclass: dnswire.ClassINET})
	if p.err != nil || p.outcome != answered {
		return true
	}
	for _, rr := range slices.Concat(p.msg.Answer, p.msg.Extra) {
		if !t.yield(rr) {
			return false
		}
	}
	return true
}

func (t *lister) all() bool {
	from := t.x.entries
	if t.apex.cluster {
		from = t.x.imports
	}
	var list []*entry
	from.all(func(e *entry) {
		if t.x.namespaces[e.key.namespace] {
			list = append(list, e)
		}
	})
	slices.SortFunc(list, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.svc.Name, b.svc.Name), cmp.Compare(a.svc.Namespace, b.svc.Namespace))
	})
	for _, e := range list {
		name := e.svc.Name + "." + e.svc.Namespace + ".svc." + t.zone
		ok := true
		switch e.svc.Kind {
		case names.ClusterIP:
			ok = t.clusterIP(e, name)
		case names.Headless:
			ok = t.headless(e, name)
		case names.ExternalName:
			if leadsAway(e.svc.External) {
				ok = t.yield(&dnswire.CNAME{Hdr: t.header(name, dnswire.TypeCNAME), Target: dnswire.Fqdn(e.svc.External)})
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

func (t *lister) clusterIP(e *entry, name string) bool {
	if t.z.directive.IgnoreEmpty && len(e.addrs) == 0 {
		return true
	}
	for _, a := range e.svc.IPs {
		if !t.address(name, a) {
			return false
		}
	}
	for _, p := range e.svc.Ports {
		if len(e.svc.IPs) > 0 && (!t.srv(name, 1, p.Number, name) || p.Name != "" && !t.srv(portName(p, name), 1, p.Number, name)) {
			return false
		}
	}
	return true
}

func portName(p names.Port, name string) string { return "_" + p.Name + "._" + p.Protocol + "." + name }

func (t *lister) headless(e *entry, name string) bool {
	for _, records := range [][]byte{e.v4(), e.v6()} {
		size := lenA
		if len(records) > 0 && records[3] == wire.TypeAAAA {
			size = lenAAAA
		}
		for ; len(records) > 0; records = records[size:] {
			a, _ := netip.AddrFromSlice(records[lenA-4 : size])
			if !t.address(name, a) {
				return false
			}
		}
	}
	for n, s := range e.svc.Slices {
		for i := range s.Len() {
			label := e.label(nil, ref{uint16(n), uint16(i)})
			if len(label) == 0 || s.Width == 0 {
				continue
			}
			host := string(label[1:]) + "." + name
			if cluster := e.cluster(ref{s: uint16(n)}); cluster != "" {
				host = string(label[1:]) + "." + cluster + "." + name
			}
			if !t.address(host, s.Addr(i)) {
				return false
			}
			for _, p := range s.Ports {
				if p.Name != "" && !t.srv(portName(p, name), s.Len(), p.Number, host) {
					return false
				}
			}
		}
	}
	return true
}

func (t *lister) address(name string, a netip.Addr) bool {
	if a.Is4() {
		return t.yield(&dnswire.A{Hdr: t.header(name, dnswire.TypeA), A: a.AsSlice()})
	}
	return t.yield(&dnswire.AAAA{Hdr: t.header(name, dnswire.TypeAAAA), AAAA: a.AsSlice()})
}

func (t *lister) srv(name string, n int, port int32, target string) bool {
	if port == names.NoPort {
		return true
	}
	return t.yield(&dnswire.SRV{Hdr: t.header(name, dnswire.TypeSRV), Weight: weight(n), Port: uint16(port), Target: target})
}
