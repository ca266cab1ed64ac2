package file

import (
	"bytes"
	"errors"
	"iter"
	"strings"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/plugin"
)

// A zone is the records of one file. It is not changed once it is made.
type zone struct {
	origin string
	nodes  map[string]*node // by name in lower case, with names that only have names below them
	order  []dnswire.RR     // as in the file, each once, but for the SOA
	soa    *dnswire.SOA
}

// A node is the records of one name.
type node struct {
	sets map[uint16][]dnswire.RR
}

// read makes a zone of a file's text. Relative names in it are of the origin; path is for errors and
// for $INCLUDE. Records outside of the zone are passed over.
func read(text []byte, origin, path string) (*zone, error) {
	z := &zone{origin: origin, nodes: map[string]*node{}}
	p := dnswire.NewZoneParser(bytes.NewReader(text), origin, path)
	p.SetIncludeAllowed(true)
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if !plugin.Under(origin, rr.Header().Name) || rr.Header().Class != dnswire.ClassINET {
			continue
		}
		if soa, ok := rr.(*dnswire.SOA); ok {
			if z.soa != nil || plugin.Canonical(soa.Hdr.Name) != origin {
				continue
			}
			z.soa = soa
			z.add(soa)
		} else if z.add(rr) {
			z.order = append(z.order, rr)
		}
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	if z.soa == nil {
		return nil, errors.New("zone " + origin + " has no SOA")
	}
	return z, nil
}

// add puts a record at its name, and makes the names above it. It returns false if the record is
// there already.
func (z *zone) add(rr dnswire.RR) bool {
	name := plugin.Canonical(rr.Header().Name)
	n := z.node(name)
	t := rr.Header().Rrtype
	for _, old := range n.sets[t] {
		if dnswire.IsDuplicate(old, rr) {
			return false
		}
	}
	n.sets[t] = append(n.sets[t], rr)
	for name != z.origin {
		next, _ := dnswire.NextLabel(name, 0)
		name = name[next:]
		if name == "" {
			name = "."
		}
		z.node(name)
	}
	return true
}

func (z *zone) node(name string) *node {
	n := z.nodes[name]
	if n == nil {
		n = &node{sets: map[uint16][]dnswire.RR{}}
		z.nodes[name] = n
	}
	return n
}

// all returns the records of a transfer.
func (z *zone) all() iter.Seq[dnswire.RR] {
	return func(yield func(dnswire.RR) bool) {
		if !yield(z.soa) {
			return
		}
		for _, rr := range z.order {
			if !yield(rr) {
				return
			}
		}
		yield(z.soa)
	}
}

// denial returns the SOA as it stands in replies without an answer: its TTL is how long they hold
// (RFC 2308, 3).
func (z *zone) denial() []dnswire.RR {
	soa := *z.soa
	soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
	return []dnswire.RR{&soa}
}

// A result is what a zone says to a question.
type result struct {
	rcode              int
	answer, ns, extra  []dnswire.RR
	delegated, outside bool
	hollow             bool   // there are only names below the name
	target             string // with outside: the name outside of the zone that an alias leads to
}

// maxAliases bounds how many aliases in a zone are followed for one question.
const maxAliases = 9

// lookup answers a question for a name in the zone, spelled as the client wrote it.
func (z *zone) lookup(spelled string, qtype uint16) result {
	var r result
	for range maxAliases {
		alias := z.step(&r, spelled, qtype)
		if alias == "" {
			break
		}
		if !plugin.Under(z.origin, alias) {
			r.outside, r.target = true, alias
			r.ns = z.nodes[z.origin].sets[dnswire.TypeNS]
			break
		}
		spelled = alias
	}
	return r
}

