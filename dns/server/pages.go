package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"
)

// A page is one HTTP listener. Several server blocks may have things on it, and it stays open over
// reloads for as long as a block names its address.
type page struct {
	l       net.Listener
	handler atomic.Pointer[http.ServeMux]
	srv     *http.Server
	done    chan struct{}
}

// listenPage binds addr; nothing is answered before serve.
func listenPage(ctx context.Context, addr string) (*page, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	p := &page{l: l, done: make(chan struct{})}
	p.handler.Store(http.NewServeMux())
	p.srv = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.handler.Load().ServeHTTP(w, r) }),
		// Asked by the kubelet and by who finds the port: nobody may hold it up.
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second,
		WriteTimeout:   60 * time.Second, // a CPU profile takes 30 s by default
		MaxHeaderBytes: 8 << 10,
	}
	return p, nil
}

// serve answers until close.
func (p *page) serve(failed func(error)) {
	defer close(p.done)
	if err := p.srv.Serve(p.l); !errors.Is(err, http.ErrServerClosed) {
		failed(err)
	}
}

// abandon closes a page that never served.
func (p *page) abandon() { _ = p.l.Close() } // nothing was accepted yet

// close ends the page. Answers under way get a second to leave.
func (p *page) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if p.srv.Shutdown(ctx) != nil {
		_ = p.srv.Close() // who is still connected had its time
	}
	<-p.done
}

// show makes paths the content of the page.
func (p *page) show(paths map[string]http.Handler) {
	mux := http.NewServeMux()
	for path, h := range paths {
		mux.Handle(path, h)
	}
	p.handler.Store(mux)
}

// profiles are Go's profiles, by path.
var profiles = map[string]http.Handler{
	"/debug/pprof/":        http.HandlerFunc(pprof.Index),
	"/debug/pprof/cmdline": http.HandlerFunc(pprof.Cmdline),
	"/debug/pprof/profile": http.HandlerFunc(pprof.Profile),
	"/debug/pprof/symbol":  http.HandlerFunc(pprof.Symbol),
	"/debug/pprof/trace":   http.HandlerFunc(pprof.Trace),
}

// text answers with a line of plain text.
func text(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(body)) // the client went away: nobody to tell
}
