package corefile

import (
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxRegexp bounds the length of patterns: compiling a long one takes memory out of proportion.
const maxRegexp = 10000

// regexp compiles a pattern; what stands before the compiler's words in an error.
func (s *stanza) regexp(text, what string) (*regexp.Regexp, error) {
	if len(text) > maxRegexp {
		return nil, s.Errf("regex pattern too long: %d > %d", len(text), maxRegexp)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, s.Errf("%s%v", what, err)
	}
	return re, nil
}

// listenAddr reads the optional host:port of a directive.
func (s *stanza) listenAddr(addr *string) error {
	args, err := s.args(0, 1)
	if err != nil || len(args) == 0 {
		return err
	}
	if _, _, err := net.SplitHostPort(args[0]); err != nil {
		return s.Err(err.Error())
	}
	*addr = args[0]
	return nil
}

func parseRoot(s *stanza) (*Root, error) {
	d := &Root{Pos: s.pos()}
	err := s.each(func() (err error) {
		d.Pos = s.pos()
		d.Path, err = s.arg()
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(d.Path); os.IsNotExist(err) {
		s.warnf("Root path does not exist: %s", d.Path)
	} else if err != nil {
		return nil, s.Errf("unable to access root path '%s': %v", d.Path, err)
	}
	s.raw.root = d.Path
	return d, nil
}

func parseMetadata(s *stanza) (*Metadata, error) {
	d := &Metadata{}
	return d, s.single(func() (err error) {
		d.Pos = s.pos()
		d.Zones, err = s.zones(s.RemainingArgs())
		return err
	})
}

func parseCancel(s *stanza) (*Cancel, error) {
	d := &Cancel{}
	return d, s.each(func() error {
		d.Pos, d.Timeout = s.pos(), 5001*time.Millisecond
		args, err := s.args(0, 1)
		if err != nil || len(args) == 0 {
			return err
		}
		if d.Timeout, err = time.ParseDuration(args[0]); err != nil {
			return s.Errf("invalid duration: %q", args[0])
		}
		if d.Timeout <= 0 {
			return s.Errf("invalid negative duration: %q", args[0])
		}
		return nil
	})
}

func parseTimeouts(s *stanza) (*Timeouts, error) {
	d := &Timeouts{}
	return d, s.each(func() error {
		d.Pos = s.pos()
		if _, err := s.args(0, 0); err != nil {
			return err
		}
		options := 0
		err := s.eachOption(func(name string) error {
			options++
			text, err := s.arg()
			if err != nil {
				return err
			}
			return s.timeout(d, name, text)
		})
		if err == nil && options == 0 {
			return s.Err("timeouts block with no timeouts specified")
		}
		return err
	})
}

// timeout sets one option of timeouts. There, a bare number is seconds.
func (s *stanza) timeout(d *Timeouts, name, text string) error {
	if name == "maxtcpqueries" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return s.Errf("invalid value for maxtcpqueries '%s': %v", text, err)
		}
		if n == 0 || n < -1 {
			return s.Errf("maxtcpqueries provided '%d' needs to be -1 (unlimited) or a positive integer", n)
		}
		d.MaxTCPQueries = n
		return nil
	}
	unit := ""
	if _, err := strconv.Atoi(text); err == nil {
		unit = "s"
	}
	t, err := time.ParseDuration(text + unit)
	if err != nil {
		return s.Errf("failed to parse duration '%s'", text) // CoreDNS's words
	}
	if t < time.Second || t > 24*time.Hour {
		return s.Errf("timeout provided '%s' needs to be between 1 second and 24 hours", t)
	}
	switch name {
	case "read":
		d.Read = t
	case "write":
		d.Write = t
	case "idle":
		d.Idle = t
	default:
		return s.Errf("unknown option: '%s'", name)
	}
	return nil
}

func parseMultisocket(s *stanza) (*Multisocket, error) {
	d := &Multisocket{}
	return d, s.single(func() error {
		d.Pos = s.pos()
		args, err := s.args(0, 1)
		if err != nil || len(args) == 0 {
			return err
		}
		n, err := strconv.Atoi(args[0])
		switch {
		case err != nil:
			return s.Errf("invalid num sockets: %v", err)
		case n < 1:
			return s.Errf("num sockets can not be zero or negative: %d", n)
		case n > 1024:
			return s.Errf("num sockets exceeds maximum (1024): %d", n)
		}
		d.Sockets = n
		return nil
	})
}

func parseReload(s *stanza) (*Reload, error) {
	d := &Reload{Interval: 30 * time.Second, Jitter: 15 * time.Second}
	return d, s.single(func() error {
		d.Pos = s.pos()
		args, err := s.args(0, 2)
		if err != nil {
			return err
		}
		if len(args) > 0 {
			if d.Interval, err = s.parseDuration(args[0]); err != nil {
				return err
			}
		}
		if d.Interval < 2*time.Second {
			return s.Errf("interval value must be greater or equal to %v", 2*time.Second)
		}
		if len(args) > 1 {
			if d.Jitter, err = s.parseDuration(args[1]); err != nil {
				return err
			}
		}
		if d.Jitter != 0 && d.Jitter < time.Second {
			return s.Errf("jitter value must be 0 or greater or equal to %v", time.Second)
		}
		d.Jitter = min(d.Jitter, d.Interval/2)
		return nil
	})
}

func parseNSID(s *stanza) (*NSID, error) {
	d := &NSID{}
	return d, s.single(func() error {
		d.Pos = s.pos()
		if d.Data = strings.Join(s.RemainingArgs(), " "); d.Data != "" {
			return nil
		}
		name, err := os.Hostname()
		if err != nil {
			name = "localhost"
		}
		d.Data = name
		return nil
	})
}

func parseBufsize(s *stanza) (*Bufsize, error) {
	d := &Bufsize{}
	return d, s.single(func() error {
		d.Pos, d.Size = s.pos(), 1232
		args, err := s.args(0, 1)
		if err != nil || len(args) == 0 {
			return err
		}
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 512 || n > 4096 {
			return s.ArgErr()
		}
		d.Size = uint16(n)
		return nil
	})
}

func parseBind(s *stanza) ([]Directive, error) {
	var all []Directive
	interfaces, _ := net.Interfaces() // none: names are then not valid addresses
	err := s.each(func() error {
		d := &Bind{Pos: s.pos()}
		args := s.RemainingArgs()
		if len(args) == 0 {
			return s.Err("at least one address or interface name is expected")
		}
		addrs, err := s.addrs(args, interfaces)
		if err != nil {
			return err
		}
		var except []netip.Addr
		err = s.eachOption(func(name string) error {
			if name != "except" {
				return s.Errf("invalid option %q", name)
			}
			args := s.RemainingArgs()
			if len(args) == 0 {
				return s.Err("at least one address or interface must be given to except subdirective")
			}
			except, err = s.addrs(args, interfaces)
			return err
		})
		if err != nil {
			return err
		}
		d.Addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return slices.Contains(except, a) })
		s.raw.block.Binds = append(s.raw.block.Binds, d.Addrs...)
		all = append(all, d)
		return nil
	})
	if err == nil && len(s.raw.block.Binds) == 0 {
		err = s.Err("no address is left to listen on")
	}
	return all, err
}

