package iptables

import (
	"slices"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// Whether a connection is masqueraded depends on its frontend and on where its client is. To ask
// in a chain of each frontend takes thousands of rules; to ask before the dispatch takes one. So
// there is a tree for each usual answer, and a packet enters it with the mark set or not.

// An addressTree is a dispatch tree over addresses whose frontends masquerade clients alike.
type addressTree struct {
	root, prefix string
	masquerades  [proxier.Origins]bool
}

// The trees, in the order in which packets meet them. The last one takes every frontend that is
// not like another: what it does not masquerade, a chain behind it may.
var addressTrees = [...]addressTree{
	{clusterRoot, clusterPrefix, [...]bool{proxier.FromPod: false, proxier.FromNode: true, proxier.FromOutside: true}},
	{masqRoot, masqPrefix, [...]bool{proxier.FromPod: true, proxier.FromNode: true, proxier.FromOutside: true}},
	{addressRoot, addressPrefix, [proxier.Origins]bool{}},
}

// treeOf returns the index of a frontend's tree: of addressTrees, or byPort.
func (c *compiler) treeOf(f *proxier.Frontend) int {
	if f.IsNodePort() {
		return byPort
	}
	for i, t := range addressTrees {
		like := true
		for o, r := range f.From {
			like = like && (!c.reachable(proxier.Origin(o)) || r.Masquerade == t.masquerades[o])
		}
		if like {
			return i
		}
	}
	return len(addressTrees) - 1
}

// dispatch returns the chains that take a packet to entries, but for some that those to other are
// sure to have alike; see tree.part.
func (c *compiler) dispatch(entries, other, differ forest) []restore.Chain {
	var chains []restore.Chain
	for i, t := range addressTrees {
		if len(entries[i]) > 0 {
			addresses := tree{root: t.root, prefix: t.prefix, flag: "-d"}
			chains = append(chains, addresses.part(entries[i], other[i], differ[i])...)
		}
	}
	ports := tree{root: nodePortsChain, prefix: portPrefix, flag: "-d"}
	chains = append(chains, ports.part(entries[byPort], other[byPort], differ[byPort])...)

	services := []string{c.loopbackRule()}
	way := c.way(entries, proxier.FromOutside, true)
	detour := func(matches []string, name string, rules []string) {
		if slices.Equal(rules, way) || len(matches) == 0 {
			return
		}
		for _, match := range matches {
			services = append(services, rule(match, "-g", name))
		}
		chains = append(chains, restore.Chain{Name: name, Rules: rules})
	}
	// A mark that somebody else has set stays.
	detour([]string{"-m mark --mark " + c.mark}, markedChain, c.way(entries, proxier.FromOutside, false))
	detour(c.pods, podsChain, c.way(entries, proxier.FromPod, true))
	return append(chains, restore.Chain{Name: servicesChain, Rules: append(services, way...)})
}

// way returns the rules that try a packet of an origin on every tree. With mark set, the packet
// carries the mark where the tree is one that masquerades the origin, and only there: what no
// entry takes leaves without.
func (c *compiler) way(entries forest, o proxier.Origin, mark bool) []string {
	var rules []string
	marked := false
	carry := func(wanted bool) {
		switch {
		case !mark || wanted == marked:
		case wanted:
			rules = append(rules, "-j MARK --set-xmark "+c.mark)
		default:
			rules = append(rules, "-j MARK --set-xmark 0x0/"+c.maskText())
		}
		marked = wanted
	}
	for i, t := range addressTrees {
		if len(entries[i]) > 0 {
			carry(t.masquerades[o])
			rules = append(rules, "-j "+t.root)
		}
	}
	carry(false)
	if len(entries[byPort]) > 0 {
		rules = append(rules, c.nodePortRules("-j "+nodePortsChain)...)
	}
	return rules
}
