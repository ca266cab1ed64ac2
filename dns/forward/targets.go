package forward

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	dnswire "github.com/miekg/dns"
)

const (
	maxUpstreams = 15
	rereadEvery  = 5 * time.Second
	lookupTime   = 5 * time.Second
)

// expand returns the upstreams of a directive, each once, with host names looked up.
func expand(d *corefile.Forward) ([]target, error) {
	var out []target
	for _, to := range d.To {
		t := target{addr: to.Addr, tls: to.Scheme == "tls", serverName: to.ServerName}
		if t.serverName == "" && t.tls {
			t.serverName = d.TLSServerName
		}
		addrs := []netip.Addr{to.Addr.Addr()}
		port := to.Addr.Port()
		if to.Host != "" {
			var err error
			if addrs, err = lookup(to.Host, d.Resolver); err != nil {
				return nil, err
			}
			port = to.Port
		}
		for _, a := range addrs {
			t.addr = netip.AddrPortFrom(a, port)
			out = appendNew(out, t)
		}
	}
	if len(out) > maxUpstreams {
		return nil, fmt.Errorf("more than %d TOs configured: %d", maxUpstreams, len(out))
	}
	if len(out) == 0 {
		return nil, errors.New("no valid upstream addresses found")
	}
	return out, nil
}

func appendNew(list []target, t target) []target {
	if slices.Contains(list, t) {
		return list
	}
	return append(list, t)
}

// lookup finds the addresses of a host: with the system's resolver, or those given.
func lookup(host string, resolvers []string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	r := net.DefaultResolver
	if len(resolvers) > 0 {
		var turn atomic.Uint32 // A and AAAA are looked up at the same time
		r = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			at := resolvers[int(turn.Add(1)-1)%len(resolvers)]
			if _, _, err := net.SplitHostPort(at); err != nil {
				at = net.JoinHostPort(at, "53")
			}
			return new(net.Dialer).DialContext(ctx, network, at)
		}}
	}
	addrs, err := r.LookupNetIP(ctx, "ip", dnswire.Fqdn(host))
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", host, err)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, nil
}

// use makes targets the upstreams from now on. One that was there before keeps its state.
func (f *Forward) use(targets []target) {
	var before []*Upstream
	if p := f.upstreams.Load(); p != nil {
		before = *p
	}
	now := make([]*Upstream, len(targets))
	for i, t := range targets {
		if at := slices.IndexFunc(before, func(u *Upstream) bool { return u.target == t }); at >= 0 {
			now[i] = before[at]
		} else {
			now[i] = f.newUpstream(t)
		}
	}
	f.upstreams.Store(&now)
	for _, u := range before {
		if !slices.Contains(now, u) {
			u.close()
		}
	}
}

// files returns the files that upstreams came from.
func (f *Forward) files() (out []string) {
	for _, to := range f.o.To {
		if to.File != "" && !slices.Contains(out, to.File) {
			out = append(out, to.File)
		}
	}
	return out
}

// reread looks after the files until the Forward is closed.
func (f *Forward) reread() {
	said := ""
	for sleep(f.base, rereadEvery) {
		err := f.rereadNow()
		if err != nil && err.Error() != said {
			f.log.Warn("upstreams stay as they were", "plugin", "forward", "error", err)
		}
		said = fmt.Sprint(err)
	}
}

// rereadNow reads the files. After an error the upstreams are as before.
func (f *Forward) rereadNow() error {
	targets, err := f.current()
	if err != nil {
		return err
	}
	var have []target
	for _, u := range f.Upstreams() {
		have = append(have, u.target)
	}
	if !slices.Equal(have, targets) {
		f.use(targets)
		f.log.Info("upstreams changed", "plugin", "forward", "files", f.files(), "upstreams", len(targets))
	}
	return nil
}

// current returns the upstreams with the files as they are now. Host names are not looked up
// again.
func (f *Forward) current() ([]target, error) {
	fresh := map[string][]corefile.Upstream{}
	for _, file := range f.files() {
		c, err := dnswire.ClientConfigFromFile(file)
		if err != nil {
			return nil, err
		}
		for _, s := range c.Servers {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			fresh[file] = append(fresh[file], corefile.Upstream{Scheme: "dns", Addr: netip.AddrPortFrom(a, 53)})
		}
	}
	d := f.o
	d.To = nil
	done := map[string]bool{}
	for _, to := range f.o.To {
		switch {
		case to.File == "":
			d.To = append(d.To, to)
		case !done[to.File]:
			done[to.File] = true
			d.To = append(d.To, fresh[to.File]...)
		}
	}
	return expand(&d)
}

// tlsConfig reads the files of the option tls.
func tlsConfig(o corefile.ForwardTLS) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(maxUpstreams)}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate", o.CA)
		}
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
