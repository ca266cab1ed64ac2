package cache

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
	dnswire "github.com/miekg/dns"
	"pgregory.net/rapid"
)

// TestStoreModel compares a store with a map, as long as nothing must be given up.
func TestStoreModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := New(directive(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, model := c.stores[successes], map[string]*entry{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			r := request(fmt.Sprintf("n%d.example. A", rapid.IntRange(0, 12).Draw(t, "name")))
			k, err := c.key(r)
			if err != nil {
				t.Fatal(err)
			}
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				e := pack(&k, message(r.Msg, r.Name()+" 60 IN A 192.0.2.1"))
				e.ttl = 60
				s.put(&k, e, 0)
				model[r.Name()] = e
			case 1:
				s.remove(&k)
				delete(model, r.Name())
			}
			if s.get(&k) != model[r.Name()] {
				t.Fatalf("%s is not what it should be", r.Name())
			}
			if int(s.entries.Load()) != len(model) {
				t.Fatalf("%d entries, should be %d", s.entries.Load(), len(model))
			}
		}
	})
}

// TestCapacity: a full cache stays as large as it is, and a flood of names that nobody asks for
// again does not drive out the names that clients use.
func TestCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := directive()
		d.SuccessCap = 2048
		g := newRig(t, d, func(r *plugin.Request) plugin.Reply { return gives(r.Spelled() + " 60 IN A 192.0.2.1")(r) })
		const used = 200
		for i := range used {
			g.ask(fmt.Sprintf("used%d.example. A", i))
		}
		for i := range 8000 {
			g.ask(fmt.Sprintf("flood%d.example. A", i))
			if i%10 == 0 {
				for j := range 10 {
					g.fast(t, fmt.Sprintf("used%d.example. A", (i+j)%used))
				}
			}
		}
		s := g.stores[successes]
		if n := s.entries.Load(); n > 2048 || n < 2000 {
			t.Errorf("%d entries", n)
		}
		if s.evictions.Load() == 0 {
			t.Error("nothing was given up")
		}
		there := 0
		for i := range used {
			if g.fast(t, fmt.Sprintf("used%d.example. A", i)) != "" {
				there++
			}
		}
		if there < used*9/10 {
			t.Errorf("%d of %d names in use are still there", there, used)
		}
		// What has expired goes first.
		time.Sleep(61 * time.Second)
		for i := range 1000 {
			g.ask(fmt.Sprintf("new%d.example. A", i))
		}
		lost := 0
		for i := range 1000 {
			if g.fast(t, fmt.Sprintf("new%d.example. A", i)) == "" {
				lost++
			}
		}
		if lost > 20 { // some buckets get more than they hold
			t.Errorf("%d fresh names were given up for stale ones", lost)
		}
	})
}

// TestRotate: each address is first equally often, and none is lost or made up.
func TestRotate(t *testing.T) {
	const n = 5
	var lines []string
	want := map[netip.Addr]bool{}
	for i := range n {
		lines = append(lines, fmt.Sprintf("a.example. 60 IN A 192.0.2.%d", i+1))
		want[netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})] = true
	}
	for _, more := range [][]string{nil, {"www.example. 60 IN CNAME a.example."}} {
		ask := "a.example. A"
		if more != nil {
			ask = "www.example. A"
		}
		g := newRig(t, directive(), gives(append(more, lines...)...))
		g.rotate = true
		g.ask(ask)
		firsts := map[netip.Addr]int{}
		for range 200 * n {
			seen := map[netip.Addr]bool{}
			for i, rr := range g.fastMsg(t, ask).Answer[len(more):] {
				a, _ := netip.AddrFromSlice(rr.(*dnswire.A).A.To4())
				seen[a] = want[a]
				if i == 0 {
					firsts[a]++
				}
			}
			if len(seen) != n {
				t.Fatalf("%v", seen)
			}
		}
		for a, k := range firsts {
			if k < 100 || len(firsts) != n {
				t.Errorf("%s is first %d times of %d", a, k, 200*n)
			}
		}
	}
	for _, lines := range [][]string{{"a.example. 60 IN A 192.0.2.1"}, {"a.example. 60 IN TXT x", "a.example. 60 IN TXT y"}} {
		m := message(request("a.example. A").Msg, lines...)
		m.Compress = true
		raw, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if s := addresses(raw); s != (span{}) {
			t.Errorf("%s: %+v", lines, s)
		}
	}
}

// TestAtOnce: many use a cache at the same time.
func TestAtOnce(t *testing.T) {
	d := directive()
	d.Prefetch = 1
	g := newRig(t, d, func(r *plugin.Request) plugin.Reply { return gives(r.Spelled() + " 5 IN A 192.0.2.1")(r) })
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 300 {
				q := fmt.Sprintf("n%d.example. A", rand.IntN(20))
				if g.fast(t, q) == "" {
					g.ask(q)
				}
			}
		})
	}
	all.Wait()
}

// parsed returns a query of the fast path.
func parsed(t testing.TB, s string) *wire.Query {
	t.Helper()
	raw, err := request(s).Msg.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := new(wire.Query)
	if v := q.Parse(raw); v != wire.OK {
		t.Fatal("verdict", v)
	}
	return q
}

func TestHitDoesNotAllocate(t *testing.T) {
	d := directive()
	d.Zones = []string{"example.org.", "example."}
	d.Prefetch = 1 << 30
	g := newRig(t, d, gives("www.example. 60 IN A 192.0.2.1", "www.example. 60 IN A 192.0.2.2"))
	g.rotate = true
	g.ask("www.example. A opt=none")
	q, out := parsed(t, "www.example. A opt=none"), make([]byte, 1232)
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := g.Answer(q, 1232, out); !ok {
			t.Fatal("no hit")
		}
	}); n != 0 {
		t.Errorf("%v allocations for a hit", n)
	}
	miss := parsed(t, "other.example. A")
	if n := testing.AllocsPerRun(1000, func() { g.Answer(miss, 1232, out) }); n != 0 {
		t.Errorf("%v allocations for a miss", n)
	}
}

func BenchmarkHit(b *testing.B) {
	g := newRig(b, directive(), gives("www.example. 60 IN CNAME a.example.", "a.example. 60 IN A 192.0.2.1", "a.example. 60 IN A 192.0.2.2"))
	g.rotate = true
	g.ask("www.example. A opt=none")
	q, out := parsed(b, "www.example. A opt=none"), make([]byte, 1232)
	b.ReportAllocs()
	for b.Loop() {
		g.Answer(q, 1232, out)
	}
}

func BenchmarkMiss(b *testing.B) {
	g := newRig(b, directive(), gives())
	q, out := parsed(b, "www.example. A opt=none"), make([]byte, 1232)
	b.ReportAllocs()
	for b.Loop() {
		g.Answer(q, 1232, out)
	}
}
