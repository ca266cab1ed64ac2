package iptables

import (
	"slices"
	"sort"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// The chains with a fixed name. Those that start with KUBE- are kube-proxy's names, because other
// programs and people look for them.
const (
	servicesChain    = "KUBE-SERVICES"    // nat: dispatch; filter: refusals
	nodePortsChain   = "KUBE-NODEPORTS"   // nat: dispatch by port; filter: health checks
	postroutingChain = "KUBE-POSTROUTING" // nat: masquerades what is marked
	markChain        = "KUBE-MARK-MASQ"   // nat: sets the mark
	forwardChain     = "KUBE-FORWARD"     // filter: lets forwarded Service traffic pass

	standInChain = "FAIRWAY-STANDIN" // nat: connections that a server of this node takes while it is there

	podsChain   = "FAIRWAY-PODS"     // nat: dispatch of what pods send
	markedChain = "FAIRWAY-MARKED"   // nat: dispatch of what carries the mark already
	clusterRoot = "FAIRWAY-CLUSTER"  // nat: tree over addresses that masquerade all clients but pods
	masqRoot    = "FAIRWAY-MASQ"     // nat: tree over addresses that masquerade all clients
	addressRoot = "FAIRWAY-IP"       // nat: tree over all other addresses
	denyRoot    = "FAIRWAY-DENY"     // filter: tree over addresses
	denyPorts   = "FAIRWAY-DENYPORT" // filter: tree over NodePorts
	guardChain  = "FAIRWAY-MARTIAN"  // filter: keeps others away from 127.0.0.0/8
	hairpinRoot = "FAIRWAY-HAIRPIN"  // nat: tree over endpoints, on kernels without xt_bpf
	tryChain    = "FAIRWAY-TRY"      // exists while looking for a rule that the kernel refuses
)

// What chains with a hash in their name start with.
const (
	svcPrefix     = "KUBE-SVC-"   // a pool of the whole cluster
	svlPrefix     = "KUBE-SVL-"   // a pool of this node
	standInPrefix = "FAIRWAY-SI-" // a pool of such servers

	extPrefix = "KUBE-EXT-" // the choice of a pool by origin
	fwPrefix  = "KUBE-FW-"  // the choice by client address
	sepPrefix = "KUBE-SEP-" // no chain, but the name of an affinity list

	clusterPrefix  = "FAIRWAY-CL-"
	masqPrefix     = "FAIRWAY-MQ-"
	addressPrefix  = "FAIRWAY-IP-"
	portPrefix     = "FAIRWAY-NP-"
	denyPrefix     = "FAIRWAY-DN-"
	denyPortPrefix = "FAIRWAY-DP-"
	hairpinPrefix  = "FAIRWAY-HP-"
	verdictPrefix  = "FAIRWAY-VD-"
)

// ours are the chains, of a table, that Fairway makes or that kube-proxy may have left. Not
// among them are kubelet's: KUBE-FIREWALL, KUBE-KUBELET-CANARY and KUBE-IPTABLES-HINT.
var ours = map[string][]string{
	"nat": {servicesChain, nodePortsChain, postroutingChain, markChain, podsChain, markedChain, standInChain,
		clusterRoot, masqRoot, addressRoot, hairpinRoot, tryChain, "KUBE-PROXY-CANARY", "KUBE-LOAD-BALANCER"},
	"filter": {servicesChain, nodePortsChain, forwardChain, denyRoot, denyPorts, guardChain, tryChain,
		"KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY"},
}

var ourPrefixes = []string{svcPrefix, svlPrefix, extPrefix, fwPrefix, sepPrefix, "KUBE-XLB-",
	clusterPrefix, masqPrefix, addressPrefix, portPrefix, denyPrefix, denyPortPrefix, hairpinPrefix, verdictPrefix, standInPrefix}

// isOurs reports whether a chain of a table is Fairway's, or one that Fairway takes over.
func isOurs(table, chain string) bool {
	if slices.Contains(ours[table], chain) {
		return true
	}
	if len(chain) < 16 || strings.Trim(chain[len(chain)-16:], "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
		return false
	}
	return slices.Contains(ourPrefixes, chain[:len(chain)-16])
}

// isOurJump reports whether a rule of a built-in chain is one that Fairway or kube-proxy put
// there: a jump to one of our chains without a condition but, at most, that the connection is new.
func isOurJump(table, rule string) bool {
	var rest []string
	args := restore.Args(rule)
	for i := 0; i < len(args); i++ {
		switch {
		case i+3 < len(args) && args[i] == "-m" && args[i+1] == "comment":
			i += 3
		case i+3 < len(args) && strings.Join(args[i:i+4], " ") == "-m conntrack --ctstate NEW":
			i += 3
		default:
			rest = append(rest, args[i])
		}
	}
	return len(rest) == 2 && rest[0] == "-j" && isOurs(table, rest[1])
}

const (
	whenNew  = "-m conntrack --ctstate NEW "
	portals  = `-m comment --comment "kubernetes service portals" -j ` + servicesChain
	loopback = "127.0.0.0/8"
)

// natChains returns chains of the nat table: a packet of a new connection enters KUBE-SERVICES before
// it is routed, and KUBE-POSTROUTING after. They are all of the table but for chains of Services' own,
// and for what dispatch leaves out.
func (c *compiler) natChains(of, other *compiled, differ forest) []restore.Chain {
	before := []string{portals}
	chains := append(c.dispatch(of.entries, other.entries, differ), c.postrouting()...)
	if len(of.standIns) > 0 {
		before = []string{"-j " + standInChain, portals}
		chains = append(chains, restore.Chain{Name: standInChain, Rules: rulesOf(of.standIns)})
	}
	return append(chains,
		builtin("PREROUTING", before...),
		builtin("OUTPUT", portals),
		builtin("POSTROUTING", `-m comment --comment "kubernetes postrouting rules" -j `+postroutingChain),
		restore.Chain{Name: markChain, Rules: []string{"-j MARK --set-xmark " + c.mark}})
}

func builtin(name string, rules ...string) restore.Chain {
	return restore.Chain{Name: name, Policy: "ACCEPT", Rules: rules}
}

// loopbackRule keeps packets for loopback addresses away from all that follows: they are never
// translated, whatever frontends and NodePort addresses say.
func (c *compiler) loopbackRule() string {
	if c.in.v6 {
		return "-d ::1/128 -j RETURN"
	}
	return "-d " + loopback + " -j RETURN"
}

// nodePortRules returns the rules that pass packets for the NodePort addresses on.
func (c *compiler) nodePortRules(jump string) []string {
	var out []string
	for _, p := range c.in.node.NodePorts {
		if p.Addr().Is6() != c.in.v6 {
			continue
		}
		out = append(out, rule(prefixMatch("-d", p), "-m addrtype --dst-type LOCAL", jump))
	}
	return out
}

// filterChains returns chains of the filter table for given entries of its tree: all but some that
// those for other are sure to have alike; see tree.part.
//
// Only packets that no rule of the nat table took reach the entries: everything that was
// translated returns at once.
func (c *compiler) filterChains(deny, other, differ []entry) []restore.Chain {
	input := []string{whenNew + portals,
		`-m comment --comment "kubernetes health check service ports" -j ` + nodePortsChain}
	var chains []restore.Chain
	if !c.in.v6 {
		input = append([]string{"-j " + guardChain}, input...)
		chains = append(chains, restore.Chain{Name: guardChain, Rules: []string{
			"! -s " + loopback + " -d " + loopback + " -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"}})
	}
	services := restore.Chain{Name: servicesChain, Rules: []string{}}
	if len(deny) > 0 {
		services.Rules = append(services.Rules, "-m conntrack --ctstate DNAT -j RETURN", c.loopbackRule())
	}
	ports, addresses := denyTrees(deny)
	otherPorts, otherAddresses := denyTrees(other)
	differPorts, differAddresses := denyTrees(differ)
	if len(addresses) > 0 {
		services.Rules = append(services.Rules, "-j "+denyRoot)
		byAddress := tree{root: denyRoot, prefix: denyPrefix, flag: "-d"}
		chains = append(chains, byAddress.part(addresses, otherAddresses, differAddresses)...)
	}
	if len(ports) > 0 {
		services.Rules = append(services.Rules, c.nodePortRules("-j "+denyPorts)...)
		byPort := tree{root: denyPorts, prefix: denyPortPrefix, flag: "-d"}
		chains = append(chains, byPort.part(ports, otherPorts, differPorts)...)
	}
	for _, e := range differ {
		if i, ok := slices.BinarySearchFunc(deny, e, compareEntries); ok {
			chains = append(chains, deny[i].chains...)
		}
	}
	health := restore.Chain{Name: nodePortsChain}
	for _, p := range c.in.healthPorts {
		health.Rules = append(health.Rules, portMatch(proxier.FrontendKey{Port: p, Protocol: proxier.TCP})+" -j ACCEPT")
	}
	return append(chains, health, services,
		builtin("INPUT", input...),
		builtin("FORWARD", whenNew+portals, `-m comment --comment "kubernetes forwarding rules" -j `+forwardChain),
		builtin("OUTPUT", whenNew+portals),
		restore.Chain{Name: forwardChain, Rules: c.forwardRules()})
}

// denyTrees divides entries into those of NodePorts and those of addresses.
func denyTrees(entries []entry) (ports, addresses []entry) {
	i := sort.Search(len(entries), func(i int) bool { return !entries[i].key.IsNodePort() })
	return entries[:i], entries[i:]
}

// forwardRules lets the traffic of Services pass a FORWARD chain whose policy is DROP: the first
// packet of a masqueraded connection by its mark, and all later packets. Packets that connection
// tracking finds invalid are dropped, because a reset that was not translated would end a
// client's connection.
func (c *compiler) forwardRules() []string {
	rules := []string{
		"-m conntrack --ctstate INVALID -j DROP",
		"-m mark --mark " + c.mark + " -j ACCEPT",
		"-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
	}
	if c.beLiberal {
		return rules[1:]
	}
	return rules
}
