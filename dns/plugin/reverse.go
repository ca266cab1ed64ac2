package plugin

import (
	"net/netip"
	"strconv"
	"strings"
)

// ReverseAddr returns the address that a name below in-addr.arpa or ip6.arpa stands for, and false
// if it stands for none or for a whole network. The name is in lower case.
func ReverseAddr(name string) (netip.Addr, bool) {
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		return reverse4(strings.Split(digits, "."))
	}
	if digits, ok := strings.CutSuffix(name, ".ip6.arpa."); ok {
		return reverse6(strings.Split(digits, "."))
	}
	return netip.Addr{}, false
}

func reverse4(labels []string) (netip.Addr, bool) {
	var b [4]byte
	if len(labels) != len(b) {
		return netip.Addr{}, false
	}
	for i, l := range labels {
		n, err := strconv.ParseUint(l, 10, 8)
		if err != nil || len(l) > 1 && l[0] == '0' {
			return netip.Addr{}, false
		}
		b[3-i] = byte(n)
	}
	return netip.AddrFrom4(b), true
}

func reverse6(labels []string) (netip.Addr, bool) {
	var b [16]byte
	if len(labels) != 2*len(b) {
		return netip.Addr{}, false
	}
	for i, l := range labels {
		n, err := strconv.ParseUint(l, 16, 4)
		if err != nil || len(l) != 1 {
			return netip.Addr{}, false
		}
		b[15-i/2] |= byte(n) << (4 * (i % 2))
	}
	return netip.AddrFrom16(b).Unmap(), true
}
