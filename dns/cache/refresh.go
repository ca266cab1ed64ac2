package cache

import (
	"context"
	"time"

	"github.com/fairway-lb/fairway/dns/plugin"
	dnswire "github.com/miekg/dns"
)

// refreshTime is how long a refresh in the background may take. It is a little more than the plugin
// forward needs to give up.
const refreshTime = 6 * time.Second

// due notes a hit and reports whether the entry should be fetched before it expires: it is asked
// for often, and little of its time is left.
func (c *Cache) due(e *entry, now, left int64) bool {
	hits := e.asked(now, c.o.PrefetchDuration)
	percent := (int64(e.ttl)*int64(c.o.PrefetchPercentage) + 99) / 100
	return hits >= int64(c.o.Prefetch) && left <= percent && !e.refreshing.Load()
}

// background runs f, unless the cache is closed or too much is running. It reports whether f runs.
func (c *Cache) background(f func(context.Context)) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	select {
	case c.slots <- struct{}{}:
	default:
		return false
	}
	c.running.Go(func() {
		defer func() { <-c.slots }()
		ctx, cancel := context.WithTimeout(c.base, refreshTime)
		defer cancel()
		f(ctx)
	})
	return true
}

// detached returns a copy of a request for use after its client got an answer.
func detached(r *plugin.Request) *plugin.Request {
	c := *r
	c.Msg = r.Msg.Copy()
	return &c
}

// prefetch fetches the answer of a fresh entry again. The caller has begun its refresh.
func (h *handler) prefetch(r *plugin.Request, k *key, e *entry) {
	h.count.prefetches.Add(1)
	r = detached(r)
	if !h.background(func(ctx context.Context) {
		h.fetch(ctx, r, k)
		h.inherit(k, e)
		e.end(0)
	}) {
		e.end(0)
	}
}

// inherit gives the successor of an entry the number of hits.
func (h *handler) inherit(k *key, e *entry) {
	for _, s := range h.stores {
		if now := s.get(k); now != nil && now != e {
			now.hits.Store(e.hits.Load())
		}
	}
}

// stale answers with an entry that has expired, or with a new answer.
func (h *handler) stale(ctx context.Context, r *plugin.Request, k *key, e *entry) plugin.Reply {
	now := h.now()
	switch {
	case !h.o.StaleVerify:
		if e.begin(now) {
			h.count.prefetches.Add(1)
			r := detached(r)
			if !h.background(func(ctx context.Context) { h.refresh(ctx, r, k, e) }) {
				e.end(0)
			}
		}
	case h.o.StaleVerifyTimeout > 0:
		if e.begin(now) {
			if p, ok := h.verifyFor(ctx, r, k, e); ok {
				return p
			}
		}
	case h.o.StaleRecheck == 0:
		if f, ok := h.renew(ctx, r, k); ok {
			return f.reply
		}
	default:
		if e.begin(now) {
			if f, ok := h.refresh(ctx, r, k, e); ok {
				return f.reply
			}
		}
	}
	h.count.stale.Add(1)
	return h.from(e, r, uint32(h.o.StaleTTL/time.Second))
}

// refresh renews an entry whose refresh the caller has begun, and ends that.
func (h *handler) refresh(ctx context.Context, r *plugin.Request, k *key, e *entry) (fetched, bool) {
	f, ok := h.renew(ctx, r, k)
	var retry int64
	if !ok {
		retry = h.now() + int64(h.o.StaleRecheck)
	}
	h.inherit(k, e)
	e.end(retry)
	return f, ok
}

// renew asks the next plugin and reports whether it gave an answer that is better than a stale one
// (RFC 8767, 4): a whole NOERROR or NXDOMAIN to the question; if successes are preferred, only a
// success. Anything else is not kept, so that the stale entry lives on.
func (h *handler) renew(ctx context.Context, r *plugin.Request, k *key) (fetched, bool) {
	better := false
	f := h.take(ctx, r, k, h.ask(ctx, r), func(f fetched) bool {
		m := f.reply.Msg
		good := f.match && !m.Truncated && f.kind != plugin.OtherError && f.kind != plugin.Meta &&
			(m.Rcode == dnswire.RcodeSuccess || m.Rcode == dnswire.RcodeNameError)
		better = good && (!h.o.PreferPositive || f.kind == plugin.Success && answers(m))
		return good
	})
	return f, better
}

// verifyFor renews an entry and waits for it as long as the directive says. After that the stale
// entry serves, and the new answer is only kept.
func (h *handler) verifyFor(ctx context.Context, r *plugin.Request, k *key, e *entry) (plugin.Reply, bool) {
	type result struct {
		fetched
		ok bool
	}
	done := make(chan result, 1)
	own := detached(r)
	if !h.background(func(ctx context.Context) {
		f, ok := h.refresh(ctx, own, k, e)
		done <- result{f, ok}
	}) {
		e.end(0)
		return plugin.Reply{}, false
	}
	wait := time.NewTimer(h.o.StaleVerifyTimeout)
	defer wait.Stop()
	select {
	case d := <-done:
		return d.reply, d.ok
	case <-wait.C:
	case <-ctx.Done():
	}
	return plugin.Reply{}, false
}
