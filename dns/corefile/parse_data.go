package corefile

import (
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	dnswire "github.com/miekg/dns"
)

func parseHosts(s *stanza) (*Hosts, error) {
	d := &Hosts{Path: "/etc/hosts", TTL: 3600, Reload: 5 * time.Second}
	return d, s.single(func() (err error) {
		d.Pos = s.pos()
		args := s.RemainingArgs()
		if len(args) > 0 {
			d.Path, args = s.path(args[0]), args[1:]
			switch info, err := os.Stat(d.Path); {
			case os.IsNotExist(err):
				s.warnf("File does not exist: %s", d.Path)
			case err != nil:
				return s.Errf("unable to access hosts file '%s': %v", d.Path, err)
			case info.IsDir():
				s.warnf("Hosts file %q is a directory", d.Path)
			}
		}
		if d.Zones, err = s.zones(args); err != nil {
			return err
		}
		if err := s.eachOption(func(name string) error { return s.hostsOption(d, name) }); err != nil {
			return err
		}
		if d.FallthroughUnsupported && d.Fallthrough == nil {
			return s.Err("fallthrough_unsupported requires fallthrough")
		}
		return nil
	})
}

// hostsOption reads an option, or a line of a hosts file: every line that is no option is one, up
// to the line with fallthrough.
func (s *stanza) hostsOption(d *Hosts, name string) (err error) {
	switch name {
	case "fallthrough":
		d.Fallthrough, err = s.fallthroughZones()
	case "fallthrough_unsupported":
		return s.flag(&d.FallthroughUnsupported)
	case "no_reverse":
		d.NoReverse = true
	case "ttl":
		args := s.RemainingArgs()
		if len(args) < 1 {
			return s.Errf("ttl needs a time in second")
		}
		ttl, err := strconv.Atoi(args[0])
		if err != nil {
			return s.Errf("ttl needs a number of second")
		}
		if ttl <= 0 || ttl > 65535 {
			return s.Errf("ttl provided is invalid")
		}
		d.TTL = uint32(ttl)
	case "reload":
		args := s.RemainingArgs()
		if len(args) != 1 {
			return s.Errf("reload needs a duration (zero seconds to disable)")
		}
		if d.Reload, err = time.ParseDuration(args[0]); err != nil {
			return s.Errf("invalid duration for reload '%s'", args[0])
		}
		if d.Reload < 0 {
			return s.Errf("invalid negative duration for reload '%s'", args[0])
		}
	default:
		if d.Fallthrough != nil {
			return s.unknown()
		}
		d.Inline = append(d.Inline, strings.Join(append([]string{name}, s.RemainingArgs()...), " "))
	}
	return err
}

func parseTemplate(s *stanza) (*Template, error) {
	d := &Template{}
	return d, s.each(func() error {
		r := TemplateRule{Pos: s.pos()}
		if s.number == 1 {
			d.Pos = r.Pos
		}
		args := s.RemainingArgs()
		if len(args) < 2 {
			return s.ArgErr()
		}
		var ok bool
		if r.Class, ok = dnswire.StringToClass[args[0]]; !ok {
			return s.Errf("invalid query class %s", args[0])
		}
		if r.Type, ok = dnswire.StringToType[args[1]]; !ok {
			return s.Errf("invalid RR class %s", args[1])
		}
		var err error
		if r.Zones, err = s.zones(args[2:]); err != nil {
			return err
		}
		if err := s.eachOption(func(name string) error { return s.templateOption(&r, name) }); err != nil {
			return err
		}
		if r.Match == nil {
			r.Match = append(r.Match, regexp.MustCompile(".*"))
		}
		d.Templates = append(d.Templates, r)
		return nil
	})
}

