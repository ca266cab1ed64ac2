package health

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// retryBind is how long Serve and Ports wait before they try a busy address again.
const retryBind = 5 * time.Second

// newServer returns a server that no client can hold up: health checks are asked from outside
// the cluster, without authentication.
func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      60 * time.Second, // a CPU profile takes 30 s by default
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    8 << 10,
	}
}

// Serve answers HTTP on addr, an "IP:port", until ctx is done and then returns nil. If addr
// cannot be bound, Serve returns the error if hardFail is set; else it tells failed and tries
// again every five seconds.
func Serve(ctx context.Context, addr string, h http.Handler, hardFail bool, failed func(error)) error {
	l, err := listen(ctx, addr)
	for err != nil {
		if ctx.Err() != nil {
			return nil
		}
		if hardFail {
			return err
		}
		failed(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryBind):
		}
		l, err = listen(ctx, addr)
	}
	srv := newServer(h)
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	return lc.Listen(ctx, "tcp", addr)
}
