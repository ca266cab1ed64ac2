package resolve

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	netutils "k8s.io/utils/net"
)

var (
	errNoAddress = errors.New("is not an IP address")
	errMapped    = errors.New("is an IPv4 address written as IPv6")
	errNoCIDR    = errors.New("is not a CIDR")
)

// parseAddr reads an address as Kubernetes does: leading zeros are allowed and decimal
// (KEP-4858). It reports whether there were any, because other programs read them as octal.
// IPv4-mapped IPv6 addresses and zones are errors. An address so read is canonical.
func parseAddr(s string) (a netip.Addr, zeros bool, err error) {
	a, err = netip.ParseAddr(s)
	if err != nil {
		ip4 := netutils.ParseIPSloppy(s).To4()
		switch {
		case ip4 == nil:
			return netip.Addr{}, false, errNoAddress
		case strings.Contains(s, ":"):
			return netip.Addr{}, false, errMapped
		}
		a, zeros = netip.AddrFrom4([4]byte(ip4)), true
	}
	switch {
	case a.Zone() != "":
		return netip.Addr{}, false, errNoAddress
	case a.Is4In6():
		return netip.Addr{}, false, errMapped
	}
	return a, zeros, nil
}

// parsePrefix reads a CIDR as parseAddr reads an address, and clears the bits beyond its length.
func parsePrefix(s string) (p netip.Prefix, zeros bool, err error) {
	p, err = netip.ParsePrefix(s)
	if err != nil {
		_, cidr, err := netutils.ParseCIDRSloppy(s)
		if err != nil {
			return netip.Prefix{}, false, errNoCIDR
		}
		ones, _ := cidr.Mask.Size()
		a, ok := netip.AddrFromSlice(cidr.IP)
		if !ok || strings.Contains(s, ":") != a.Is6() {
			return netip.Prefix{}, false, errMapped
		}
		p, zeros = netip.PrefixFrom(a, ones), true
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, false, errMapped
	}
	return p.Masked(), zeros, nil
}

var broadcast = netip.MustParseAddr("255.255.255.255")

// notUnicast says what keeps a from being the address of one machine that can be reached from
// another, or "" if nothing does. See CVE-2021-25737 for what happens without this test.
func notUnicast(a netip.Addr) string {
	switch {
	case a.IsUnspecified():
		return "unspecified"
	case a.IsLoopback():
		return "a loopback address"
	case a.IsLinkLocalUnicast():
		return "a link-local address"
	case a.IsMulticast():
		return "a multicast address"
	case a == broadcast:
		return "the broadcast address"
	}
	return ""
}

// metadata are the addresses, beyond link-local ones, at which clouds hand credentials to their
// machines.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),   // AWS
	netip.MustParseAddr("fd20:ce::254"),    // Google
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// canonicalPrefixes returns the prefixes sorted, distinct and with host bits cleared.
func canonicalPrefixes(in []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range in {
		if p.IsValid() && !p.Addr().Is4In6() {
			out = append(out, p.Masked())
		}
	}
	slices.SortFunc(out, comparePrefix)
	return slices.Compact(out)
}

// addrText quotes s for a message, shortened if it is longer than any address.
func addrText(s string) string {
	if len(s) > 64 {
		s = s[:64] + "..."
	}
	return fmt.Sprintf("%q", s)
}
