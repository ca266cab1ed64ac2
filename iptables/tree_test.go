package iptables

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/iptables/trace"
	"github.com/fairway-lb/fairway/proxier"
)

// TestTreeFindsEveryEntry: whatever the entries are, each is found, nothing else is, and no chain
// is longer than it must be.
func TestTreeFindsEveryEntry(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.Custom(drawKey), 0, 200, func(k proxier.FrontendKey) proxier.FrontendKey { return k }).Draw(t, "keys")
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

// TestCompileIsCanonical: rules depend on the set of frontends, not on how it came about.
func TestCompileIsCanonical(t *testing.T) {
	place := placements()["random"]
	want := services(300, false, place)
	b := family{}
	r := rand.New(rand.NewPCG(3, 4))
	var known map[poolKey]restore.Chain
	for range 5 { // other snapshots first, through the same cache
		s := *want
		s.Frontends = slices.DeleteFunc(slices.Clone(want.Frontends), func(*proxier.Frontend) bool { return r.IntN(2) == 0 })
		known = compile(inputOf(&s, false), b.options, known).pools
	}
	got := compile(inputOf(want, false), b.options, known)
	if diff := cmp.Diff(compile(inputOf(want, false), b.options, nil).ruleset(), got.ruleset()); diff != "" {
		t.Errorf("(-fresh +through the cache):\n%s", diff)
	}
	if len(got.pools) != 300 {
		t.Errorf("%d pools in the cache, want 300", len(got.pools))
	}
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
