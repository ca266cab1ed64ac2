package corefile

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	dnswire "github.com/miekg/dns"
)

// bare makes a parser of a directive that has neither arguments nor options.
func bare[D Directive](make func(Pos) D) parser {
	return one(func(s *stanza) (d D, err error) {
		return d, s.each(func() error {
			d = make(s.pos())
			if s.NextArg() {
				return s.ArgErr()
			}
			return nil
		})
	})
}

func parseLocal(s *stanza) (*Local, error) {
	d := &Local{}
	return d, s.each(func() error {
		d.Pos = s.pos()
		if _, err := s.args(0, 0); err != nil {
			return err
		}
		return s.eachOption(func(name string) error {
			if name != "localhost_prefix" {
				return s.unknown()
			}
			text, err := s.arg()
			if err == nil && text != "on" && text != "off" {
				err = s.Errf("localhost_prefix expects 'on' or 'off', got %q", text)
			}
			d.NoLocalhostPrefix = text == "off"
			return err
		})
	})
}

func parseDNS64(s *stanza) (*DNS64, error) {
	d := &DNS64{Prefix: netip.MustParsePrefix("64:ff9b::/96")}
	return d, s.each(func() error {
		d.Pos = s.pos()
		args, err := s.args(0, 1)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			if err := s.dns64Prefix(d, args[0]); err != nil {
				return err
			}
		}
		return s.eachOption(func(name string) error {
			switch name {
			case "prefix":
				text, err := s.arg()
				if err != nil {
					return err
				}
				return s.dns64Prefix(d, text)
			case "translate_all":
				return s.flag(&d.TranslateAll)
			case "allow_ipv4":
				return s.flag(&d.AllowIPv4)
			}
			return s.unknown()
		})
	})
}

// dns64Prefix reads a prefix that RFC 6052 allows to embed an IPv4 address in.
func (s *stanza) dns64Prefix(d *DNS64, text string) error {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return s.Errf("invalid CIDR address: %s", text)
	}
	if !p.Addr().Is6() {
		return s.Errf("invalid netmask %d IPv6 address: %q", p.Addr().BitLen(), p.Masked())
	}
	if n := p.Bits(); n%8 != 0 || n < 32 || n > 96 {
		return s.Errf("invalid prefix length %q", p.Masked())
	}
	d.Prefix = p.Masked()
	return nil
}

func parseChaos(s *stanza) (*Chaos, error) {
	d := &Chaos{}
	return d, s.single(func() error {
		d.Pos = s.pos()
		args := s.RemainingArgs()
		for i, a := range args { // a TXT string holds no more
			args[i] = a[:min(len(a), 255)]
		}
		if len(args) > 0 {
			d.Version = args[0]
		}
		if len(args) > 1 {
			d.Authors = slices.Compact(slices.Sorted(slices.Values(args[1:])))
		}
		return s.eachOption(func(string) error { return s.unknown() })
	})
}

func parseLoadbalance(s *stanza) (*Loadbalance, error) {
	d := &Loadbalance{Reload: 30 * time.Second}
	return d, s.single(func() error {
		d.Pos = s.pos()
		args := s.RemainingArgs()
		policy := "round_robin"
		if len(args) > 0 {
			policy, args = args[0], args[1:]
		}
		switch policy {
		case "round_robin":
			if len(args) > 0 {
				return s.Errf("unknown property for %s", policy)
			}
		case "weighted":
			if len(args) < 1 {
				return s.Err("missing weight file argument")
			}
			if len(args) > 1 {
				return s.Err("unexpected argument(s)")
			}
			d.Weights = s.path(args[0])
		default:
			return s.Errf("unknown policy: %s", policy)
		}
		return s.eachOption(func(name string) error { return s.loadbalanceOption(d, name) })
	})
}

func (s *stanza) loadbalanceOption(d *Loadbalance, name string) (err error) {
	switch {
	case name == "reload" && d.Weights != "":
		args := s.RemainingArgs()
		if len(args) < 1 {
			return s.Err("reload duration value is missing")
		}
		if len(args) > 1 {
			return s.Err("unexpected argument")
		}
		if d.Reload, err = time.ParseDuration(args[0]); err != nil {
			return s.Errf("invalid reload duration '%s'", args[0])
		}
	case name == "prefer":
		for _, text := range s.RemainingArgs() {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return s.Errf("invalid CIDR %q: invalid CIDR address: %s", text, text)
			}
			d.Prefer = append(d.Prefer, p.Masked())
		}
	default:
		return s.unknown()
	}
	return nil
}

func parseAutopath(s *stanza) (*Autopath, error) {
	d := &Autopath{}
	return d, s.single(func() (err error) {
		d.Pos = s.pos()
		args := s.RemainingArgs()
		if len(args) == 0 {
			return s.Errf("no resolv-conf specified")
		}
		source := args[len(args)-1]
		if name, ok := strings.CutPrefix(source, "@"); ok {
			d.From = name
			if len(s.raw.tokens[name]) == 0 {
				s.warnf("no plugin %s in this server block: autopath has no effect", name)
			} else if name != "kubernetes" {
				return s.Errf("%s does not implement the AutoPather interface", name)
			}
		} else {
			conf, err := dnswire.ClientConfigFromFile(source)
			if err != nil {
				return s.Errf("failed to parse %q: %v", source, err) // CoreDNS's words
			}
			d.Search = make([]string, len(conf.Search))
			for i, name := range conf.Search {
				d.Search[i] = normalize(name)
			}
		}
		d.Zones, err = s.zones(args[:len(args)-1])
		return err
	})
}

