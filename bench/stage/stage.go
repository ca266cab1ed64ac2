package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/bench/process"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// Options say what to build.
type Options struct {
	Cluster
	Subject Subject
	API     *listwatch.Server // has the cluster's objects; nil is fine for Direct
	Bin     string            // directory of fairway, kube-proxy
	Profile bool              // have the proxy serve profiles
	Group   *process.Group    // to start the proxy in, which counts what it uses; nil for none
}

// A Stage is a lab in which one subject is at work.
type Stage struct {
	Cluster
	Lab     *netlab.Lab
	Proxy   *process.Process // nil for Direct
	Started time.Time        // when the proxy was started

	e       env
	closers []func() error
}

// Build builds a stage and starts its proxy, and does not wait for the proxy to do anything: see
// [Stage.Await].
func Build(o Options) (_ *Stage, err error) {
	s := &Stage{Cluster: o.Cluster}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.Lab, err = netlab.Build(netlab.Options{Pods: []string{Client, Server}}); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.Lab.Close)
	stop, err := s.serveEndpoints()
	if err != nil {
		return nil, err
	}
	s.then(stop)
	if o.Subject.start == nil {
		return s, nil
	}
	dir, err := process.TempDir("stage")
	if err != nil {
		return nil, err
	}
	s.then(func() { _ = os.RemoveAll(dir) })
	s.e = env{bin: o.Bin, dir: dir, profile: o.Profile, group: o.Group, in: func(f func() error) error { return s.Lab.In(netlab.Node1, f) }}
	if err := s.serveAPI(o.API); err != nil {
		return nil, err
	}
	s.Started = time.Now()
	proxy, end, err := o.Subject.start(s.e)
	if err != nil {
		return nil, err
	}
	s.Proxy = proxy
	s.closers = append(s.closers, end)
	return s, nil
}

func (s *Stage) then(stop func()) {
	s.closers = append(s.closers, func() error { stop(); return nil })
}

// Close ends the proxy and removes all of the stage. Closing twice is fine.
func (s *Stage) Close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// serveAPI serves api in the proxy's namespace and writes the kubeconfig file for it.
func (s *Stage) serveAPI(api *listwatch.Server) error {
	var l net.Listener
	err := s.e.in(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		return err
	}
	url, stop := api.Start(l)
	s.then(stop)
	s.e.kubeconfig = filepath.Join(s.e.dir, "kubeconfig")
	return os.WriteFile(s.e.kubeconfig, listwatch.Kubeconfig(url), 0o600)
}

// SaveHeap saves a profile of what the proxy has on its heap. The stage must have been built with
// Profile.
func (s *Stage) SaveHeap(ctx context.Context, file string) error {
	b, err := s.get(ctx, "http://127.0.0.1:10249/debug/pprof/heap")
	if err != nil {
		return fmt.Errorf("heap profile: %w", err)
	}
	return os.WriteFile(file, b, 0o644)
}

// get asks a server in the proxy's namespace.
func (s *Stage) get(ctx context.Context, url string) ([]byte, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (c net.Conn, err error) {
		err = s.e.in(func() error {
			c, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return c, err
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return b, err
}
