package netlab

import (
	"io"
	"sync"
)

// connections are a server's goroutines and what must be closed for them to end.
type connections struct {
	sync.WaitGroup
	mu     sync.Mutex
	open   map[io.Closer]bool
	closed bool
}

// add returns false if close has been called.
func (c *connections) add(x io.Closer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	if c.open == nil {
		c.open = map[io.Closer]bool{}
	}
	c.open[x] = true
	return true
}

func (c *connections) remove(x io.Closer) {
	_ = x.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, x)
}

// close closes what is open and waits for the goroutines.
func (c *connections) close() {
	c.mu.Lock()
	c.closed = true
	for x := range c.open {
		_ = x.Close()
	}
	c.mu.Unlock()
	c.Wait()
}
