package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// A refusedPort says that the kernel does not take what one Service port asks for, for instance
// because it has no xt_recent for a port with affinity.
type refusedPort struct {
	frontends []*proxier.Frontend
	err       error
}

// refusals are the Service ports that are left as they were, until they change or the kernel is
// read again.
type refusals map[proxier.ServicePortName]refusedPort

// err returns an error that names every refused port.
func (r refusals) err() error {
	names := slices.SortedFunc(maps.Keys(r), compareNames)
	var errs []error
	for _, n := range names {
		errs = append(errs, fmt.Errorf("service port %s: %w", n, r[n].err))
	}
	return errors.Join(errs...)
}

func compareNames(a, b proxier.ServicePortName) int {
	return strings.Compare(a.String()+protocol(a.Protocol), b.String()+protocol(b.Protocol))
}

// replace returns in with the frontends of refused ports as they were in last. A port whose
// frontends are not those that were refused gets another chance.
func (r refusals) replace(in, last input) input {
	if len(r) == 0 {
		return in
	}
	now := map[proxier.ServicePortName][]*proxier.Frontend{}
	for _, f := range in.frontends {
		if _, ok := r[f.Owner]; ok {
			now[f.Owner] = append(now[f.Owner], f)
		}
	}
	maps.DeleteFunc(r, func(n proxier.ServicePortName, p refusedPort) bool { return !slices.Equal(now[n], p.frontends) })
	taken := map[proxier.FrontendKey]bool{}
	var out []*proxier.Frontend
	for _, f := range in.frontends {
		if _, ok := r[f.Owner]; !ok {
			out = append(out, f)
			taken[f.FrontendKey] = true
		}
	}
	for _, f := range last.frontends {
		if _, ok := r[f.Owner]; ok && !taken[f.FrontendKey] {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b *proxier.Frontend) int { return a.Compare(b.FrontendKey) })
	in.frontends = out
	return in
}

// retry makes the best of a script that was refused. What the kernel holds is known to be what
// f says: a script is refused as a whole.
func (f *family) retry(ctx context.Context, wanted input, cause error, ch *proxier.Changes) (input, error) {
	attempt := func() (input, error) {
		in := f.refusals.replace(wanted, f.last)
		return in, f.commit(ctx, in, ch)
	}
	if !ch.Full { // perhaps somebody has changed our chains
		if err := f.read(ctx); err != nil {
			return wanted, err
		}
		ch.Full = true
		if in, err := attempt(); !refused(err) {
			return in, err
		}
	}
	if in, done, err := f.simplify(standsIn(wanted.frontends), cause, attempt); done {
		return in, err
	}
	bad, err := f.isolate(ctx, wanted)
	if err != nil {
		return wanted, err
	}
	if len(bad) == 0 {
		return wanted, cause
	}
	f.refusals = bad
	return attempt()
}

// simplify does without what the kernel may lack, until a script is taken. It returns false if that is
// not the reason.
func (f *family) simplify(standsIn bool, cause error, attempt func() (input, error)) (in input, done bool, err error) {
	was := f.options
	for _, without := range []struct{ bpf, socket bool }{{bpf: true}, {socket: true}, {bpf: true, socket: true}} {
		if without.bpf && was.hairpinList || without.socket && (was.noSocket || !standsIn) {
			continue
		}
		f.options.hairpinList, f.options.noSocket = was.hairpinList || without.bpf, was.noSocket || without.socket
		if in, err = attempt(); refused(err) {
			continue
		}
		if without.socket && err == nil && f.options.NoSocket != nil {
			f.options.NoSocket(cause)
		}
		return in, true, err
	}
	f.options = was
	return in, false, nil
}

// isolate finds the Service ports that the kernel refuses, among those that changed, by
// bisection.
func (f *family) isolate(ctx context.Context, in input) (refusals, error) {
	byOwner := map[proxier.ServicePortName][]*proxier.Frontend{}
	changed := map[proxier.ServicePortName]bool{}
	was := &proxier.Snapshot{Frontends: f.last.frontends}
	for a, b := range proxier.Diff(was, &proxier.Snapshot{Frontends: in.frontends}) {
		if a != nil {
			changed[a.Owner] = true
		}
		if b != nil {
			changed[b.Owner] = true
		}
	}
	for _, fe := range in.frontends {
		if changed[fe.Owner] {
			byOwner[fe.Owner] = append(byOwner[fe.Owner], fe)
		}
	}
	bad := refusals{}
	var search func(owners []proxier.ServicePortName) error
	search = func(owners []proxier.ServicePortName) error {
		part := in
		part.frontends = nil
		for _, o := range owners {
			part.frontends = append(part.frontends, byOwner[o]...)
		}
		err := f.try(ctx, part)
		switch {
		case err == nil:
			return nil
		case !refused(err):
			return err
		case len(owners) == 1:
			bad[owners[0]] = refusedPort{byOwner[owners[0]], err}
			return nil
		}
		half := len(owners) / 2
		if err := search(owners[:half]); err != nil {
			return err
		}
		return search(owners[half:])
	}
	owners := slices.SortedFunc(maps.Keys(byOwner), compareNames)
	if len(owners) == 0 {
		return nil, nil
	}
	return bad, search(owners)
}

// try shows the kernel the rules of some frontends in a chain that nothing refers to, and
// removes it again: no packet is affected.
func (f *family) try(ctx context.Context, in input) error {
	c := newCompiler(in, f.options)
	chains, entries := c.services(c.in.frontends, c.partials(c.in.frontends))
	var nat, filter []string
	for _, chain := range chains {
		nat = append(nat, chain.Rules...)
	}
	nat = append(nat, rulesOf(slices.Concat(entries[:]...))...)
	for _, e := range c.denyEntries(c.in.frontends) {
		filter = append(filter, e.rules...)
		for _, chain := range e.chains {
			filter = append(filter, chain.Rules...)
		}
	}
	for table, rules := range map[string][]string{"nat": nat, "filter": filter} {
		if len(rules) == 0 {
			continue
		}
		head := "*" + table + "\n:" + tryChain + " - [0:0]\n"
		var b strings.Builder
		b.WriteString(head)
		for _, r := range rules {
			b.WriteString("-A " + tryChain + " " + withoutJump(table, r) + "\n")
		}
		b.WriteString("COMMIT\n")
		if err := f.kernel.write(ctx, table, []byte(b.String())); err != nil {
			return err
		}
		if err := f.kernel.write(ctx, table, []byte(head+"-X "+tryChain+"\nCOMMIT\n")); err != nil {
			return err
		}
	}
	return nil
}

// withoutJump takes the jump to another of our chains off a rule: what remains counts packets.
func withoutJump(table, rule string) string {
	if to := restore.Target(rule); isOurs(table, to) {
		rule = strings.TrimSuffix(strings.TrimSuffix(rule, "-g "+to), "-j "+to)
	}
	return strings.TrimSpace(rule)
}
