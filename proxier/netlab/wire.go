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
	w.veth(Node1, "outside", []netip.Addr{Node1Uplink}, Outside, OutsideAddrs)
	w.veth(Node1, "node-2", []netip.Addr{Node1Addr}, Node2, []netip.Addr{Node2Addr})
	w.addr(Node1, "lo", Node1Own, 32)
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
		w.veth(node, link, []netip.Addr{gateway}, pod, []netip.Addr{Addr(pod)})
		w.route(node, link, netip.PrefixFrom(Addr(pod), 32), netip.Addr{})
		w.route(pod, "eth0", netip.PrefixFrom(gateway, 32), netip.Addr{})
		w.route(pod, "eth0", netip.Prefix{}, gateway)
	}
	return w.err
}

// A wiring does one netlink operation after the other until one fails.
type wiring struct {
	lab   *Lab
	h     map[string]*netlink.Handle
	idx   map[[2]string]int
	links int
	err   error
}

func (w *wiring) fail(op, ns, object string, err error) {
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("%s %s in %s: %w", op, object, w.lab.prefix+ns, err)
	}
}

// veth makes a link from a node to a peer's eth0, gives both ends their addresses, /32 if the
// peer is a pod, else /24, and brings them up. The ends know each other's hardware addresses:
// to resolve them would take a second where the first question is lost, since an IPv6 address
// that was just added does not answer yet.
func (w *wiring) veth(node, name string, mine []netip.Addr, peer string, its []netip.Addr) {
	if w.err != nil {
		return
	}
	w.links++
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.HardwareAddr = net.HardwareAddr{2, 0xfa, 0, 0, byte(w.links), 1}
	peerMAC := net.HardwareAddr{2, 0xfa, 0, 0, byte(w.links), 2}
	w.fail("link add", node, name, w.h[node].LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: peerMAC,
		PeerNamespace: netlink.NsFd(int(w.lab.ns[peer])),
	}))
	bits := 24
	if PodNode(peer) != "" {
		bits = 32
	}
	for _, end := range []struct {
		ns, link     string
		mine, others []netip.Addr
		mac          net.HardwareAddr
	}{{node, name, mine, its, peerMAC}, {peer, "eth0", its, mine, attrs.HardwareAddr}} {
		for _, a := range end.mine {
			w.addr(end.ns, end.link, a, bits)
		}
		w.up(end.ns, end.link)
		for _, a := range end.others {
			w.neighbour(end.ns, end.link, a, end.mac)
		}
	}
}

func (w *wiring) neighbour(ns, name string, a netip.Addr, mac net.HardwareAddr) {
	index := w.index(ns, name)
	for _, ip := range []netip.Addr{a, V6(a)} {
		if w.err != nil {
			return
		}
		w.fail("neighbour add", ns, ip.String(), w.h[ns].NeighSet(&netlink.Neigh{
			LinkIndex: index, State: netlink.NUD_PERMANENT, IP: ip.AsSlice(), HardwareAddr: mac,
		}))
	}
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
