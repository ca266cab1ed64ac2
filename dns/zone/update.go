package zone

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/proxier/names"
)

// maxPause bounds the wait after a change that took long, perhaps only because others had the CPU.
const maxPause = 2 * time.Millisecond

// Follow keeps zones equal to a source until ctx is done. A change is answered at once, unless it
// comes sooner after the last one than that one took: so a flood of changes leaves time for answers.
func Follow(ctx context.Context, src names.Source, zones ...*Zone) {
	for {
		changed := src.Changed()
		start := time.Now()
		in := src.Inputs()
		for _, z := range zones {
			z.Update(in)
		}
		end := time.Now()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		if pause := min(end.Sub(start), maxPause) - time.Since(end); pause > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	}
}

// Update makes in the state that answers come from. It takes time in proportion to what changed.
func (z *Zone) Update(in names.Inputs) {
	z.mu.Lock()
	defer z.mu.Unlock()
	old := z.index.Load()
	now := *old
	now.synced = in.Synced
	u := updater{z: z, entries: editOf(old.entries), reverse: editOf(old.reverse), programmed: old.synced}
	names.Diff(z.last.Services, in.Services, u.service)
	imports := updater{z: z, entries: editOf(old.imports)}
	names.Diff(z.last.Imports, in.Imports, imports.service)
	pods := editOf(old.pods)
	names.Diff(z.last.Pods, in.Pods, func(was, is *names.Pod) {
		if was != nil {
			pods.remove(hashAddr(was.IP), was)
		}
		if is != nil {
			pods.add(hashAddr(is.IP), is)
		}
	})
	now.entries, now.reverse, now.imports, now.pods = u.entries.done(), u.reverse.done(), imports.entries.done(), pods.done()
	if now.namespaces == nil || !slices.Equal(z.last.Namespaces, in.Namespaces) {
		now.namespaces = z.exposed(in.Namespaces)
	}
	if in.Synced {
		clock := uint32(time.Now().Unix())
		if u.changed || now.pods != old.pods || !old.synced {
			now.serial = max(clock, now.serial+1)
		}
		if imports.changed || !old.synced {
			now.imported = max(clock, now.imported+1)
		}
	}
	z.last = in
	z.index.Store(&now)
	if z.opts.Programmed != nil {
		for _, p := range u.triggers {
			z.opts.Programmed(p.kind, time.Unix(0, p.at))
		}
	}
}

// exposed returns the namespaces that exist and are served.
func (z *Zone) exposed(list []string) map[string]bool {
	out := make(map[string]bool, len(list))
	for _, ns := range list {
		if z.wanted == nil || z.wanted[ns] {
			out[ns] = true
		}
	}
	return out
}

// An updater brings tables up to date, one Service at a time.
type updater struct {
	z          *Zone
	entries    *edit[*entry]
	reverse    *edit[*key] // nil for imports, to which no address leads
	changed    bool
	programmed bool // changes from now on count for the metric
	triggers   []trigger
}

type trigger struct {
	kind string
	at   int64
}

func (u *updater) service(was, is *names.Service) {
	u.changed = true
	var k *key
	var before, after []netip.Addr
	if was != nil && usable(was) {
		e := u.held(was)
		k, before = e.key, e.addresses()
		u.entries.remove(k.hash, e)
	}
	if is != nil && usable(is) {
		if k == nil {
			k = newKey(is)
		}
		e := u.z.newEntry(k, is, u.reverse == nil)
		after = e.addresses()
		u.entries.add(k.hash, e)
		u.observe(was, is)
	}
	if u.reverse == nil || k == nil {
		return
	}
	for _, a := range before {
		if _, stays := slices.BinarySearchFunc(after, a, netip.Addr.Compare); !stays {
			u.reverse.remove(hashAddr(a), k)
		}
	}
	for _, a := range after {
		if _, was := slices.BinarySearchFunc(before, a, netip.Addr.Compare); !was {
			u.reverse.add(hashAddr(a), k)
		}
	}
}

// held returns the entry of a Service in the table that is being changed.
func (u *updater) held(s *names.Service) *entry {
	return find(u.entries.done(), newKey(s).name)
}

// observe remembers when the changes behind new slices of a Service happened.
func (u *updater) observe(was, is *names.Service) {
	kind := ""
	switch is.Kind {
	case names.ClusterIP:
		kind = "cluster_ip"
	case names.Headless:
		kind = "headless_with_selector" // only the controller for those with a selector tells the time
	}
	if !u.programmed || kind == "" || u.z.opts.Programmed == nil {
		return
	}
	for _, s := range is.Slices {
		if s.Trigger != 0 && (was == nil || !slices.Contains(was.Slices, s)) {
			u.triggers = append(u.triggers, trigger{kind, s.Trigger})
		}
	}
}

// addresses returns every address that leads to the Service, sorted and each once.
func (e *entry) addresses() []netip.Addr {
	out := make([]netip.Addr, 0, len(e.svc.IPs)+len(e.addrs))
	out = append(out, e.svc.IPs...)
	for _, r := range e.addrs {
		if a := e.slice(r).Addr(int(r.i)); a.IsValid() {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
