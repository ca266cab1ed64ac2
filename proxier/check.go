package proxier

import (
	"errors"
	"fmt"
	"slices"
)

// Check reports every way in which s breaks the promises of its types: order, uniqueness, one
// address family per frontend, pools that are set and shared. It is for tests and for producers
// that want to be sure; it walks the whole snapshot.
func (s *Snapshot) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Node == nil {
		bad("snapshot %d has no node", s.Revision)
	}
	for i, svc := range s.Services {
		if i > 0 && s.Services[i-1].Compare(svc.NamespacedName) >= 0 {
			bad("service %s is out of order", svc)
		}
	}
	if !slices.IsSorted(s.HealthPorts) {
		bad("health ports are not sorted")
	}
	type poolName struct {
		owner ServicePortName
		v6    bool
		scope Scope
	}
	pools := map[poolName]*Pool{}
	check := func(f *Frontend, p *Pool) {
		name := poolName{f.Owner, f.Addr.Is6(), p.Scope}
		if was, ok := pools[name]; ok && was != p {
			bad("frontend %s does not share the pool of %v", f, name)
		} else if !ok {
			pools[name] = p
			checkPool(f, p, bad)
		}
	}
	for i, f := range s.Frontends {
		if i > 0 && s.Frontends[i-1].Compare(f.FrontendKey) >= 0 {
			bad("frontend %s is out of order", f)
		}
		if !f.Addr.IsValid() || f.Addr.Is4In6() || f.Addr.Zone() != "" || f.Port == 0 {
			bad("frontend %s is not a canonical address and port", f)
		}
		if f.IsNodePort() != (f.Kind == NodePort) {
			bad("frontend %s is of kind %s", f, f.Kind)
		}
		for _, p := range f.Sources {
			if p.Addr().Is6() != f.Addr.Is6() || p != p.Masked() {
				bad("frontend %s has source %s", f, p)
			}
		}
		if s.Node != nil && s.Node.Pods.For(f.Addr.Is6()).IsZero() && f.From[FromPod] != f.From[FromOutside] {
			bad("frontend %s treats pods apart, but the node cannot tell them", f)
		}
		for o, r := range f.From {
			if r.Pool == nil {
				bad("frontend %s has no pool from %s", f, Origin(o))
				continue
			}
			if r.Pool.Scope == StandsIn {
				bad("frontend %s has a stand-in always from %s", f, Origin(o))
			}
			check(f, r.Pool)
		}
		if f.StandIn != nil {
			if f.StandIn.Scope != StandsIn || len(f.StandIn.Endpoints) == 0 || f.Sources != nil || f.IsNodePort() {
				bad("frontend %s cannot have %v for stand-in", f, f.StandIn)
			}
			check(f, f.StandIn)
		}
	}
	return errors.Join(errs...)
}

func checkPool(f *Frontend, p *Pool, bad func(string, ...any)) {
	if p.Owner != f.Owner {
		bad("frontend %s uses a pool of %s", f, p.Owner)
	}
	for i, e := range p.Endpoints {
		if e.Addr.Is6() != f.Addr.Is6() || e.Addr.Is4In6() || e.Port == 0 {
			bad("frontend %s has endpoint %s", f, e)
		}
		if i > 0 && p.Endpoints[i-1].AddrPort().Compare(e.AddrPort()) >= 0 {
			bad("frontend %s has endpoint %s out of order", f, e)
		}
	}
}
