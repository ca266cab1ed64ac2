package proxiertest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// What Step.Check functions have in common.

// probe makes one attempt to reach an address, as flows write it.
func (r *Running) probe(t testing.TB, from Place, to string, protocol proxier.Protocol, wait time.Duration) netlab.Answer {
	t.Helper()
	addr, err := r.tale.address(to)
	if err != nil {
		t.Fatal(err)
	}
	source, err := r.tale.source(from)
	if err != nil {
		t.Fatal(err)
	}
	return r.Lab.Probe(netlab.Probe{From: from.ns, Source: source, To: addr, Protocol: protocol, Wait: wait})
}

// reaches requires that a TCP connection reaches one of the places.
func (r *Running) reaches(t testing.TB, from Place, to string, names ...string) {
	t.Helper()
	a := r.probe(t, from, to, proxier.TCP, answerWait)
	if a.Verdict != netlab.Reached || !strings.Contains(" "+strings.Join(names, " ")+" ", " "+a.Name+" ") {
		t.Errorf("%s to %s: %s, want one of %v", from, to, a, names)
	}
}

// run runs a command in a namespace of the lab. Its arguments are translated as a scenario's text.
func (r *Running) run(t testing.TB, ns string, args ...string) string {
	t.Helper()
	for i := range args {
		args[i] = r.tale.text(args[i])
	}
	var out []byte
	err := r.Lab.In(ns, func() (err error) {
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s in %s: %v: %s", strings.Join(args, " "), ns, err, out)
	}
	return string(out)
}

// addAddress gives node-1 another address.
func (r *Running) addAddress(t testing.TB, prefix, link string) {
	t.Helper()
	args := []string{"ip", "addr", "add", prefix, "dev", link}
	if r.Env.IPv6 {
		args = append(args, "nodad")
	}
	r.run(t, netlab.Node1, args...)
}

// firewalls are the iptables commands whose filter table has chains of the subject in it, for the
// families of the scenario. A policy is of consequence to the subject in these only: what one
// variant accepts, the other can still drop.
func (r *Running) firewalls(t testing.TB) []string {
	t.Helper()
	var out []string
	for _, command := range []string{"iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"} {
		if six := strings.HasPrefix(command, "ip6"); six && !r.Env.IPv6 || !six && !r.Env.IPv4 {
			continue
		}
		if _, err := exec.LookPath(command); err != nil {
			continue
		}
		if strings.Contains(r.run(t, netlab.Node1, command+"-save", "-t", "filter"), ":KUBE-FORWARD") {
			out = append(out, command)
		}
	}
	if len(out) == 0 {
		t.Fatal("no filter table has the chain KUBE-FORWARD")
	}
	return out
}

// tcpSegment is a TCP segment without payload, as if it came from the middle of a connection.
func tcpSegment(src, dst netip.AddrPort, flags byte) []byte {
	const header, window = 20, 1024
	p := make([]byte, header)
	binary.BigEndian.PutUint16(p[0:], src.Port())
	binary.BigEndian.PutUint16(p[2:], dst.Port())
	binary.BigEndian.PutUint32(p[4:], 0xdeadbeef) // a sequence number far outside of any window
	binary.BigEndian.PutUint32(p[8:], 0xfeedface)
	p[12], p[13] = header/4<<4, flags
	binary.BigEndian.PutUint16(p[14:], window)
	binary.BigEndian.PutUint16(p[16:], checksum(src.Addr(), dst.Addr(), proxier.TCP, p))
	return p
}

// checksum is that of a transport segment with its pseudo header (RFC 9293, 3.1; RFC 8200, 8.1).
func checksum(src, dst netip.Addr, protocol proxier.Protocol, segment []byte) uint16 {
	pseudo := append(src.AsSlice(), dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(segment)))
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(protocol))
	var sum uint32
	for _, b := range [][]byte{pseudo, segment} {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// inject sends a crafted TCP segment from a namespace, of which src must be an address.
func (r *Running) inject(t testing.TB, ns string, src, dst netip.AddrPort, flags byte) {
	t.Helper()
	network := "ip4:tcp"
	if src.Addr().Is6() {
		network = "ip6:tcp"
	}
	err := r.Lab.In(ns, func() error {
		c, err := net.ListenIP(network, &net.IPAddr{IP: src.Addr().AsSlice()})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.WriteTo(tcpSegment(src, dst, flags), &net.IPAddr{IP: dst.Addr().AsSlice()})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
