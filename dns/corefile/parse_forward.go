package corefile

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	dnswire "github.com/miekg/dns"
)

// maxUpstreams is CoreDNS's limit of upstreams of one forward.
const maxUpstreams = 15

func parseForward(s *stanza) (out []Directive, err error) {
	err = s.each(func() error {
		d := &Forward{
			Pos: s.pos(), Expire: 10 * time.Second, ReadTimeout: 2 * time.Second, MaxFails: 2,
			MaxConnectAttempts: -1, Policy: "random", HealthCheck: 500 * time.Millisecond, HealthDomain: ".",
		}
		out = append(out, d)
		args := s.RemainingArgs()
		if len(args) < 2 {
			return s.ArgErr()
		}
		zones, err := argZones(args[:1])
		if err != nil {
			return s.Errf("unable to normalize '%s': %v", args[0], err)
		}
		if d.From = zones[0]; len(zones) > 1 {
			s.warnf("Unsupported CIDR notation: '%s' expands to multiple zones. Using only '%s'.", args[0], d.From)
		}
		if err := s.eachOption(func(name string) error { return s.forwardOption(d, name) }); err != nil {
			return err
		}
		if d.MaxAge > 0 && d.MaxAge < d.Expire {
			return s.Errf("max_age (%s) must not be less than expire (%s)", d.MaxAge, d.Expire)
		}
		return s.upstreams(d, args[1:])
	})
	return out, err
}

func (s *stanza) forwardOption(d *Forward, name string) (err error) {
	switch name {
	case "except":
		args, err := s.args(1, -1)
		if err != nil {
			return err
		}
		zones, err := s.zones(args)
		d.Except = append(d.Except, zones...)
		return err
	case "policy":
		if d.Policy, err = s.arg(); err == nil && !slices.Contains([]string{"random", "round_robin", "sequential"}, d.Policy) {
			err = s.Errf("unknown policy '%s'", d.Policy)
		}
	case "health_check":
		return s.healthCheck(d)
	case "tls":
		return s.forwardTLS(d)
	case "tls_servername":
		d.TLSServerName, err = s.arg()
	case "next":
		d.NextRcodes, err = s.rcodes(d.NextRcodes)
	case "failover":
		d.FailoverRcodes, err = s.rcodes(d.FailoverRcodes)
		if slices.Contains(d.FailoverRcodes, dnswire.RcodeSuccess) {
			return s.Errf("NoError cannot be used in failover")
		}
	case "resolver":
		return s.resolver(d)
	case "source_address":
		text, err := s.arg()
		if err != nil {
			return err
		}
		if d.SourceAddress, err = netip.ParseAddr(text); err != nil {
			return s.Errf("invalid IP address: %s", text)
		}
	case "doh_method":
		return s.notHere("no DNS over HTTPS")
	case "force_tcp":
		return s.flag(&d.ForceTCP)
	case "prefer_udp":
		return s.flag(&d.PreferUDP)
	case "next_on_nodata":
		return s.flag(&d.NextOnNoData)
	case "failfast_all_unhealthy_upstreams":
		return s.flag(&d.FailfastUnhealthy)
	default:
		return s.forwardNumber(d, name)
	}
	return err
}

// forwardNumber reads the options that are a number or a duration.
func (s *stanza) forwardNumber(d *Forward, name string) error {
	notNegative := func(t *time.Duration) (err error) {
		if *t, err = s.duration(); err == nil && *t < 0 {
			err = s.Errf("%s can't be negative: %s", name, *t)
		}
		return err
	}
	switch name {
	case "expire":
		return notNegative(&d.Expire)
	case "max_age":
		return notNegative(&d.MaxAge)
	case "read_timeout":
		err := notNegative(&d.ReadTimeout)
		if err == nil && d.ReadTimeout == 0 {
			err = s.Errf("read_timeout must be positive: %s", d.ReadTimeout)
		}
		return err
	case "max_idle_conns":
		return s.count(name, &d.MaxIdleConns)
	case "max_concurrent":
		return s.count(name, &d.MaxConcurrent)
	case "max_fails", "max_connect_attempts":
	default:
		return s.unknown()
	}
	text, err := s.arg()
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return s.Err(err.Error())
	}
	if name == "max_fails" {
		d.MaxFails = uint32(n)
	} else {
		d.MaxConnectAttempts = int(n)
	}
	return nil
}

// count reads a number that is not negative.
func (s *stanza) count(name string, n *int) error {
	text, err := s.arg()
	if err != nil {
		return err
	}
	if *n, err = s.atoi(text); err == nil && *n < 0 {
		err = s.Errf("%s can't be negative: %d", name, *n)
	}
	return err
}

// healthCheck reads INTERVAL [no_rec] [domain NAME].
func (s *stanza) healthCheck(d *Forward) error {
	args, err := s.args(1, -1)
	if err != nil {
		return err
	}
	if d.HealthCheck, err = s.parseDuration(args[0]); err != nil {
		return err
	}
	if d.HealthCheck < 0 {
		return s.Errf("health_check can't be negative: %d", d.HealthCheck)
	}
	d.HealthDomain = "."
	for args = args[1:]; len(args) > 0; args = args[1:] {
		switch args[0] {
		case "no_rec":
			d.HealthNoRec = true
		case "domain":
			if args = args[1:]; len(args) == 0 {
				return s.ArgErr()
			}
			if _, ok := dnswire.IsDomainName(args[0]); !ok {
				return s.Errf("health_check: invalid domain name %s", args[0])
			}
			d.HealthDomain = normalize(args[0])
		default:
			return s.Errf("health_check: unknown option %s", args[0])
		}
	}
	return nil
}

