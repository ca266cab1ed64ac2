package netlab

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
)

// SCTP sockets are rare in kernels, so clients send crafted INIT chunks over raw sockets and
// servers answer them with an INIT ACK whose state cookie is the greeting (RFC 9260, 3.3.2-3).
const (
	sctpProtocol     = 132
	sctpInit         = 1
	sctpInitAck      = 2
	sctpAbort        = 6
	sctpStateCookie  = 7  // parameter type
	sctpHeader       = 12 // ports, verification tag, checksum
	sctpInitChunk    = 20 // chunk header and fixed fields of INIT and INIT ACK
	sctpInitTagStart = sctpHeader + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sctpPacket returns a packet with one INIT or INIT ACK chunk.
func sctpPacket(kind byte, src, dst uint16, verify, tag uint32, cookie []byte) []byte {
	params := 0
	if cookie != nil {
		params = 4 + len(cookie)
	}
	p := make([]byte, sctpHeader+sctpInitChunk, sctpHeader+sctpInitChunk+params+3)
	be := binary.BigEndian
	be.PutUint16(p[0:], src)
	be.PutUint16(p[2:], dst)
	be.PutUint32(p[4:], verify)
	p[12] = kind
	be.PutUint16(p[14:], uint16(sctpInitChunk+params))
	be.PutUint32(p[16:], tag)
	be.PutUint32(p[20:], 65536) // receiver window
	be.PutUint16(p[24:], 1)     // streams out
	be.PutUint16(p[26:], 1)     // streams in
	be.PutUint32(p[28:], tag)   // first TSN
	if cookie != nil {
		p = be.AppendUint16(p, sctpStateCookie)
		p = be.AppendUint16(p, uint16(params))
		p = append(p, cookie...)
		for len(p)%4 != 0 {
			p = append(p, 0)
		}
	}
	binary.LittleEndian.PutUint32(p[8:], crc32.Checksum(p, castagnoli))
	return p
}

// sctpCookie returns the state cookie of an INIT ACK.
func sctpCookie(p []byte) string {
	rest := p[sctpHeader+sctpInitChunk:]
	if len(rest) < 4 || binary.BigEndian.Uint16(rest) != sctpStateCookie {
		return ""
	}
	n := int(binary.BigEndian.Uint16(rest[2:]))
	if n < 4 || n > len(rest) {
		return ""
	}
	return string(rest[4:n])
}

func sctpNetwork(a netip.Addr) string {
	if a.Is6() {
		return "ip6:132"
	}
	return "ip4:132"
}

func ipAddr(a netip.Addr) *net.IPAddr { return &net.IPAddr{IP: a.AsSlice()} }

func serveSCTP(name string, at netip.AddrPort, inits *atomic.Uint64) (stop func(), err error) {
	c, err := net.ListenIP(sctpNetwork(at.Addr()), ipAddr(at.Addr()))
	if err != nil {
		return nil, err
	}
	conns := &connections{}
	conns.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromIP(buf)
			if err != nil {
				return
			}
			p := buf[:n]
			if n < sctpHeader+sctpInitChunk || p[12] != sctpInit || binary.BigEndian.Uint16(p[2:]) != at.Port() {
				continue
			}
			inits.Add(1)
			addr, _ := netip.AddrFromSlice(from.IP)
			client := netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(p))
			tag := binary.BigEndian.Uint32(p[sctpInitTagStart:])
			_, _ = c.WriteToIP(sctpPacket(sctpInitAck, at.Port(), client.Port(), tag, rand.Uint32()|1, greeting(name, client)), from)
		}
	})
	return func() {
		_ = c.Close()
		conns.close()
	}, nil
}

func (p Probe) sctp() (string, Answer) {
	var local *net.IPAddr
	if p.Source.Addr().IsValid() && !p.Source.Addr().IsUnspecified() {
		local = ipAddr(p.Source.Addr())
	}
	c, err := net.DialIP(sctpNetwork(p.To.Addr()), local, ipAddr(p.To.Addr()))
	if err != nil {
		return "", Answer{Err: err}
	}
	defer c.Close()
	port := p.Source.Port()
	self, _ := netip.AddrFromSlice(c.LocalAddr().(*net.IPAddr).IP)
	a := Answer{Local: netip.AddrPortFrom(self.Unmap(), port)}
	_ = c.SetDeadline(time.Now().Add(p.Wait))
	tag := rand.Uint32() | 1
	if _, a.Err = c.Write(sctpPacket(sctpInit, port, p.To.Port(), 0, tag, nil)); a.Err != nil && !errors.Is(a.Err, syscall.EPERM) {
		return "", a
	}
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFromIP(buf)
		if err != nil {
			a.Err = err
			return "", a
		}
		q := buf[:n]
		if n < sctpHeader+4 || binary.BigEndian.Uint16(q) != p.To.Port() || binary.BigEndian.Uint16(q[2:]) != port {
			continue
		}
		switch {
		case q[12] == sctpInitAck && n >= sctpHeader+sctpInitChunk && binary.BigEndian.Uint32(q[4:]) == tag:
			return sctpCookie(q), a
		case q[12] == sctpAbort:
			a.Err = errAbort
			return "", a
		}
	}
}

var errAbort = errors.New("SCTP ABORT")
