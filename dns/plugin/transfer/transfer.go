package transfer

import (
	"context"
	"errors"
	"iter"
	"net"
	"net/netip"
	"slices"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
)

// batch is how many bytes of records go into one message, before names are compressed. A message
// over TCP holds 65,535, with its question and OPT.
const batch = 60000

// ErrNotAuthoritative is what a Transferer says of a zone that is another's.
var ErrNotAuthoritative = errors.New("not authoritative for zone")

// A Transferer has zones to transfer.
type Transferer interface {
	// Transfer returns the records of a zone, named in lower case with its final dot: the SOA, all
	// others, and the SOA again. If serial is not 0 and the zone is no newer, it is the SOA alone.
	// The records are those of one moment, and may be read more than once. They are not changed by
	// the reader.
	Transfer(zone string, serial uint32) (iter.Seq[dnswire.RR], error)
}

// Newer reports whether serial a is after serial b (RFC 1982).
func Newer(a, b uint32) bool { return int32(a-b) > 0 }

// Transfer is the plugin.
type Transfer struct {
	rules []rule
	from  []Transferer
}

type rule struct {
	zones []string
	all   bool
	to    []netip.Addr
}

// New returns the plugin. It asks the Transferers in their order.
func New(d *corefile.Transfer, from []Transferer) (*Transfer, error) {
	t := &Transfer{from: from}
	for _, r := range d.Rules {
		u := rule{zones: r.Zones}
		for _, to := range r.To {
			if to == "*" {
				u.all = true
				continue
			}
			host, _, err := net.SplitHostPort(to)
			if err != nil {
				return nil, err
			}
			a, err := netip.ParseAddr(host)
			if err != nil {
				return nil, err
			}
			u.to = append(u.to, a.WithZone("").Unmap())
		}
		t.rules = append(t.rules, u)
	}
	return t, nil
}

// Name returns "transfer".
func (*Transfer) Name() string { return "transfer" }

// Passes implements plugin.Passer.
func (*Transfer) Passes(q *wire.Query) bool {
	return q.Type != wire.TypeAXFR && q.Type != wire.TypeIXFR
}

// Wrap returns the plugin in front of next.
func (t *Transfer) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		if r.Type() != dnswire.TypeAXFR && r.Type() != dnswire.TypeIXFR {
			return next.Serve(ctx, r)
		}
		if !r.TCP() {
			return plugin.Fail(t.Name(), dnswire.RcodeRefused, nil)
		}
		u := t.longest(r.Name())
		if u == nil {
			return next.Serve(ctx, r)
		}
		if !u.allows(r.Client.Addr()) {
			return plugin.Fail(t.Name(), dnswire.RcodeRefused, nil)
		}
		serial, ok := serial(r)
		if !ok {
			return plugin.Fail(t.Name(), dnswire.RcodeServerFailure, errors.New("an IXFR has no SOA"))
		}
		for _, f := range t.from {
			records, err := f.Transfer(r.Name(), serial)
			switch {
			case errors.Is(err, ErrNotAuthoritative):
				continue
			case err != nil:
				return plugin.Fail(t.Name(), dnswire.RcodeServerFailure, err)
			}
			return t.send(r, records)
		}
		return next.Serve(ctx, r)
	})
}

// longest returns the rule whose zone holds the name with most labels, the first of equals.
func (t *Transfer) longest(name string) (best *rule) {
	zone := ""
	for i, u := range t.rules {
		if z := plugin.Longest(u.zones, name); len(z) > len(zone) {
			best, zone = &t.rules[i], z
		}
	}
	return best
}

func (u *rule) allows(client netip.Addr) bool {
	return u.all || slices.Contains(u.to, client.WithZone("").Unmap())
}

// serial returns what an IXFR already has, and 0 for an AXFR.
func serial(r *plugin.Request) (uint32, bool) {
	if r.Type() == dnswire.TypeAXFR {
		return 0, true
	}
	if len(r.Msg.Ns) != 1 {
		return 0, false
	}
	soa, ok := r.Msg.Ns[0].(*dnswire.SOA)
	if !ok {
		return 0, false
	}
	return soa.Serial, true
}

// send makes messages of records. All but the first are made while they are sent.
func (t *Transfer) send(r *plugin.Request, records iter.Seq[dnswire.RR]) plugin.Reply {
	reply := plugin.Reply{Plugin: t.Name()}
	for m := range messages(r, records) {
		if reply.Msg != nil {
			reply.More = rest(messages(r, records))
			break
		}
		reply.Msg = m
	}
	if reply.Msg == nil {
		return plugin.Fail(t.Name(), dnswire.RcodeServerFailure, errors.New("a zone without records"))
	}
	return reply
}

// messages returns the records in messages that are no larger than one can be.
func messages(r *plugin.Request, records iter.Seq[dnswire.RR]) iter.Seq[*dnswire.Msg] {
	return func(yield func(*dnswire.Msg) bool) {
		m, size := r.Answer(), 0
		for rr := range records {
			n := dnswire.Len(rr)
			if size > 0 && size+n > batch {
				if !yield(m) {
					return
				}
				m, size = r.Answer(), 0
			}
			m.Answer = append(m.Answer, rr)
			size += n
		}
		if size > 0 {
			yield(m)
		}
	}
}

// rest leaves out the first message.
func rest(all iter.Seq[*dnswire.Msg]) iter.Seq[*dnswire.Msg] {
	return func(yield func(*dnswire.Msg) bool) {
		first := true
		for m := range all {
			if !first && !yield(m) {
				return
			}
			first = false
		}
	}
}