// forwardTLS reads [CERT KEY] [CA].
func (s *stanza) forwardTLS(d *Forward) error {
	args, err := s.args(0, 3)
	if err != nil {
		return err
	}
	for i := range args {
		args[i] = s.path(args[i])
	}
	d.TLS = ForwardTLS{}
	switch len(args) {
	case 1:
		d.TLS.CA = args[0]
	case 2:
		d.TLS.Cert, d.TLS.Key = args[0], args[1]
	case 3:
		d.TLS = ForwardTLS{args[0], args[1], args[2]}
	}
	return nil
}

// rcodes reads names of rcodes and adds them to a list.
func (s *stanza) rcodes(have []int) ([]int, error) {
	args, err := s.args(1, -1)
	if err != nil {
		return nil, err
	}
	for _, a := range args {
		rcode, ok := dnswire.StringToRcode[strings.ToUpper(a)]
		if !ok {
			return nil, s.Errf("%s is not a valid rcode", a)
		}
		have = append(have, rcode)
	}
	return have, nil
}

func (s *stanza) resolver(d *Forward) (err error) {
	if d.Resolver, err = s.args(1, -1); err != nil {
		return err
	}
	for _, a := range d.Resolver {
		host := a
		if h, _, err := net.SplitHostPort(a); err == nil {
			host = h
		}
		if net.ParseIP(host) == nil {
			return s.Errf("resolver must be an IP address or IP:port: %q", a)
		}
	}
	return nil
}

// upstreams turns the TO arguments into upstreams: addresses, resolv.conf files, host names.
func (s *stanza) upstreams(d *Forward, to []string) error {
	if len(to) > maxUpstreams {
		return s.Errf("more than %d TOs configured: %d", maxUpstreams, len(to))
	}
	for _, text := range to {
		found, err := s.upstream(d, text)
		if err != nil {
			return err
		}
		for _, u := range found {
			if !slices.ContainsFunc(d.To, func(have Upstream) bool { return sameUpstream(have, u) }) {
				d.To = append(d.To, u)
			}
		}
	}
	if len(d.To) == 0 {
		return s.Errf("no valid upstream addresses found")
	}
	return nil
}

// sameUpstream reports whether two upstreams are one place.
func sameUpstream(a, b Upstream) bool {
	return a.Scheme == b.Scheme && a.Addr == b.Addr && a.Host == b.Host && a.Port == b.Port
}

// upstream reads one TO argument.
func (s *stanza) upstream(d *Forward, text string) ([]Upstream, error) {
	scheme, rest := cutScheme(text)
	u := Upstream{Scheme: scheme, Port: 53}
	switch scheme {
	case "dns":
	case "tls":
		u.Port = 853
		var err error
		if rest, u.ServerName, err = cutServerName(rest); err != nil {
			return nil, s.Errf("%v: %q", err, text)
		}
		if u.ServerName != "" && d.TLSServerName != "" {
			return nil, s.Errf("both forward ('%s') and proxy level ('%s') TLS servernames are set for upstream proxy '%s'", d.TLSServerName, u.ServerName, text)
		}
	default:
		return nil, s.Errf("'%s' is not supported as a destination protocol in forward: %s", scheme, text)
	}
	if rest == "" {
		return nil, s.Errf("invalid address: %q", text)
	}
	host := rest
	if h, port, err := net.SplitHostPort(rest); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return nil, s.Errf("invalid port: %q", text)
		}
		host, u.Port = h, uint16(n)
	} else {
		host = strings.Trim(host, "[]")
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		u.Addr, u.Port = netip.AddrPortFrom(addr, u.Port), 0
		return []Upstream{u}, nil
	}
	if servers, err := s.resolvConf(rest); err == nil {
		return servers, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, s.Errf("not an IP address or file %q: %v", rest, err)
	}
	if _, ok := dnswire.IsDomainName(host); !ok || strings.Contains(host, "/") {
		return nil, s.Errf("not an IP address, file, or valid domain: %q", text)
	}
	u.Host = host
	return []Upstream{u}, nil
}

// cutServerName takes the name after '%' out of the address of a tls upstream: 1.2.3.4%name,
// [2001:db8::1%name]:853.
func cutServerName(s string) (addr, name string, err error) {
	addr, name, ok := strings.Cut(s, "%")
	if !ok {
		return s, "", nil
	}
	name, port, hasPort := strings.Cut(name, ":")
	name, bracket := strings.CutSuffix(name, "]")
	if bracket != strings.HasPrefix(addr, "[") {
		return "", "", errors.New("brackets do not match")
	}
	if bracket {
		addr += "]"
	}
	if hasPort {
		addr += ":" + port
	}
	return addr, name, nil
}

// resolvConf returns the name servers of a file in the format of resolv.conf. A file without any
// has none.
func (s *stanza) resolvConf(path string) ([]Upstream, error) {
	conf, err := dnswire.ClientConfigFromFile(path)
	if err != nil {
		return nil, err
	}
	var out []Upstream
	for _, server := range conf.Servers {
		addr, err := netip.ParseAddr(server)
		if err != nil {
			s.warnf("%s: nameserver %q is not an address", path, server)
			continue
		}
		out = append(out, Upstream{Scheme: "dns", Addr: netip.AddrPortFrom(addr, 53), File: path})
	}
	return out, nil
}
