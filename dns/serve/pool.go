package serve

import (
	"sync"
	"sync/atomic"
)

// A Pool runs slow queries, with a bound on how many run at once and how many wait. What waits is
// taken newest first, and when too many do, the oldest is dropped: under a load that cannot be
// served, some clients get answers in time, rather than all of them too late.
type Pool struct {
	mu     sync.Mutex
	work   sync.Cond
	queue  ring
	idle   int // goroutines that wait for work
	active int // goroutines in all
	limit  int
	closed bool

	shed atomic.Uint64
}

// keepIdle is how many goroutines stay for later work: their stacks have grown already.
const keepIdle = 64

// A job is one slow query.
type job interface {
	run()
	drop() // it was shed
}

// NewPool returns a pool. Zero means the default: 2048 running, as many waiting.
func NewPool(running, waiting int) *Pool {
	if running <= 0 {
		running = 2048
	}
	if waiting <= 0 {
		waiting = 2048
	}
	p := &Pool{limit: running}
	p.queue.jobs = make([]job, waiting)
	p.work.L = &p.mu
	return p
}

// submit takes a job. It never waits.
func (p *Pool) submit(j job) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.shed.Add(1)
		j.drop()
		return
	}
	old := p.queue.push(j)
	switch {
	case p.idle >= p.queue.n: // each job that waits has somebody waking up for it
		p.work.Signal()
	case p.active < p.limit:
		p.active++
		go p.loop()
	}
	p.mu.Unlock()
	if old != nil {
		p.shed.Add(1)
		old.drop()
	}
}

func (p *Pool) loop() {
	p.mu.Lock()
	for {
		for p.queue.n == 0 {
			if p.closed || p.idle >= keepIdle {
				p.active--
				p.mu.Unlock()
				return
			}
			p.idle++
			p.work.Wait()
			p.idle--
		}
		j := p.queue.pop()
		p.mu.Unlock()
		j.run()
		p.mu.Lock()
	}
}

// Shed returns how many queries were dropped because there was no room for them.
func (p *Pool) Shed() uint64 { return p.shed.Load() }

// Load returns how many queries run and how many wait.
func (p *Pool) Load() (running, waiting int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.active - p.idle, p.queue.n
}

// Close lets the goroutines end when there is no more work. It does not wait; what is submitted
// later is dropped.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.work.Broadcast()
}

// A ring is a stack of bounded depth: what does not fit pushes out the oldest.
type ring struct {
	jobs []job
	top  int // where the next is pushed
	n    int
}

func (r *ring) push(j job) (oldest job) {
	oldest = r.jobs[r.top] // nil unless full
	r.jobs[r.top] = j
	r.top = (r.top + 1) % len(r.jobs)
	r.n = min(r.n+1, len(r.jobs))
	return oldest
}

func (r *ring) pop() job {
	r.top = (r.top + len(r.jobs) - 1) % len(r.jobs)
	j := r.jobs[r.top]
	r.jobs[r.top] = nil
	r.n--
	return j
}
