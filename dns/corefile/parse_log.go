package corefile

import (
	"slices"
	"strings"
)

func parseErrors(s *stanza) (*Errors, error) {
	d := &Errors{}
	return d, s.single(func() error {
		d.Pos = s.pos()
		args, err := s.args(0, 1)
		if err != nil {
			return err
		}
		if len(args) == 1 && args[0] != "stdout" {
			return s.Errf("invalid log file: %s", args[0])
		}
		return s.eachOption(func(name string) error {
			switch name {
			case "stacktrace":
				return s.flag(&d.Stacktrace)
			case "consolidate":
				c, err := s.consolidate()
				d.Consolidate = append(d.Consolidate, c)
				return err
			}
			return s.SyntaxErr("Unknown field " + name)
		})
	})
}

// consolidate reads DURATION REGEXP [LEVEL] [show_first].
func (s *stanza) consolidate() (c Consolidate, err error) {
	args, err := s.args(2, 4)
	if err != nil {
		return c, err
	}
	if c.Period, err = s.parseDuration(args[0]); err != nil {
		return c, err
	}
	if c.Pattern, err = s.regexp(args[1], ""); err != nil {
		return c, err
	}
	for _, arg := range args[2:] {
		switch arg {
		case "warning", "error", "info", "debug":
			if c.Level != "" {
				return c, s.Errf("multiple log levels specified in consolidate")
			}
			if c.ShowFirst {
				return c, s.Errf("log level must come before show_first in consolidate")
			}
			c.Level = arg
		case "show_first":
			c.ShowFirst = true
		default:
			return c, s.Errf("unknown option in consolidate: %s", arg)
		}
	}
	if c.Level == "" {
		c.Level = "error"
	}
	return c, nil
}

func parseLog(s *stanza) (*Log, error) {
	d := &Log{}
	return d, s.each(func() error {
		if s.number == 1 {
			d.Pos = s.pos()
		}
		names, format := s.RemainingArgs(), "{common}"
		if n := len(names); n > 1 && strings.Contains(names[n-1], "{") {
			names, format = names[:n-1], names[n-1]
		}
		if len(names) == 0 {
			names = []string{"."}
		}
		format = strings.ReplaceAll(format, "{common}", CommonLogFormat)
		format = strings.ReplaceAll(format, "{combined}", CombinedLogFormat)
		var classes []string
		err := s.eachOption(func(name string) error {
			if name != "class" {
				return s.unknown()
			}
			args, err := s.args(1, -1)
			for _, c := range args {
				if !slices.Contains([]string{"all", "success", "denial", "error"}, c) {
					return s.Errf("invalid Class: %s", c)
				}
				classes = append(classes, c)
			}
			return err
		})
		if len(classes) == 0 {
			classes = []string{"all"}
		}
		for _, name := range names {
			d.Rules = append(d.Rules, LogRule{Zone: normalize(name), Format: format, Classes: classes})
		}
		return err
	})
}
