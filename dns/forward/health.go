package forward

import (
	"context"
	"time"

	dnswire "github.com/miekg/dns"
)

// checkTime is how long a health check waits for an answer.
const checkTime = time.Second

// down reports whether the upstream shall not be asked. most is max_fails; with 0 it never is.
func (u *Upstream) down(most uint32) bool { return most > 0 && u.fails.Load() > most }

// suspect begins health checks after an error, unless they are under way. They go on until the
// upstream answers.
func (u *Upstream) suspect() {
	if u.f.o.MaxFails == 0 || u.f.o.HealthCheck == 0 || !u.checking.CompareAndSwap(false, true) {
		return
	}
	if !u.f.run(u.checks) {
		u.checking.Store(false)
	}
}

func (u *Upstream) checks() {
	defer u.checking.Store(false)
	for u.f.base.Err() == nil && u.inUse() {
		if u.check() == nil {
			u.fails.Store(0)
			return
		}
		u.fails.Add(1)
		u.stats.failures.Inc()
		sleep(u.f.base, u.f.o.HealthCheck)
	}
}

// inUse reports whether the upstream is still one of its Forward's.
func (u *Upstream) inUse() bool {
	for _, x := range u.f.Upstreams() {
		if x == u {
			return true
		}
	}
	return false
}

// check asks for the name servers of the root, or of the domain that the directive names. Whatever
// comes back is a sign of life.
func (u *Upstream) check() error {
	ctx, cancel := context.WithTimeout(u.f.base, checkTime)
	defer cancel()
	k := flightKey{name: u.f.o.HealthDomain, typ: dnswire.TypeNS, class: dnswire.ClassINET, rd: !u.f.o.HealthNoRec, tcp: u.f.o.ForceTCP}
	q, err := newQuestion(k, k.name, nil)
	if err != nil {
		return err
	}
	if u.tls || k.tcp {
		_, err = u.stream(ctx, q, q.plain)
	} else {
		_, err = u.datagram(ctx, q, q.plain)
	}
	return err
}
