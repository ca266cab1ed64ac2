package server

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin/logging"
)

// Reload reads the configuration again and puts it in force, even if it says what it said before:
// files that it names may have changed. After an error everything is as it was; the error is also
// logged and counted.
func (s *Server) Reload(ctx context.Context) error {
	_, err := s.reload(ctx, true)
	return err
}

// reload puts the configuration in force if it has changed or always is set, and reports whether
// it did.
func (s *Server) reload(ctx context.Context, always bool) (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending.Load() {
		return false, context.Canceled
	}
	cfg, err := s.o.Load()
	if err == nil && s.now != nil && !always && cfg.Hash == s.now.config.Hash {
		s.noteReload(nil, false)
		return false, nil
	}
	if err == nil {
		err = s.replace(ctx, cfg)
	}
	if s.now != nil || err == nil {
		s.noteReload(err, always)
	}
	return err == nil, err
}

// noteReload logs and counts what came of a reload. What fails in the same way at each look at the
// file is one failure.
func (s *Server) noteReload(err error, always bool) {
	s.state.Lock()
	defer s.state.Unlock()
	again := err != nil && s.failed != nil && s.failed.Error() == err.Error()
	s.failed = err
	if err == nil {
		s.hash = hashText(s.now.config)
		s.own.version(s.hash)
		return
	}
	if !again || always {
		s.own.reloadFailed.Inc()
		s.log.Error("plugin/reload: Corefile changed but reload failed; the old configuration stays in force", "err", err)
	}
}

// replace puts a configuration in force. What is new is made, started and bound before anything of
// the old is touched.
func (s *Server) replace(ctx context.Context, cfg *corefile.Config) error {
	before := s.now
	g, err := s.build(cfg, before)
	if err != nil {
		return err
	}
	fresh, pages, err := s.prepare(ctx, g)
	if err != nil {
		for _, p := range slices.Backward(g.made) {
			p.close()
		}
		return err
	}
	for _, w := range cfg.Warnings {
		s.log.Warn(w)
	}
	var surplus []*listener
	for addr, l := range s.listeners {
		if fresh[addr] != nil || g.routers[addr] == nil {
			surplus = append(surplus, l)
			delete(s.listeners, addr)
			continue
		}
		l.router.Store(g.routers[addr])
	}
	s.count(slices.Collect(maps.Values(fresh)))
	for addr, l := range fresh {
		l.router.Store(g.routers[addr])
		l.Start()
		s.listeners[addr] = l
	}
	s.now = g
	served := slices.Collect(maps.Values(s.listeners))
	s.served.Store(&served)
	s.parts.Store(&g.parts)
	s.metrics.SetEnabled(g.enabled)
	s.sink.SetDebug(g.debug)
	s.ready.Store(g.ready)
	s.showPages(g, pages)
	for _, p := range g.made { // a probe for loops comes in through the listeners
		if _, ok := p.directive.(*corefile.Loop); ok {
			if err := p.start(ctx); err != nil {
				s.log.Error("no loops will be found", "err", err)
			}
		}
	}
	for _, l := range surplus {
		s.drain(l)
	}
	if before != nil {
		before.retire(g)
	}
	return nil
}

// count has the metrics show listeners, until they are closed.
func (s *Server) count(fresh []*listener) {
	s.state.Lock()
	defer s.state.Unlock()
	s.counted = append(s.counted, fresh...)
}

// prepare starts the new parts of g, and binds the addresses that are not served yet.
func (s *Server) prepare(ctx context.Context, g *generation) (fresh map[netip.AddrPort]*listener, pages map[string]*page, err error) {
	fresh, pages = map[netip.AddrPort]*listener{}, map[string]*page{}
	defer func() {
		if err == nil {
			return
		}
		for _, l := range fresh {
			s.drain(l)
		}
		for _, p := range pages {
			p.abandon()
		}
	}()
	for _, p := range g.made {
		if _, later := p.directive.(*corefile.Loop); later {
			continue
		}
		if err := p.start(ctx); err != nil {
			return fresh, pages, err
		}
	}
	for addr := range g.routers {
		if l := s.listeners[addr]; l != nil && l.timeouts == g.timeouts[addr] {
			continue
		}
		l, err := s.listen(addr, g.timeouts[addr])
		switch {
		case err == nil:
		case g.narrow[addr]: // such as an IPv6 address that is not checked for duplicates yet
			s.log.Debug("an address is served by the wildcard alone", "err", err)
			continue
		default:
			return fresh, pages, err
		}
		fresh[addr] = l
	}
	for addr := range g.pages {
		if s.pageList[addr] != nil {
			continue
		}
		p, err := listenPage(ctx, addr)
		if err != nil {
			return fresh, pages, err
		}
		pages[addr] = p
	}
	return fresh, pages, nil
}

// showPages makes the HTTP servers those of g; fresh are the ones that were not there.
func (s *Server) showPages(g *generation, fresh map[string]*page) {
	for addr, p := range s.pageList {
		if g.pages[addr] == nil {
			delete(s.pageList, addr)
			p.close()
			continue
		}
		p.show(g.pages[addr])
	}
	for addr, p := range fresh {
		p.show(g.pages[addr])
		s.pageList[addr] = p
		go p.serve(func(err error) { s.log.Error("HTTP server ended", "address", addr, "err", err) })
	}
	s.probes()
	s.probing.Wait()
	ctx, cancel := context.WithCancel(context.Background())
	s.probes = cancel
	for _, addr := range slices.Compact(slices.Sorted(slices.Values(g.health))) {
		at := local(s.pageList[addr].l.Addr())
		s.probing.Go(func() { s.health.probe(ctx, at) })
	}
}

// retire ends the parts of g that its successor did not take over, once the queries in them are
// answered.
func (g *generation) retire(successor *generation) {
	end := time.Now().Add(drainTime)
	for g.running.Load() > 0 && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
	}
	for _, p := range slices.Backward(g.parts) {
		if !slices.Contains(successor.parts, p) {
			p.close()
		}
	}
}

// watchConfig looks at the configuration as often as it asks for, until ctx is done.
func (s *Server) watchConfig(ctx context.Context) {
	for {
		s.mu.Lock()
		d := s.now.reload
		s.mu.Unlock()
		pause := time.Second // a reload by signal may bring the directive
		if d != nil {
			pause = d.Interval
			if d.Jitter > 0 {
				pause += rand.N(d.Jitter)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if d == nil {
			continue
		}
		switch changed, err := s.reload(ctx, false); {
		case err == nil && changed:
			s.sink.Line(logging.Info, "plugin/reload: Running configuration SHA512 = "+s.configHash())
		case errors.Is(err, context.Canceled):
			return
		}
	}
}
