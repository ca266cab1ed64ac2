package nameserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/bench/peerbin"
	"github.com/fairway-lb/fairway/bench/process"
)

// The kinds of servers that read a Corefile.
const (
	CoreDNS = "coredns"
	Fairway = "fairway"
)

// patience bounds the wait for a server's first answer. Each of them takes less than two seconds
// on a machine that does nothing else.
const patience = 60 * time.Second

// A Server is a running server. Its methods are safe for concurrent use, but for Close.
type Server struct {
	Name string
	*process.Process
	Space *Space
	Addr  netip.AddrPort // that it listens on, over UDP and TCP
	dir   string
	ready string
}

// Options say how to run a server that reads a Corefile.
type Options struct {
	Kind     string // CoreDNS or Fairway
	Bin      string // the directory of the programs, see peerbin.Build
	Space    *Space
	Addr     netip.AddrPort // that the Corefile makes it listen on
	Corefile string
	Ready    string   // host:port of the Corefile's plugin ready
	Env      []string // besides the environment of this process
}

// Start starts a server and returns when it says that it is ready.
func Start(ctx context.Context, o Options) (*Server, error) {
	return launch(ctx, &Server{Name: o.Kind, Space: o.Space, Addr: o.Addr, ready: o.Ready}, func(s *Server) (*exec.Cmd, error) {
		if err := os.WriteFile(s.Corefile(), []byte(o.Corefile), 0o600); err != nil {
			return nil, err
		}
		cmd := exec.Command(filepath.Join(o.Bin, peerbin.CoreDNS), "-conf", s.Corefile())
		if o.Kind == Fairway {
			cmd = exec.Command(filepath.Join(o.Bin, peerbin.Fairway), "dns", "-conf", s.Corefile())
		}
		cmd.Env = append(os.Environ(), o.Env...)
		return cmd, nil
	})
}

// launch gives a server a directory, runs the program that prepare makes in it, and waits for its
// first answer.
func launch(ctx context.Context, s *Server, prepare func(*Server) (*exec.Cmd, error)) (_ *Server, err error) {
	if s.dir, err = process.TempDir("nameserver"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	cmd, err := prepare(s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	cmd.Dir = s.dir
	err = s.Space.In(func() error {
		s.Process, err = process.Start(cmd)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, s.wait(ctx)
}

// StartTest starts a server for a test, which ends it. See [peerbin.Need] for where the test is
// skipped.
func StartTest(t testing.TB, o Options) *Server {
	t.Helper()
	o.Bin = filepath.Dir(peerbin.Need(t, map[string]string{CoreDNS: peerbin.CoreDNS, Fairway: peerbin.Fairway}[o.Kind]))
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Corefile is the path of the server's Corefile.
func (s *Server) Corefile() string { return filepath.Join(s.dir, "Corefile") }

// wait returns when the server answers.
func (s *Server) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := s.isReady(ctx)
		if err == nil {
			err = s.listens(ctx) // CoreDNS says it is ready a little earlier
		}
		if err == nil {
			return nil
		}
		select {
		case <-s.Done():
			return s.Err()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %s", s.Name, err, s.Output())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// isReady asks the plugin ready, if the server has it.
func (s *Server) isReady(ctx context.Context) error {
	if s.ready == "" {
		return nil
	}
	body, err := s.get(ctx, "http://"+s.ready+"/ready")
	if err != nil {
		return fmt.Errorf("%w: %s", err, body)
	}
	return nil
}

// get fetches a page of the server's.
func (s *Server) get(ctx context.Context, url string) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.Space.Dial(ctx, network, address, netip.Addr{})
		},
	}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return body, err
}

// listens asks for the server's status, which every server knows to refuse, over UDP and TCP.
func (s *Server) listens(ctx context.Context) error {
	q := &dnswire.Msg{MsgHdr: dnswire.MsgHdr{Id: dnswire.Id(), Opcode: dnswire.OpcodeStatus}}
	c := NewClient(s.Space, s.Addr)
	defer c.Close()
	c.Timeout, c.Tries = time.Second, 1
	_, err := c.Ask(Query{Msg: q})
	if err != nil {
		return err
	}
	conn, err := s.Space.Dial(ctx, "tcp", s.Addr.String(), netip.Addr{})
	if err != nil {
		return err
	}
	return conn.Close()
}

// Close ends the server and removes its files.
func (s *Server) Close() {
	if s.Process != nil {
		s.Kill()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir) // what is left goes with the next TempDir
	}
}

// Expand puts values into a Corefile in the place of words such as $API.
func Expand(corefile string, values map[string]string) string {
	var pairs []string
	for name, value := range values {
		pairs = append(pairs, "$"+name, value)
	}
	return strings.NewReplacer(pairs...).Replace(corefile)
}
