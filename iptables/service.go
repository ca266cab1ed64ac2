package iptables

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// A use sums up the routes that lead to a pool. The pool's chain itself asks for masquerading
// where every route that leads there wants it, so that a plain cluster address needs no chain of
// its own in between.
type use struct {
	pool *proxier.Pool
	// from tells the origins that reach the pool, masquerade those of them that are always
	// masqueraded.
	from, masquerade [proxier.Origins]bool
	affinity         int // seconds, 0 for none
}

// head says whom a pool's chain masquerades.
type head uint8

const (
	headNone head = iota
	headNotPods
	headAll
)

// scan notes how pools are used.
func (c *compiler) scan() {
	c.pools = map[*proxier.Pool]use{}
	for _, f := range c.in.frontends {
		for o, r := range f.From {
			if len(r.Pool.Endpoints) == 0 || !c.reachable(proxier.Origin(o)) {
				continue
			}
			u, ok := c.pools[r.Pool]
			if !ok {
				u.pool = r.Pool
				u.affinity = int(f.Affinity.Seconds())
			}
			u.masquerade[o] = r.Masquerade && (u.masquerade[o] || !u.from[o])
			u.from[o] = true
			c.pools[r.Pool] = u
		}
	}
}

// reachable reports whether packets of an origin can be told from others: without a match for
// pods there is no FromPod.
func (c *compiler) reachable(o proxier.Origin) bool {
	return o != proxier.FromPod || len(c.pods) > 0
}

func (c *compiler) head(p *proxier.Pool) head {
	u := c.pools[p]
	all := func(origins ...proxier.Origin) bool {
		for _, o := range origins {
			if u.from[o] && !u.masquerade[o] {
				return false
			}
		}
		return true
	}
	switch {
	case all(proxier.FromPod, proxier.FromNode, proxier.FromOutside):
		return headAll
	case len(c.pods) == 1 && c.pods[0] != "" && all(proxier.FromNode, proxier.FromOutside):
		return headNotPods
	}
	return headNone
}

// marks reports whether a pool's chain masquerades packets of an origin.
func (h head) marks(o proxier.Origin) bool {
	return h == headAll || h == headNotPods && o != proxier.FromPod
}

// owned are the chains of Services and the entries that lead to them.
type owned struct {
	chains  []restore.Chain
	entries []entry // of addresses
	ports   []entry // of NodePorts
}

// services compiles every pool and frontend for the nat table.
func (c *compiler) services() owned {
	var out owned
	done := map[string]bool{}
	add := func(chain restore.Chain) string {
		if !done[chain.Name] {
			done[chain.Name] = true
			out.chains = append(out.chains, chain)
		}
		return chain.Name
	}
	// An address that is also the node's must not fall through to another Service's NodePort
	// when this node forwards nothing for it.
	partial := map[proxier.FrontendKey][]string{}
	for _, f := range c.in.frontends {
		target := c.target(f, add)
		if !f.IsNodePort() && (target == "" || f.Sources != nil || !c.full(f)) {
			port := f.FrontendKey
			port.Addr = netip.IPv4Unspecified()
			if c.in.v6 {
				port.Addr = netip.IPv6Unspecified()
			}
			partial[port] = append(partial[port], keyMatch(f.FrontendKey)+" -j RETURN")
		}
		if target == "" {
			continue
		}
		e := entry{key: f.FrontendKey, rules: []string{keyMatch(f.FrontendKey) + " -g " + target}}
		if f.IsNodePort() {
			out.ports = append(out.ports, e)
		} else {
			out.entries = append(out.entries, e)
		}
	}
	for i, e := range out.ports {
		out.ports[i].rules = append(slices.Clip(partial[e.key]), e.rules...)
	}
	slices.SortFunc(out.entries, compareEntries)
	slices.SortFunc(out.ports, compareEntries)
	return out
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
	dest := func(r proxier.Route) string {
		if len(r.Pool.Endpoints) == 0 {
			return ""
		}
		return add(c.pool(r.Pool))
	}
	rules := c.routeRules(f, dest)
	if len(rules) == 0 {
		return ""
	}
	id := f.Owner.String() + protocol(f.Owner.Protocol)
	target, direct := strings.CutPrefix(rules[0], "-g ")
	if !direct {
		target = add(restore.Chain{Name: extPrefix + hash(id, strings.Join(rules, "\n")), Rules: rules})
	}
	if f.Sources == nil {
		return target
	}
	var allow []string
	for _, p := range f.Sources {
		allow = append(allow, rule(prefixMatch("-s", p), "-g", target))
	}
	if len(allow) == 0 {
		return "" // nobody is let in
	}
	return add(restore.Chain{Name: fwPrefix + hash(id, strings.Join(allow, "\n")), Rules: allow})
}

