package proxiertest

import (
	"context"
	"testing"

	"github.com/fairway-lb/fairway/iptables"
	"github.com/fairway-lb/fairway/proxier"
)

// iptablesOptions are those of the backend that the suite's own tests use.
func iptablesOptions(variant string, env Env) iptables.Options {
	return iptables.Options{Variant: variant, IPv4: env.IPv4, IPv6: env.IPv6, Intercept: env.Intercept}
}

// iptablesSubject is the iptables backend, for the tests of the suite itself.
func iptablesSubject(variant string) Subject {
	return Subject{
		Name: "iptables-" + variant,
		New: func(t testing.TB, env Env) proxier.Backend {
			t.Helper()
			b, err := iptables.New(iptablesOptions(variant, env))
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
		Cleanup: func(ctx context.Context, env Env) error {
			return iptables.Cleanup(ctx, iptablesOptions(variant, env))
		},
		Have: []Feature{UDP, SCTP, Affinity, Observe, StaleFlows, NoLoopbackPort, RejectFromNode, ProblemsDecided, HostAddressReject,
			LoopbackGuard, DropsInvalid, OpensFirewall},
	}
}
