package proxiertest

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// variant is the iptables that the suite is tested with.
const variant = "legacy"

// A planted is one bug and what must catch it: a scenario, by name, and the beginning of the name
// of what must fail in it: a flow of a step, or an invariant. Family is IPv4 if empty.
type planted struct {
	name     string
	bug      mutation
	scenario string
	fails    string
	family   string
}

// mutants are what a data plane can get wrong, one bug each.
var mutants = []planted{
	// What is programmed.
	{name: "forgets deletions", scenario: "clusterip/two Services go up and down", fails: `step 2 one is deleted: flow "its address is nobody's"`,
		bug: remember(func(before []*proxier.Snapshot) func(*proxier.Snapshot) {
			return func(s *proxier.Snapshot) {
				for _, old := range before {
					for _, f := range clone(old).Frontends {
						if !slices.ContainsFunc(s.Frontends, func(g *proxier.Frontend) bool { return g.FrontendKey == f.FrontendKey }) {
							s.Frontends = append(s.Frontends, f)
						}
					}
				}
				sortFrontends(s)
			}
		})},
	{name: "keeps endpoints that are gone", scenario: "clusterip/endpoints come and go", fails: "step 3 two others: flow",
		bug: remember(func(before []*proxier.Snapshot) func(*proxier.Snapshot) {
			return eachPool(func(p *proxier.Pool) {
				for _, old := range before {
					eachPool(func(q *proxier.Pool) {
						if p.Owner == q.Owner && p.Scope == q.Scope && len(p.Endpoints) > 0 {
							p.Endpoints = union(p.Endpoints, q.Endpoints)
						}
					})(old)
				}
			})
		})},
	{name: "never chooses the last endpoint", scenario: "clusterip/five endpoints, every one is chosen", fails: "step 1 : flow",
		bug: misread(eachPool(func(p *proxier.Pool) {
			if n := len(p.Endpoints); n > 1 {
				p.Endpoints = p.Endpoints[:n-1]
			}
		}))},
	{name: "takes TCP for UDP", scenario: "ports/one number for TCP and UDP", fails: "step 1 : flow",
		bug: misread(func(s *proxier.Snapshot) {
			s.Frontends = slices.DeleteFunc(s.Frontends, func(f *proxier.Frontend) bool { return f.Protocol == proxier.TCP })
			for _, f := range slices.Clone(s.Frontends) {
				if f.Protocol == proxier.UDP {
					tcp := *f
					tcp.Protocol = proxier.TCP
					s.Frontends = append(s.Frontends, &tcp)
				}
			}
			sortFrontends(s)
		})},
	{name: "forgets IPv6", scenario: "dualstack/both families", fails: "step 1 : flow", family: "DualStack",
		bug: misread(func(s *proxier.Snapshot) {
			s.Frontends = slices.DeleteFunc(s.Frontends, func(f *proxier.Frontend) bool { return f.Addr.Is6() })
		})},
	{name: "has NodePorts on all addresses", scenario: "nodeport/on the primary address", fails: "step 1 : flow",
		bug: misread(func(s *proxier.Snapshot) {
			s.Node.NodePorts = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		})},
	{name: "lets all sources in", scenario: "sourceranges/let in whom they name", fails: "step 1 : flow",
		bug: misread(eachFrontend(func(f *proxier.Frontend) { f.Sources = nil }))},
	{name: "forgets affinity", scenario: "affinity/a client stays with its endpoint", fails: "step 1 : flow",
		bug: misread(eachFrontend(func(f *proxier.Frontend) { f.Affinity = 0 }))},
	{name: "cannot serve SCTP", scenario: "sctp/from everywhere", fails: "step 1 : flow",
		bug: misread(func(s *proxier.Snapshot) {
			s.Frontends = slices.DeleteFunc(s.Frontends, func(f *proxier.Frontend) bool { return f.Protocol == proxier.SCTP })
		})},

	// Where connections go, by their origin.
	{name: "ignores the scope of this node", scenario: "externalpolicy/Local keeps outside traffic here", fails: "step 1 : flow",
		bug: misread(eachFrontend(func(f *proxier.Frontend) { f.From[proxier.FromOutside].Pool = f.From[proxier.FromNode].Pool }))},
	{name: "takes the node's processes for outside clients", scenario: "externalpolicy/Local short-circuits pods and processes", fails: "step 1 : flow",
		bug: misread(eachFrontend(func(f *proxier.Frontend) { f.From[proxier.FromNode] = f.From[proxier.FromOutside] }))},
	{name: "takes pods for outside clients", scenario: "clusterip/from everywhere", fails: `step 1 : flow "a pod keeps its address"`,
		bug: misread(eachFrontend(func(f *proxier.Frontend) { f.From[proxier.FromPod] = f.From[proxier.FromOutside] }))},
	{name: "rejects where it must drop", scenario: "externalpolicy/Local without endpoints here is silent", fails: "step 1 : flow",
		bug: misread(eachPool(func(p *proxier.Pool) { p.Empty = proxier.Reject }))},
	{name: "drops where it must reject", scenario: "noendpoints/every address refuses", fails: "step 1 : flow",
		bug: misread(eachPool(func(p *proxier.Pool) { p.Empty = proxier.Drop }))},
	{name: "masquerades too much", scenario: "clusterip/from everywhere", fails: `step 1 : flow "a pod keeps its address"`,
		bug: misread(eachRoute(func(_ *proxier.Frontend, r *proxier.Route) { r.Masquerade = true }))},
	{name: "masquerades too little", scenario: "clusterip/from everywhere", fails: `step 1 : flow "a node process is masqueraded"`,
		bug: misread(eachRoute(func(_ *proxier.Frontend, r *proxier.Route) { r.Masquerade = false }))},
	{name: "does not masquerade hairpin connections", scenario: "hairpin/through every address", fails: "step 1 : flow",
		bug: wrap(func(ctx context.Context, _ Env, b proxier.Backend, want *proxier.Snapshot) (proxier.Changes, error) {
			ch, err := b.Apply(ctx, want)
			for _, pod := range netlab.AllPods {
				a := netlab.Addr(pod).String()
				err = cmpErr(err, command("iptables-legacy", "-w", "-t", "nat", "-I", "POSTROUTING", "-s", a, "-d", a, "-j", "ACCEPT"))
			}
			return ch, err
		})},
	{name: "answers NodePorts on loopback", scenario: "nodeport/not on loopback", fails: "step 1 : flow",
		bug: wrap(func(ctx context.Context, _ Env, b proxier.Backend, want *proxier.Snapshot) (proxier.Changes, error) {
			ch, err := b.Apply(ctx, want)
			err = cmpErr(err, command("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"))
			for _, f := range want.Frontends {
				if f.IsNodePort() && f.Protocol == proxier.TCP {
					to := f.From[proxier.FromNode].Pool.Endpoints[0].String()
					port := netip.AddrPortFrom(f.Addr, f.Port).String()
					err = cmpErr(err,
						command("iptables-legacy", "-w", "-t", "nat", "-I", "OUTPUT", "-d", "127.0.0.0/8", "-p", "tcp", "--dport", port[strings.LastIndex(port, ":")+1:], "-j", "DNAT", "--to", to),
						command("iptables-legacy", "-w", "-t", "nat", "-I", "POSTROUTING", "-s", "127.0.0.0/8", "-j", "MASQUERADE"))
				}
			}
			return ch, err
		})},

	{name: "drops what is nobody's", scenario: "clusterip/unknown ports pass untouched", fails: `step 1 : flow "a port it does not have"`,
		bug: wrap(func(ctx context.Context, _ Env, b proxier.Backend, want *proxier.Snapshot) (proxier.Changes, error) {
			ch, err := b.Apply(ctx, want)
			return ch, cmpErr(err, command("iptables-legacy", "-w", "-I", "FORWARD", "-d", "10.96.0.0/16", "-j", "DROP"))
		})},
	{name: "prefers one endpoint", scenario: "balance/every endpoint gets its share", fails: "step 1 : check",
		bug: wrap(func(ctx context.Context, _ Env, b proxier.Backend, want *proxier.Snapshot) (proxier.Changes, error) {
			ch, err := b.Apply(ctx, want)
			to := want.Frontends[0].From[proxier.FromPod].Pool.Endpoints[0].String()
			return ch, cmpErr(err, command("iptables-legacy", "-w", "-t", "nat", "-I", "PREROUTING", "-d", "10.96.0.10", "-p", "tcp",
				"-m", "statistic", "--mode", "random", "--probability", "0.2", "-j", "DNAT", "--to", to))
		})},

	// How states follow each other.
	{name: "keeps stale UDP flows", scenario: "udp/the endpoint is replaced", fails: `step 2 : flow "pod"`,
		bug: cleaning(func(context.Context, *proxier.Snapshot, *proxier.Snapshot) error { return nil })},
	{name: "ends all UDP flows", scenario: "udp/flows to endpoints that stay are left alone", fails: "step 2 endpoints of both change: flow",
		bug: cleaning(func(context.Context, *proxier.Snapshot, *proxier.Snapshot) error {
			_ = command("conntrack", "-D", "-p", "udp") // fails if there are none
			return nil
		})},
	{name: "ends open connections", scenario: "clusterip/an open connection outlives changes of its Service", fails: "step 2",
		bug: cleaning(func(_ context.Context, prev, _ *proxier.Snapshot) error {
			if prev == nil {
				return nil
			}
			return command("iptables-legacy", "-w", "-I", "FORWARD", "-p", "tcp", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "REJECT", "--reject-with", "tcp-reset")
		})},
	{name: "serves nobody while it writes", scenario: "clusterip/endpoints come and go", fails: "step 2 three: meanwhile",
		bug: wrap(func(ctx context.Context, _ Env, b proxier.Backend, want *proxier.Snapshot) (proxier.Changes, error) {
			if len(want.Frontends[0].From[proxier.FromPod].Pool.Endpoints) == 3 { // as step 2 has it
				empty := *want
				empty.Frontends = nil
				if _, err := b.Apply(ctx, &empty); err != nil {
					return proxier.Changes{}, err
				}
				time.Sleep(20 * time.Millisecond)
			}
			return b.Apply(ctx, want)
		})},
	{name: "writes everything at each Apply", scenario: "clusterip/from everywhere", fails: "step 1 : second apply",
		bug: wrap(func(ctx context.Context, _ Env, b proxier.Backend, want *proxier.Snapshot) (proxier.Changes, error) {
			empty := *want
			empty.Frontends = nil
			if _, err := b.Apply(ctx, &empty); err != nil {
				return proxier.Changes{}, err
			}
			return b.Apply(ctx, want)
		})},
	{name: "writes everything at a restart", scenario: "clusterip/from everywhere", fails: "restart",
		bug: func(s Subject) Subject {
			inner := s.New
			s.New = func(t testing.TB, env Env) proxier.Backend {
				quiet := env
				quiet.Intercept = nil
				if err := s.Cleanup(t.Context(), quiet); err != nil {
					t.Error(err)
				}
				return inner(t, env)
			}
			return s
		}},
	{name: "writes the same again at a restart, secretly", scenario: "clusterip/from everywhere", fails: "restart: written",
		bug: func(s Subject) Subject {
			inner := s.New
			s.New = func(t testing.TB, env Env) proxier.Backend {
				if err := command("sh", "-c", "iptables-legacy-save | iptables-legacy-restore -w"); err != nil {
					t.Error(err)
				}
				return inner(t, env)
			}
			return s
		}},
	{name: "takes a failed kernel operation for done", scenario: "typechange/ClusterIP to NodePort to LoadBalancer and back", fails: "step",
		bug: wrap(func(ctx context.Context, _ Env, b proxier.Backend, want *proxier.Snapshot) (proxier.Changes, error) {
			ch, _ := b.Apply(ctx, want)
			return ch, nil
		})},
	{name: "programs what depends on history", scenario: "clusterip/endpoints come and go", fails: "another path",
		bug: remember(func(before []*proxier.Snapshot) func(*proxier.Snapshot) {
			return eachFrontend(func(f *proxier.Frontend) { // anyone may come, in ever more words
				f.Sources = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(len(before))}), 32)}
			})
		})},

	// What is left behind.
	{name: "leaves rules behind at cleanup", scenario: "clusterip/from everywhere", fails: "cleanup",
		bug: func(s Subject) Subject {
			s.Cleanup = func(context.Context, Env) error { return nil }
			return s
		}},
	{name: "removes foreign rules at cleanup", scenario: "clusterip/from everywhere", fails: "cleanup",
		bug: func(s Subject) Subject {
			inner := s.Cleanup
			s.Cleanup = func(ctx context.Context, env Env) error {
				if err := inner(ctx, env); err != nil {
					return err
				}
				return command("iptables-legacy", "-w", "-t", "nat", "-F", "POSTROUTING")
			}
			return s
		}},
	{name: "removes a foreign rule while it works", scenario: "clusterip/from everywhere", fails: "cleanup",
		bug: wrap(func(ctx context.Context, _ Env, b proxier.Backend, want *proxier.Snapshot) (proxier.Changes, error) {
			ch, err := b.Apply(ctx, want)
			// Fails when it is gone already.
			_ = command("iptables-legacy", "-w", "-D", "FORWARD", "-p", "tcp", "-m", "tcp", "--dport", "983", "-j", "foreign")
			return ch, err
		})},
}

