package netlab

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"golang.org/x/sys/unix"
)

// A Probe is one attempt of a client to reach a server of the lab.
type Probe struct {
	From     string           // namespace
	Source   netip.AddrPort   // what to bind to; zero address: any; zero port: one not used before
	To       netip.AddrPort   // where to
	Protocol proxier.Protocol // zero: TCP
	Wait     time.Duration    // how long silence lasts; zero: 350 ms
}

// A Verdict is what became of a Probe.
type Verdict uint8

// The verdicts.
const (
	Silent  Verdict = iota // nothing came back in time
	Reached                // a server answered
	Refused                // a TCP reset or an ICMP unreachable came back
	Failed                 // it could not be tried: see Answer.Err
)

// String returns silent, reached, refused or failed.
func (v Verdict) String() string { return [...]string{"silent", "reached", "refused", "failed"}[v] }

// An Answer is what a Probe brought.
type Answer struct {
	Verdict Verdict
	Name    string         // Reached: who answered
	Seen    netip.AddrPort // Reached: the client as the server saw it
	Local   netip.AddrPort // the client's own address, if known
	Resent  int            // TCP segments that had to be sent again
	Took    time.Duration
	Err     error // of Silent, Refused and Failed
}

// String returns the answer in a few words.
func (a Answer) String() string {
	switch {
	case a.Verdict == Reached && a.Resent > 0:
		return fmt.Sprintf("%s (seen as %s, resent %d)", a.Name, a.Seen, a.Resent)
	case a.Verdict == Reached:
		return fmt.Sprintf("%s (seen as %s)", a.Name, a.Seen)
	}
	return fmt.Sprintf("%s after %s: %v", a.Verdict, a.Took.Round(time.Millisecond), a.Err)
}

const silence = 350 * time.Millisecond

// Probe makes one attempt.
func (l *Lab) Probe(p Probe) Answer { return l.Probes(p, 1)[0] }

// Probes makes up to n attempts, one after the other. It stops after the first that is not
// Reached.
func (l *Lab) Probes(p Probe, n int) []Answer {
	p.Wait = cmp.Or(p.Wait, silence)
	var out []Answer
	err := l.In(p.From, func() error {
		for range n {
			q := p
			if q.Source.Port() == 0 {
				q.Source = netip.AddrPortFrom(p.Source.Addr(), l.sourcePort(p.From))
			}
			out = append(out, q.try())
			if out[len(out)-1].Verdict != Reached {
				break
			}
		}
		return nil
	})
	if err != nil {
		return []Answer{{Verdict: Failed, Err: err}}
	}
	return out
}

// Source ports of clients, outside of what the kernel, NodePorts and the servers of proxies (10249,
// 10256) use.
const firstPort, lastPort = 11000, 29999

// sourcePort returns a port that no client of the namespace used lately. The kernel would choose
// at random, and now and then the one of a connection that nobody answered: the connection table
// remembers that for two minutes, and sends the new connection where the old one went.
func (l *Lab) sourcePort(ns string) uint16 {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.ports[ns]
	l.ports[ns]++
	return uint16(firstPort + n%(lastPort-firstPort+1))
}

// try makes the attempt from the calling thread's namespace.
func (p Probe) try() (a Answer) {
	icmp := unreachables()
	start := time.Now()
	var text string
	switch p.Protocol {
	case 0, proxier.TCP:
		text, a = p.tcp()
	case proxier.UDP:
		text, a = p.udp()
	case proxier.SCTP:
		text, a = p.sctp()
	default:
		a.Err = fmt.Errorf("no client for %s", p.Protocol)
	}
	a.Took = time.Since(start)
	switch {
	case a.Err == nil:
		a.Verdict = Reached
		var seen string
		a.Name, seen, _ = strings.Cut(strings.TrimSpace(text), " ")
		if a.Seen, a.Err = netip.ParseAddrPort(seen); a.Err != nil {
			a.Verdict = Failed
		}
	case errors.Is(a.Err, syscall.ECONNREFUSED), errors.Is(a.Err, syscall.ECONNRESET), errors.Is(a.Err, errAbort):
		a.Verdict = Refused
	case isTimeout(a.Err):
		// TCP over IPv6 tells of an ICMP error only at its first retransmission, after 1 s.
		if unreachables() != icmp {
			a.Verdict, a.Err = Refused, errors.New("ICMP unreachable")
		}
	default:
		a.Verdict = Failed
	}
	return a
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func (p Probe) tcp() (string, Answer) {
	d := net.Dialer{Timeout: p.Wait, KeepAlive: -1, Control: reuseAddress, LocalAddr: net.TCPAddrFromAddrPort(p.Source)}
	c, err := d.Dial("tcp", p.To.String())
	if err != nil {
		return "", Answer{Err: err}
	}
	defer c.Close()
	conn := c.(*net.TCPConn)
	// A reset leaves no TIME_WAIT behind, so that a fixed source port can be used again.
	_ = conn.SetLinger(0)
	a := Answer{Local: conn.LocalAddr().(*net.TCPAddr).AddrPort()}
	_ = conn.SetDeadline(time.Now().Add(p.Wait))
	text, err := bufio.NewReader(conn).ReadString('\n')
	a.Err = err
	a.Resent = retransmits(conn)
	return text, a
}

func (p Probe) udp() (string, Answer) {
	d := net.Dialer{Control: reuseAddress, LocalAddr: net.UDPAddrFromAddrPort(p.Source)}
	c, err := d.Dial("udp", p.To.String())
	if err != nil {
		return "", Answer{Err: err}
	}
	defer c.Close()
	a := Answer{Local: c.LocalAddr().(*net.UDPAddr).AddrPort()}
	_ = c.SetDeadline(time.Now().Add(p.Wait))
	// EPERM: a rule did not let it out. If it refused, that arrives as well.
	if _, a.Err = c.Write([]byte("hello\n")); a.Err != nil && !errors.Is(a.Err, syscall.EPERM) {
		return "", a
	}
	buf := make([]byte, 256)
	n, err := c.Read(buf)
	a.Err = err
	return string(buf[:n]), a
}

func reuseAddress(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
}

func retransmits(c *net.TCPConn) int {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Total_retrans)
		}
	})
	return n
}