// step adds what the zone has for one name. It returns the name to go on with if it is an alias.
func (z *zone) step(r *result, spelled string, qtype uint16) (alias string) {
	name := plugin.Canonical(spelled)
	n, above, encloser := z.find(name)
	if above != nil {
		if d := above.sets[dnswire.TypeDNAME]; len(d) > 0 && plugin.Canonical(d[0].Header().Name) != name {
			return r.dname(d[0].(*dnswire.DNAME), spelled)
		}
		owner := plugin.Canonical(above.sets[dnswire.TypeNS][0].Header().Name)
		if qtype != dnswire.TypeDS || owner != name {
			r.delegated = true
			r.ns = above.sets[dnswire.TypeNS]
			r.extra = z.addresses(r.ns)
			return ""
		}
	}
	if n == nil {
		if n = z.nodes["*."+strings.TrimPrefix(encloser, ".")]; n == nil {
			r.rcode = dnswire.RcodeNameError
			r.ns = z.denial()
			return ""
		}
	}
	if c := n.sets[dnswire.TypeCNAME]; len(c) > 0 && qtype != dnswire.TypeCNAME && qtype != dnswire.TypeANY {
		r.answer = append(r.answer, owned(c[:1], spelled)...)
		return c[0].(*dnswire.CNAME).Target
	}
	found := n.sets[qtype]
	if qtype == dnswire.TypeANY {
		for _, set := range n.sets {
			found = append(found[:len(found):len(found)], set...)
		}
	}
	if len(found) == 0 {
		r.hollow = len(n.sets) == 0
		r.ns = z.denial()
		return ""
	}
	r.answer = append(r.answer, owned(found, spelled)...)
	r.extra = z.addresses(found)
	if apex := z.nodes[z.origin].sets[dnswire.TypeNS]; name != z.origin || qtype != dnswire.TypeNS {
		r.ns = apex
	}
	return ""
}

// find goes from the origin down to a name. It returns its node, or nil and the last name that
// exists, and the first node on the way that is a delegation or has a DNAME above the name.
func (z *zone) find(name string) (n, above *node, encloser string) {
	labels := dnswire.Split(name)
	depth := len(labels) - dnswire.CountLabel(z.origin)
	n, encloser = z.nodes[z.origin], z.origin
	for i := depth; ; i-- {
		if len(n.sets[dnswire.TypeDNAME]) > 0 && i > 0 || len(n.sets[dnswire.TypeNS]) > 0 && i < depth {
			return n, n, encloser
		}
		if i == 0 {
			return n, nil, encloser
		}
		next := name[labels[i-1]:]
		if z.nodes[next] == nil {
			return nil, nil, encloser
		}
		n, encloser = z.nodes[next], next
	}
}

// dname adds a DNAME and the alias that it makes of a name below it (RFC 6672).
func (r *result) dname(d *dnswire.DNAME, spelled string) string {
	r.answer = append(r.answer, d)
	front := spelled[:len(spelled)-len(d.Hdr.Name)]
	target := front + strings.TrimPrefix(d.Target, ".")
	if _, ok := dnswire.IsDomainName(target); !ok {
		r.rcode = dnswire.RcodeYXDomain
		return ""
	}
	r.answer = append(r.answer, &dnswire.CNAME{
		Hdr:    dnswire.RR_Header{Name: spelled, Rrtype: dnswire.TypeCNAME, Class: dnswire.ClassINET, Ttl: d.Hdr.Ttl},
		Target: target,
	})
	return target
}

// owned returns records with another owner name: the client's spelling, or what a wildcard stands
// for.
func owned(rrs []dnswire.RR, name string) []dnswire.RR {
	out := make([]dnswire.RR, len(rrs))
	for i, rr := range rrs {
		if rr.Header().Name != name {
			rr = dnswire.Copy(rr)
			rr.Header().Name = name
		}
		out[i] = rr
	}
	return out
}

// addresses returns those of the hosts that records name, as far as the zone has them.
func (z *zone) addresses(rrs []dnswire.RR) (out []dnswire.RR) {
	seen := map[string]bool{}
	for _, rr := range rrs {
		var host string
		switch rr := rr.(type) {
		case *dnswire.NS:
			host = rr.Ns
		case *dnswire.MX:
			host = rr.Mx
		case *dnswire.SRV:
			host = rr.Target
		default:
			continue
		}
		host = plugin.Canonical(host)
		if n := z.nodes[host]; n != nil && !seen[host] {
			seen[host] = true
			out = append(out, n.sets[dnswire.TypeA]...)
			out = append(out, n.sets[dnswire.TypeAAAA]...)
		}
	}
	return out
}
