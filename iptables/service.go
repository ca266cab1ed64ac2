package iptables

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// owned are the chains of Services and the entries that lead to them.
type owned struct {
	chains  []restore.Chain
	entries [len(addressTrees)][]entry // of addresses
	ports   []entry                    // of NodePorts
	// standIns are the rules that try for servers of this node first. They can only be reached from
	// PREROUTING: the kernel has no way to look for a socket in OUTPUT, where connections of the node
	// itself begin.
	standIns []string
}

// services compiles every pool and frontend for the nat table.
func (c *compiler) services() owned {
	var out owned
	out.chains = slices.AppendSeq(out.chains, maps.Values(c.pools))
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
		if f.StandIn != nil {
			out.standIns = append(out.standIns, rule(keyMatch(f.FrontendKey), haveSocket, "-g", c.pools[f.StandIn].Name))
		}
		in := -1 // the tree
		var marked [proxier.Origins]bool
		if !f.IsNodePort() {
			in = c.treeOf(f)
			marked = addressTrees[in].masquerades
		}
		target := c.target(f, marked, add)
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
			out.entries[in] = append(out.entries[in], e)
		}
	}
	for i, e := range out.ports {
		out.ports[i].rules = append(slices.Clip(partial[e.key]), e.rules...)
	}
	for _, e := range out.entries {
		slices.SortFunc(e, compareEntries)
	}
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
// hands the chains on the way to add. marked tells of which origins packets carry the mark already.
func (c *compiler) target(f *proxier.Frontend, marked [proxier.Origins]bool, add func(restore.Chain) string) string {
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
		if chain := c.pools[r.Pool]; chain.Name != "" {
			legs[o] = leg{chain.Name, r.Masquerade && !marked[o]}
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
