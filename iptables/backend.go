package iptables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// A Backend programs iptables. It works in the network namespace of the thread that calls it.
type Backend struct {
	variant  string
	families []*family
}

var (
	_ proxier.Backend     = (*Backend)(nil)
	_ proxier.Observer    = (*Backend)(nil)
	_ proxier.RuleCounter = (*Backend)(nil)
)

// New returns a backend for this network namespace. It looks for the tools and reads one sysctl,
// and writes nothing.
func New(o Options) (*Backend, error) {
	switch o.Variant {
	case restore.NFT, restore.Legacy:
	case "":
		var err error
		if o.Variant, err = Detect(context.Background()); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("unknown iptables variant %q: want nft or legacy", o.Variant)
	}
	if o.MasqueradeBit < 0 || o.MasqueradeBit > 31 {
		return nil, fmt.Errorf("masquerade bit %d: want 0 to 31", o.MasqueradeBit)
	}
	if v := readSysctl("net.netfilter.nf_conntrack_tcp_be_liberal"); v != "" && v != "0" {
		o.TCPBeLiberal = true
	}
	probe := !o.IPv4 && !o.IPv6
	if probe {
		o.IPv4 = true
		_, err := os.Stat("/proc/thread-self/net/if_inet6")
		o.IPv6 = err == nil
	}
	b := &Backend{variant: o.Variant}
	for _, v6 := range []bool{false, true} {
		if v6 && !o.IPv6 || !v6 && !o.IPv4 {
			continue
		}
		k, err := newKernel(o, o.Variant, v6)
		if err != nil && probe && v6 {
			continue // iptables without ip6tables
		} else if err != nil {
			return nil, err
		}
		f := &family{kernel: k, options: o}
		f.options.portsInOrder = !hasRandomFully(o.Variant, v6)
		b.families = append(b.families, f)
	}
	return b, nil
}

// Name returns "iptables".
func (b *Backend) Name() string { return "iptables" }

// Variant returns "nft" or "legacy".
func (b *Backend) Variant() string { return b.variant }

// Apply programs want. Each address family is independent: an error in one does not keep the
// other from being programmed. If the kernel refuses what one Service port asks for, that port
// keeps its old rules, all others get their new ones, and a [proxier.PartialError] names it.
func (b *Backend) Apply(ctx context.Context, want *proxier.Snapshot) (proxier.Changes, error) {
	var total proxier.Changes
	var errs, refused []error
	for _, f := range b.families {
		ch, err := f.apply(ctx, inputOf(want, f.kernel.tool.V6()))
		total = sumOf(total, ch)
		errs, refused = append(errs, err), append(refused, f.refusals.err())
	}
	if err := errors.Join(errs...); err != nil {
		return total, err
	}
	if err := errors.Join(refused...); err != nil {
		return total, &proxier.PartialError{Err: err}
	}
	return total, nil
}

func sumOf(a, b proxier.Changes) proxier.Changes {
	return proxier.Changes{Added: a.Added + b.Added, Updated: a.Updated + b.Updated,
		Removed: a.Removed + b.Removed, Lines: a.Lines + b.Lines, Full: a.Full || b.Full}
}

// Rules counts rules, those that lead from built-in chains to ours among them.
func (b *Backend) Rules() (out []proxier.RuleCount) {
	for _, f := range b.families {
		for i, s := range []*state{&f.filter, &f.nat} {
			out = append(out, proxier.RuleCount{Table: tables[i], IPv6: f.kernel.tool.V6(), Kept: s.count(), Written: f.written[tables[i]]})
		}
	}
	return out
}

// Invalidate makes the next Apply read the tables.
func (b *Backend) Invalidate() {
	for _, f := range b.families {
		f.known = false
	}
}

// Close does nothing: the rules stay.
func (b *Backend) Close() error { return nil }

// Observe reads our chains, and our rules in built-in chains.
func (b *Backend) Observe(ctx context.Context) ([]proxier.Observed, error) {
	var out []proxier.Observed
	for _, f := range b.families {
		for _, name := range tables {
			t, err := f.kernel.read(ctx, name)
			if err != nil {
				return nil, err
			}
			for _, c := range oursOf(t).Chains {
				if c.Policy != "" && len(c.Rules) == 0 {
					continue
				}
				out = append(out, proxier.Observed{
					Object: f.kernel.family() + " " + name + " " + c.Name,
					Value:  strings.Join(c.Rules, "\n"),
				})
			}
		}
	}
	slices.SortFunc(out, func(a, b proxier.Observed) int { return strings.Compare(a.Object, b.Object) })
	return out, nil
}

// The tables with rules of ours.
var tables = []string{"filter", "nat"}

// A family is the state of one address family.
type family struct {
	kernel  *kernel
	options Options

	known       bool // nat, filter and deny are what the kernel has
	nat, filter state
	deny        []entry
	// wanted is what the last successful Apply was given, last what it made of it: the two
	// differ by refusals.
	wanted, last input
	refusals     refusals
	written      map[string]int // rules by table, since the last Apply began
	// have is what nat, filter and deny are of; nil if they are of nothing that was compiled.
	have *compiled
}

