package zone

import (
	"bytes"
	"net/netip"
	"strings"
)

// The label of an endpoint is its hostname, or its pod's name if these were asked for, or else its
// address with dashes: 10-244-1-1, fd00-10--1. One that would end with a dash gets a 0.

// maxLabel is how long a label is in wire format.
const maxLabel = 64

// label appends the label of an endpoint with its length, and nothing if it has none that a name
// can hold.
func (e *entry) label(dst []byte, r ref) []byte {
	s, start, own := e.slice(r), len(dst), e.own(r)
	dst = append(dst, 0)
	switch {
	case own != "":
		dst = append(dst, own...)
	case s.Width == 0:
		dst = dashes(append(dst, s.Targets[r.i]...), start)
	default:
		dst = dashes(s.Addr(int(r.i)).AppendTo(dst), start)
		if dst[len(dst)-1] == '-' {
			dst = append(dst, '0')
		}
	}
	n := len(dst) - start - 1
	if n == 0 || n >= maxLabel {
		return dst[:start]
	}
	dst[start] = byte(n)
	return dst
}

// own returns the name that an endpoint has of its own, "" if it is named after its address.
func (e *entry) own(r ref) string {
	s := e.slice(r)
	if s.Hosts != nil && s.Hosts[r.i] != "" {
		return s.Hosts[r.i]
	}
	if e.pods && s.Pods != nil {
		return s.Pods[r.i]
	}
	return ""
}

// sameLabel reports whether two endpoints have one name. A hostname can look like an address.
func (e *entry) sameLabel(a, b ref) bool {
	x, y := e.own(a), e.own(b)
	switch {
	case e.cluster(a) != e.cluster(b):
		return false
	case x != "" && y != "":
		return x == y
	case x == "" && y == "" && e.slice(a).Width > 0 && e.slice(b).Width > 0:
		return e.byAddress(a, b) == 0
	}
	var p, q [maxLabel]byte
	return bytes.Equal(e.label(p[:0], a), e.label(q[:0], b))
}

// dashes replaces dots and colons from start on.
func dashes(b []byte, start int) []byte {
	for i := start; i < len(b); i++ {
		if b[i] == '.' || b[i] == ':' {
			b[i] = '-'
		}
	}
	return b
}

// parseDashed reads an address with dashes. The rules of CoreDNS decide the family: three single
// dashes are IPv4.
func parseDashed(label []byte) (netip.Addr, bool) {
	if bytes.Count(label, []byte("-")) == 3 && !bytes.Contains(label, []byte("--")) {
		return dashed4(label)
	}
	return dashed6(label)
}

func dashed4(label []byte) (netip.Addr, bool) {
	var b [4]byte
	for i := range b {
		part, rest, _ := bytes.Cut(label, []byte("-"))
		n, ok := decimal(part)
		if !ok {
			return netip.Addr{}, false
		}
		b[i], label = n, rest
	}
	return netip.AddrFrom4(b), true
}

// decimal reads a number up to 255 without leading zeros.
func decimal(b []byte) (byte, bool) {
	if len(b) == 0 || len(b) > 3 || len(b) > 1 && b[0] == '0' {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return byte(n), n <= 255
}

// dashed6 reads the text of an IPv6 address in which each colon is a dash. Without an IPv4 part.
func dashed6(label []byte) (netip.Addr, bool) {
	var b [16]byte
	gap, n := -1, 0 // bytes before the gap, bytes read
	if bytes.HasPrefix(label, []byte("--")) {
		gap, label = 0, label[2:]
	}
	for len(label) > 0 {
		i := 0
		v := 0
		for i < len(label) && i < 5 {
			d := strings.IndexByte("0123456789abcdef", label[i])
			if d < 0 {
				break
			}
			v = v<<4 | d
			i++
		}
		if i == 0 || i > 4 || n == len(b) {
			return netip.Addr{}, false
		}
		b[n], b[n+1] = byte(v>>8), byte(v)
		n += 2
		label = label[i:]
		if len(label) == 0 {
			break
		}
		if label[0] != '-' || len(label) == 1 {
			return netip.Addr{}, false
		}
		label = label[1:]
		if label[0] == '-' {
			if gap >= 0 {
				return netip.Addr{}, false
			}
			gap, label = n, label[1:]
		}
	}
	switch {
	case gap < 0:
		return netip.AddrFrom16(b), n == len(b)
	case n == len(b):
		return netip.Addr{}, false
	}
	tail := copy(b[len(b)-(n-gap):], b[gap:n])
	clear(b[gap : len(b)-tail])
	return netip.AddrFrom16(b), true
}

// reverseAddr reads the address of a name of a reverse zone: all labels of it.
func reverseAddr(name []byte) (netip.Addr, bool) {
	switch {
	case bytes.HasSuffix(name, inAddr):
		var b [4]byte
		rest := name[:len(name)-len(inAddr)]
		for i := range b {
			if len(rest) == 0 {
				return netip.Addr{}, false
			}
			n := int(rest[0])
			v, ok := decimal(rest[1 : 1+n])
			if !ok {
				return netip.Addr{}, false
			}
			b[len(b)-1-i], rest = v, rest[1+n:]
		}
		return netip.AddrFrom4(b), len(rest) == 0
	case bytes.HasSuffix(name, ip6):
		var b [16]byte
		rest := name[:len(name)-len(ip6)]
		if len(rest) != 4*len(b) {
			return netip.Addr{}, false
		}
		for i := range 2 * len(b) {
			d := strings.IndexByte("0123456789abcdef", rest[2*i+1])
			if rest[2*i] != 1 || d < 0 {
				return netip.Addr{}, false
			}
			b[len(b)-1-i/2] |= byte(d) << (4 * (i % 2))
		}
		return netip.AddrFrom16(b), true
	}
	return netip.Addr{}, false
}
