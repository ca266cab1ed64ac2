package dnsdiff

import (
	"context"
	"flag"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	dnswire "github.com/miekg/dns"
	"k8s.io/client-go/kubernetes"

	"github.com/fairway-lb/fairway/bench/apiserver"
	"github.com/fairway-lb/fairway/bench/nameserver"
)

var changesFlag = flag.Int("changes", 1000, "random changes of the objects of a real API server")

// patience bounds the wait for a change to be seen. It takes milliseconds on a machine that does
// nothing else.
const patience = 30 * time.Second

// sides starts an API server, and CoreDNS and Fairway beside it, in one space.
func sides(t *testing.T) (client *kubernetes.Clientset, theirs, ours side) {
	t.Helper()
	addrs := []netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("10.0.0.54")}
	space := nameserver.TestSpace(t, addrs...)
	nameserver.TestInternet(t, upstream, space)
	api := apiserver.New(t, apiserver.Options{In: space.In, ServiceCIDRs: "10.96.0.0/16,fd00:10:96::/112"})
	client, err := kubernetes.NewForConfig(api.Config())
	if err != nil {
		t.Fatal(err)
	}
	var out [2]side
	for i, kind := range []string{nameserver.CoreDNS, *oursFlag} {
		ip := addrs[i].String()
		corefile := nameserver.Expand(changing, map[string]string{"IP": ip, "API": "kubeconfig " + api.Kubeconfig(), "UPSTREAM": upstream})
		addr := netip.AddrPortFrom(addrs[i], 53)
		s := nameserver.StartTest(t, nameserver.Options{Kind: kind, Space: space, Addr: addr, Ready: ip + ":8181", Corefile: corefile})
		c := nameserver.NewClient(space, addr)
		t.Cleanup(c.Close)
		out[i] = side{s, c}
	}
	return client, out[0], out[1]
}

// changing is kubeadm's Corefile on one address, and with pointers kept out of the cache too: CoreDNS
// would hold on to old ones for 30 s.
const changing = `.:53 {
	bind $IP
	errors
	ready $IP:8181
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		$API
		pods insecure
		fallthrough in-addr.arpa ip6.arpa
		ttl 30
	}
	forward . $UPSTREAM
	cache 30 {
		disable success cluster.local in-addr.arpa ip6.arpa
		disable denial cluster.local in-addr.arpa ip6.arpa
	}
	loadbalance
}
`

// Whenever nothing changes for a moment, both resolvers give the same answers.
func TestChanges(t *testing.T) {
	client, theirs, ours := sides(t)
	c := &changer{client: client, r: rand.New(rand.NewPCG(*seedFlag, 2))}
	setup := Setup{Name: "changing", Cached: foreign}
	tried, taken, asked, meant, pause := 0, 0, 0, 0, 0
	for taken < *changesFlag {
		pause++
		for range 1 + c.r.IntN(50) { // a burst
			ok, err := c.change(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				taken++
			}
			tried++
		}
		name, address, _, err := c.marker(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []side{theirs, ours} {
			s.await(t, name, address)
		}
		cluster, err := c.cluster(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a, m := settle(t, setup, cluster, c.r, theirs, ours)
		asked, meant = asked+a, meant+m
		if t.Failed() {
			t.Fatalf("pause %d, after %d changes", pause, taken)
		}
	}
	t.Logf("%d changes, %d pauses, %d answers compared, %d of them different on purpose", taken, pause, asked, meant)
	latency(t, c, theirs, ours)
	if taken < tried/3 {
		t.Errorf("the API server took %d changes of %d", taken, tried)
	}
}

// settle compares the answers to queries about a cluster. What is not the same at once is asked
// again: namespaces come over a watch of their own, which the marker does not wait for.
func settle(t *testing.T, setup Setup, c *Cluster, r *rand.Rand, theirs, ours side) (asked, meant int) {
	t.Helper()
	queries := slices.DeleteFunc(c.Queries(r, 150, zone, nil), ofServer)
	var faults []*Difference
	for deadline := time.Now().Add(patience); len(queries) > 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		faults = nil
		queries = slices.DeleteFunc(queries, func(q Query) bool {
			d := ask(t, setup, q, theirs, ours)
			if d != nil && d.Rule == "" {
				faults = append(faults, d)
				return false
			}
			asked++
			if d != nil {
				meant++
			}
			return true
		})
	}
	for _, d := range faults[:min(len(faults), 10)] {
		t.Error(d)
	}
	return asked, meant
}

// ofServer reports whether the answer has the server's own address, which is another for each.
func ofServer(q Query) bool {
	name := strings.ToLower(q.Msg.Question[0].Name)
	return q.Msg.Question[0].Qtype == dnswire.TypeNS || strings.HasSuffix(name, "dns."+zone)
}

// ask asks both and compares.
func ask(t *testing.T, setup Setup, q Query, theirs, ours side) *Difference {
	t.Helper()
	a, err := theirs.Ask(q.Query)
	if err != nil {
		t.Fatal(err, theirs.Output())
	}
	b, err := ours.Ask(q.Query)
	if err != nil {
		t.Fatal(err, ours.Output())
	}
	return judge(t, setup, q, a, b, theirs, ours)
}

// await asks until a name has exactly one address.
func (s side) await(t *testing.T, name, address string) {
	t.Helper()
	got := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		var err error
		if got, err = s.address(name); err != nil {
			t.Fatal(err, s.Output())
		}
		if got == address {
			return
		}
	}
	t.Fatalf("%s: %s has the address %q after %s, not %s: %s", s.Name, name, got, patience, address, s.Output())
}

// address returns the only address of a name, "" if it has another number of them.
func (s side) address(name string) (string, error) {
	m, err := s.Ask(nameserver.Query{Msg: new(dnswire.Msg).SetQuestion(name, dnswire.TypeA)})
	if err != nil || len(m.Answer) != 1 {
		return "", err
	}
	a, ok := m.Answer[0].(*dnswire.A)
	if !ok {
		return "", nil
	}
	return a.A.String(), nil
}

// latency prints how soon both answer what one change made. docs/benchmarks.md has the figures
// for a large cluster, without the time of the API server.
func latency(t *testing.T, c *changer, theirs, ours side) {
	t.Helper()
	var took [2][]time.Duration
	for range 30 {
		time.Sleep(20 * time.Millisecond) // a change by itself
		name, address, begin, err := c.marker(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		var seen [2]time.Duration
		for i, s := range []side{theirs, ours} {
			go func() {
				defer func() { done <- struct{}{} }()
				seen[i] = s.until(t.Context(), begin, name, address)
			}()
		}
		<-done
		<-done
		for i := range seen {
			if seen[i] == 0 {
				t.Fatalf("%s has no address %s after %s", name, address, patience)
			}
			took[i] = append(took[i], seen[i])
		}
	}
	for i := range took {
		slices.Sort(took[i])
	}
	t.Logf("from the write of an EndpointSlice to the answer: CoreDNS %s, Fairway %s (medians)", took[0][len(took[0])/2], took[1][len(took[1])/2])
}

// until returns when a name got its address, 0 if it did not.
func (s side) until(ctx context.Context, begin time.Time, name, address string) time.Duration {
	for deadline := begin.Add(patience); time.Now().Before(deadline) && ctx.Err() == nil; {
		if got, err := s.address(name); err == nil && got == address {
			return time.Since(begin)
		}
	}
	return 0
}
