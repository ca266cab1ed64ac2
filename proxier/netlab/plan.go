package netlab

import (
	"fmt"
	"net/netip"
	"regexp"
)

// The names of the namespaces that every Lab has.
const (
	Outside = "outside"
	Node1   = "node-1"
	Node2   = "node-2"
)

// The addresses of the nodes and of the client outside, IPv4; [V6] has their counterparts.
var (
	Node1Addr    = netip.MustParseAddr("192.168.10.1") // node-1 towards node-2: its InternalIP
	Node1Uplink  = netip.MustParseAddr("192.168.20.1") // node-1 towards outside
	Node1Own     = netip.MustParseAddr("10.0.0.1")     // node-1, on its loopback link
	Node1Pods    = netip.MustParseAddr("10.244.1.1")   // node-1 towards its pods
	Node2Addr    = netip.MustParseAddr("192.168.10.2")
	Node2Pods    = netip.MustParseAddr("10.244.2.1")
	OutsideAddrs = []netip.Addr{
		netip.MustParseAddr("192.168.20.9"),
		netip.MustParseAddr("192.168.20.10"),
		netip.MustParseAddr("192.168.20.11"),
	}
)

// The ranges of the cluster, IPv4 and IPv6.
var (
	ClusterCIDRs  = both("10.244.0.0/16")
	ServiceCIDRs  = both("10.96.0.0/16")
	ExternalCIDRs = both("203.0.113.0/24")  // externalIPs; of no machine
	LoadBalancers = both("198.51.100.0/24") // load-balancer addresses; of no machine
)

// AllPods are the names of the pods that a Lab can have: a to e on node-1, f to j on node-2.
var AllPods = []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}

// PodNode returns the node that the pod of that name is on, "" if there is no such pod.
func PodNode(pod string) string {
	switch {
	case len(pod) != 1 || pod < "a" || pod > "j":
		return ""
	case pod <= "e":
		return Node1
	}
	return Node2
}

// Addr returns the IPv4 address of the pod, node or outside of that name; that of a node is its
// InternalIP. It is not valid if there is no such place.
func Addr(name string) netip.Addr {
	switch name {
	case Outside:
		return OutsideAddrs[0]
	case Node1:
		return Node1Addr
	case Node2:
		return Node2Addr
	}
	switch PodNode(name) {
	case Node1:
		return netip.AddrFrom4([4]byte{10, 244, 1, 11 + name[0] - 'a'})
	case Node2:
		return netip.AddrFrom4([4]byte{10, 244, 2, 21 + name[0] - 'f'})
	}
	return netip.Addr{}
}

// A mapping pairs an IPv4 prefix with its IPv6 counterpart. Host bits are copied as numbers:
// 10.96.0.10 is fd00:96::a.
type mapping struct{ v4, v6 netip.Prefix }

// v6plan is searched in order, so longer prefixes come first.
var v6plan = []mapping{
	{netip.MustParsePrefix("192.168.10.0/24"), netip.MustParsePrefix("fd00:10::/64")},
	{netip.MustParsePrefix("192.168.20.0/24"), netip.MustParsePrefix("fd00:20::/64")},
	{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:244:1::/64")},
	{netip.MustParsePrefix("10.244.2.0/24"), netip.MustParsePrefix("fd00:244:2::/64")},
	{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")},
	{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")},
	{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")},
	{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8:113::/64")},
	{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:100::/64")},
	{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128")},
	{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/64")},
	{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("ff0e::/64")},
	{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("2001:db8:4::/96")}, // anything else
}

// V6 returns the lab's IPv6 counterpart of an IPv4 address; other addresses are returned as
// they are. Pods of node-1 are fd00:244:1::b and on, nodes fd00:10::1 and fd00:10::2.
func V6(a netip.Addr) netip.Addr {
	if !a.Is4() {
		return a
	}
	if a.IsUnspecified() {
		return netip.IPv6Unspecified()
	}
	for _, m := range v6plan {
		if m.v4.Contains(a) {
			return join(m, a)
		}
	}
	return a // not reached: the last mapping contains all
}

func join(m mapping, a netip.Addr) netip.Addr {
	in, host, out := a.As4(), [4]byte{}, m.v6.Addr().As16()
	for i := range in {
		host[i] = in[i] &^ mask(m.v4.Bits()-8*i)
	}
	for i := range host {
		out[12+i] |= host[i]
	}
	return netip.AddrFrom16(out)
}

// mask returns a byte whose first n bits are set.
func mask(n int) byte { return ^byte(0xff >> max(0, min(8, n))) }

// V6Prefix returns the counterpart of an IPv4 prefix: a whole range of the lab becomes the whole
// IPv6 range, a part of one the part with the counterparts of its addresses.
func V6Prefix(p netip.Prefix) netip.Prefix {
	if !p.Addr().Is4() {
		return p
	}
	if p.Bits() == 0 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	for _, m := range v6plan {
		if m.v4 == p.Masked() {
			return netip.PrefixFrom(V6(p.Addr()), m.v6.Bits())
		}
	}
	return netip.PrefixFrom(V6(p.Addr()), 96+p.Bits())
}

var ipv4Text = regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}(/\d+)?\b`)

// V6Text replaces every canonical IPv4 address and prefix in s by its counterpart.
func V6Text(s string) string {
	return ipv4Text.ReplaceAllStringFunc(s, func(t string) string {
		if p, err := netip.ParsePrefix(t); err == nil {
			return V6Prefix(p).String()
		}
		if a, err := netip.ParseAddr(t); err == nil {
			return V6(a).String()
		}
		return t
	})
}

func both(p string) []netip.Prefix {
	v4 := netip.MustParsePrefix(p)
	return []netip.Prefix{v4, V6Prefix(v4)}
}

// Local returns the addresses of a node of one family, but 127.0.0.1 and ::1.
func Local(node string, v6 bool) []netip.Addr {
	var out []netip.Addr
	switch node {
	case Node1:
		out = []netip.Addr{Node1Addr, Node1Uplink, Node1Own, Node1Pods}
	case Node2:
		out = []netip.Addr{Node2Addr, Node2Pods}
	default:
		panic(fmt.Sprintf("netlab: %q is no node", node))
	}
	for i := range out {
		if v6 {
			out[i] = V6(out[i])
		}
	}
	return out
}