func parseACL(s *stanza) (*ACL, error) {
	d := &ACL{}
	return d, s.each(func() (err error) {
		if s.number == 1 {
			d.Pos = s.pos()
		}
		var r ACLRule
		if r.Zones, err = s.zones(s.RemainingArgs()); err != nil {
			return err
		}
		err = s.eachOption(func(name string) error {
			p := ACLPolicy{Action: strings.ToLower(name)}
			if !slices.Contains([]string{"allow", "block", "filter", "drop"}, p.Action) {
				return s.Errf("unexpected token %q; expect 'allow', 'block', 'filter' or 'drop'", name)
			}
			err := s.aclPolicy(&p)
			r.Policies = append(r.Policies, p)
			return err
		})
		d.Rules = append(d.Rules, r)
		return err
	})
}

// aclPolicy reads [type TYPE...] [net NET...], in any order.
func (s *stanza) aclPolicy(p *ACLPolicy) error {
	section, empty, allTypes, allNets := "", false, false, false
	for _, token := range s.RemainingArgs() {
		if lower := strings.ToLower(token); lower == "type" || lower == "net" {
			if empty {
				break
			}
			section, empty = lower, true
			continue
		}
		empty = false
		switch {
		case section == "":
			return s.Errf("unexpected token %q; expect 'type | net'", token)
		case section == "type" && token == "*":
			allTypes = true
		case section == "type":
			t, ok := dnswire.StringToType[token]
			if !ok {
				return s.Errf("unexpected token %q; expect legal QTYPE", token)
			}
			p.Types = append(p.Types, t)
		case token == "*":
			allNets = true
		default:
			if !strings.Contains(token, "/") {
				token += singleAddr(token)
			}
			n, err := netip.ParsePrefix(token)
			if err != nil {
				return s.Errf("illegal CIDR notation %q", token)
			}
			p.Nets = append(p.Nets, n.Masked())
		}
	}
	if empty {
		return s.Errf("no token specified in %q section", section)
	}
	if allTypes {
		p.Types = nil
	}
	if allNets {
		p.Nets = nil
	}
	return nil
}

// singleAddr is the mask of an address alone.
func singleAddr(addr string) string {
	if strings.Contains(addr, ":") {
		return "/128"
	}
	return "/32"
}

func parseHeader(s *stanza) (*Header, error) {
	d := &Header{}
	return d, s.single(func() error {
		d.Pos = s.pos()
		if _, err := s.args(0, 0); err != nil {
			return err
		}
		err := s.eachOption(func(name string) error {
			rules, err := s.headerRules(name)
			if strings.ToLower(name) == "query" {
				d.Query = append(d.Query, rules...)
			} else {
				d.Response = append(d.Response, rules...)
			}
			return err
		})
		if err == nil && d.Query == nil && d.Response == nil {
			return s.ArgErr()
		}
		return err
	})
}

// headerRules reads set|clear FLAG...
func (s *stanza) headerRules(selector string) (rules []HeaderRule, err error) {
	if l := strings.ToLower(selector); l != "query" && l != "response" {
		return nil, s.Errf("setting up rule: invalid selector=%s should be query or response", selector)
	}
	args := s.RemainingArgs()
	if len(args) == 0 {
		return nil, s.Errf("setting up rule: no flag action provided")
	}
	if len(args) < 2 {
		return nil, s.Errf("setting up rule: invalid length for flags, at least one should be provided")
	}
	action := strings.ToLower(args[0])
	if action != "set" && action != "clear" {
		return nil, s.Errf("setting up rule: unknown flag action=%s, should be set or clear", action)
	}
	for _, a := range args[1:] {
		flag := strings.ToLower(a)
		if !slices.Contains([]string{"aa", "ra", "rd"}, flag) {
			return nil, s.Errf("setting up rule: unknown/unsupported flag=%s", flag)
		}
		rules = append(rules, HeaderRule{Flag: flag, Set: action == "set"})
	}
	return rules, nil
}

func parseLoop(s *stanza) (*Loop, error) {
	d := &Loop{Zone: "."}
	return d, s.single(func() error {
		d.Pos = s.pos()
		if s.NextArg() {
			return s.ArgErr()
		}
		if zones := s.raw.block.Zones(); len(zones) > 0 {
			d.Zone = zones[0]
		}
		return nil
	})
}

func parseView(s *stanza) (*View, error) {
	d := &View{}
	return d, s.single(func() (err error) {
		d.Pos = s.pos()
		if d.Name, err = s.arg(); err != nil {
			return err
		}
		return s.eachOption(func(name string) error {
			if name != "expr" {
				return s.unknown()
			}
			d.Exprs = append(d.Exprs, strings.Join(s.RemainingArgs(), " "))
			return nil
		})
	})
}
