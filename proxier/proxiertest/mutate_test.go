package proxiertest

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"testing"

	"github.com/fairway-lb/fairway/proxier"
)

// A mutation is a bug planted into a Subject.
type mutation func(Subject) Subject

// misread makes the backend implement another snapshot than it is given: edit may change the copy
// it gets, whose frontends and pools are copies as well.
func misread(edit func(*proxier.Snapshot)) mutation {
	return remember(func([]*proxier.Snapshot) func(*proxier.Snapshot) { return edit })
}

// remember is misread for bugs that need the snapshots that came before, oldest first.
func remember(bug func(before []*proxier.Snapshot) func(*proxier.Snapshot)) mutation {
	return func(s Subject) Subject {
		inner := s.New
		s.New = func(t testing.TB, env Env) proxier.Backend {
			m := &mutant{Backend: inner(t, env), before: new([]*proxier.Snapshot)}
			m.apply = func(ctx context.Context, want *proxier.Snapshot) (proxier.Changes, error) {
				if want != m.given {
					if m.given != nil {
						*m.before = append(*m.before, m.given)
					}
					m.given, m.misread = want, clone(want)
					bug(*m.before)(m.misread)
				}
				return m.Backend.Apply(ctx, m.misread)
			}
			return m
		}
		return s
	}
}

// wrap makes apply take the place of the backend's Apply.
func wrap(apply func(ctx context.Context, env Env, b proxier.Backend, want *proxier.Snapshot) (proxier.Changes, error)) mutation {
	return func(s Subject) Subject {
		inner := s.New
		s.New = func(t testing.TB, env Env) proxier.Backend {
			m := &mutant{Backend: inner(t, env)}
			m.apply = func(ctx context.Context, want *proxier.Snapshot) (proxier.Changes, error) {
				return apply(ctx, env, m.Backend, want)
			}
			return m
		}
		return s
	}
}

// A mutant is a backend with a bug in Apply.
type mutant struct {
	proxier.Backend
	apply          func(context.Context, *proxier.Snapshot) (proxier.Changes, error)
	before         *[]*proxier.Snapshot
	given, misread *proxier.Snapshot
}

func (m *mutant) Apply(ctx context.Context, want *proxier.Snapshot) (proxier.Changes, error) {
	return m.apply(ctx, want)
}

func (m *mutant) Observe(ctx context.Context) ([]proxier.Observed, error) {
	return m.Backend.(proxier.Observer).Observe(ctx)
}

// clone copies a snapshot with its node, frontends and pools, which still share them.
func clone(s *proxier.Snapshot) *proxier.Snapshot {
	out := *s
	node := *s.Node
	out.Node = &node
	pools := map[*proxier.Pool]*proxier.Pool{}
	out.Frontends = nil
	for _, f := range s.Frontends {
		c := *f
		for o := range c.From {
			old := c.From[o].Pool
			if pools[old] == nil {
				p := *old
				p.Endpoints = slices.Clone(p.Endpoints)
				pools[old] = &p
			}
			c.From[o].Pool = pools[old]
		}
		out.Frontends = append(out.Frontends, &c)
	}
	return &out
}

// eachFrontend is an edit of each frontend for itself.
func eachFrontend(edit func(*proxier.Frontend)) func(*proxier.Snapshot) {
	return func(s *proxier.Snapshot) {
		for _, f := range s.Frontends {
			edit(f)
		}
	}
}

// eachRoute is an edit of what each frontend does with each origin.
func eachRoute(edit func(*proxier.Frontend, *proxier.Route)) func(*proxier.Snapshot) {
	return eachFrontend(func(f *proxier.Frontend) {
		for o := range f.From {
			edit(f, &f.From[o])
		}
	})
}

// eachPool is an edit of each pool, once.
func eachPool(edit func(*proxier.Pool)) func(*proxier.Snapshot) {
	return func(s *proxier.Snapshot) {
		done := map[*proxier.Pool]bool{}
		eachRoute(func(_ *proxier.Frontend, r *proxier.Route) {
			if !done[r.Pool] {
				edit(r.Pool)
			}
			done[r.Pool] = true
		})(s)
	}
}

// sortFrontends restores the order that an edit may have disturbed.
func sortFrontends(s *proxier.Snapshot) {
	slices.SortFunc(s.Frontends, func(a, b *proxier.Frontend) int { return a.Compare(b.FrontendKey) })
}

// command runs a program in the calling thread's namespace.
func command(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w: %s", name, args, err, out)
	}
	return nil
}