// cleaning is a bug in the cleaning of stale flows.
func cleaning(f func(ctx context.Context, prev, now *proxier.Snapshot) error) mutation {
	return func(s Subject) Subject { s.clean = f; return s }
}

// union returns the endpoints of both lists, sorted.
func union(a, b []*proxier.Endpoint) []*proxier.Endpoint {
	out := slices.Concat(a, b)
	slices.SortFunc(out, func(x, y *proxier.Endpoint) int { return x.AddrPort().Compare(y.AddrPort()) })
	return slices.CompactFunc(out, func(x, y *proxier.Endpoint) bool { return x.AddrPort() == y.AddrPort() })
}

func cmpErr(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// luck is how often a bug may go unseen by chance: one that ends all UDP flows has the three of its
// scenario find their old endpoints again once in 343 runs.
const luck = 3

// Every mutant must be caught, by the scenario and for the reason that the table names. Without
// the bug the same scenario must pass, or the catch proves nothing.
func TestMutants(t *testing.T) {
	netlab.Require(t)
	healthy := map[string]bool{}
	var wg sync.WaitGroup
	slots := make(chan struct{}, workers)
	start := func(name string, f func(t *testing.T)) {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(name, f)
		})
	}
	for _, m := range mutants {
		tl := findTale(t, m.family, m.scenario)
		start(m.name, func(t *testing.T) {
			for try := 1; ; try++ {
				r := tell(t, m.bug(iptablesSubject(variant)), tl)
				if slices.ContainsFunc(r.failures, func(f failure) bool { return strings.HasPrefix(f.what, m.fails) }) {
					return
				}
				asked, failed := r.faults.counts()
				t.Logf("not caught by %s, %s; %d of %d operations failed; failures: %q", tl.name, m.fails, failed, asked, r.failures)
				if try == luck {
					t.Fatalf("not caught in %d tries", try)
				}
			}
		})
		if !healthy[tl.name] {
			healthy[tl.name] = true
			start("healthy "+tl.name, func(t *testing.T) { tellTo(t, iptablesSubject(variant), tl) })
		}
	}
	wg.Wait()
}

func findTale(t *testing.T, family, scenario string) *tale {
	t.Helper()
	if family == "" {
		family = "IPv4"
	}
	for _, s := range Scenarios() {
		if s.Name != scenario {
			continue
		}
		all, err := tales(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, tl := range all {
			if tl.name == family+"/"+scenario {
				return tl
			}
		}
	}
	t.Fatalf("there is no scenario %q in %s", scenario, family)
	return nil
}
