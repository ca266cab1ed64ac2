package loop

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"math/big"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/forward"
	"github.com/fairway-lb/fairway/dns/plugin"
	dnswire "github.com/miekg/dns"
)

// Names are the names that upstreams are being asked for. One Names serves all blocks of a process,
// since what leaves one block may come back to another. It is safe for concurrent use.
type Names struct {
	mu   sync.Mutex
	seen map[string]bool
}

// NewNames returns Names without a name.
func NewNames() *Names { return &Names{seen: map[string]bool{}} }

// note reports whether a name is one of them, and remembers that it came.
func (n *Names) note(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, ok := n.seen[name]
	if ok {
		n.seen[name] = true
	}
	return ok
}

func (n *Names) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen[name] = false
}

// take forgets a name and reports whether it came.
func (n *Names) take(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	came := n.seen[name]
	delete(n.seen, name)
	return came
}

// Options are what a Loop is told besides its directive.
type Options struct {
	Names *Names       // nil: the block is alone
	Log   *slog.Logger // nil: silent
}

// A Loop is the loop directive of one block. It is safe for concurrent use.
type Loop struct {
	zone     string
	names    *Names
	log      *slog.Logger
	forwards []*forward.Forward

	// How long between two looks at upstreams that did not answer yet, and at others; for how long
	// an upstream without an answer is tried; how long one answer may take.
	soon, later, patience, wait time.Duration

	stop context.CancelFunc
	done chan struct{}
}

// New returns a Loop that looks after no upstream yet.
func New(d *corefile.Loop, o Options) *Loop {
	l := &Loop{zone: d.Zone, names: o.Names, log: o.Log, stop: func() {},
		soon: time.Second, later: 30 * time.Second, patience: 30 * time.Second, wait: 2 * time.Second}
	if l.names == nil {
		l.names = NewNames()
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	return l
}

// Name returns "loop".
func (l *Loop) Name() string { return "loop" }

// Watch makes the Loop look after the upstreams of a forward directive. It must not be called after
// Start.
func (l *Loop) Watch(f *forward.Forward) { l.forwards = append(l.forwards, f) }

// Wrap refuses names that came back, and so ends their journey.
func (l *Loop) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		if r.Type() == dnswire.TypeHINFO && l.names.note(r.Name()) {
			return plugin.Fail("loop", dnswire.RcodeRefused, nil)
		}
		return next.Serve(ctx, r)
	})
}

// Start begins to ask upstreams, in the background.
func (l *Loop) Start(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop, l.done = cancel, make(chan struct{})
	go func() {
		defer close(l.done)
		l.run(ctx)
	}()
	return nil
}

// Close ends that.
func (l *Loop) Close() error {
	l.stop()
	if l.done != nil {
		<-l.done
	}
	return nil
}

// A look is what is known of an upstream.
type look struct {
	since   time.Time
	settled bool // it answered, or had its time
}

func (l *Loop) run(ctx context.Context) {
	known := map[*forward.Upstream]*look{}
	for ctx.Err() == nil {
		var all sync.WaitGroup
		present := map[*forward.Upstream]*look{}
		for _, f := range l.forwards {
			for _, u := range f.Upstreams() {
				k := known[u]
				if k == nil {
					k = &look{since: time.Now()}
				}
				present[u] = k
				if !k.settled || u.Isolated() {
					all.Go(func() { l.ask(ctx, f, u, k) })
				}
			}
		}
		all.Wait()
		known = present
		pause := time.NewTimer(l.pause(known))
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

func (l *Loop) pause(known map[*forward.Upstream]*look) time.Duration {
	for _, k := range known {
		if !k.settled {
			return l.soon
		}
	}
	return l.later
}

// ask asks one upstream for a name and draws the conclusion.
func (l *Loop) ask(ctx context.Context, f *forward.Forward, u *forward.Upstream, k *look) {
	name, err := l.secret(f)
	if err != nil {
		l.log.Error("no loops can be found", "plugin", "loop", "error", err)
		k.settled = true
		return
	}
	l.names.add(name)
	wait, cancel := context.WithTimeout(ctx, l.wait)
	err = u.Probe(wait, name, dnswire.TypeHINFO)
	cancel()
	came := l.names.take(name)
	switch {
	case came && !u.Isolated():
		l.log.Error("upstream forwards back to this server and is not asked any more",
			"plugin", "loop", "upstream", u.Addr(), "zone", l.zone, "query", "HINFO "+name)
		u.Isolate(true)
	case !came && err == nil && u.Isolated():
		l.log.Info("upstream forwards back no more and is asked again", "plugin", "loop", "upstream", u.Addr(), "zone", l.zone)
		u.Isolate(false)
	}
	k.settled = came || err == nil || time.Since(k.since) > l.patience
}

// secret returns a name that nobody can guess: <random>.<random>.<zone>, as CoreDNS's. The zone is
// that of the forward directive if it is below the block's: other names are not sent to the
// upstream.
func (l *Loop) secret(f *forward.Forward) (string, error) {
	zone := l.zone
	if plugin.Under(zone, f.From()) {
		zone = f.From()
	}
	if zone == "." {
		zone = ""
	}
	limit := new(big.Int).Lsh(big.NewInt(1), 62)
	a, err1 := rand.Int(rand.Reader, limit)
	b, err2 := rand.Int(rand.Reader, limit)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	return a.String() + "." + b.String() + "." + zone, nil
}
