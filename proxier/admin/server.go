package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/proxier"
)

// DefaultSocket is where a proxy listens if nothing else is asked for.
const DefaultSocket = "/run/fairway/fairway.sock"

// A Server answers questions about the newest snapshot of a Feed. It is safe for concurrent use.
type Server struct {
	socket   string
	feed     *proxier.Feed
	applied  atomic.Uint64
	listener net.Listener
	lock     *os.File
}

// Listen takes the lock that goes with the socket and listens on it. It fails if another
// process holds the lock: two proxies on one node would undo each other's work. The lock ends
// with the process, whatever ends that.
func Listen(socket string, feed *proxier.Feed) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	lock, err := acquire(socket + ".lock")
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	// A socket file that is still here belongs to a process that has ended.
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		lock.Close()
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	l, err := listenPrivate(socket)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	return &Server{socket: socket, feed: feed, listener: l, lock: lock}, nil
}

// listenPrivate listens on a socket that nobody but the owner can ever open: it gets its final
// name after its mode.
func listenPrivate(socket string) (net.Listener, error) {
	early := socket + ".new"
	_ = os.Remove(early)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: early, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(early, 0o600)
	if err == nil {
		err = os.Rename(early, socket)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// acquire locks a file and writes the process id into it.
func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			pid, _ := io.ReadAll(io.LimitReader(f, 32)) // for the message only
			return nil, fmt.Errorf("another fairway proxy (pid %s) runs on this node and holds %s",
				strings.TrimSpace(string(pid)), path)
		}
		return nil, fmt.Errorf("flock %s: %w", path, err)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Applied notes the outcome of an Apply.
func (s *Server) Applied(a proxier.Applied) {
	if a.Err == nil {
		s.applied.Store(a.Now.Revision)
	}
}

// Run answers until ctx is done, then removes the socket and gives up the lock.
func (s *Server) Run(ctx context.Context) error {
	srv := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	defer s.Close()
	if err := srv.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin socket: %w", err)
	}
	return nil
}

// Close removes the socket and gives up the lock. Run does so at its end.
func (s *Server) Close() {
	_ = s.listener.Close()
	_ = os.Remove(s.socket)
	_ = s.lock.Close() // unlocks; the file stays, or two processes could lock two files of one name
}

// Handler answers the questions.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/frontends", handle(s, Frontends))
	mux.Handle("GET /v1/services", handle(s, Services))
	mux.Handle("GET /v1/endpoints", handle(s, Endpoints))
	mux.Handle("GET /v1/problems", handle(s, Problems))
	return mux
}

func handle[T any](s *Server, items func(*proxier.Snapshot, string) []T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		snapshot, _ := s.feed.Current()
		if snapshot == nil {
			http.Error(w, "the proxy has not seen the cluster yet", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		list := List[T]{snapshot.Revision, s.applied.Load(), items(snapshot, r.URL.Query().Get("name"))}
		_ = json.NewEncoder(w).Encode(list) // the client went away: nobody to tell
	})
}
