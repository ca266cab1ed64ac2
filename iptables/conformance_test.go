package iptables_test

import (
	"context"
	"testing"

	"github.com/fairway-lb/fairway/iptables"
	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/proxiertest"
)

// TestConformance sends the packets of every scenario through both variants.
func TestConformance(t *testing.T) {
	for _, variant := range []string{"nft", "legacy"} {
		options := func(env proxiertest.Env) iptables.Options {
			return iptables.Options{Variant: variant, IPv4: env.IPv4, IPv6: env.IPv6, Intercept: env.Intercept}
		}
		t.Run(variant, func(t *testing.T) {
			proxiertest.Run(t, proxiertest.Subject{
				Name: "iptables-" + variant,
				New: func(t testing.TB, env proxiertest.Env) proxier.Backend {
					b, err := iptables.New(options(env))
					if err != nil {
						t.Fatal(err)
					}
					return b
				},
				Cleanup: func(ctx context.Context, env proxiertest.Env) error {
					return iptables.Cleanup(ctx, options(env))
				},
				Have: []proxiertest.Feature{proxiertest.TCP, proxiertest.UDP, proxiertest.SCTP, proxiertest.Affinity,
					proxiertest.Observe, proxiertest.StaleFlows, proxiertest.NoLoopbackPort,
					proxiertest.RejectFromNode, proxiertest.ProblemsDecided, proxiertest.HostAddressReject,
					proxiertest.LoopbackGuard, proxiertest.DropsInvalid, proxiertest.OpensFirewall},
			})
		})
	}
}
