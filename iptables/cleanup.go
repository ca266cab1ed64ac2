package iptables

import (
	"context"
	"errors"

	"github.com/fairway-lb/fairway/iptables/restore"
)

// Cleanup removes our chains and our rules in built-in chains, in this network namespace, and
// those that a kube-proxy in iptables mode left; nothing else. Without a variant or a family in
// o, it does so in all that the machine has. It continues after an error.
//
// Tables that are empty then stay: neither variant says who made them. A chain that somebody
// else's rule refers to stays too, without rules.
func Cleanup(ctx context.Context, o Options) error {
	variants := []string{o.Variant}
	if o.Variant == "" {
		variants = []string{restore.NFT, restore.Legacy}
	}
	var errs, missing []error
	for _, variant := range variants {
		for _, v6 := range []bool{false, true} {
			if both := !o.IPv4 && !o.IPv6; !both && (v6 && !o.IPv6 || !v6 && !o.IPv4) {
				continue
			}
			k, err := newKernel(o, variant, v6)
			if err != nil {
				missing = append(missing, err)
				continue
			}
			errs = append(errs, cleanup(ctx, k))
		}
	}
	if len(errs) == 0 {
		return errors.Join(missing...)
	}
	return errors.Join(errs...)
}

// cleanup takes the nat table first: while it translates, the filter table may not open.
func cleanup(ctx context.Context, k *kernel) error {
	var errs []error
	for _, name := range []string{"nat", "filter"} {
		if !k.exists(name) {
			continue
		}
		t, err := k.read(ctx, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if e := diff(stateOf(t), patch{table: name, whole: true}); !e.empty() {
			errs = append(errs, k.write(ctx, name, e.script()))
		}
	}
	return errors.Join(errs...)
}
