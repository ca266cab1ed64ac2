package iptables

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// A refusal is what the filter table does with connections of one origin that the nat table did
// not take.
type refusal string

const (
	pass refusal = "" // there are endpoints, so none arrive
	drop refusal = "-j DROP"
)

func (c *compiler) refusal(v proxier.Verdict, p proxier.Protocol) refusal {
	switch {
	case v == proxier.Drop:
		return drop
	case p == proxier.TCP:
		// Over IPv6 a client takes an ICMP error for a hint and waits for its next SYN; a reset
		// ends its attempt at once in both families.
		return "-j REJECT --reject-with tcp-reset"
	case c.in.v6:
		return "-j REJECT --reject-with icmp6-port-unreachable"
	}
	return "-j REJECT --reject-with icmp-port-unreachable"
}

// denyEntries returns the filter table's entries: one for every frontend that turns away some
// connection. Nothing but untranslated packets of new connections is tried on them.
func (c *compiler) denyEntries(frontends []*proxier.Frontend) []entry {
	var out []entry
	for _, f := range frontends {
		var by [proxier.Origins]refusal
		for o, r := range f.From {
			if len(r.Pool.Endpoints) == 0 && c.reachable(proxier.Origin(o)) {
				by[o] = c.refusal(r.Pool.Empty, f.Protocol)
			}
		}
		if e, ok := c.denyEntry(f, by); ok {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, compareEntries)
	return out
}

func (c *compiler) denyEntry(f *proxier.Frontend, by [proxier.Origins]refusal) (entry, bool) {
	match := keyMatch(f.FrontendKey)
	e := entry{key: f.FrontendKey}
	one, same := uniform(by, f.Sources != nil)
	switch {
	case f.Sources != nil && len(f.Sources) == 0: // nobody is let in
		e.rules = []string{match + " " + string(drop)}
		return e, true
	case same && one == pass:
		return e, false
	case same && (f.Sources == nil || one == drop):
		e.rules = []string{match + " " + string(one)}
		return e, true
	}
	verdict := string(one)
	if !same {
		chain := c.verdictChain(f, by)
		e.chains = append(e.chains, chain)
		verdict = "-g " + chain.Name
	}
	if f.Sources != nil {
		proto := ""
		if same {
			proto = "-p " + protocol(f.Protocol) // a reset needs it
		}
		var rules []string
		for _, p := range f.Sources {
			rules = append(rules, rule(prefixMatch("-s", p), proto, verdict))
		}
		rules = append(rules, string(drop))
		chain := restore.Chain{Name: fwPrefix + hash(f.String(), strings.Join(rules, "\n")), Rules: rules}
		e.chains = slices.Insert(e.chains, 0, chain)
		verdict = "-g " + chain.Name
	}
	e.rules = []string{match + " " + verdict}
	return e, true
}

// uniform returns the one refusal that all origins can share, if there is one: an origin whose
// connections never arrive can share any. With sources, what arrives and is not refused for
// want of endpoints comes from a client that is not let in, and is dropped.
func uniform(by [proxier.Origins]refusal, sources bool) (refusal, bool) {
	one := pass
	for _, r := range by {
		switch {
		case r == pass || r == one:
		case one == pass:
			one = r
		default:
			return "", false
		}
	}
	if sources && one == pass {
		one = drop
	}
	return one, true
}

// verdictChain chooses the refusal by origin.
func (c *compiler) verdictChain(f *proxier.Frontend, by [proxier.Origins]refusal) restore.Chain {
	proto := "-p " + protocol(f.Protocol)
	verdict := func(match string, r refusal) string {
		if r == pass {
			r = drop // it cannot get here
		}
		return rule(match, string(r))
	}
	var rules []string
	for _, pods := range c.pods {
		rules = append(rules, verdict(rule(pods, proto), by[proxier.FromPod]))
	}
	rules = append(rules, verdict(proto+" "+local, by[proxier.FromNode]))
	rules = append(rules, verdict(proto, by[proxier.FromOutside]))
	return restore.Chain{Name: verdictPrefix + hash(f.String(), strings.Join(rules, "\n")), Rules: rules}
}

// transition returns the entries for the time between two states, when the nat table may be of
// either: nobody who was turned away and will be served, or the other way round, may slip
// through untranslated.
//
// A frontend that turned nobody away before, or will not, keeps the entry of the other state:
// as long as the nat table takes its connections, they do not arrive at the entry. Where both
// have one, the old one stays if the frontend is about to serve somebody.
func transition(have, want []entry, serving func(proxier.FrontendKey) bool) []entry {
	out := make([]entry, 0, max(len(have), len(want)))
	for old, e := range pairs(have, want, compareEntries) {
		if e == nil || old != nil && serving(e.key) {
			e = old
		}
		out = append(out, *e)
	}
	return out
}

// entriesOf reads the entries back from a filter table that Fairway wrote: the first apply after
// a start knows no earlier snapshot.
func entriesOf(t *restore.Table, v6 bool) []entry {
	if t == nil {
		return nil
	}
	chains := map[string]restore.Chain{}
	for _, c := range t.Chains {
		chains[c.Name] = c
	}
	byKey := map[proxier.FrontendKey]*entry{}
	for _, c := range t.Chains {
		inTree := c.Name == denyRoot || c.Name == denyPorts ||
			strings.HasPrefix(c.Name, denyPrefix) || strings.HasPrefix(c.Name, denyPortPrefix)
		if !inTree {
			continue
		}
		for _, r := range c.Rules {
			key, ok := parseKey(r, v6)
			to := restore.Target(r)
			if !ok || strings.HasPrefix(to, denyPrefix) || strings.HasPrefix(to, denyPortPrefix) {
				continue
			}
			e := byKey[key]
			if e == nil {
				e = &entry{key: key}
				byKey[key] = e
			}
			e.rules = append(e.rules, r)
			for to != "" && chains[to].Policy == "" && chains[to].Name == to {
				e.chains = append(e.chains, chains[to])
				if len(chains[to].Rules) == 0 {
					break
				}
				to = restore.Target(chains[to].Rules[0])
			}
		}
	}
	var out []entry
	for _, e := range byKey {
		out = append(out, *e)
	}
	slices.SortFunc(out, compareEntries)
	return out
}

// parseKey returns the frontend that a rule tests for.
func parseKey(rule string, v6 bool) (proxier.FrontendKey, bool) {
	k := proxier.FrontendKey{Addr: unspecified(v6)}
	args := restore.Args(rule)
	for i := 0; i+1 < len(args); i++ {
		switch args[i] {
		case "-d":
			p, err := netip.ParsePrefix(args[i+1])
			if err != nil || !p.IsSingleIP() {
				return k, false
			}
			k.Addr = p.Addr()
		case "-p":
			k.Protocol = protocols[args[i+1]]
		case "--dport":
			n, err := strconv.ParseUint(args[i+1], 10, 16)
			if err != nil {
				return k, false
			}
			k.Port = uint16(n)
		}
	}
	return k, k.Port != 0 && k.Protocol != 0
}

var protocols = map[string]proxier.Protocol{"tcp": proxier.TCP, "udp": proxier.UDP, "sctp": proxier.SCTP}
