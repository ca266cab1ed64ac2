package iptables

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/iptables/trace"
	"github.com/fairway-lb/fairway/proxier"
)

// TestTreeFindsEveryEntry: whatever the entries are, each is found, nothing else is, and no chain
// is longer than it must be.
func TestTreeFindsEveryEntry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := drawKeys(t)
		var entries []entry
		for _, k := range keys {
			to := netip.AddrPortFrom(podAddrs[false][0], k.Port)
			entries = append(entries, entry{key: k, rules: []string{keyMatch(k) + " -j DNAT --to-destination " + to.String()}})
		}
		slices.SortFunc(entries, compareEntries)
		tr := tree{root: "root", prefix: addressPrefix, flag: "-d"}
		table := restore.Table{Name: "nat", Chains: append(tr.build(entries), builtin("PREROUTING", "-j root"))}
		m, err := trace.New(restore.Ruleset{table}, isLocal)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range tr.chains {
			if len(c.Rules) > max(leafSize, 1<<levelBits) {
				t.Fatalf("%d rules in %s", len(c.Rules), c.Name)
			}
		}
		for range 50 {
			keys = append(keys, drawKey(t))
		}
		for _, k := range keys {
			out, err := m.Run(trace.Packet{Src: outsideAddrs[false][0], Dst: k.Addr, Port: k.Port, Protocol: protocol(k.Protocol), In: "eth0"})
			if err != nil {
				t.Fatal(err)
			}
			found := out[0].To.Addr() == podAddrs[false][0]
			if want := slices.ContainsFunc(entries, func(e entry) bool { return e.key == k }); found != want {
				t.Fatalf("%v found: %v, is there: %v\n%s", k, found, want, table.Append(nil))
			}
		}
	})
}

// drawKeys draws up to 200 keys, mostly many.
func drawKeys(t *rapid.T) []proxier.FrontendKey {
	n := rapid.IntRange(0, 200).Draw(t, "number of keys")
	return rapid.SliceOfNDistinct(rapid.Custom(drawKey), n, n, func(k proxier.FrontendKey) proxier.FrontendKey { return k }).Draw(t, "keys")
}

// drawKey draws keys that crowd: few addresses, few ports, close to each other.
func drawKey(t *rapid.T) proxier.FrontendKey {
	return proxier.FrontendKey{
		Addr:     netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 1).Draw(t, "b")), 0, byte(rapid.IntRange(0, 30).Draw(t, "d"))}),
		Port:     uint16(rapid.SampledFrom([]int{0, 1 << 15}).Draw(t, "range") + rapid.IntRange(1, 40).Draw(t, "port")),
		Protocol: rapid.SampledFrom([]proxier.Protocol{proxier.TCP, proxier.UDP, proxier.SCTP}).Draw(t, "protocol"),
	}
}

// nested returns a snapshot whose addresses make the deepest tree there is: each shares two bits
// more with the last one than the one before.
func nested() *proxier.Snapshot {
	s := services(1, true, func(int) uint16 { return 1 })
	one := s.Frontends[0]
	s.Frontends = nil
	last := netip.MustParseAddr("fd00:96::ff")
	for bit := range 128 {
		b := last.As16()
		b[bit/8] ^= 0x80 >> (bit % 8)
		f := *one
		f.Kind = proxier.LoadBalancer
		f.Addr, f.Port = netip.AddrFrom16(b), 80
		f.Sources = prefixes("fd00:20::/64")
		f.From[proxier.FromOutside].Masquerade = false // so that both EXT and FW chains are on the way
		s.Frontends = append(s.Frontends, &f)
	}
	slices.SortFunc(s.Frontends, func(a, b *proxier.Frontend) int { return a.Compare(b.FrontendKey) })
	return s
}

// TestTreeDepth: nf_tables takes the deepest tree there can be.
func TestTreeDepth(t *testing.T) {
	inNamespace(t)
	b := newBackend(t, Options{Variant: restore.NFT, IPv6: true})
	s := nested()
	if _, err := b.Apply(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	m := machine(t, Compile(s, Options{IPv6: true}).IPv6)
	for _, f := range s.Frontends {
		rulesBefore(t, m, trace.Packet{Src: netip.MustParseAddr("fd00:20::9"), Dst: f.Addr, Protocol: "tcp", Port: 80, In: "eth0"})
	}
}

// TestTreePart: of two trees, the parts that may not be alike, taken out of one and put in from the
// other, make the one into the other.
func TestTreePart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := drawKeys(t)
		differs := rapid.SampledFrom([]func(proxier.FrontendKey) bool{
			func(proxier.FrontendKey) bool { return true },
			func(proxier.FrontendKey) bool { return rapid.IntRange(0, 20).Draw(t, "one in 20") == 0 },
			func(k proxier.FrontendKey) bool { return k.Addr.As4()[1] == 1 }, // so that roots differ
			func(k proxier.FrontendKey) bool { return k.Addr.As4()[3] >= 16 },
			func(k proxier.FrontendKey) bool { return k.Port >= 1<<15 },
			func(k proxier.FrontendKey) bool { return k.Protocol != proxier.TCP },
		}).Draw(t, "what differs")
		how := rapid.SampledFrom([][]int{{0}, {1}, {2}, {0, 1, 2}}).Draw(t, "how")
		var a, b, differ []entry
		for _, k := range keys {
			e := entry{key: k, rules: []string{keyMatch(k) + " -j ACCEPT"}}
			if !differs(k) {
				a, b = append(a, e), append(b, e)
				continue
			}
			differ = append(differ, e)
			switch how[rapid.IntRange(0, len(how)-1).Draw(t, "which")] {
			case 0:
				a = append(a, e)
			case 1:
				b = append(b, e)
			case 2:
				a = append(a, e)
				b = append(b, entry{key: k, rules: append([]string{keyMatch(k) + " -j RETURN"}, e.rules...)})
			}
		}
		for _, l := range [][]entry{a, b, differ} {
			slices.SortFunc(l, compareEntries)
		}
		part := func(entries, other []entry) []restore.Chain {
			tr := tree{root: "root", prefix: addressPrefix, flag: "-d"}
			return tr.part(entries, other, differ)
		}
		got := map[string][]string{}
		for _, c := range part(a, nil) {
			got[c.Name] = c.Rules
		}
		for _, c := range part(a, b) {
			delete(got, c.Name)
		}
		for _, c := range part(b, a) {
			got[c.Name] = c.Rules
		}
		want := map[string][]string{}
		for _, c := range part(b, nil) {
			want[c.Name] = c.Rules
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestProbability(t *testing.T) {
	for n, want := range map[int]string{1: "", 2: "0.50000000000", 3: "0.33333333349", 7: "0.14285714272", 10000: "0.00009999983"} {
		if want != "" {
			want = " -m statistic --mode random --probability " + want
		}
		if got := probability(n); got != want {
			t.Errorf("probability(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestComment(t *testing.T) {
	name := proxier.ServicePortName{NamespacedName: proxier.NamespacedName{Namespace: "a\"b\n-j ACCEPT", Name: fmt.Sprintf("%0300d", 0)}}
	got := new(compiler).comment(name)
	args := restore.Args(got)
	if len(args) != 4 || len(args[3]) != maxComment || args[3][:14] != "a_b_-j_ACCEPT/" {
		t.Errorf("%q", args)
	}
}
