package corefile

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy/caddyfile"
)

// A stanza reads the tokens of all directives of one plugin in one block.
type stanza struct {
	caddyfile.Dispenser
	plugin  string
	config  *Config
	raw     *rawBlock
	options Options
	number  int // of the directive, from 1
}

// A parser turns a stanza into directives.
type parser func(*stanza) ([]Directive, error)

// one makes a parser of a function that reads a single directive into d.
func one[D Directive](f func(*stanza) (D, error)) parser {
	return func(s *stanza) ([]Directive, error) {
		d, err := f(s)
		if err != nil {
			return nil, err
		}
		return []Directive{d}, nil
	}
}

// each calls f for each directive of the plugin in the block.
func (s *stanza) each(f func() error) error {
	for s.Next() {
		name, err := replaceEnv(caddyfile.Token{Text: s.Val()}) // the library leaves this token as it was
		if err != nil || name != s.plugin {
			return s.Errf("unexpected '%s'", s.Val())
		}
		s.number++
		if err := f(); err != nil {
			return err
		}
		if s.NextBlock() { // of a directive that has no options; an empty one does no harm
			return s.unknown()
		}
	}
	return nil
}

// single is each for a plugin that may be there only once.
func (s *stanza) single(f func() error) error {
	return s.each(func() error {
		if s.number > 1 {
			return s.Errf("this plugin can only be used once per Server Block")
		}
		return f()
	})
}

// pos is where the current token is.
func (s *stanza) pos() Pos { return Pos{s.File(), s.Line()} }

// warnf adds a warning that names the place.
func (s *stanza) warnf(format string, args ...any) {
	text := strings.Replace(s.Errf(format, args...).Error(), "Error during parsing: ", "", 1)
	s.config.Warnings = append(s.config.Warnings, "plugin/"+s.plugin+": "+text)
}

// args returns the arguments up to the end of the line, an error unless there are from least to
// most of them. most < 0: any number.
func (s *stanza) args(least, most int) ([]string, error) {
	args := s.RemainingArgs()
	if len(args) < least || most >= 0 && len(args) > most {
		return nil, s.ArgErr()
	}
	return args, nil
}

// arg returns the only argument of an option.
func (s *stanza) arg() (string, error) {
	args, err := s.args(1, 1)
	if err != nil {
		return "", err
	}
	return args[0], nil
}

// flag sets *b for an option without argument.
func (s *stanza) flag(b *bool) error {
	if _, err := s.args(0, 0); err != nil {
		return err
	}
	*b = true
	return nil
}

// duration reads the only argument as a duration.
func (s *stanza) duration() (time.Duration, error) {
	text, err := s.arg()
	if err != nil {
		return 0, err
	}
	return s.parseDuration(text)
}

func (s *stanza) parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, s.Err(err.Error())
	}
	return d, nil
}

// atoi is strconv.Atoi with the place in its error.
func (s *stanza) atoi(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, s.Err(err.Error())
	}
	return n, nil
}

// eachOption calls f for each option of the block of a directive.
func (s *stanza) eachOption(f func(name string) error) error {
	for s.NextBlock() {
		if err := f(s.Val()); err != nil {
			return err
		}
	}
	return nil
}

// unknown is the error of an option that the plugin does not have.
func (s *stanza) unknown() error { return s.Errf("unknown property '%s'", s.Val()) }

// notHere is the error of an option that CoreDNS has and Fairway has not.
func (s *stanza) notHere(hint string) error {
	return s.Errf("option '%s' exists in CoreDNS and is not supported%s", s.Val(), explain(hint))
}

// zones returns the zones of arguments, or without any those of the block.
func (s *stanza) zones(args []string) ([]string, error) {
	if len(args) == 0 {
		return s.raw.block.Zones(), nil
	}
	zones, err := argZones(args)
	if err != nil {
		return nil, s.Err(err.Error())
	}
	return zones, nil
}

// fallthroughZones reads the arguments of a fallthrough option.
func (s *stanza) fallthroughZones() ([]string, error) {
	args := s.RemainingArgs()
	if len(args) == 0 {
		return []string{"."}, nil
	}
	return s.zones(args)
}

// path returns a path taken from the root of the block.
func (s *stanza) path(p string) string {
	if p != "" && !filepath.IsAbs(p) && s.raw.root != "" {
		return filepath.Join(s.raw.root, p)
	}
	return p
}