// apply programs wanted but for what f.refusals holds afterwards.
func (f *family) apply(ctx context.Context, wanted input) (proxier.Changes, error) {
	var ch proxier.Changes
	f.written = map[string]int{}
	if !f.known {
		ch.Full = true
		if err := f.read(ctx); err != nil {
			return ch, err
		}
	} else if f.wanted.equal(wanted) {
		return ch, nil
	}
	in := f.refusals.replace(wanted, f.last)
	err := f.commit(ctx, in, &ch)
	if refused(err) {
		in, err = f.retry(ctx, wanted, err, &ch)
	}
	if err != nil {
		f.known = false
		return ch, err
	}
	f.wanted, f.last = wanted, in
	return ch, nil
}

// equal reports whether two inputs are the same values.
func (in input) equal(o input) bool {
	return in.node == o.node && slices.Equal(in.healthPorts, o.healthPorts) && slices.Equal(in.frontends, o.frontends)
}

// read asks the kernel for its state.
func (f *family) read(ctx context.Context) error {
	nat, err := f.kernel.read(ctx, "nat")
	if err != nil {
		return err
	}
	filter, err := f.kernel.read(ctx, "filter")
	if err != nil {
		return err
	}
	f.nat, f.filter = stateOf(nat), stateOf(filter)
	f.deny = entriesOf(&filter, f.kernel.tool.V6())
	f.known, f.have, f.refusals = true, nil, refusals{}
	f.kernel.misses = 0
	return nil
}

// commit makes the kernel hold what in compiles to.
//
// Each table changes as a whole, but the two cannot change together. So the filter table first
// gets what it must refuse before and after, then the nat table changes, and then the filter
// table loses what it need not refuse any more. Often two of the three have nothing to do. If the
// process dies between them, every frontend does what it did before or what it shall do. That is also
// so if it dies between the two steps in which an empty nat table may be filled.
func (f *family) commit(ctx context.Context, in input, ch *proxier.Changes) error {
	next := compile(f.have, in, f.options)
	f.have = nil
	between := transition(f.deny, next.now.deny, serving(in))
	if err := f.write(ctx, &f.filter, next.filter(f.deny, between), ch); err != nil {
		return err
	}
	f.deny = between
	if err := f.writeNAT(ctx, next.nat(), ch); err != nil {
		return err
	}
	if err := f.write(ctx, &f.filter, next.filter(between, next.now.deny), ch); err != nil {
		return err
	}
	f.deny, f.have = next.now.deny, next.now
	return nil
}

func (f *family) write(ctx context.Context, have *state, p patch, ch *proxier.Changes) error {
	e := diff(*have, p)
	if e.empty() {
		return nil
	}
	var err error
	if was, ok := e.poolsOnly(p); ok {
		err = f.kernel.rewrite(ctx, p.table, was, e.write)
	} else {
		err = f.kernel.write(ctx, p.table, e.script())
	}
	if err != nil {
		return err
	}
	have.adopt(e)
	f.written[p.table] += e.changes.Lines
	*ch = sumOf(*ch, e.changes)
	return nil
}

// poolsOnly returns what the chains that e writes were, if they are chains of pools that are there
// before and after, and nothing else changes: most changes are of endpoints.
func (e edit) poolsOnly(p patch) (map[string]restore.Chain, bool) {
	was := make(map[string]restore.Chain, len(e.write))
	for _, c := range p.was {
		was[c.Name] = c
	}
	for _, c := range e.write {
		if !isPool(c.Name) || len(c.Rules) == 0 || len(was[c.Name].Rules) == 0 {
			return nil, false
		}
	}
	return was, len(e.write) > 0 && len(e.drop)+len(e.add) == 0
}

func (f *family) writeNAT(ctx context.Context, p patch, ch *proxier.Changes) error {
	if len(f.nat.chains) == 0 && f.kernel.rewrites() {
		return f.fillNAT(ctx, p, ch)
	}
	return f.write(ctx, &f.nat, p, ch)
}

// fillNAT is writeNAT where there is nothing of ours yet, in two steps: all but the rules of pools,
// then those, which need no program. It takes three quarters of the time. In between, what no pool
// takes is not translated, as before.
func (f *family) fillNAT(ctx context.Context, p patch, ch *proxier.Changes) error {
	var pools []restore.Chain
	bare := p
	bare.want = slices.Clone(p.want)
	for i, c := range bare.want {
		if isPool(c.Name) {
			pools = append(pools, c)
			bare.want[i].Rules = nil
		}
	}
	if err := f.write(ctx, &f.nat, bare, ch); err != nil || len(pools) == 0 {
		return err
	}
	debug.FreeOSMemory() // what made the table, before as much again is needed to write it
	if err := f.kernel.rewrite(ctx, p.table, nil, pools); err != nil {
		return err
	}
	for _, c := range pools {
		f.nat.put(c)
		f.written[p.table] += len(c.Rules)
		ch.Lines += len(c.Rules)
	}
	return nil
}

// serving returns a function that tells whether a frontend has endpoints for anyone.
func serving(in input) func(proxier.FrontendKey) bool {
	return func(key proxier.FrontendKey) bool {
		f := in.frontend(key)
		return f != nil && slices.ContainsFunc(f.From[:], func(r proxier.Route) bool { return len(r.Pool.Endpoints) > 0 })
	}
}
