package netlab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/wait"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var families = []struct {
	name     string
	v6       bool
	iptables string
}{{"IPv4", false, "iptables"}, {"IPv6", true, "ip6tables"}}

func family(a netip.Addr, v6 bool) netip.Addr {
	if v6 {
		return V6(a)
	}
	return a
}

// Everybody reaches everybody without any rule, and is seen with his own address.
func TestPlainTraffic(t *testing.T) {
	l := New(t, Options{Pods: []string{"a", "b", "f"}})
	for _, fam := range families {
		for _, proto := range []proxier.Protocol{proxier.TCP, proxier.UDP, proxier.SCTP} {
			for _, to := range l.Places() {
				at := netip.AddrPortFrom(family(Addr(to), fam.v6), 8080)
				if err := l.Serve(to, proto, at); err != nil {
					t.Fatal(err)
				}
				for _, from := range l.Places() {
					a := l.Probe(Probe{From: from, To: at, Protocol: proto, Wait: 15 * time.Second})
					if a.Verdict != Reached || a.Name != to || a.Seen != a.Local {
						t.Errorf("%s from %s to %s (%s): %s from %s", proto, from, to, at, a, a.Local)
					}
				}
			}
		}
	}
}

func TestVerdicts(t *testing.T) {
	l := New(t, Options{Pods: []string{"a", "f"}})
	for _, fam := range families {
		for _, proto := range []proxier.Protocol{proxier.TCP, proxier.UDP, proxier.SCTP} {
			closed := netip.AddrPortFrom(family(Addr("f"), fam.v6), 9)
			nobody := netip.AddrPortFrom(family(netip.MustParseAddr("203.0.113.7"), fam.v6), 9)
			filtered := netip.AddrPortFrom(family(Addr("f"), fam.v6), 10)
			for _, cmd := range []string{
				// REJECT's ICMP is what kube-proxy refuses with.
				fmt.Sprintf("-A FORWARD -p %s --dport 9 -j REJECT", strings.ToLower(proto.String())),
				fmt.Sprintf("-A FORWARD -p %s --dport 10 -d %s -j DROP", strings.ToLower(proto.String()), filtered.Addr()),
			} {
				run(t, l, Node1, fam.iptables, strings.Fields(cmd)...)
			}
			for _, tc := range []struct {
				to   netip.AddrPort
				wait time.Duration
				want Verdict
			}{{closed, 15 * time.Second, Refused}, {filtered, 0, Silent}, {netip.AddrPortFrom(nobody.Addr(), 11), 0, Silent}} {
				before := arrivals(t, l, "f")
				if a := l.Probe(Probe{From: "a", To: tc.to, Protocol: proto, Wait: tc.wait}); a.Verdict != tc.want {
					t.Errorf("%s to %s: %s, want %s", proto, tc.to, a, tc.want)
				}
				if n := arrivals(t, l, "f") - before; n != 0 {
					t.Errorf("%s to %s: %d packets arrived", proto, tc.to, n)
				}
			}
		}
		// A reset from a host without listener.
		a := l.Probe(Probe{From: "a", To: netip.AddrPortFrom(family(Addr("f"), fam.v6), 12), Wait: 15 * time.Second})
		if a.Verdict != Refused || arrivals(t, l, "f") == 0 {
			t.Errorf("closed port: %s", a)
		}
	}
}

// Translated and masqueraded connections are seen as such, in every protocol.
func TestTranslation(t *testing.T) {
	l := New(t, Options{Pods: []string{"a", "b", "f"}})
	for _, fam := range families {
		vip := netip.AddrPortFrom(family(netip.MustParseAddr("10.96.0.10"), fam.v6), 80)
		for _, proto := range []proxier.Protocol{proxier.TCP, proxier.UDP, proxier.SCTP} {
			at := netip.AddrPortFrom(family(Addr("f"), fam.v6), 8080)
			if err := l.Serve("f", proto, at); err != nil {
				t.Fatal(err)
			}
			run(t, l, Node1, fam.iptables, strings.Fields(fmt.Sprintf(
				"-t nat -A PREROUTING -d %s -p %s --dport 80 -j DNAT --to %s", vip.Addr(), strings.ToLower(proto.String()), at))...)
			run(t, l, Node1, fam.iptables, strings.Fields(fmt.Sprintf(
				"-t nat -A POSTROUTING -p %s -s %s -j MASQUERADE", strings.ToLower(proto.String()), family(Addr("b"), fam.v6)))...)
			for _, tc := range []struct{ from, seen string }{
				{"a", "10.244.1.11"}, {"outside", "192.168.20.9"}, {"b", "192.168.10.1"},
			} {
				a := l.Probe(Probe{From: tc.from, To: vip, Protocol: proto, Wait: 15 * time.Second})
				if want := family(netip.MustParseAddr(tc.seen), fam.v6); a.Name != "f" || a.Seen.Addr() != want {
					t.Errorf("%s from %s: %s, want seen as %s", proto, tc.from, a, want)
				}
			}
		}
	}
}

