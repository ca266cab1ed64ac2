package serve

import (
	"net/netip"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// books returns a server with connections that are on its books only, each of the client that of says.
func books(n int, of func(i int) byte) (*tcpServer, []*conn) {
	s := &tcpServer{clients: map[netip.Addr]int{}}
	s.ended.L = &s.mu
	var all []*conn
	for i := range n {
		c := &conn{s: s, key: netip.AddrFrom4([4]byte{10, 0, 0, of(i)})}
		c.change.L = &c.mu
		s.clients[c.key]++
		s.put(c, &s.quiet)
		all = append(all, c)
	}
	return s, all
}

func begin(c *conn)  { c.inWork.Add(1) }
func finish(c *conn) { (&segment{c: c}).drop() }

// TestVictim: whatever connections do, one that waits for an answer has to go only if all do, and of the
// few that are looked at it is one of the client that has most.
func TestVictim(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, all := books(rapid.IntRange(1, 100).Draw(t, "connections"), func(i int) byte { return byte(i % 5) })
		pick := func() *conn { return all[rapid.IntRange(0, len(all)-1).Draw(t, "connection")] }
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			switch c := pick(); rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1:
				begin(c)
				s.asked(c)
			case 2:
				if c.inWork.Load() > 0 {
					finish(c)
				}
			case 3:
				s.asked(c)
			case 4:
				idle, count := 0, 0
				for _, c := range all {
					if c.list != nil {
						count++
						if c.inWork.Load() == 0 {
							idle++
						}
					}
				}
				before := map[netip.Addr]int{}
				for a, n := range s.clients {
					before[a] = n
				}
				v := s.victim(nil)
				switch {
				case count == 0:
					if v != nil {
						t.Fatal("a victim among none")
					}
					return
				case v == nil:
					t.Fatalf("no victim among %d", count)
				case idle > 0 && v.inWork.Load() > 0:
					t.Fatalf("%d wait for nothing, and one that does has to go", idle)
				case idle == 0 && s.quiet.Len() > 0, s.quiet.Len() < idle-1:
					t.Fatalf("%d are looked at next time, %d wait for nothing", s.quiet.Len(), idle)
				}
				if idle <= look { // all of them were candidates
					for _, c := range all {
						if c.list != nil && (c.inWork.Load() == 0) == (idle > 0) && count <= look && before[c.key] > before[v.key] {
							t.Fatalf("a client with %d loses one, another has %d", before[v.key], before[c.key])
						}
					}
				}
				if s.count() != count-1 || v.list != nil || !v.gone.Load() {
					t.Fatal("the victim is on the books")
				}
			}
		}
	})
}

// TestVictimLooksOnce: when all wait, the next to come finds none of them in its way.
func TestVictimLooksOnce(t *testing.T) {
	const n = 4096
	s, all := books(n, func(i int) byte { return byte(i) })
	for _, c := range all {
		begin(c)
	}
	if v := s.victim(nil); v == nil || v.inWork.Load() == 0 {
		t.Error("nobody had to go")
	}
	if s.quiet.Len() != 0 || s.waiting.Len() != n-1 {
		t.Errorf("%d are to be looked at, %d put aside", s.quiet.Len(), s.waiting.Len())
	}
	finish(all[n/2])
	if v := s.victim(nil); v != all[n/2] {
		t.Error("the one that waits for nothing any more may stay")
	}
}

// TestAside: no connection stays put aside once its last query is answered, though both happen at the
// same time.
func TestAside(t *testing.T) {
	s, all := books(8, func(int) byte { return 1 })
	for round := range 2000 {
		for _, c := range all {
			begin(c)
		}
		var work sync.WaitGroup
		work.Go(func() {
			for _, c := range all {
				finish(c)
			}
		})
		s.mu.Lock()
		for _, c := range all {
			s.putAside(c)
		}
		s.mu.Unlock()
		work.Wait()
		if s.waiting.Len() != 0 || s.quiet.Len() != len(all) {
			t.Fatalf("round %d: %d are put aside, %d not", round, s.waiting.Len(), s.quiet.Len())
		}
	}
}

// BenchmarkVictim is a new connection while all wait for answers.
func BenchmarkVictim(b *testing.B) {
	s, all := books(4096, func(i int) byte { return byte(i) })
	for _, c := range all {
		begin(c)
	}
	for b.Loop() {
		c := s.victim(nil)
		s.mu.Lock()
		s.clients[c.key]++
		s.put(c, &s.quiet)
		s.mu.Unlock()
	}
}
