package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	dnswire "github.com/miekg/dns"
)

const (
	// deadline is how long a query may take with all of its attempts.
	deadline = 5 * time.Second
	// maxFlights bounds what is asked of the upstreams of one directive at a time, whatever
	// max_concurrent says: each flight has a socket.
	maxFlights = 8192
	// pause is between two rounds of attempts that nobody answered.
	pause = 10 * time.Millisecond
)

var (
	errNoHealthy = errors.New("no healthy proxies") // CoreDNS's text
	errLooping   = errors.New("all upstreams forward back to this server")
	errTooMany   = errors.New("too many queries under way")
	errTransfer  = errors.New("zone transfers are not forwarded")
)

// Options are what a Forward is told besides its directive.
type Options struct {
	Metrics *Metrics     // nil: counted for nobody
	Log     *slog.Logger // nil: silent
}

// A Forward is one forward directive. It is safe for concurrent use.
type Forward struct {
	o       corefile.Forward
	policy  policy
	tls     *tls.Config
	metrics *Metrics
	log     *slog.Logger

	upstreams atomic.Pointer[[]*Upstream]
	active    atomic.Int64 // clients that wait

	mu      sync.Mutex // over flights and closed
	flights map[flightKey]*flight
	closed  bool
	limit   time.Duration // deadline
	base    context.Context
	stop    context.CancelFunc
	running sync.WaitGroup
}

// New looks up host names among the upstreams and makes a Forward. It opens no socket that stays.
func New(d *corefile.Forward, o Options) (*Forward, error) {
	f := &Forward{o: *d, metrics: o.Metrics, log: o.Log, flights: map[flightKey]*flight{}, limit: deadline}
	if f.metrics == nil {
		f.metrics = NewMetrics()
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if f.policy, err = policyOf(d.Policy); err != nil {
		return nil, fmt.Errorf("%s: forward: %w", d.Pos, err)
	}
	if f.tls, err = tlsConfig(d.TLS); err != nil {
		return nil, fmt.Errorf("%s: forward: %w", d.Pos, err)
	}
	targets, err := expand(d)
	if err != nil {
		return nil, fmt.Errorf("%s: forward: %w", d.Pos, err)
	}
	f.base, f.stop = context.WithCancel(context.Background())
	f.use(targets)
	return f, nil
}

// Name returns "forward".
func (f *Forward) Name() string { return "forward" }

// From returns the zone whose names are forwarded.
func (f *Forward) From() string { return f.o.From }

// Upstreams returns who is asked at the moment.
func (f *Forward) Upstreams() []*Upstream { return *f.upstreams.Load() }

// Start begins to look after files with upstreams.
func (f *Forward) Start(context.Context) error {
	if len(f.files()) > 0 {
		f.run(f.reread)
	}
	return nil
}

// Close ends all that is under way, with an error for who waits, and closes all sockets.
func (f *Forward) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.stop()
	f.running.Wait()
	for _, u := range f.Upstreams() {
		u.close()
	}
	return nil
}

// run starts f in the background, unless the Forward is closed. It reports whether it did.
func (f *Forward) run(what func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.running.Go(what)
	return true
}

// Wrap puts the Forward in front of next, which answers what is not for the upstreams.
func (f *Forward) Wrap(next plugin.Handler) plugin.Handler { return &handler{Forward: f, next: next} }

type handler struct {
	*Forward
	next plugin.Handler
}

// Serve answers with what an upstream says.
func (h *handler) Serve(ctx context.Context, r *plugin.Request) plugin.Reply {
	if !h.wants(r.Name()) {
		return h.next.Serve(ctx, r)
	}
	if t := r.Type(); t == dnswire.TypeAXFR || t == dnswire.TypeIXFR {
		return plugin.Fail("forward", dnswire.RcodeRefused, errTransfer)
	}
	defer h.active.Add(-1)
	if n := h.active.Add(1); h.o.MaxConcurrent > 0 && n > int64(h.o.MaxConcurrent) {
		h.metrics.rejected.Inc()
		return plugin.Fail("forward", dnswire.RcodeRefused, fmt.Errorf("concurrent queries exceeded maximum %d", h.o.MaxConcurrent))
	}
	m, err := h.fly(ctx, r)
	switch {
	case errors.Is(err, errTooMany):
		h.metrics.rejected.Inc()
		return plugin.Fail("forward", dnswire.RcodeRefused, err)
	case err != nil:
		return plugin.Fail("forward", dnswire.RcodeServerFailure, err)
	}
	if h.passesOn(m) {
		return h.next.Serve(ctx, r)
	}
	return plugin.Answered("forward", dress(r, m))
}

// wants reports whether a name is for the upstreams. The exceptions do not hold for the zone of
// the directive itself.
func (f *Forward) wants(name string) bool {
	if !plugin.Under(f.o.From, name) {
		return false
	}
	return name == f.o.From || plugin.Longest(f.o.Except, name) == ""
}

// passesOn reports whether the next forward shall be asked after a reply. Without one the reply
// is the answer.
func (h *handler) passesOn(m *dnswire.Msg) bool {
	if _, ok := h.next.(*handler); !ok {
		return false
	}
	return slices.Contains(h.o.NextRcodes, m.Rcode) ||
		h.o.NextOnNoData && m.Rcode == dnswire.RcodeSuccess && len(m.Answer) == 0
}

// resolve asks upstreams until one answers.
func (f *Forward) resolve(ctx context.Context, q *question) (*dnswire.Msg, error) {
	all := f.Upstreams()
	list := f.policy(slices.DeleteFunc(slices.Clone(all), (*Upstream).Isolated))
	if len(list) == 0 {
		return nil, errLooping
	}
	most := f.o.MaxConnectAttempts
	if most < 0 {
		most = 2 * len(list)
	}
	last := errNoHealthy
	for i, fails, attempts, failovers := 0, 0, 0, 0; ctx.Err() == nil && (most == 0 || attempts < most); i++ {
		if i == len(list) {
			i, fails = 0, 0
			if !sleep(ctx, pause) {
				break
			}
		}
		u := list[i]
		if u.down(f.o.MaxFails) {
			if fails++; fails < len(list) {
				continue
			}
			// Either all of them are dead or the checks are: one of them is tried all the same.
			f.metrics.broken.Inc()
			if f.o.FailfastUnhealthy {
				break
			}
			u = randomOrder(list)[0]
		}
		m, err := u.ask(ctx, q)
		if err != nil {
			last = err
			u.suspect()
			if attempts++; fails >= len(list) {
				break
			}
			continue
		}
		if slices.Contains(f.o.FailoverRcodes, m.Rcode) {
			if failovers++; failovers < len(list) {
				continue
			}
		}
		return m, nil
	}
	return nil, last
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