func TestFixedSource(t *testing.T) {
	l := New(t, Options{Pods: []string{"a"}})
	for _, proto := range []proxier.Protocol{proxier.TCP, proxier.UDP, proxier.SCTP} {
		at := netip.AddrPortFrom(Addr("a"), 8080)
		if err := l.Serve("a", proto, at); err != nil {
			t.Fatal(err)
		}
		source := netip.AddrPortFrom(OutsideAddrs[2], 4444)
		for range 3 {
			a := l.Probe(Probe{From: Outside, Source: source, To: at, Protocol: proto, Wait: 15 * time.Second})
			if a.Verdict != Reached || a.Seen != source {
				t.Errorf("%s: %s, want seen as %s", proto, a, source)
			}
		}
	}
}

func TestStreamAndChurn(t *testing.T) {
	l := New(t, Options{Pods: []string{"a", "f"}})
	at := netip.AddrPortFrom(Addr("f"), 8080)
	if err := l.Serve("f", proxier.TCP, at); err != nil {
		t.Fatal(err)
	}
	s, err := l.Stream("a", at)
	if err != nil {
		t.Fatal(err)
	}
	stop := l.Churn("a", proxier.TCP, 2, 15*time.Second, at)
	if err := s.Alive(20); err != nil {
		t.Error(err)
	}
	if c := stop(); c.Err() != nil || c.Names["f"] != c.OK {
		t.Errorf("%+v", c)
	}
	stop = l.Churn("a", proxier.TCP, 1, 50*time.Millisecond, netip.AddrPortFrom(Addr("f"), 9))
	if c := stop(); c.OK != 0 || c.Failed == 0 || c.Err() == nil {
		t.Errorf("nobody listens, but: %+v", c)
	}
	run(t, l, Node1, "iptables", "-I", "FORWARD", "-p", "tcp", "--dport", "8080", "-j", "REJECT", "--reject-with", "tcp-reset")
	for deadline := time.Now().Add(30 * time.Second); s.Alive(1) == nil; {
		if time.Now().After(deadline) {
			t.Fatal("the stream survived a reset")
		}
	}
	if s.Close() == nil {
		t.Error("a broken stream closed without an error")
	}
}

func run(t *testing.T, l *Lab, ns, name string, args ...string) {
	t.Helper()
	err := l.In(ns, func() error {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func arrivals(t *testing.T, l *Lab, ns string) uint64 {
	t.Helper()
	n, err := l.Arrivals(ns)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func exists(ns string) bool {
	_, err := os.Stat("/run/netns/" + ns)
	return err == nil
}

// leaver is set in the child processes of TestLeftovers.
const leaver = "NETLAB_TEST_LEAVER"

// A lab goes away on every way out: closed, by a signal, and, after SIGKILL, with the next Build.
func TestLeftovers(t *testing.T) {
	if os.Getenv(leaver) != "" {
		l := New(t, Options{Pods: []string{"a"}})
		fmt.Println(l.Namespace("a"))
		time.Sleep(time.Minute)
		return
	}
	Require(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLeftovers$")
		cmd.Env = append(os.Environ(), leaver+"=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var ns string
		if _, err := fmt.Fscanln(out, &ns); err != nil || !exists(ns) {
			t.Errorf("no lab %q: %v", ns, err)
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		err = cmd.Wait()
		if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != sig {
			t.Errorf("%s: ended with %v", sig, err)
		}
		if sig == syscall.SIGKILL {
			l := New(t, Options{Pods: []string{}})
			_ = l.Close()
		}
		if exists(ns) {
			t.Errorf("%s: %s is still there", sig, ns)
		}
	}
	l := New(t, Options{Pods: []string{"a"}})
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if exists(l.Namespace("a")) {
		t.Errorf("closed: %s is still there", l.Namespace("a"))
	}
}

func BenchmarkBuild(b *testing.B) {
	Require(b)
	for b.Loop() {
		l, err := Build(Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSniff(t *testing.T) {
	l := New(t, Options{Pods: []string{"a"}})
	for _, fam := range families {
		for _, proto := range []proxier.Protocol{proxier.TCP, proxier.UDP, proxier.SCTP} {
			to := netip.AddrPortFrom(family(netip.MustParseAddr("203.0.113.7"), fam.v6), 99)
			wait.Until(t, fmt.Sprintf("%s to %s is seen outside", proto, to), func() bool {
				stop, err := l.Sniff(Outside)
				if err != nil {
					t.Fatal(err)
				}
				l.Probe(Probe{From: "a", To: to, Protocol: proto, Wait: 20 * time.Millisecond})
				return slices.ContainsFunc(stop(), func(s Sighting) bool {
					return s.Dst == to && s.Src.Addr() == family(Addr("a"), fam.v6) && s.Protocol == proto
				})
			})
		}
	}
}
