package nameserver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	dnswire "github.com/miekg/dns"
)

// ErrSilent says that a server sent nothing.
var ErrSilent = errors.New("no answer")

// A Query is a message for a server and how it is sent.
type Query struct {
	Msg  *dnswire.Msg
	TCP  bool
	From netip.Addr // the client's address; the zero Addr: any
}

// A Client asks one server, from within its space. It is not safe for concurrent use.
type Client struct {
	space *Space
	addr  netip.AddrPort
	conns map[place]*dnswire.Conn

	// Timeout bounds the wait for an answer; Tries is how often it is waited for.
	Timeout time.Duration
	Tries   int
}

// A place is where queries come from.
type place struct {
	tcp  bool
	from netip.Addr
}

// NewClient returns a client of the server at an address of the space.
func NewClient(space *Space, addr netip.AddrPort) *Client {
	return &Client{space: space, addr: addr, conns: map[place]*dnswire.Conn{}, Timeout: 5 * time.Second, Tries: 4}
}

// Ask sends a query and returns the answer to it, or ErrSilent. What answers something else is
// passed over.
func (c *Client) Ask(q Query) (m *dnswire.Msg, err error) {
	for range c.Tries {
		if m, err = c.try(q); err == nil {
			return m, nil
		}
	}
	return nil, err
}

func (c *Client) try(q Query) (*dnswire.Msg, error) {
	at := place{q.TCP, q.From}
	conn := c.conns[at]
	if conn == nil {
		network := map[bool]string{false: "udp", true: "tcp"}[q.TCP]
		raw, err := c.space.Dial(context.Background(), network, c.addr.String(), q.From)
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", c.addr, err)
		}
		conn = &dnswire.Conn{Conn: raw, UDPSize: dnswire.MaxMsgSize}
		c.conns[at] = conn
	}
	m, err := c.exchange(conn, q.Msg)
	if err != nil {
		_ = conn.Close() // it is of no more use
		delete(c.conns, at)
	}
	return m, err
}

func (c *Client) exchange(conn *dnswire.Conn, q *dnswire.Msg) (*dnswire.Msg, error) {
	if err := conn.SetDeadline(time.Now().Add(c.Timeout)); err != nil {
		return nil, err
	}
	if err := conn.WriteMsg(q); err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.addr, err)
	}
	for {
		m, err := conn.ReadMsg()
		if err != nil {
			return nil, fmt.Errorf("%w from %s: %w", ErrSilent, c.addr, err)
		}
		if m.Id == q.Id {
			return m, nil
		}
	}
}

// Close closes the client's connections.
func (c *Client) Close() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
}
