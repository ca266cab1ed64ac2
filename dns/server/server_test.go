package server

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	dnswire "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/names"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test. It is long because the machine may be busy.
const patience = 30 * time.Second

// A buffer is a log that a test looks at while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A cluster is a names.Source whose state a test sets.
type cluster struct {
	mu      sync.Mutex
	inputs  names.Inputs
	changed chan struct{}
	synced  chan struct{}
	stale   time.Duration
	runs    int // how many connections there were
}

func newCluster() *cluster {
	return &cluster{changed: make(chan struct{}), synced: make(chan struct{})}
}

func (c *cluster) set(in names.Inputs) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if in.Synced && !c.inputs.Synced {
		close(c.synced)
	}
	c.inputs = in
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *cluster) setStale(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stale = d
}

func (c *cluster) Inputs() names.Inputs {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inputs
}

func (c *cluster) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *cluster) Synced() <-chan struct{} { return c.synced }

func (c *cluster) Staleness() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stale
}

func (c *cluster) connect(*corefile.Kubernetes) (names.Source, func(context.Context) error, error) {
	return c, func(ctx context.Context) error {
		c.mu.Lock()
		c.runs++
		c.mu.Unlock()
		<-ctx.Done()
		return nil
	}, nil
}

func (c *cluster) connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs
}

// service is a Service of type ClusterIP in namespace prod.
func service(name, ip string) *names.Service {
	return &names.Service{NamespacedName: proxier.NamespacedName{Namespace: "prod", Name: name}, Kind: names.ClusterIP,
		IPs: []netip.Addr{netip.MustParseAddr(ip)}, Ports: []names.Port{{Name: "http", Protocol: "tcp", Number: 80}}}
}

// state is a complete state with these Services.
func state(services ...*names.Service) names.Inputs {
	return names.Inputs{Synced: true, Namespaces: []string{"prod"}, Services: names.ListOf(services...)}
}

// A fixture is a running Server.
type fixture struct {
	*Server
	t       *testing.T
	cluster *cluster
	out     *buffer // what it prints and logs

	in func(func() error) error // runs the server: where

	mu   sync.Mutex
	text string
	end  func() error
}

// start starts a server with a Corefile. It is stopped when the test ends.
func start(t *testing.T, text string, c *cluster) *fixture {
	t.Helper()
	f := newFixture(t, text, c)
	f.run()
	return f
}

func newFixture(t *testing.T, text string, c *cluster) *fixture {
	f := &fixture{t: t, cluster: c, out: &buffer{}, text: text, in: func(run func() error) error { return run() }}
	f.Server = New(Options{Load: f.load, NewSource: c.connect, Out: f.out, Workers: 4, Version: "test",
		Log: slog.New(slog.NewTextHandler(f.out, nil))})
	return f
}

// run runs the server until the test ends, and returns when it serves.
func (f *fixture) run() {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var err error
	go func() { defer close(done); err = f.in(func() error { return f.Run(ctx) }) }()
	f.end = func() error { cancel(); <-done; return err }
	f.t.Cleanup(func() {
		if err := f.end(); err != nil {
			f.t.Errorf("the server ended with %v", err)
		}
		if f.t.Failed() {
			f.t.Logf("log:\n%s", f.out)
		}
	})
	deadline := time.Now().Add(patience)
	for !strings.Contains(f.out.String(), "Fairway-test") {
		select {
		case <-done:
			f.t.Fatalf("the server ended at once, see below\n%s", f.out)
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("the server does not start:\n%s", f.out)
		}
	}
}

func (f *fixture) load() (*corefile.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return corefile.Parse("Corefile", []byte(f.text), corefile.Options{OwnObjects: true})
}

// write replaces the Corefile.
func (f *fixture) write(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.text = text
}

// loopback is where the Corefiles of tests listen: on a port that is free.
var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// ask sends a query by UDP and returns the reply.
func (f *fixture) ask(name string, qtype uint16) *dnswire.Msg {
	return f.exchange(question(name, qtype), "udp")
}

func question(name string, qtype uint16) *dnswire.Msg {
	return new(dnswire.Msg).SetQuestion(dnswire.Fqdn(name), qtype)
}

func (f *fixture) exchange(m *dnswire.Msg, proto string) *dnswire.Msg {
	f.t.Helper()
	c := &dnswire.Client{Net: proto, Timeout: patience, UDPSize: 4096}
	r, _, err := c.Exchange(m, f.Addr(loopback).String())
	if err != nil {
		f.t.Fatalf("%v: %v", m.Question, err)
	}
	return r
}

// answer is the code of a reply and the data of its answers, as text.
func answer(m *dnswire.Msg) string {
	out := dnswire.RcodeToString[m.Rcode]
	for _, rr := range m.Answer {
		fields := strings.Split(rr.String(), "\t")
		out += " " + fields[len(fields)-1]
	}
	return out
}

const cornerstone = `.:0 {
	bind 127.0.0.1
	errors
	health 127.0.0.1:0
	ready 127.0.0.2:0
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		pods insecure
		fallthrough in-addr.arpa ip6.arpa
		ttl 30
	}
	prometheus 127.0.0.3:0
	%s
	cache 30 {
		disable success cluster.local
		disable denial cluster.local
	}
	loop
	reload
	loadbalance
}
`

func TestAnswers(t *testing.T) {
	c := newCluster()
	c.set(state(service("web", "10.96.0.1")))
	f := start(t, fmt.Sprintf(cornerstone, ""), c)
	for _, proto := range []string{"udp", "tcp"} {
		for name, want := range map[string]string{
			"web.prod.svc.cluster.local.":     "NOERROR 10.96.0.1",
			"WEB.prod.svc.cluster.local.":     "NOERROR 10.96.0.1",
			"none.prod.svc.cluster.local.":    "NXDOMAIN",
			"1-2-3-4.prod.pod.cluster.local.": "NOERROR 1.2.3.4",
			"example.org.":                    "SERVFAIL",
		} {
			if got := answer(f.exchange(question(name, dnswire.TypeA), proto)); got != want {
				t.Errorf("%s over %s: %s, want %s", name, proto, got, want)
			}
		}
	}
}
