package loadbalance

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/poll"
)

// Loadbalance is the plugin.
type Loadbalance struct {
	prefer  []netip.Prefix
	weights *atomic.Pointer[weights] // nil with round_robin
	poll    poll.File
	number  func(n int) int // random, below n
}

// New returns the plugin and reads its weights. A file of weights that is not there may come later,
// unless it is read only once.
func New(d *corefile.Loadbalance, log *slog.Logger) (*Loadbalance, error) {
	l := &Loadbalance{prefer: d.Prefer, number: rand.IntN}
	if d.Weights == "" {
		return l, nil
	}
	l.weights = &atomic.Pointer[weights]{}
	l.weights.Store(&weights{})
	l.poll = poll.File{
		Path: d.Weights, Every: d.Reload,
		Load: func(data []byte, _ time.Time) error {
			w, err := readWeights(data)
			if err == nil {
				l.weights.Store(&w)
			}
			return err
		},
		Failed: func(err error) { log.Warn("loadbalance weights", "err", err) },
	}
	err := l.poll.Read()
	if errors.Is(err, fs.ErrNotExist) && d.Reload > 0 {
		l.poll.Failed(err)
		err = nil
	}
	return l, err
}

// Name returns "loadbalance".
func (*Loadbalance) Name() string { return "loadbalance" }

// Start begins to look for changes of the weights.
func (l *Loadbalance) Start(ctx context.Context) error {
	l.poll.Start(ctx)
	return nil
}

// Close ends what Start began.
func (l *Loadbalance) Close() error {
	l.poll.Close()
	return nil
}

// Wrap returns the plugin in front of next.
func (l *Loadbalance) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		reply := next.Serve(ctx, r)
		if reply.Msg == nil || reply.Msg.Rcode != dnswire.RcodeSuccess || plugin.KindOf(reply.Msg) == plugin.Meta {
			return reply
		}
		reply = reply.Shallow(r)
		reply.Msg.Answer = l.order(reply.Msg.Answer)
		reply.Msg.Extra = l.order(reply.Msg.Extra)
		if l.weights == nil {
			reply.Msg.Ns = l.order(reply.Msg.Ns)
		}
		return reply
	})
}

// order returns a section in its new order: aliases, what else there is, addresses, mail hosts. The
// slice is the caller's, the records may be another's.
func (l *Loadbalance) order(rrs []dnswire.RR) []dnswire.RR {
	if len(rrs) < 2 {
		return rrs
	}
	slices.SortStableFunc(rrs, func(a, b dnswire.RR) int { return rank(a) - rank(b) })
	first := func(r int) int {
		at, _ := slices.BinarySearchFunc(rrs, r, func(rr dnswire.RR, r int) int { return rank(rr) - r })
		return at
	}
	addresses, mail := rrs[first(rankAddress):first(rankMail)], rrs[first(rankMail):]
	if l.weights == nil {
		l.shuffle(addresses)
		l.shuffle(mail)
	} else if at := l.weights.Load().pick(addresses, l.number); at > 0 {
		addresses[0], addresses[at] = addresses[at], addresses[0]
	}
	if len(l.prefer) > 0 {
		slices.SortStableFunc(addresses, func(a, b dnswire.RR) int { return l.preference(a) - l.preference(b) })
	}
	return rrs
}

const (
	rankAlias = iota
	rankOther
	rankAddress
	rankMail
)

func rank(rr dnswire.RR) int {
	switch rr.(type) {
	case *dnswire.CNAME:
		return rankAlias
	case *dnswire.A, *dnswire.AAAA:
		return rankAddress
	case *dnswire.MX:
		return rankMail
	}
	return rankOther
}

func (l *Loadbalance) shuffle(rrs []dnswire.RR) {
	for i := len(rrs) - 1; i > 0; i-- {
		j := l.number(i + 1)
		rrs[i], rrs[j] = rrs[j], rrs[i]
	}
}

// preference returns the place of the first preferred network that holds the record's address.
func (l *Loadbalance) preference(rr dnswire.RR) int {
	a := addr(rr)
	for i, p := range l.prefer {
		if p.Contains(a) {
			return i
		}
	}
	return len(l.prefer)
}

// addr returns the address of an A or AAAA record.
func addr(rr dnswire.RR) netip.Addr {
	var a netip.Addr
	switch rr := rr.(type) {
	case *dnswire.A:
		a, _ = netip.AddrFromSlice(rr.A)
	case *dnswire.AAAA:
		a, _ = netip.AddrFromSlice(rr.AAAA)
	}
	return a.Unmap()
}
