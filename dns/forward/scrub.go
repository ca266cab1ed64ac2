package forward

import (
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/dns/plugin"
	dnswire "github.com/miekg/dns"
)

// scrub returns what of a reply belongs to its question, with nothing of hop by hop in it:
//
//   - in the answer section, records at the name that was asked and at the targets of its CNAMEs
//     (and DNAMEs), one after the other;
//   - in the authority section, records of zones that hold one of these names, or, with DO, proofs
//     (NSEC, NSEC3 and their signatures) from such a zone;
//   - in the additional section, addresses of names that a record kept above points to.
//
// Nobody asked for anything else, so that it may be there to be believed by someone. The message
// is the caller's own.
func (f *Forward) scrub(m *dnswire.Msg, q *question) *dnswire.Msg {
	before := len(m.Answer) + len(m.Ns) + len(m.Extra)
	if m.Rcode > 15 { // these are between two servers; without an OPT there is no room for them
		m.Rcode = dnswire.RcodeServerFailure
	}
	opt := m.IsEdns0()
	m.Answer, m.Ns, m.Extra = whole(m.Answer), whole(m.Ns), whole(m.Extra)
	answer, names := chain(m.Answer, q)
	m.Answer = answer
	m.Ns = authority(m.Ns, q, names)
	m.Extra = additional(m)
	dropped := before - len(m.Answer) - len(m.Ns) - len(m.Extra)
	if opt != nil {
		dropped--
	}
	f.metrics.scrubbed.Add(float64(dropped))
	if e := explanation(opt); e != nil {
		m.Extra = append(m.Extra, e)
	}
	return m
}

// whole leaves out records without data, as updates have them: they cannot be packed again.
func whole(rrs []dnswire.RR) []dnswire.RR {
	return slices.DeleteFunc(rrs, func(rr dnswire.RR) bool {
		h := rr.Header()
		return h.Rdlength == 0 && h.Rrtype != dnswire.TypeOPT
	})
}

// maxChain is how many aliases a name may have one after the other.
const maxChain = 16

// chain returns the records of the answer section that belong to the question, in the order of the
// chain, and all names on the chain in lower case.
func chain(rrs []dnswire.RR, q *question) (kept []dnswire.RR, names []string) {
	taken := make([]bool, len(rrs))
	for name := q.name; name != "" && len(names) < maxChain && !slices.Contains(names, name); {
		names = append(names, name)
		next := ""
		for i, rr := range rrs {
			if taken[i] || rr.Header().Class != q.class && q.class != dnswire.ClassANY || !q.belongs(rr, name) {
				continue
			}
			taken[i] = true
			kept = append(kept, rr)
			if c, ok := rr.(*dnswire.CNAME); ok && q.typ != dnswire.TypeCNAME && next == "" {
				next = plugin.Canonical(c.Target)
			}
		}
		name = next
	}
	return kept, names
}

// belongs reports whether a record is part of the answer at one name of the chain.
func (q *question) belongs(rr dnswire.RR, name string) bool {
	t, owner := rr.Header().Rrtype, plugin.Canonical(rr.Header().Name)
	if sig, ok := rr.(*dnswire.RRSIG); ok && q.typ != dnswire.TypeRRSIG {
		t = sig.TypeCovered
	}
	if t == dnswire.TypeDNAME && owner != name {
		return plugin.Under(owner, name)
	}
	return owner == name && (t == q.typ || t == dnswire.TypeCNAME || q.typ == dnswire.TypeANY)
}

func authority(rrs []dnswire.RR, q *question, names []string) (kept []dnswire.RR) {
	holds := func(zone string) bool {
		for _, n := range names {
			if plugin.Under(zone, n) {
				return true
			}
		}
		return false
	}
	for _, rr := range rrs {
		owner := rr.Header().Name
		switch rr := rr.(type) {
		case *dnswire.SOA, *dnswire.NS, *dnswire.DS:
			if holds(owner) {
				kept = append(kept, rr)
			}
		case *dnswire.NSEC, *dnswire.NSEC3:
			// A proof is at the name before the one that is not there, or at a hash: within the zone,
			// which is that name or above it.
			if _, zone, _ := strings.Cut(owner, "."); q.do && (holds(owner) || holds(dnswire.Fqdn(zone)) || near(owner, names)) {
				kept = append(kept, rr)
			}
		case *dnswire.RRSIG:
			if q.do && holds(rr.SignerName) {
				kept = append(kept, rr)
			}
		}
	}
	return kept
}

// near reports whether a name ends in the same two labels as one of the chain. Such a proof is
// worth nothing without its signature, which has the name of the zone.
func near(owner string, names []string) bool {
	for _, n := range names {
		if dnswire.CompareDomainName(owner, n) >= 2 {
			return true
		}
	}
	return false
}

// additional returns the addresses that the records of the other sections point to.
func additional(m *dnswire.Msg) (kept []dnswire.RR) {
	var targets []string
	for _, s := range [][]dnswire.RR{m.Answer, m.Ns} {
		for _, rr := range s {
			if t := pointsTo(rr); t != "" {
				targets = append(targets, plugin.Canonical(t))
			}
		}
	}
	for _, rr := range m.Extra {
		t := rr.Header().Rrtype
		if sig, ok := rr.(*dnswire.RRSIG); ok {
			t = sig.TypeCovered
		}
		if (t == dnswire.TypeA || t == dnswire.TypeAAAA) && slices.Contains(targets, plugin.Canonical(rr.Header().Name)) {
			kept = append(kept, rr)
		}
	}
	return kept
}

// pointsTo returns the name whose addresses a client of a record will want next.
func pointsTo(rr dnswire.RR) string {
	switch rr := rr.(type) {
	case *dnswire.NS:
		return rr.Ns
	case *dnswire.MX:
		return rr.Mx
	case *dnswire.SRV:
		return rr.Target
	case *dnswire.SVCB:
		return ownTarget(rr.Target, rr.Hdr.Name)
	case *dnswire.HTTPS:
		return ownTarget(rr.Target, rr.Hdr.Name)
	case *dnswire.NAPTR:
		return rr.Replacement
	}
	return ""
}

// ownTarget reads the target of a service binding: the root means the owner (RFC 9460, 2.5).
func ownTarget(target, owner string) string {
	if target == "." {
		return owner
	}
	return target
}

// explanation returns an OPT with the extended errors of an upstream's (RFC 8914), or nil. All
// other options are between two servers.
func explanation(opt *dnswire.OPT) *dnswire.OPT {
	if opt == nil {
		return nil
	}
	var kept []dnswire.EDNS0
	for _, o := range opt.Option {
		if e, ok := o.(*dnswire.EDNS0_EDE); ok {
			kept = append(kept, e)
		}
	}
	if kept == nil {
		return nil
	}
	return &dnswire.OPT{Hdr: dnswire.RR_Header{Name: ".", Rrtype: dnswire.TypeOPT}, Option: kept}
}
