package forward

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
)

// A policy puts upstreams in the order in which they are asked. It may change its argument.
type policy func([]*Upstream) []*Upstream

func policyOf(name string) (policy, error) {
	switch name {
	case "random", "":
		return randomOrder, nil
	case "round_robin":
		turn := new(atomic.Uint32)
		return func(us []*Upstream) []*Upstream {
			if len(us) == 0 {
				return us
			}
			// The one whose turn it is, then the others as in the Corefile.
			i := int(turn.Add(1) % uint32(len(us)))
			first := us[i]
			return slices.Insert(slices.Delete(us, i, i+1), 0, first)
		}, nil
	case "sequential":
		return func(us []*Upstream) []*Upstream { return us }, nil
	}
	return nil, fmt.Errorf("unknown policy %q", name)
}

func randomOrder(us []*Upstream) []*Upstream {
	rand.Shuffle(len(us), func(i, j int) { us[i], us[j] = us[j], us[i] })
	return us
}