func (s *stanza) templateOption(r *TemplateRule, name string) (err error) {
	more := func(list *[]string) error {
		args, err := s.args(1, -1)
		*list = append(*list, args...)
		return err
	}
	switch name {
	case "match":
		args, err := s.args(1, -1)
		if err != nil {
			return err
		}
		for _, text := range args {
			re, err := s.regexp(text, "could not parse regex: "+text+", ")
			if err != nil {
				return err
			}
			r.Match = append(r.Match, re)
		}
	case "answer":
		return more(&r.Answer)
	case "additional":
		return more(&r.Additional)
	case "authority":
		return more(&r.Authority)
	case "rcode":
		text, err := s.arg()
		if err != nil {
			return err
		}
		var ok bool
		if r.Rcode, ok = dnswire.StringToRcode[text]; !ok {
			return s.Errf("unknown rcode %s", text)
		}
	case "ederror":
		args, err := s.args(1, 2)
		if err != nil {
			return err
		}
		code, err := strconv.ParseUint(args[0], 10, 16)
		if err != nil {
			return s.Errf("error parsing extended DNS error code %s, %v", args[0], err)
		}
		r.EDE = &ExtendedError{Code: uint16(code), Reason: strings.Join(args[1:], "")}
	case "fallthrough":
		r.Fallthrough, err = s.fallthroughZones()
	case "upstream": // accepted and without effect, as in CoreDNS
		s.RemainingArgs()
	case "var", "expr":
		return s.notHere("no expression language; use match")
	default:
		return s.ArgErr()
	}
	return err
}

func parseTransfer(s *stanza) (*Transfer, error) {
	d := &Transfer{}
	return d, s.each(func() (err error) {
		if s.number == 1 {
			d.Pos = s.pos()
		}
		var r TransferRule
		if r.Zones, err = s.zones(s.RemainingArgs()); err != nil {
			return err
		}
		if err := s.eachOption(func(name string) error { return s.transferOption(&r, name) }); err != nil {
			return err
		}
		if len(r.To) == 0 {
			return s.Err("'to' is required")
		}
		d.Rules = append(d.Rules, r)
		return nil
	})
}

func (s *stanza) transferOption(r *TransferRule, name string) error {
	switch name {
	case "to":
		args, err := s.args(1, -1)
		if err != nil {
			return err
		}
		for _, a := range args {
			if a != "*" {
				host, port, err := net.SplitHostPort(a)
				if err != nil {
					host, port = a, "53"
				}
				if _, err := netip.ParseAddr(host); err != nil {
					return s.Errf("must specify an IP address: `%s'", host)
				}
				a = net.JoinHostPort(host, port)
			}
			r.To = append(r.To, a)
		}
	case "source":
		text, err := s.arg()
		if err != nil {
			return err
		}
		if r.Source.IsValid() {
			return s.Err("source already specified")
		}
		if r.Source, err = netip.ParseAddr(text); err != nil {
			return s.Errf("invalid source address %q", text)
		}
	default:
		return s.Errf("unknown property %q", name)
	}
	return nil
}

func parseFile(s *stanza) (*File, error) {
	d := &File{}
	reload, byMtime := time.Minute, false // CoreDNS: they hold for the later files of the block too
	return d, s.each(func() error {
		pos := s.pos()
		if s.number == 1 {
			d.Pos = pos
		}
		args, err := s.args(1, -1)
		if err != nil {
			return err
		}
		zones, err := s.zones(args[1:])
		if err != nil {
			return err
		}
		path := s.path(args[0])
		err = s.eachOption(func(name string) (err error) {
			switch name {
			case "fallthrough":
				d.Fallthrough, err = s.fallthroughZones()
			case "reload":
				args := s.RemainingArgs()
				if len(args) < 1 {
					return s.Err("reload duration value is expected")
				}
				reload, err = s.parseDuration(args[0])
			case "reload_by_mtime":
				byMtime = true
			case "upstream": // accepted and without effect, as in CoreDNS
				s.RemainingArgs()
			default:
				return s.unknown()
			}
			return err
		})
		if err != nil {
			return err
		}
		if err := readable(path); err != nil {
			if reload == 0 {
				return s.Err(err.Error())
			}
			s.warnf("Failed to open %q: trying again in %s", err, reload) // CoreDNS's words
		}
		for _, z := range zones {
			d.Zones = append(d.Zones, FileZone{Pos: pos, Zone: z, Path: path, Reload: reload, ReloadByMtime: byMtime})
		}
		return nil
	})
}

// readable returns why a file cannot be opened.
func readable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return f.Close()
}
