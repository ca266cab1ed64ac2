package iptables

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// TestRuleCount: the number of rules that a backend knows of is that of the rules in the kernel, whatever
// came before: a first sync, in two steps on iptables-legacy, a change of endpoints, which bypasses the
// program there, Services that come and go, rules that were there already, and a restart.
func TestRuleCount(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		b := newBackend(t, o)
		type table struct {
			name string
			v6   bool
		}
		check := func(step string, s *proxier.Snapshot) {
			t.Helper()
			ch := mustApply(t, b, s)
			observed, err := b.Observe(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			want, got, written := map[table]int{}, map[table]int{}, 0
			for _, v6 := range []bool{false, true} {
				for _, name := range tables {
					want[table{name, v6}] = 0
				}
			}
			for _, c := range observed {
				words := strings.Fields(c.Object)
				if c.Value != "" {
					want[table{words[1], words[0] == "ip6"}] += strings.Count(c.Value, "\n") + 1
				}
			}
			for _, c := range b.Rules() {
				got[table{c.Table, c.IPv6}] = c.Kept
				written += c.Written
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-kernel +known):\n%s", step, diff)
			}
			if written != ch.Lines {
				t.Errorf("%s: %d rules written by tables, %d in all", step, written, ch.Lines)
			}
		}
		s := example()
		check("first sync", s)
		check("the same again", s)
		owner := s.Frontends[0].Owner
		check("an endpoint less", mutate(s, owner, func(p *proxier.Pool) { p.Endpoints = p.Endpoints[1:] }, func(*proxier.Frontend) {}))
		fewer := *s
		fewer.Frontends = s.Frontends[len(s.Frontends)/2:]
		check("half of the frontends", &fewer)
		check("all of them", s)
		b.Invalidate()
		check("read again", s)
		b = newBackend(t, o)
		check("a restart", s)
		check("nothing", &proxier.Snapshot{Revision: 2, Node: s.Node})
	})
}

// TestFailedRead: an Apply that could not read the kernel says that it had to.
func TestFailedRead(t *testing.T) {
	inNamespace(t)
	no := errors.New("no")
	b := newBackend(t, Options{Variant: restore.NFT, IPv4: true, Intercept: func(op, _ string) error {
		if op == "iptables-save" {
			return no
		}
		return nil
	}})
	if ch, err := b.Apply(context.Background(), example()); !errors.Is(err, no) || !ch.Full {
		t.Errorf("%+v, %v", ch, err)
	}
}
