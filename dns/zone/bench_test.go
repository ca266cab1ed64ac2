package zone

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/names"
)

// big returns a cluster of n Services with so many endpoints each; every tenth is headless.
func big(n, endpoints int) names.Inputs {
	in := names.Inputs{Synced: true}
	for i := range 100 {
		in.Namespaces = append(in.Namespaces, fmt.Sprintf("ns-%02d", i))
	}
	var list []*names.Service
	for i := range n {
		list = append(list, bigService(i, endpoints))
	}
	slices.SortFunc(list, (*names.Service).Order)
	in.Services = names.ListOf(list...)
	return in
}

func bigService(i, endpoints int) *names.Service {
	s := &names.Service{
		NamespacedName: proxier.NamespacedName{Namespace: fmt.Sprintf("ns-%02d", i%100), Name: fmt.Sprintf("service-%05d", i)},
		Kind:           names.ClusterIP,
		Ports:          []names.Port{{Name: "http", Protocol: "tcp", Number: 80}},
	}
	if i%10 == 0 {
		s.Kind = names.Headless
	} else {
		s.IPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}
	}
	sl := &names.Slice{Name: s.Name + "-abcde", Width: 4, Ports: []names.Port{{Name: "http", Protocol: "tcp", Number: 8080}}}
	sl.Addrs = make([]byte, 0, 4*endpoints)
	for j := range endpoints {
		k := i*endpoints + j
		sl.Addrs = append(sl.Addrs, 10, byte(128+k>>16), byte(k>>8), byte(k))
	}
	s.Slices = []*names.Slice{sl}
	return s
}

func defaults() corefile.Kubernetes {
	return corefile.Kubernetes{
		Zones: []string{"cluster.local.", "in-addr.arpa.", "ip6.arpa."}, PrimaryZone: "cluster.local.",
		TTL: 30, Pods: corefile.PodsInsecure, Fallthrough: []string{"in-addr.arpa.", "ip6.arpa."},
	}
}

// with200 is a headless Service of 200 endpoints.
func with200() names.Inputs {
	in := big(1000, 10)
	s := bigService(0, 200)
	s.Name = "big"
	in.Services = in.Services.Put(s)
	return in
}

type question struct {
	label, name string
	qtype, size uint16
}

var questions = []question{
	{"A", "service-00123.ns-23.svc.cluster.local.", dnswire.TypeA, 1232},
	{"NXDOMAIN", "www.example.com.ns-23.svc.cluster.local.", dnswire.TypeA, 1232},
	{"headless10", "service-00120.ns-20.svc.cluster.local.", dnswire.TypeA, 1232},
	{"headless200", "big.ns-00.svc.cluster.local.", dnswire.TypeA, 1232},
	{"headless200-512", "big.ns-00.svc.cluster.local.", dnswire.TypeA, 0},
	{"SRV", "_http._tcp.service-00123.ns-23.svc.cluster.local.", dnswire.TypeSRV, 1232},
	{"SRV-headless10", "_http._tcp.service-00120.ns-20.svc.cluster.local.", dnswire.TypeSRV, 1232},
	{"SRV-headless200", "_http._tcp.big.ns-00.svc.cluster.local.", dnswire.TypeSRV, 1232},
	{"endpoint", "10-128-4-178.service-00120.ns-20.svc.cluster.local.", dnswire.TypeA, 1232},
	{"PTR-service", "123.0.96.10.in-addr.arpa.", dnswire.TypePTR, 1232},
	{"PTR-endpoint", "176.4.128.10.in-addr.arpa.", dnswire.TypePTR, 1232},
	{"pod", "10-1-2-3.ns-23.pod.cluster.local.", dnswire.TypeA, 1232},
}

func (q question) pack(t testing.TB) []byte {
	t.Helper()
	m := new(dnswire.Msg)
	m.SetQuestion(q.name, q.qtype)
	if q.size > 0 {
		m.SetEdns0(q.size, false)
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func bigZone(t testing.TB, in names.Inputs) *Zone {
	z := newZone(t, defaults(), Options{Rotate: true})
	z.Update(in)
	return z
}

func BenchmarkAnswer(b *testing.B) {
	z := bigZone(b, with200())
	out := make([]byte, 4096)
	for _, q := range questions {
		b.Run(q.label, func(b *testing.B) {
			packed := q.pack(b)
			var query wire.Query
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				query.Parse(packed)
				var ok bool
				if n, ok = z.Answer(&query, query.Limit(1232), out); !ok {
					b.Fatal("no answer")
				}
			}
			b.ReportMetric(float64(n), "bytes")
		})
	}
}

// BenchmarkAnswerAny asks for the address of another one of 10,000 Services each time, which is in
// no cache of the processor.
func BenchmarkAnswerAny(b *testing.B) {
	const services = 10_000
	z := bigZone(b, big(services, 2))
	var packed [][]byte
	for range 2 * services {
		s := bigService(rand.IntN(services), 2)
		packed = append(packed, question{name: s.Name + "." + s.Namespace + ".svc.cluster.local.", qtype: dnswire.TypeA}.pack(b))
	}
	out, i := make([]byte, 4096), 0
	var query wire.Query
	for b.Loop() {
		i++
		query.Parse(packed[i%len(packed)])
		if _, ok := z.Answer(&query, 1232, out); !ok {
			b.Fatal("no answer")
		}
	}
}

// No answer of the fast path allocates.
func TestAnswerDoesNotAllocate(t *testing.T) {
	z := bigZone(t, with200())
	out := make([]byte, 4096)
	for _, q := range questions {
		packed := q.pack(t)
		var query wire.Query
		allocs := testing.AllocsPerRun(100, func() {
			query.Parse(packed)
			if _, ok := z.Answer(&query, query.Limit(1232), out); !ok {
				t.Errorf("%s: no answer", q.label)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations", q.label, allocs)
		}
	}
}

// BenchmarkUpdate changes one endpoint of one Service among 10,000 with 10 endpoints each.
func BenchmarkUpdate(b *testing.B) {
	in := big(10_000, 10)
	z := bigZone(b, in)
	old, other := bigService(5001, 10), bigService(5001, 10)
	other.Slices[0].Addrs = append([]byte{10, 1, 2, 3}, old.Slices[0].Addrs[4:]...)
	pair := [2]*names.Service{old, other}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		next := in
		next.Services = in.Services.Put(pair[i%2])
		z.Update(next)
	}
}

// BenchmarkBuild makes the index of 10,000 Services with 10 endpoints each from nothing.
func BenchmarkBuild(b *testing.B) {
	in := big(10_000, 10)
	b.ReportAllocs()
	for b.Loop() {
		bigZone(b, in)
	}
}

// BenchmarkHeap tells what 10,000 Services with 10 endpoints each take, as values of proxier/names
// and as an index of them.
func BenchmarkHeap(b *testing.B) {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		start := heap()
		in := big(10_000, 10)
		values := heap()
		z := bigZone(b, in)
		b.ReportMetric(float64(values-start), "names-bytes")
		b.ReportMetric(float64(heap()-values), "index-bytes")
		runtime.KeepAlive(z)
		runtime.KeepAlive(in)
	}
}
