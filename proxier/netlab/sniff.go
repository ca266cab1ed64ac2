package netlab

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/proxier"
)

// A Sighting is a packet that came into a namespace, whoever it is for.
type Sighting struct {
	Src, Dst netip.AddrPort // ports are zero where the protocol has none
	Protocol proxier.Protocol
}

// String returns the packet as source > destination/protocol.
func (s Sighting) String() string { return fmt.Sprintf("%s > %s/%s", s.Src, s.Dst, s.Protocol) }

// Sniff watches what comes into a namespace through its links, until the returned function is
// called, which tells what that was. The kernel buffers some hundreds of packets.
func (l *Lab) Sniff(ns string) (stop func() []Sighting, err error) {
	fd := -1
	err = l.In(ns, func() (err error) {
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(all))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sniff in %s: %w", l.Namespace(ns), err)
	}
	return func() []Sighting {
		defer unix.Close(fd)
		var out []Sighting
		buf := make([]byte, 2048)
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if err != nil {
				return out
			}
			link, ok := from.(*unix.SockaddrLinklayer)
			if !ok || link.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			if s, ok := parseIP(buf[:n]); ok {
				out = append(out, s)
			}
		}
	}, nil
}

// parseIP reads the headers of an unfragmented IP packet.
func parseIP(p []byte) (s Sighting, ok bool) {
	var src, dst netip.Addr
	var ports []byte
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		src, _ = netip.AddrFromSlice(p[12:16])
		dst, _ = netip.AddrFromSlice(p[16:20])
		s.Protocol = proxier.Protocol(p[9])
		ports = p[min(len(p), int(p[0]&15)*4):]
	case len(p) >= 40 && p[0]>>4 == 6:
		src, _ = netip.AddrFromSlice(p[8:24])
		dst, _ = netip.AddrFromSlice(p[24:40])
		s.Protocol = proxier.Protocol(p[6])
		ports = p[40:]
	default:
		return s, false
	}
	var from, to uint16
	switch s.Protocol {
	case proxier.TCP, proxier.UDP, proxier.SCTP:
		if len(ports) < 4 {
			return s, false
		}
		from, to = binary.BigEndian.Uint16(ports), binary.BigEndian.Uint16(ports[2:])
	}
	s.Src, s.Dst = netip.AddrPortFrom(src, from), netip.AddrPortFrom(dst, to)
	return s, true
}
