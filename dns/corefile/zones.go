package corefile

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	dnswire "github.com/miekg/dns"
)

// normalize returns a name in lower case and with the final dot.
func normalize(name string) string { return strings.ToLower(dnswire.Fqdn(name)) }

// cutScheme splits scheme:// from a key or an address; the scheme is dns if there is none.
func cutScheme(s string) (scheme, rest string) {
	for _, scheme := range []string{"tls", "dns", "quic", "grpc", "https3", "https", "unix"} {
		if rest, ok := strings.CutPrefix(s, scheme+"://"); ok {
			return scheme, rest
		}
	}
	return "dns", s
}

// zonesOf returns the zones that a key or argument without scheme stands for, and its port: a
// name stands for itself, a prefix of addresses for its reverse zones. port is -1 without one.
func zonesOf(s string) (zones []string, port int, err error) {
	port = -1
	colon := strings.LastIndexByte(s, ':')
	if colon == len(s)-1 {
		return nil, 0, fmt.Errorf("expecting data after last colon: %q", s)
	}
	if colon >= 0 {
		if n, err := strconv.Atoi(s[colon+1:]); err == nil {
			if n < 0 || n > 65535 {
				return nil, 0, fmt.Errorf("invalid port: %d", n)
			}
			s, port = s[:colon], n
		}
	}
	if len(s) > 255 {
		return nil, 0, fmt.Errorf("specified zone is too long: %d > 255", len(s))
	}
	if _, ok := dnswire.IsDomainName(s); !ok {
		return nil, 0, fmt.Errorf("zone is not a valid domain name: %s", s)
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		return []string{normalize(s)}, port, nil
	}
	if s[0] == ':' || s[0] == '0' && strings.Contains(s, ":") {
		return nil, 0, fmt.Errorf("invalid CIDR %s", s)
	}
	return reverseZones(prefix), port, nil
}

// reverseZones returns the zones of in-addr.arpa or ip6.arpa that together are a prefix. If it
// does not end at a label's boundary there are several: 10.0.0.0/17 has 128.
func reverseZones(p netip.Prefix) (zones []string) {
	addr, step, base, suffix := p.Masked().Addr(), 8, 10, "in-addr.arpa."
	if addr.Is6() {
		step, base, suffix = 4, 16, "ip6.arpa."
	}
	labels := (p.Bits() + step - 1) / step // of each zone, before the suffix
	var digits []int
	for _, b := range addr.AsSlice() {
		if step == 8 {
			digits = append(digits, int(b))
		} else {
			digits = append(digits, int(b>>4), int(b&15))
		}
	}
	// The last digit counts from what the prefix has to the end of the prefix.
	for n := range 1 << (labels*step - p.Bits()) {
		zone := suffix
		for i := range labels {
			d := digits[i]
			if i == labels-1 {
				d += n
			}
			zone = strconv.FormatInt(int64(d), base) + "." + zone
		}
		zones = append(zones, zone)
	}
	return zones
}

// argZones returns the zones that arguments stand for.
func argZones(args []string) (zones []string, err error) {
	zones = []string{}
	for _, a := range args {
		_, a = cutScheme(a)
		z, _, err := zonesOf(a)
		if err != nil {
			return nil, err
		}
		zones = append(zones, z...)
	}
	return zones, nil
}

// isReverse reports whether a zone is below in-addr.arpa or ip6.arpa, or is one of them.
func isReverse(zone string) bool {
	return belowArpa(zone) || zone == "in-addr.arpa." || zone == "ip6.arpa."
}

// belowArpa is what CoreDNS takes for a reverse zone: the two themselves are none.
func belowArpa(zone string) bool {
	return strings.HasSuffix(zone, ".in-addr.arpa.") || strings.HasSuffix(zone, ".ip6.arpa.")
}
