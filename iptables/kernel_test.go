package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inNamespace runs the rest of the test in a network namespace of its own, which nobody can see
// by name and which goes away with the test.
func inNamespace(t *testing.T) {
	t.Helper()
	netlab.Require(t)
	runtime.LockOSThread() // the thread ends with the test's goroutine, and the namespace with it
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
}

// eachVariant runs a test with both variants, each in its namespace.
func eachVariant(t *testing.T, f func(t *testing.T, o Options)) {
	for _, variant := range []string{restore.NFT, restore.Legacy} {
		t.Run(variant, func(t *testing.T) {
			inNamespace(t)
			f(t, Options{Variant: variant, IPv4: true, IPv6: true})
		})
	}
}

func newBackend(t *testing.T, o Options) *Backend {
	t.Helper()
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustApply(t *testing.T, b *Backend, s *proxier.Snapshot) proxier.Changes {
	t.Helper()
	ch, err := b.Apply(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// command runs a program in the namespace.
func command(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

var counters = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]`)

// saved returns what iptables-save prints for both families, without comments and counters.
func saved(t *testing.T, variant string) string {
	t.Helper()
	return counters.ReplaceAllString(
		command(t, "", "iptables-"+variant+"-save")+command(t, "", "ip6tables-"+variant+"-save"), "")
}

// example has every kind of frontend and pool in both families.
func example() *proxier.Snapshot {
	s := &proxier.Snapshot{Revision: 1, HealthPorts: []uint16{32000}, Node: &proxier.Node{
		Name:      "node-1",
		Pods:      proxier.PodMatch{Prefixes: prefixes("10.244.0.0/16", "fd00:244::/32")},
		NodePorts: prefixes("0.0.0.0/0", "::/0"),
	}}
	for _, v6 := range []bool{false, true} {
		add := func(name string, proto proxier.Protocol, affinity time.Duration, endpoints int, sources []netip.Prefix, addrs ...string) {
			owner := proxier.ServicePortName{NamespacedName: proxier.NamespacedName{Namespace: "ns", Name: name}, Port: "p", Protocol: proto}
			all, here := &proxier.Pool{Owner: owner}, &proxier.Pool{Owner: owner, Scope: proxier.ThisNode, Empty: proxier.Drop}
			for i, a := range podAddrs[v6][:endpoints] {
				e := &proxier.Endpoint{Addr: a, Port: 8080, Local: i == 0, NodeName: fmt.Sprint("node-", i)}
				all.Endpoints = append(all.Endpoints, e)
				if i == 0 && endpoints > 2 {
					here.Endpoints = append(here.Endpoints, e)
				}
			}
			for i, a := range addrs {
				f := &proxier.Frontend{FrontendKey: proxier.FrontendKey{Addr: netip.MustParseAddr(a), Port: 80, Protocol: proto}, Owner: owner, Affinity: affinity}
				if f.Addr.IsUnspecified() {
					f.Kind, f.Port = proxier.NodePort, 30080
				}
				f.From = [3]proxier.Route{{Pool: all}, {Pool: all, Masquerade: true}, {Pool: all, Masquerade: i > 0}}
				if i == 2 {
					f.From[proxier.FromOutside] = proxier.Route{Pool: here}
					f.Sources = sources
				}
				s.Frontends = append(s.Frontends, f)
			}
		}
		if v6 {
			add("web", proxier.TCP, 0, 4, prefixes("fd00:20::/64"), "fd00:96::1", "::", "2001:db8:100::1")
			add("dns", proxier.UDP, 3*time.Hour, 3, nil, "fd00:96::2", "2001:db8:113::1")
			add("gone", proxier.TCP, 0, 0, prefixes("fd00:20::/64"), "fd00:96::3", "2001:db8:113::2", "2001:db8:100::2")
			add("sctp", proxier.SCTP, 0, 2, nil, "fd00:96::4", "::", "2001:db8:100::3")
			continue
		}
		add("web", proxier.TCP, 0, 4, prefixes("192.168.20.0/24"), "10.96.0.1", "0.0.0.0", "198.51.100.1")
		add("dns", proxier.UDP, 3*time.Hour, 3, nil, "10.96.0.2", "203.0.113.1")
		add("gone", proxier.TCP, 0, 0, prefixes("192.168.20.0/24"), "10.96.0.3", "203.0.113.2", "198.51.100.2")
		add("sctp", proxier.SCTP, 0, 2, nil, "10.96.0.4", "0.0.0.0", "198.51.100.3")
	}
	slices.SortFunc(s.Frontends, func(a, b *proxier.Frontend) int { return a.Compare(b.FrontendKey) })
	return s
}

func TestExampleIsValid(t *testing.T) {
	if err := example().Check(); err != nil {
		t.Fatal(err)
	}
}

// TestKernelKeepsText: what the kernel prints is what was compiled, to the letter. Else a restart
// would write again.
func TestKernelKeepsText(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		for _, list := range []bool{false, true} {
			b := newBackend(t, o)
			s := example()
			for _, f := range b.families {
				f.options.hairpinList = list
			}
			mustApply(t, b, s)
			want := Compile(s, b.families[0].options)
			for _, f := range b.families {
				for _, name := range tables {
					got, err := f.kernel.read(context.Background(), name)
					if err != nil {
						t.Fatal(err)
					}
					rules := want.IPv4
					if f.kernel.tool.V6() {
						rules = want.IPv6
					}
					if diff := cmp.Diff(text(*rules.Table(name)), text(oursOf(got))); diff != "" {
						t.Errorf("%s %s (-want +got):\n%s", f.kernel.family(), name, diff)
					}
				}
			}
		}
	})
}

// text is a table in sorted lines, without chains that are empty and built in.
func text(t restore.Table) []string {
	var out []string
	for _, c := range t.Chains {
		if c.Policy == "" || len(c.Rules) > 0 {
			out = append(out, c.Name+"\n"+strings.Join(c.Rules, "\n"))
		}
	}
	slices.Sort(out)
	return out
}

// TestKernelLifecycle: apply, apply again, restart, tampering and cleanup, among foreign rules.
func TestKernelLifecycle(t *testing.T) {
	const foreign = `*nat
:CNI-x - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
-A PREROUTING -p tcp -m tcp --dport 9 -m comment --comment "-j KUBE-SERVICES" -j CNI-x
-A CNI-x -j RETURN
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:DOCKER-USER - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -j DOCKER-USER
-A KUBE-FIREWALL -p tcp -m tcp --dport 9 -j DROP
-A OUTPUT -p udp -m udp --dport 9 -j DROP
COMMIT
`
	eachVariant(t, func(t *testing.T, o Options) {
		for _, program := range []string{"iptables-", "ip6tables-"} {
			command(t, foreign, program+o.Variant+"-restore", "--noflush")
		}
		before := saved(t, o.Variant)
		b := newBackend(t, o)
		s := example()
		if ch := mustApply(t, b, s); ch.IsZero() || !ch.Full {
			t.Errorf("first apply: %+v", ch)
		}
		programmed := saved(t, o.Variant)
		for name, again := range map[string]*Backend{"second apply": b, "restart": newBackend(t, o)} {
			s2 := *s
			s2.Frontends = slices.Clone(s.Frontends)
			s2.Revision++
			if ch := mustApply(t, again, &s2); !ch.IsZero() {
				t.Errorf("%s: %+v", name, ch)
			}
		}
		for _, args := range [][]string{
			{"-t", "nat", "-F", "KUBE-SERVICES"},
			{"-t", "nat", "-F"},
			{"-t", "filter", "-D", "INPUT", "1"},
			{"-t", "nat", "-A", "KUBE-POSTROUTING", "-j", "ACCEPT"},
			{"-t", "nat", "-I", "OUTPUT", "-m", "comment", "--comment", "kubernetes service portals", "-j", "KUBE-SERVICES"},
		} {
			command(t, "", "iptables-"+o.Variant, args...)
			b.Invalidate()
			if ch := mustApply(t, b, s); ch.IsZero() {
				t.Errorf("after iptables %v: nothing to repair", args)
			}
		}
		command(t, "*nat\n-A PREROUTING -p tcp -m tcp --dport 9 -m comment --comment \"-j KUBE-SERVICES\" -j CNI-x\n-A CNI-x -j RETURN\nCOMMIT\n",
			"iptables-"+o.Variant+"-restore", "--noflush") // -F above took them
		if diff := cmp.Diff(programmed, saved(t, o.Variant)); diff != "" {
			t.Errorf("after repairs (-want +got):\n%s", diff)
		}
		for range 2 {
			if err := Cleanup(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, saved(t, o.Variant)); diff != "" {
				t.Errorf("after cleanup (-before +after):\n%s", diff)
			}
		}
	})
}

// TestCleanupTouchesNothing: where there is nothing of ours, cleanup does not even create tables.
func TestCleanupTouchesNothing(t *testing.T) {
	inNamespace(t)
	if err := Cleanup(context.Background(), Options{}); err != nil {
		t.Fatal(err)
	}
	for _, variant := range []string{restore.NFT, restore.Legacy} {
		if got := saved(t, variant); got != "" {
			t.Errorf("%s: %s", variant, got)
		}
	}
}

// TestTakeOver: the rules of a kube-proxy give way to ours, and nothing of it remains.
func TestTakeOver(t *testing.T) {
	old, err := os.ReadFile("testdata/kube-proxy.rules")
	if err != nil {
		t.Fatal(err)
	}
	eachVariant(t, func(t *testing.T, o Options) {
		o.IPv6 = false
		command(t, string(old), "iptables-"+o.Variant+"-restore", "--noflush")
		b := newBackend(t, o)
		mustApply(t, b, example())
		taken, err := b.Observe(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if err := Cleanup(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		if rest := saved(t, o.Variant); strings.Contains(strings.ReplaceAll(rest, "KUBE-FIREWALL", ""), "KUBE-") {
			t.Errorf("left over:\n%s", rest)
		}
		mustApply(t, newBackend(t, o), example())
		fresh, err := b.Observe(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fresh, taken); diff != "" {
			t.Errorf("(-fresh +taken over):\n%s", diff)
		}
	})
}

// TestRefusedPort: what the kernel refuses for one Service port does not keep others from being
// programmed, and is tried again when it changes.
func TestRefusedPort(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		o.IPv6 = false
		b := newBackend(t, o)
		s := example()
		bad := *s
		bad.Frontends = slices.Clone(s.Frontends)
		spoiled := 0
		for i, f := range bad.Frontends {
			if f.Owner.Name == "dns" && f.Addr.Is4() {
				g := *f
				g.Affinity = 1 << 33 * time.Second // more seconds than xt_recent can count
				bad.Frontends[i] = &g
				spoiled++
			}
		}
		if spoiled == 0 {
			t.Fatal("nothing spoiled")
		}
		for i := range 2 {
			_, err := b.Apply(context.Background(), &bad)
			var op *proxier.OpError
			if !errors.As(err, &op) || !strings.Contains(err.Error(), "ns/dns:p") || strings.Contains(err.Error(), "web") {
				t.Fatalf("apply %d: %v", i, err)
			}
		}
		rules := saved(t, o.Variant)
		if !strings.Contains(rules, "-d 10.96.0.1/32") || strings.Contains(rules, "-d 10.96.0.2/32") || strings.Contains(rules, tryChain) {
			t.Errorf("not only what is good:\n%s", rules)
		}
		mustApply(t, b, s)
		if !strings.Contains(saved(t, o.Variant), "-d 10.96.0.2/32") {
			t.Error("not programmed after it was mended")
		}
		if _, err := b.Apply(context.Background(), &bad); err == nil {
			t.Error("no error for what is bad again")
		}
		if !strings.Contains(saved(t, o.Variant), "-d 10.96.0.2/32") {
			t.Error("the old rules did not stay")
		}
	})
}

// TestWithoutBPF: a kernel without xt_bpf gets a hairpin rule per endpoint instead.
func TestWithoutBPF(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		o.IPv6 = false
		refuse := true // as such a kernel would, the first script
		o.Intercept = func(op, object string) error {
			if op == "iptables-restore" && object == "ip nat" && refuse {
				refuse = false
				return &restore.ExitError{Code: 1, Stderr: "no such match"}
			}
			return nil
		}
		b := newBackend(t, o)
		mustApply(t, b, example())
		rules := saved(t, o.Variant)
		if strings.Contains(rules, "-m bpf") || !strings.Contains(rules, "-s 10.244.1.11/32 -d 10.244.1.11/32 -j MASQUERADE") {
			t.Errorf("not a hairpin rule per endpoint:\n%s", rules)
		}
		if ch := mustApply(t, b, example()); !ch.IsZero() {
			t.Errorf("again: %v", ch)
		}
	})
}

// TestFamiliesAreIndependent: an error in one family does not keep the other from being
// programmed, and the next apply mends it.
func TestFamiliesAreIndependent(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		broken := errors.New("broken")
		fail := true
		o.Intercept = func(_, object string) error {
			if fail && object == "ip nat" {
				return broken
			}
			return nil
		}
		b := newBackend(t, o)
		if _, err := b.Apply(context.Background(), example()); !errors.Is(err, broken) || !strings.Contains(err.Error(), "ip nat") {
			t.Errorf("got %v", err)
		}
		if rules := saved(t, o.Variant); strings.Contains(rules, "-d 10.96.0.1/32") || !strings.Contains(rules, "-d fd00:96::1/128") {
			t.Errorf("not IPv6 alone:\n%s", rules)
		}
		fail = false
		if ch := mustApply(t, b, example()); ch.IsZero() {
			t.Error("nothing to do after an error")
		}
	})
}

// TestForeignReference: a chain of ours that somebody else's rule jumps to is emptied rather than
// deleted, also if that rule came after we read the tables.
func TestForeignReference(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		o.IPv6 = false
		b := newBackend(t, o)
		s := example()
		mustApply(t, b, s)
		program := "iptables-" + o.Variant
		chain := svcPrefix + hash("ns/web:p", "tcp")
		command(t, "", program, "-t", "nat", "-A", "PREROUTING", "-s", "203.0.113.99/32", "-j", chain)
		command(t, "", program, "-t", "nat", "-A", "POSTROUTING", "-s", "203.0.113.99/32", "-j", markChain)
		none := *s
		none.Frontends = nil
		if ch := mustApply(t, b, &none); !ch.Full {
			t.Error("not read again")
		}
		if got := command(t, "", program, "-t", "nat", "-S", chain); strings.TrimSpace(got) != "-N "+chain {
			t.Errorf("not emptied: %s", got)
		}
		if ch := mustApply(t, newBackend(t, o), &none); !ch.IsZero() {
			t.Errorf("restart: %v", ch)
		}
		if err := Cleanup(context.Background(), o); err != nil {
			t.Fatal(err)
		}
		want := "-A PREROUTING -s 203.0.113.99/32 -j " + chain
		if rest := saved(t, o.Variant); !strings.Contains(rest, want) || strings.Contains(rest, servicesChain) {
			t.Errorf("after cleanup:\n%s", rest)
		}
	})
}
