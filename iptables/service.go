package iptables

import (
	"cmp"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// byPort is the index of the nat table's tree over NodePorts, after those over addresses.
const byPort = len(addressTrees)

// A forest are the entries of the nat table, by tree, in the order of compareEntries.
type forest [byPort + 1][]entry

// services compiles frontends for the nat table: to the chains of their own, with the pools that
// they use, and to the entries that lead there. partial is of all frontends that there are; see partials.
func (c *compiler) services(frontends []*proxier.Frontend, partial []entry) (chains []restore.Chain, entries forest) {
	done := map[string]bool{}
	add := func(chain restore.Chain) string {
		if !done[chain.Name] {
			done[chain.Name] = true
			chains = append(chains, chain)
		}
		return chain.Name
	}
	addPool := func(p *proxier.Pool, f *proxier.Frontend) {
		if !done[c.poolName(p)] {
			add(c.poolChain(p, f))
		}
	}
	for _, f := range frontends {
		for o, r := range f.From {
			if c.leads(f, proxier.Origin(o)) {
				addPool(r.Pool, f)
			}
		}
		if f.StandIn != nil {
			addPool(f.StandIn, f)
		}
		target := c.target(f, add)
		if target == "" {
			continue
		}
		in, e := c.treeOf(f), entry{key: f.FrontendKey, rules: []string{keyMatch(f.FrontendKey) + " -g " + target}}
		if in == byPort {
			e.rules = append(partialRules(partial, f.FrontendKey), e.rules...)
		}
		entries[in] = append(entries[in], e)
	}
	for _, e := range entries {
		slices.SortFunc(e, compareEntries)
	}
	return chains, entries
}

// leads reports whether connections of an origin can get from a frontend to an endpoint.
func (c *compiler) leads(f *proxier.Frontend, o proxier.Origin) bool {
	return c.reachable(o) && len(f.From[o].Pool.Endpoints) > 0
}

// partials returns an entry for each frontend that does not serve everyone, in the order of
// comparePartials: its address may also be the node's, and then what this node forwards nothing for
// must not fall through to another Service's NodePort.
func (c *compiler) partials(frontends []*proxier.Frontend) []entry {
	var out []entry
	for _, f := range frontends {
		if !f.IsNodePort() && (f.Sources != nil || !c.full(f)) {
			out = append(out, entry{key: f.FrontendKey, rules: []string{keyMatch(f.FrontendKey) + " -j RETURN"}})
		}
	}
	slices.SortFunc(out, comparePartials)
	return out
}

// standIns returns an entry for each frontend with a server of this node that is to be tried first.
// They can only be reached from PREROUTING: the kernel has no way to look for a socket in OUTPUT, where
// connections of the node itself begin.
func (c *compiler) standIns(frontends []*proxier.Frontend) []entry {
	var out []entry
	for _, f := range frontends {
		if f.StandIn != nil {
			out = append(out, entry{key: f.FrontendKey, rules: []string{rule(keyMatch(f.FrontendKey), haveSocket, "-g", c.poolName(f.StandIn))}})
		}
	}
	slices.SortFunc(out, compareEntries)
	return out
}

// comparePartials orders by NodePort, then address.
func comparePartials(a, b entry) int {
	return cmp.Or(cmp.Compare(a.key.Port, b.key.Port), cmp.Compare(a.key.Protocol, b.key.Protocol), a.key.Addr.Compare(b.key.Addr))
}

// partialRules returns the rules that the entry of a NodePort starts with.
func partialRules(partial []entry, port proxier.FrontendKey) []string {
	at, _ := slices.BinarySearchFunc(partial, entry{key: port}, comparePartials) // its address is the first of all
	partial = partial[at:]
	end := slices.IndexFunc(partial, func(e entry) bool { return e.key.Port != port.Port || e.key.Protocol != port.Protocol })
	if end >= 0 {
		partial = partial[:end]
	}
	return rulesOf(partial)
}

// full reports whether every origin has endpoints.
func (c *compiler) full(f *proxier.Frontend) bool {
	for o, r := range f.From {
		if c.reachable(proxier.Origin(o)) && len(r.Pool.Endpoints) == 0 {
			return false
		}
	}
	return true
}

// target returns the chain that a frontend's connections go to, "" if nobody can be served. It
// hands the chains on the way to add.
func (c *compiler) target(f *proxier.Frontend, add func(restore.Chain) string) string {
	var marked [proxier.Origins]bool // packets carry the mark already
	if in := c.treeOf(f); in != byPort {
		marked = addressTrees[in].masquerades
	}
	rules := c.routeRules(f, marked)
	if len(rules) == 0 {
		return ""
	}
	id := f.Owner.String() + protocol(f.Owner.Protocol)
	to, direct := strings.CutPrefix(rules[0], "-g ")
	if !direct {
		to = add(restore.Chain{Name: extPrefix + hash(id, strings.Join(rules, "\n")), Rules: rules})
	}
	if f.Sources == nil {
		return to
	}
	var allow []string
	for _, p := range f.Sources {
		allow = append(allow, rule(prefixMatch("-s", p), "-g", to))
	}
	if len(allow) == 0 {
		return "" // nobody is let in
	}
	return add(restore.Chain{Name: fwPrefix + hash(id, strings.Join(allow, "\n")), Rules: allow})
}

// haveSocket holds while a socket is bound to the very address and port that a packet is for: not to
// any address, which could be a socket of anybody.
const haveSocket = "-m socket"

const local = "-m addrtype --src-type LOCAL"

// A leg is a Route as a chain has to implement it: to which chain, and whether to set the mark
// before.
type leg struct {
	dest string
	mark bool
}

// rules returns the rules for packets that pass a test.
func (l leg) rules(match string) []string {
	if l.dest == "" {
		return []string{rule(match, "-j RETURN")}
	}
	var out []string
	if l.mark {
		out = append(out, rule(match, "-j "+markChain))
	}
	return append(out, rule(match, "-g "+l.dest))
}

// routeRules encodes the three routes of a frontend: pods first, then the node, then the rest.
// A result of the one rule "-g CHAIN" needs no chain of its own.
func (c *compiler) routeRules(f *proxier.Frontend, marked [proxier.Origins]bool) []string {
	var legs [proxier.Origins]leg
	for o, r := range f.From {
		if c.leads(f, proxier.Origin(o)) {
			legs[o] = leg{c.poolName(r.Pool), r.Masquerade && !marked[o]}
		}
	}
	pod, node, outside := legs[proxier.FromPod], legs[proxier.FromNode], legs[proxier.FromOutside]
	var rules []string
	if len(c.pods) > 0 && pod == node && pod == outside {
		return tail(pod)
	}
	for _, match := range c.pods {
		rules = append(rules, pod.rules(match)...)
	}
	switch {
	case node == outside:
	case node.dest == outside.dest && node.mark:
		rules = append(rules, local+" -j "+markChain)
	case node.dest == outside.dest:
		rules = append(rules, "-m addrtype ! --src-type LOCAL -j "+markChain)
		outside.mark = false
	default:
		rules = append(rules, node.rules(local)...)
	}
	rules = append(rules, tail(outside)...)
	if pod.dest == "" && node.dest == "" && outside.dest == "" {
		return nil
	}
	return rules
}

// tail returns the rules for packets that passed no test.
func tail(l leg) []string {
	if l.dest == "" {
		return nil
	}
	return l.rules("")
}
