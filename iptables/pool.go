package iptables

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// reachable reports whether packets of an origin can be told from others: without a match for
// pods there is no FromPod.
func (c *compiler) reachable(o proxier.Origin) bool {
	return o != proxier.FromPod || len(c.pods) > 0
}

// poolName returns the name of a pool's chain.
func (c *compiler) poolName(p *proxier.Pool) string {
	name, ok := c.poolNames[p]
	if !ok {
		name = poolPrefixes[p.Scope] + hash(poolID(p))
		c.poolNames[p] = name
	}
	return name
}

var poolPrefixes = [proxier.Scopes]string{proxier.Everywhere: svcPrefix, proxier.ThisNode: svlPrefix, proxier.StandsIn: standInPrefix}

func poolID(p *proxier.Pool) string { return p.Owner.String() + protocol(p.Owner.Protocol) }

// isPool reports whether a chain is one of a pool.
func isPool(chain string) bool {
	return slices.ContainsFunc(poolPrefixes[:], func(p string) bool { return strings.HasPrefix(chain, p) })
}

// poolChain returns the chain that spreads connections over a pool that a frontend uses. The rules
// carry no test of the destination: only packets for the pool's frontends get here.
func (c *compiler) poolChain(p *proxier.Pool, f *proxier.Frontend) restore.Chain {
	proto, id, affinity := protocol(p.Owner.Protocol), poolID(p), int(f.Affinity.Seconds())
	chain := restore.Chain{Name: c.poolName(p), Rules: make([]string, 0, len(p.Endpoints))}
	next := c.comment(p.Owner) // goes to the first rule
	add := func(rest string) {
		chain.Rules = append(chain.Rules, "-p "+proto+next+rest)
		next = ""
	}
	list := func(e *proxier.Endpoint) string {
		mask := "255.255.255.255"
		if c.in.v6 {
			mask = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
		}
		return " --name " + sepPrefix + hash(id, e.String()) + " --mask " + mask + " --rsource"
	}
	if affinity > 0 {
		for _, e := range p.Endpoints {
			add(" -m recent --update --seconds " + strconv.Itoa(affinity) + " --reap" + list(e) + dnat(e))
		}
	}
	for i, e := range p.Endpoints {
		rest := probability(len(p.Endpoints) - i)
		if affinity > 0 {
			rest += " -m recent --set" + list(e)
		}
		add(rest + dnat(e))
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
