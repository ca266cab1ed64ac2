package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// everywhere are the sysctls of all namespaces. IPv6 addresses are usable at once (no duplicate
// address detection), no packet is dropped for where it came from, and refusals are not rate
// limited, or they would look like silence.
var everywhere = map[string]string{
	"ipv4/conf/all/rp_filter":                "0",
	"ipv4/conf/default/rp_filter":            "0",
	"ipv4/conf/all/send_redirects":           "0",
	"ipv4/conf/default/send_redirects":       "0",
	"ipv4/conf/all/accept_redirects":         "0",
	"ipv4/icmp_ratelimit":                    "0",
	"ipv4/icmp_msgs_per_sec":                 "1000000",
	"ipv6/icmp/ratelimit":                    "0",
	"ipv6/conf/all/disable_ipv6":             "0",
	"ipv6/conf/default/disable_ipv6":         "0",
	"ipv6/conf/all/accept_dad":               "0",
	"ipv6/conf/default/accept_dad":           "0",
	"ipv6/conf/default/dad_transmits":        "0",
	"ipv6/conf/default/accept_ra":            "0",
	"ipv6/conf/all/accept_redirects":         "0",
	"ipv6/conf/default/router_solicitations": "0",
}

// onNodes are the sysctls that nodes have besides.
var onNodes = map[string]string{
	"ipv4/ip_forward":              "1",
	"ipv6/conf/all/forwarding":     "1",
	"ipv6/conf/default/forwarding": "1",
}

// setSysctls sets those of the calling thread's namespace. Which exist depends on the kernel.
func setSysctls(node bool) error {
	set := func(all map[string]string) error {
		for name, value := range all {
			err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("sysctl: %w", err)
			}
		}
		return nil
	}
	if err := set(everywhere); err != nil || !node {
		return err
	}
	return set(onNodes)
}

// wire makes the links, addresses and routes of doc.go's picture. h has a handle for each
// namespace.
func (l *Lab) wire(h map[string]*netlink.Handle, pods []string) error {
	w := &wiring{lab: l, h: h}
	for name := range h {
		w.up(name, "lo")
	}
	w.veth(Node1, "outside", Outside, "eth0")
	w.veth(Node1, "node-2", Node2, "eth0")
	w.addr(Node1, "outside", Node1Uplink, 24)
	w.addr(Node1, "node-2", Node1Addr, 24)
	w.addr(Node2, "eth0", Node2Addr, 24)
	for _, a := range OutsideAddrs {
		w.addr(Outside, "eth0", a, 24)
	}
	w.up(Node1, "outside")
	w.up(Node1, "node-2")
	w.up(Node2, "eth0")
	w.up(Outside, "eth0")
	w.route(Outside, "eth0", netip.Prefix{}, Node1Uplink)
	w.route(Node1, "outside", netip.Prefix{}, OutsideAddrs[0])
	w.route(Node1, "node-2", netip.MustParsePrefix("10.244.2.0/24"), Node2Addr)
	w.route(Node2, "eth0", netip.Prefix{}, Node1Addr)
	for _, pod := range pods {
		node, gateway := PodNode(pod), Node1Pods
		if node == Node2 {
			gateway = Node2Pods
		}
		link := "pod-" + pod
		w.veth(node, link, pod, "eth0")
		w.addr(node, link, gateway, 32)
		w.addr(pod, "eth0", Addr(pod), 32)
		w.up(node, link)
		w.up(pod, "eth0")
		w.route(node, link, netip.PrefixFrom(Addr(pod), 32), netip.Addr{})
		w.route(pod, "eth0", netip.PrefixFrom(gateway, 32), netip.Addr{})
		w.route(pod, "eth0", netip.Prefix{}, gateway)
	}
	return w.err
}

// A wiring does one netlink operation after the other until one fails.
type wiring struct {
	lab *Lab
	h   map[string]*netlink.Handle
	idx map[[2]string]int
	err error
}

func (w *wiring) fail(op, ns, object string, err error) {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("%s %s in %s: %w", op, object, w.lab.prefix+ns, err)
	}
}

func (w *wiring) veth(ns, name, peerNS, peer string) {
	if w.err != nil {
		return
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	w.fail("link add", ns, name, w.h[ns].LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: peer, PeerNamespace: netlink.NsFd(int(w.lab.ns[peerNS])),
	}))
}

// index returns the interface index of the link.
func (w *wiring) index(ns, name string) int {
	if w.err != nil {
		return 0
	}
	key := [2]string{ns, name}
	if i, ok := w.idx[key]; ok {
		return i
	}
	link, err := w.h[ns].LinkByName(name)
	if err != nil {
		w.fail("link", ns, name, err)
		return 0
	}
	if w.idx == nil {
		w.idx = map[[2]string]int{}
	}
	w.idx[key] = link.Attrs().Index
	return link.Attrs().Index
}

func (w *wiring) up(ns, name string) {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: w.index(ns, name)}}
	if w.err == nil {
		w.fail("link up", ns, name, w.h[ns].LinkSetUp(link))
	}
}

// addr adds an IPv4 address, /24 or /32, and its counterpart, /64 or /128.
func (w *wiring) addr(ns, name string, a netip.Addr, bits int) {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: w.index(ns, name)}}
	bits6 := 128
	if bits == 24 {
		bits6 = 64
	}
	for _, p := range []netip.Prefix{netip.PrefixFrom(a, bits), netip.PrefixFrom(V6(a), bits6)} {
		if w.err != nil {
			return
		}
		addr := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
			if a == OutsideAddrs[1] || a == OutsideAddrs[2] {
				addr.ValidLft = math.MaxUint32 // deprecated: used only by who binds to it
			}
		}
		w.fail("addr add", ns, p.String(), w.h[ns].AddrAdd(link, addr))
	}
}

// route adds a route and its counterpart. The zero prefix is the default route; without via, the
// destination is on the link.
func (w *wiring) route(ns, name string, to netip.Prefix, via netip.Addr) {
	index := w.index(ns, name)
	for _, v6 := range []bool{false, true} {
		if w.err != nil {
			return
		}
		r := &netlink.Route{LinkIndex: index}
		if !via.IsValid() {
			r.Scope = netlink.SCOPE_LINK
		}
		dst, gw := to, via
		if v6 {
			dst, gw = V6Prefix(to), V6(via)
			if to.Bits() == 32 {
				dst = netip.PrefixFrom(V6(to.Addr()), 128)
			}
			r.Scope = netlink.SCOPE_UNIVERSE
		}
		switch {
		case to.IsValid():
			r.Dst = ipNet(dst)
		case v6:
			r.Dst = ipNet(netip.PrefixFrom(netip.IPv6Unspecified(), 0))
		default:
			r.Dst = ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0))
		}
		if gw.IsValid() {
			r.Gw = gw.AsSlice()
		}
		w.fail("route add", ns, r.Dst.String(), w.h[ns].RouteAdd(r))
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
