package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
)

// A match is one condition of a rule.
type match func(m *Machine, w *walk) bool

func not(negate bool, f match) match {
	if !negate {
		return f
	}
	return func(m *Machine, w *walk) bool { return !f(m, w) }
}

// matches evaluates conditions in order, up to the first that fails: those with side effects
// come last.
func (m *Machine) matches(w *walk, r rule) bool {
	for _, f := range r.matches {
		if !f(m, w) {
			return false
		}
	}
	return true
}

// parse reads a rule as iptables-save prints it.
func parse(text string) (rule, error) {
	r := rule{text: text, args: map[string]string{}}
	args := restore.Args(text)
	var module string
	recent := map[string]string{}
	negate := false
	next := func() string {
		if len(args) == 0 {
			return ""
		}
		a := args[0]
		args = args[1:]
		return a
	}
	for len(args) > 0 {
		a := next()
		var f match
		var err error
		switch {
		case a == "!":
			negate = true
			continue
		case a == "-m":
			if module = next(); module != "socket" {
				continue
			}
			f = haveSocket
		case a == "-j" || a == "-g":
			r.target, r.goTo = next(), a == "-g"
			for len(args) > 0 {
				if k := next(); len(args) > 0 && !strings.HasPrefix(args[0], "--") {
					r.args[k] = next()
				} else {
					r.args[k] = ""
				}
			}
			continue
		case module == "recent" && slices.Contains([]string{"--update", "--set", "--reap", "--rsource"}, a):
			recent[a] = ""
			if a == "--rsource" { // the last one iptables-save prints
				f = recentMatch(recent)
				recent = map[string]string{}
			}
		case module == "recent":
			recent[a] = next()
		case a == "--comment", a == "--mode":
			next()
		default:
			f, err = condition(module, a, next())
		}
		if err != nil {
			return r, err
		}
		if f != nil {
			r.matches = append(r.matches, not(negate, f))
		}
		negate = false
	}
	return r, nil
}

// condition returns the match for an option with one value.
func condition(module, option, value string) (match, error) {
	switch option {
	case "-s", "-d":
		p, err := netip.ParsePrefix(value)
		return func(_ *Machine, w *walk) bool {
			if option == "-s" {
				return p.Contains(w.packet.Src)
			}
			return p.Contains(w.packet.Dst)
		}, err
	case "-p":
		return func(_ *Machine, w *walk) bool { return w.packet.Protocol == value }, nil
	case "-i":
		prefix, wild := strings.CutSuffix(value, "+")
		return func(_ *Machine, w *walk) bool {
			return w.packet.In == value || wild && strings.HasPrefix(w.packet.In, prefix) && w.packet.In != ""
		}, nil
	case "--dport":
		lo, hi, isRange := strings.Cut(value, ":")
		if !isRange {
			hi = lo
		}
		from, err := strconv.ParseUint(lo, 10, 16)
		if err != nil {
			return nil, err
		}
		to, err := strconv.ParseUint(hi, 10, 16)
		return func(_ *Machine, w *walk) bool {
			return w.packet.Protocol == module && uint64(w.packet.Port) >= from && uint64(w.packet.Port) <= to
		}, err
	case "--src-type", "--dst-type":
		if value != "LOCAL" {
			break
		}
		return func(m *Machine, w *walk) bool {
			if option == "--src-type" {
				return m.local(w.packet.Src)
			}
			return m.local(w.packet.Dst)
		}, nil
	case "--ctstate":
		return ctstate(strings.Split(value, ","))
	case "--mark":
		v, k, _ := strings.Cut(value, "/")
		want, err := strconv.ParseUint(v, 0, 32)
		if err != nil {
			return nil, err
		}
		mask, err := strconv.ParseUint(k, 0, 32)
		return func(_ *Machine, w *walk) bool { return w.packet.Mark&uint32(mask) == uint32(want) }, err
	case "--probability":
		p, err := strconv.ParseFloat(value, 64)
		return func(_ *Machine, w *walk) bool { return w.flip(p) }, err
	case "--bytecode":
		prog, err := parseBPF(value)
		return func(_ *Machine, w *walk) bool { return prog.run(header(w.packet.Src, w.packet.Dst)) > 0 }, err
	}
	return nil, fmt.Errorf("unknown: -m %s %s %s", module, option, value)
}

// ctstate knows the states of the first packet of a connection.
func ctstate(states []string) (match, error) {
	for _, s := range states {
		if !slices.Contains([]string{"NEW", "DNAT", "INVALID", "RELATED", "ESTABLISHED"}, s) {
			return nil, fmt.Errorf("unknown state %s", s)
		}
	}
	return func(_ *Machine, w *walk) bool {
		return slices.Contains(states, "NEW") || w.translated && slices.Contains(states, "DNAT")
	}, nil
}

// recentMatch writes to a list, or asks it: then both answers are followed, and "yes" has no
// probability.
func recentMatch(options map[string]string) match {
	name := options["--name"]
	_, set := options["--set"]
	return func(_ *Machine, w *walk) bool {
		if !set && !w.flip(0) {
			return false
		}
		w.affinity = name
		return true
	}
}

// haveSocket asks for a socket at the packet's destination, as -m socket does without options.
func haveSocket(m *Machine, w *walk) bool {
	return m.Socket != nil && m.Socket(netip.AddrPortFrom(w.packet.Dst, w.packet.Port), w.packet.Protocol)
}

// header returns an IP header with two addresses.
func header(src, dst netip.Addr) []byte {
	if src.Is4() {
		b := make([]byte, 12, 20)
		return append(append(b, src.AsSlice()...), dst.AsSlice()...)
	}
	b := make([]byte, 8, 40)
	return append(append(b, src.AsSlice()...), dst.AsSlice()...)
}
