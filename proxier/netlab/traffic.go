package netlab

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/proxier"
)

// stall is how long a Stream waits for one echo. It is long because the machine may be busy.
const stall = 15 * time.Second

// A Stream is a TCP connection that exchanges lines with its server all the time. It is safe for
// concurrent use.
type Stream struct {
	Name string         // of the server that answered
	Seen netip.AddrPort // the client as the server sees it

	conn net.Conn
	stop chan struct{}
	done chan struct{}

	mu        sync.Mutex
	exchanges int
	longest   time.Duration
	err       error
}

// Stream opens a connection to a server of the lab and keeps it busy until it is closed, or
// until the lab is.
func (l *Lab) Stream(from string, to netip.AddrPort) (*Stream, error) {
	s := &Stream{stop: make(chan struct{}), done: make(chan struct{})}
	err := l.In(from, func() (err error) {
		d := net.Dialer{Timeout: stall, KeepAlive: -1}
		s.conn, err = d.Dial("tcp", to.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("stream from %s to %s: %w", from, to, err)
	}
	r := bufio.NewReader(s.conn)
	_ = s.conn.SetDeadline(time.Now().Add(stall))
	var seen string
	if _, err = fmt.Fscanf(r, "%s %s\n", &s.Name, &seen); err == nil {
		s.Seen, err = netip.ParseAddrPort(seen)
	}
	if err != nil {
		_ = s.conn.Close()
		return nil, fmt.Errorf("stream from %s to %s: %w", from, to, err)
	}
	go s.run(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, func() { _ = s.Close() })
	return s, nil
}

func (s *Stream) run(r *bufio.Reader) {
	defer close(s.done)
	for i := 0; ; i++ {
		select {
		case <-s.stop:
			return
		case <-time.After(time.Millisecond):
		}
		start := time.Now()
		err := s.exchange(r, fmt.Sprintf("line %d\n", i))
		s.mu.Lock()
		s.exchanges, s.longest, s.err = s.exchanges+1, max(s.longest, time.Since(start)), err
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *Stream) exchange(r *bufio.Reader, line string) error {
	_ = s.conn.SetDeadline(time.Now().Add(stall))
	if _, err := s.conn.Write([]byte(line)); err != nil {
		return err
	}
	got, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	if got != line {
		return fmt.Errorf("sent %q, got %q", line, got)
	}
	return nil
}

// Status returns how many lines were exchanged, the longest time one took, and the error that
// ended the stream, nil while it goes on.
func (s *Stream) Status() (exchanges int, longest time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exchanges, s.longest, s.err
}

// Alive waits until another n lines have been exchanged, and returns the error that prevented it.
func (s *Stream) Alive(n int) error {
	before, _, _ := s.Status()
	last, since := before, time.Now()
	for {
		now, _, err := s.Status()
		switch {
		case err != nil:
			return fmt.Errorf("stream to %s after %d lines: %w", s.Name, now, err)
		case now >= before+n:
			return nil
		case now > last:
			last, since = now, time.Now()
		case time.Since(since) > stall:
			return fmt.Errorf("stream to %s stalls after %d lines", s.Name, now)
		}
		time.Sleep(time.Millisecond)
	}
}

// Close ends the stream and returns the error that had ended it before, if any.
func (s *Stream) Close() error {
	s.mu.Lock()
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	s.mu.Unlock()
	<-s.done
	_ = s.conn.Close()
	_, _, err := s.Status()
	return err
}

// Churn counts what became of a stream of new connections.
type Churn struct {
	OK, Failed int
	Longest    time.Duration  // of those that reached a server
	Names      map[string]int // who answered how often
	Errors     []string       // the first few failures
}

const maxChurnErrors = 5

// Churn has workers open one new connection after the other, each to the next of the addresses,
// until the returned function is called, which reports what they saw. Each opens one at least. A connection fails if no
// server answers within wait.
func (l *Lab) Churn(from string, proto proxier.Protocol, workers int, wait time.Duration, to ...netip.AddrPort) (stop func() Churn) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		total = Churn{Names: map[string]int{}}
		done  = make(chan struct{})
	)
	for w := range workers {
		wg.Go(func() {
			for i := w; ; i++ {
				p := Probe{From: from, To: to[i%len(to)], Protocol: proto, Wait: wait}
				a := l.Probe(p)
				mu.Lock()
				total.count(p, a)
				mu.Unlock()
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	end := sync.OnceFunc(func() { close(done); wg.Wait() })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, end)
	return func() Churn { end(); return total }
}

func (c *Churn) count(p Probe, a Answer) {
	if a.Verdict == Reached {
		c.OK++
		c.Names[a.Name]++
		c.Longest = max(c.Longest, a.Took)
		return
	}
	c.Failed++
	if len(c.Errors) < maxChurnErrors {
		c.Errors = append(c.Errors, fmt.Sprintf("%s to %s: %s", p.From, p.To, a))
	}
}

// Err returns an error that tells of the failures, nil if there were none.
func (c Churn) Err() error {
	if c.Failed > 0 {
		return fmt.Errorf("%d of %d connections failed: %q", c.Failed, c.OK+c.Failed, c.Errors)
	}
	return nil
}
