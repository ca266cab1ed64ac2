package iptables

import (
	"math"
	"strconv"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// A usedPool is a pool that frontends use, and its chain. The chain itself asks for masquerading
// where every route that leads there wants it, so that a plain cluster address needs no chain of
// its own in between.
type usedPool struct {
	// from tells the origins that reach the pool, masquerade those of them that are always
	// masqueraded.
	from, masquerade [proxier.Origins]bool
	affinity         int // seconds, 0 for none
	head             head
	chain            restore.Chain
}

// head says whom a pool's chain masquerades.
type head uint8

const (
	headNone head = iota
	headNotPods
	headAll
)

// scan notes how pools are used, and makes their chains.
func (c *compiler) scan() {
	c.pools = map[*proxier.Pool]*usedPool{}
	for _, f := range c.in.frontends {
		for o, r := range f.From {
			if len(r.Pool.Endpoints) == 0 || !c.reachable(proxier.Origin(o)) {
				continue
			}
			t := c.pools[r.Pool]
			if t == nil {
				t = &usedPool{affinity: int(f.Affinity.Seconds())}
				c.pools[r.Pool] = t
			}
			t.masquerade[o] = r.Masquerade && (t.masquerade[o] || !t.from[o])
			t.from[o] = true
		}
	}
	c.used = make(map[poolKey]restore.Chain, len(c.pools))
	for p, t := range c.pools {
		t.head = c.headOf(t)
		key := poolKey{p, t.head, t.affinity}
		var ok bool
		if t.chain, ok = c.cache[key]; !ok {
			t.chain = c.poolChain(p, t)
		}
		c.used[key] = t.chain
	}
}

// A poolKey is all that the chain of a pool depends on, besides the node: pools do not change,
// and from one compile to the next few are new.
type poolKey struct {
	pool     *proxier.Pool
	head     head
	affinity int
}

// reachable reports whether packets of an origin can be told from others: without a match for
// pods there is no FromPod.
func (c *compiler) reachable(o proxier.Origin) bool {
	return o != proxier.FromPod || len(c.pods) > 0
}

func (c *compiler) headOf(t *usedPool) head {
	all := func(origins ...proxier.Origin) bool {
		for _, o := range origins {
			if t.from[o] && !t.masquerade[o] {
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

// poolChain returns the chain that spreads connections over a pool. The rules carry no test of
// the destination: only packets for the pool's frontends get here.
func (c *compiler) poolChain(p *proxier.Pool, t *usedPool) restore.Chain {
	proto := protocol(p.Owner.Protocol)
	name := svcPrefix
	if p.Scope == proxier.ThisNode {
		name = svlPrefix
	}
	id := p.Owner.String() + proto
	chain := restore.Chain{Name: name + hash(id), Rules: make([]string, 0, len(p.Endpoints)+1)}
	next := c.comment(p.Owner) // goes to the first rule, whichever that is
	add := func(match, rest string) {
		chain.Rules = append(chain.Rules, strings.TrimPrefix(match+next+rest, " "))
		next = ""
	}
	switch t.head {
	case headAll:
		add("", " -j "+markChain)
	case headNotPods:
		add("! "+c.pods[0], " -j "+markChain)
	}
	list := func(e *proxier.Endpoint) string {
		mask := "255.255.255.255"
		if c.in.v6 {
			mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
		}
		return " --name " + sepPrefix + hash(id, e.String()) + " --mask " + mask + " --rsource"
	}
	if t.affinity > 0 {
		for _, e := range p.Endpoints {
			add("-p "+proto, " -m recent --update --seconds "+strconv.Itoa(t.affinity)+" --reap"+list(e)+dnat(e))
		}
	}
	for i, e := range p.Endpoints {
		rest := probability(len(p.Endpoints) - i)
		if t.affinity > 0 {
			rest += " -m recent --set" + list(e)
		}
		add("-p "+proto, rest+dnat(e))
	}
	return chain
}

// comment returns the match that says whose chain it is. One per chain is enough to find it, and
// one per rule would double what the kernel has to copy. With many frontends there are none, as
// with kube-proxy: each takes 288 bytes of a table that iptables-legacy copies for every change.
func (c *compiler) comment(n proxier.ServicePortName) string {
	if !c.in.commented() {
		return ""
	}
	text := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-._/:", r):
			return r
		}
		return '_'
	}, n.String())
	return ` -m comment --comment "` + text[:min(len(text), maxComment)] + `"`
}

const (
	maxComment   = 255  // of xt_comment
	maxCommented = 1000 // frontends of a family whose chains say whose they are
)

// commented reports whether chains say whose they are.
func (in input) commented() bool { return len(in.frontends) <= maxCommented }

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
