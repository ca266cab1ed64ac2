package proxiertest

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/resolve"
)

// The snapshot must ask for what the oracle says of every packet, whatever happened to the
// cluster before.
func TestResolveAgreesWithOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dual := rapid.Bool().Draw(t, "dual stack")
		config := RandomConfig(t)
		cluster := NewRandomCluster(dual)
		packets := cluster.Packets()
		resolver := resolve.New(resolveOptions(config, true, dual))
		var in resolve.Inputs
		const share = 8 // one packet in so many is looked at after each change
		turn := rapid.IntRange(0, share-1).Draw(t, "turn")
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			t.Log(cluster.Change(t))
			in = cluster.Objects.Inputs(in)
			snapshot := resolver.Resolve(in)
			if err := snapshot.Check(); err != nil {
				t.Fatal(err)
			}
			turn++
			for i := turn % share; i < len(packets); i += share {
				p := packets[i]
				want, got := Oracle(cluster.Objects, config, p), Route(snapshot, Local(), p)
				if want.Kind != got.Kind || want.Masquerade != got.Masquerade || want.Sticky != got.Sticky ||
					!slices.Equal(want.Endpoints, got.Endpoints) {
					t.Fatalf("%+v\noracle:   %+v\nsnapshot: %+v\nconfig %+v\n%s", p, want, got, config, Text(snapshot))
				}
			}
		}
		again := resolve.New(resolveOptions(config, true, dual)).Resolve(cluster.Objects.Inputs(resolve.Inputs{}))
		snapshot := resolver.Resolve(in)
		if diff := cmp.Diff(again, snapshot, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.IgnoreFields(proxier.Snapshot{}, "Revision")); diff != "" {
			t.Fatalf("a resolver that saw every change (+) differs from one that saw only the last state (-):\n%s", diff)
		}
	})
}