// addrs returns the addresses that arguments name: addresses, or interfaces with all of theirs.
func (s *stanza) addrs(args []string, interfaces []net.Interface) (out []netip.Addr, err error) {
	for _, arg := range args {
		i := slices.IndexFunc(interfaces, func(i net.Interface) bool { return i.Name == arg })
		if i < 0 {
			addr, err := netip.ParseAddr(arg)
			if err != nil || addr.Zone() != "" {
				return nil, s.Errf("not a valid IP address or interface name: %q", arg)
			}
			out = append(out, addr)
			continue
		}
		addrs, err := interfaces[i].Addrs()
		if err != nil {
			return nil, s.Errf("failed to get the IP addresses of the interface: %q", arg)
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			addr := p.Addr()
			if addr.Is6() && (addr.IsLinkLocalUnicast() || addr.IsLinkLocalMulticast()) {
				addr = addr.WithZone(arg)
			}
			out = append(out, addr)
		}
	}
	return out, nil
}

func parseReady(s *stanza) (*Ready, error) {
	d := &Ready{Addr: ":8181"}
	return d, s.single(func() error {
		d.Pos = s.pos()
		if err := s.listenAddr(&d.Addr); err != nil {
			return err
		}
		return s.eachOption(func(name string) error {
			if name != "monitor" {
				return s.unknown()
			}
			kind, err := s.arg()
			if err != nil {
				return err
			}
			if kind != "until-ready" && kind != "continuously" {
				return s.Errf("monitor type '%s' not supported", kind)
			}
			d.Continuously = kind == "continuously"
			return nil
		})
	})
}

func parseHealth(s *stanza) (*Health, error) {
	d := &Health{}
	return d, s.each(func() error {
		*d = Health{Pos: s.pos(), Addr: ":8080", Lameduck: d.Lameduck}
		if err := s.listenAddr(&d.Addr); err != nil {
			return err
		}
		return s.eachOption(func(name string) error {
			if name != "lameduck" {
				return s.unknown()
			}
			text, err := s.arg()
			if err != nil {
				return err
			}
			if d.Lameduck, err = time.ParseDuration(text); err != nil {
				return s.Errf("unable to parse lameduck duration value: '%v' : %v", text, err)
			}
			return nil
		})
	})
}

func parsePprof(s *stanza) (*Pprof, error) {
	d := &Pprof{Addr: "localhost:6053"}
	return d, s.single(func() error {
		d.Pos = s.pos()
		if err := s.listenAddr(&d.Addr); err != nil {
			return err
		}
		return s.eachOption(func(name string) error {
			if name != "block" {
				return s.unknown()
			}
			args, err := s.args(0, 1)
			if err != nil {
				return err
			}
			if d.Block = 1; len(args) == 1 {
				if d.Block, err = strconv.Atoi(args[0]); err != nil {
					return s.Errf("property '%s' invalid integer value '%v'", name, args[0])
				}
			}
			return nil
		})
	})
}

func parsePrometheus(s *stanza) (*Prometheus, error) {
	d := &Prometheus{Addr: "localhost:9153"}
	return d, s.single(func() error {
		d.Pos = s.pos()
		if err := s.listenAddr(&d.Addr); err != nil {
			return err
		}
		return s.eachOption(func(name string) (err error) {
			switch name {
			case "runtime_metrics":
				return s.flag(&d.RuntimeMetrics)
			case "tls":
				if d.TLSConfig != "" {
					return s.Err("tls block already specified")
				}
				d.TLSConfig, err = s.arg()
				return err
			}
			return s.Errf("unknown option: %s", name)
		})
	})
}
