package serve

import (
	"container/list"
	"net/netip"
)

// evict closes one of the connections that asked nothing for longest: of the client that has most,
// so that one with few need not fear those with many. One that waits for an answer is passed over,
// unless all do; fresh has just come, and is not meant.
func (s *tcpServer) evict(fresh *conn) {
	if c := s.victim(fresh); c != nil {
		s.evicted.Add(1)
		c.nc.Close()
	}
}

// look is among how many connections a victim is chosen.
const look = 32

// victim takes one connection off the books. It looks at few: those that it sees to wait for an answer
// are put aside until they have it, so that a query costs one look at most.
func (s *tcpServer) victim(fresh *conn) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var best choice
	for e := s.quiet.Back(); e != nil && best.seen < look; {
		c := e.Value.(*conn)
		e = e.Prev()
		if c != fresh && !s.putAside(c) {
			best.consider(c, s.clients)
		}
	}
	if best.conn == nil {
		for e := s.waiting.Back(); e != nil && best.seen < look; e = e.Prev() {
			best.consider(e.Value.(*conn), s.clients)
		}
	}
	if best.conn != nil {
		s.forget(best.conn)
		best.conn.gone.Store(true)
	}
	return best.conn
}

// A choice is the first connection of the client with most, among those that were seen.
type choice struct {
	conn *conn
	seen int
}

func (best *choice) consider(c *conn, clients map[netip.Addr]int) {
	if best.conn == nil || clients[c.key] > clients[best.conn.key] {
		best.conn = c
	}
	best.seen++
}

// putAside puts a connection that waits for an answer where no victim is looked for, and reports
// whether it did. Whoever answers its last query sees aside, or is seen here. Callers hold mu.
func (s *tcpServer) putAside(c *conn) bool {
	if c.inWork.Load() == 0 {
		return false
	}
	c.aside.Store(true)
	if c.inWork.Load() == 0 {
		c.aside.Store(false)
		return false
	}
	s.put(c, &s.waiting)
	return true
}

// answered is called when the last slow query of a connection is answered.
func (s *tcpServer) answered(c *conn) {
	if !c.aside.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.list == &s.waiting && c.inWork.Load() == 0 {
		c.aside.Store(false)
		s.put(c, &s.quiet)
	}
}

// put moves a connection to the front of a list. Callers hold mu.
func (s *tcpServer) put(c *conn, to *list.List) {
	if c.list != nil {
		c.list.Remove(c.place)
	}
	c.list, c.place = to, to.PushFront(c)
}

// forget takes a connection off the books; a second time does nothing. Callers hold mu.
func (s *tcpServer) forget(c *conn) {
	if c.list == nil {
		return
	}
	c.list.Remove(c.place)
	c.list, c.place = nil, nil
	if s.clients[c.key]--; s.clients[c.key] == 0 {
		delete(s.clients, c.key)
	}
}

// asked notes that a connection has just asked something.
func (s *tcpServer) asked(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.list != nil {
		c.list.MoveToFront(c.place)
	}
}

// count is how many connections there are. Callers hold mu.
func (s *tcpServer) count() int { return s.quiet.Len() + s.waiting.Len() }

// each calls f for all connections.
func (s *tcpServer) each(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range []*list.List{&s.quiet, &s.waiting} {
		for e := l.Front(); e != nil; e = e.Next() {
			f(e.Value.(*conn))
		}
	}
}
