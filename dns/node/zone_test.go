package node

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/dns/zone"
	"github.com/fairway-lb/fairway/proxier"
)

// A kernel is a Backend that takes its time, and may fail.
type kernel struct {
	took time.Duration
	mu   sync.Mutex
	err  error
	has  *proxier.Snapshot // what was applied last without error
}

func (k *kernel) Name() string { return "test" }
func (k *kernel) Invalidate()  {}
func (k *kernel) Close() error { return nil }

func (k *kernel) Apply(ctx context.Context, want *proxier.Snapshot) (proxier.Changes, error) {
	time.Sleep(k.took)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.has = want
	}
	return proxier.Changes{}, k.err
}

func (k *kernel) serves(service string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.has.Service(proxier.NamespacedName{Namespace: "ns", Name: service}) != nil
}

func (k *kernel) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// TestSlowKernel: what a zone answers follows a data plane that takes a second for every change, and
// then fails for a while.
func TestSlowKernel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, err := corefile.Parse("Corefile", []byte(". {\nkubernetes cluster.local\n}\n"), corefile.Options{OwnObjects: true})
		if err != nil {
			t.Fatal(err)
		}
		d, _ := corefile.Find[*corefile.Kubernetes](cfg.Blocks[0])
		z, err := zone.New(*d, zone.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(name string) string {
			synctest.Wait()
			msg, err := new(dnswire.Msg).SetQuestion(name+".ns.svc.cluster.local.", dnswire.TypeA).Pack()
			if err != nil {
				t.Fatal(err)
			}
			var q wire.Query
			var out [1232]byte
			if v := q.Parse(msg); v != wire.OK {
				t.Fatalf("question: %v", v)
			}
			n, ok := z.Answer(&q, len(out), out[:])
			var reply dnswire.Msg
			if err := reply.Unpack(out[:n]); !ok || err != nil {
				t.Fatalf("answered: %v, %v", ok, err)
			}
			return dnswire.RcodeToString[reply.Rcode]
		}
		k := &kernel{took: time.Second}
		g := NewGate(Patience, slog.New(slog.DiscardHandler))
		c := newCluster()
		src := g.Source(c)
		feed := new(proxier.Feed)
		loop := &proxier.Loop{Feed: feed, Backend: k, Applying: g.Applying, Applied: g.Applied, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { src.Run(ctx) })
		wg.Go(func() { zone.Follow(ctx, src, z) })
		wg.Go(func() { loop.Run(ctx) })
		change := func(list ...string) {
			in := inputs(list...)
			in.Namespaces = []string{"ns"}
			c.set(in)
			feed.Publish(snapshot(list...))
		}
		expect := func(when, a, b, crew string) {
			t.Helper()
			if x, y, z := ask("a"), ask("b"), ask("crew"); x != a || y != b || z != crew {
				t.Errorf("%s: a %s, b %s, crew %s; want %s, %s, %s", when, x, y, z, a, b, crew)
			}
		}
		const yes, no, unknown = "NOERROR", "NXDOMAIN", "SERVFAIL"
		expect("nothing is known", unknown, unknown, unknown)
		change("a 10.96.0.1 80", "crew None 80")
		time.Sleep(time.Second / 2)
		expect("the first apply runs", unknown, unknown, yes)
		time.Sleep(time.Second)
		expect("applied", yes, no, yes)
		time.Sleep(time.Minute)
		change("b 10.96.0.2 80")
		expect("the second apply runs", no, no, no)
		if !k.serves("a") {
			t.Error("the rules of a went before its name")
		}
		time.Sleep(2 * time.Second)
		expect("the second is applied", no, yes, no)
		time.Sleep(time.Minute)
		k.fail(errors.New("no"))
		change("a 10.96.0.1 80", "crew None 80")
		time.Sleep(Patience / 2)
		expect("failing", no, no, yes)
		time.Sleep(time.Minute)
		expect("failing for long", yes, no, yes)
		cancel()
		wg.Wait()
	})
}