const local = "-m addrtype --src-type LOCAL"

// A leg is a Route as a chain has to implement it: to which chain, and whether to ask for
// masquerading before, because that chain does not.
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
func (c *compiler) routeRules(f *proxier.Frontend, dest func(proxier.Route) string) []string {
	var legs [proxier.Origins]leg
	for o, r := range f.From {
		legs[o].dest = dest(r)
		if legs[o].dest != "" {
			legs[o].mark = r.Masquerade && !c.head(r.Pool).marks(proxier.Origin(o))
		}
	}
	pod, node, outside := legs[proxier.FromPod], legs[proxier.FromNode], legs[proxier.FromOutside]
	var rules []string
	switch {
	case len(c.pods) == 0:
	case pod == node && pod == outside:
		return tail(pod)
	case node == outside && pod.dest == node.dest && !pod.mark && len(c.pods) == 1 && c.pods[0] != "":
		return []string{"! " + c.pods[0] + " -j " + markChain, "-g " + pod.dest}
	default:
		for _, match := range c.pods {
			rules = append(rules, pod.rules(match)...)
		}
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

// A poolKey is all that the chain of a pool depends on, besides the node.
type poolKey struct {
	pool     *proxier.Pool
	head     head
	affinity int
}

// pool returns poolChain, from the cache if it is there: pools do not change, and few are new.
func (c *compiler) pool(p *proxier.Pool) restore.Chain {
	key := poolKey{p, c.head(p), c.pools[p].affinity}
	chain, ok := c.used[key]
	if ok {
		return chain
	}
	if chain, ok = c.cache[key]; !ok {
		chain = c.poolChain(p)
	}
	c.used[key] = chain
	return chain
}

// poolChain returns the chain that spreads connections over a pool. The rules carry no test of
// the destination: only packets for the pool's frontends get here.
func (c *compiler) poolChain(p *proxier.Pool) restore.Chain {
	proto := protocol(p.Owner.Protocol)
	name := svcPrefix
	if p.Scope == proxier.ThisNode {
		name = svlPrefix
	}
	id := p.Owner.String() + proto
	chain := restore.Chain{Name: name + hash(id), Rules: make([]string, 0, len(p.Endpoints)+1)}
	next := comment(p.Owner) // goes to the first rule, whichever that is
	add := func(match, rest string) {
		chain.Rules = append(chain.Rules, strings.TrimPrefix(match+next+rest, " "))
		next = ""
	}
	switch c.head(p) {
	case headAll:
		add("", " -j "+markChain)
	case headNotPods:
		add("! "+c.pods[0], " -j "+markChain)
	}
	affinity := c.pools[p].affinity
	list := func(e *proxier.Endpoint) string {
		mask := "255.255.255.255"
		if c.in.v6 {
			mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
		}
		return " --name " + sepPrefix + hash(id, e.String()) + " --mask " + mask + " --rsource"
	}
	if affinity > 0 {
		for _, e := range p.Endpoints {
			add("-p "+proto, " -m recent --update --seconds "+strconv.Itoa(affinity)+" --reap"+list(e)+dnat(e))
		}
	}
	for i, e := range p.Endpoints {
		rest := probability(len(p.Endpoints) - i)
		if affinity > 0 {
			rest += " -m recent --set" + list(e)
		}
		add("-p "+proto, rest+dnat(e))
	}
	return chain
}

// comment returns the match that says whose chain it is. One per chain is enough to find it, and
// one per rule would double what the kernel has to copy.
func comment(n proxier.ServicePortName) string {
	text := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-._/:", r):
			return r
		}
		return '_'
	}, n.String())
	return ` -m comment --comment "` + text[:min(len(text), maxComment)] + `"`
}

const maxComment = 255 // of xt_comment

func dnat(e *proxier.Endpoint) string { return " -j DNAT --to-destination " + e.String() }

// probability returns the match that holds for one connection in n, with the digits that
// iptables-save prints: the kernel keeps a multiple of 2^-31.
func probability(n int) string {
	if n == 1 {
		return ""
	}
	const one = 1 << 31
	p := math.Round(one/float64(n)) / one
	return " -m statistic --mode random --probability " + strconv.FormatFloat(p, 'f', 11, 64)
}

func itoa(n uint16) string { return strconv.Itoa(int(n)) }
