package xtables

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"

	"github.com/fairway-lb/fairway/iptables/restore"
)

// An encoder makes entries, one after the other. What it needs for one it uses again for the next.
type encoder struct {
	*layout
	entry []byte
	args  []string // those left
	all   []string
	out   []byte
}

// encode returns the entries for rules as iptables-save prints them, with the bytes that
// iptables-restore would have written and the kernel would show. They are good until the next call.
func (e *encoder) encode(rules []string) ([]byte, error) {
	e.out = e.out[:0]
	for _, rule := range rules {
		e.entry = append(e.entry[:0], make([]byte, e.header)...)
		e.all = restore.AppendArgs(e.all[:0], rule)
		if err := e.rule(e.all); err != nil {
			return nil, fmt.Errorf("rule %q: %w", rule, err)
		}
		e.out = append(e.out, e.entry...)
	}
	return e.out, nil
}

// next takes an argument; it is empty after the last one.
func (e *encoder) next() string {
	if len(e.args) == 0 {
		return ""
	}
	a := e.args[0]
	e.args = e.args[1:]
	return a
}

// option takes an argument if it is the one named.
func (e *encoder) option(name string) bool {
	if len(e.args) == 0 || e.args[0] != name {
		return false
	}
	e.next()
	return true
}

// value takes an option and its value.
func (e *encoder) value(name string) (string, error) {
	if !e.option(name) || len(e.args) == 0 {
		return "", fmt.Errorf("want %s and a value", name)
	}
	return e.next(), nil
}

func (e *encoder) rule(args []string) error {
	e.args = args
	for len(e.args) > 0 {
		var err error
		switch a := e.next(); a {
		case "-p":
			err = e.setProtocol(e.next())
		case "-m":
			err = e.match(e.next())
		case "-j":
			return e.finish(e.next())
		default:
			err = fmt.Errorf("%q is not known", a)
		}
		if err != nil {
			return err
		}
	}
	return errors.New("no target")
}

func (e *encoder) setProtocol(name string) error {
	p, ok := map[string]uint16{"tcp": 6, "udp": 17, "sctp": 132}[name]
	if !ok {
		return fmt.Errorf("protocol %q is not known", name)
	}
	order.PutUint16(e.entry[e.protocol:], p)
	e.entry[e.flags] |= e.used
	return nil
}

// own reports whether an address is of the entry's family.
func (e *encoder) own(a netip.Addr) bool {
	return a.Is4() == (e.layout == ipv4) && !a.Is4In6() && a.Zone() == ""
}

// extend appends a match or target and returns its data, all zero.
func (e *encoder) extend(name string, revision byte, size int) []byte {
	size = (extHeader + size + align - 1) / align * align
	at := len(e.entry)
	e.entry = append(e.entry, make([]byte, size)...)
	ext := e.entry[at:]
	order.PutUint16(ext, uint16(size))
	copy(ext[extName:extRevision], name)
	ext[extRevision] = revision
	return ext[extHeader:]
}

func (e *encoder) match(name string) error {
	switch name {
	case "comment":
		return e.comment()
	case "statistic":
		return e.statistic()
	case "recent":
		return e.recent()
	}
	return fmt.Errorf("match %q is not known", name)
}

// comment is struct xt_comment_info.
func (e *encoder) comment() error {
	const size = 256
	text, err := e.value("--comment")
	if err != nil {
		return err
	}
	if len(text) >= size {
		return fmt.Errorf("comment of %d bytes", len(text))
	}
	copy(e.extend("comment", 0, size), text)
	return nil
}

// statistic is struct xt_statistic_info: mode, flags, one of two structs, and a pointer of the
// kernel's. For mode random, iptables leaves a copy of the probability where the other struct has
// a counter.
func (e *encoder) statistic() error {
	if mode, err := e.value("--mode"); err != nil || mode != "random" {
		return fmt.Errorf("statistic mode %q is not known", mode)
	}
	text, err := e.value("--probability")
	if err != nil {
		return err
	}
	p, err := strconv.ParseFloat(text, 64)
	if err != nil || !(p >= 0 && p <= 1) {
		return fmt.Errorf("probability %q is none", text)
	}
	data := e.extend("statistic", 0, 24)
	order.PutUint32(data[4:], uint32(math.Round(p*(1<<31))))
	copy(data[12:16], data[4:8])
	return nil
}

// recent is struct xt_recent_mtinfo_v1.
func (e *encoder) recent() error {
	const set, update, reap = 1 << 1, 1 << 2, 1 << 5
	const listName = 200
	var seconds uint64
	var flags byte
	switch {
	case e.option("--set"):
		flags = set
	case e.option("--update"):
		flags = update
		text, err := e.value("--seconds")
		if err != nil {
			return err
		}
		if seconds, err = strconv.ParseUint(text, 10, 32); err != nil {
			return err
		}
		if e.option("--reap") {
			flags |= reap
		}
	default:
		return errors.New("recent neither sets nor updates")
	}
	list, err := e.value("--name")
	if err != nil {
		return err
	}
	text, err := e.value("--mask")
	if err != nil {
		return err
	}
	mask, err := netip.ParseAddr(text)
	if err != nil || !e.own(mask) || len(list) >= listName || !e.option("--rsource") {
		return fmt.Errorf("recent list %q with mask %q is not known", list, text)
	}
	data := e.extend("recent", 1, 228)
	order.PutUint32(data, uint32(seconds))
	data[8] = flags
	copy(data[10:10+listName], list)
	copy(data[212:], mask.AsSlice())
	return nil
}

// finish appends the target, DNAT with struct nf_nat_range2, and the offsets.
func (e *encoder) finish(target string) error {
	const addresses, ports = 1 << 0, 1 << 1
	if target != "DNAT" {
		return fmt.Errorf("target %q is not known", target)
	}
	text, err := e.value("--to-destination")
	if err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(text)
	if err != nil || !e.own(to.Addr()) || len(e.args) > 0 {
		return fmt.Errorf("destination %q %q is not known", text, e.args)
	}
	at := len(e.entry)
	data := e.extend("DNAT", 2, 44)
	order.PutUint32(data, addresses|ports)
	for i := range 2 { // the least and the most
		copy(data[4+16*i:], to.Addr().AsSlice())
		data[36+2*i], data[37+2*i] = byte(to.Port()>>8), byte(to.Port()) // as on the wire
	}
	if len(e.entry) > math.MaxUint16 {
		return fmt.Errorf("%d bytes", len(e.entry))
	}
	order.PutUint16(e.entry[e.target:], uint16(at))
	order.PutUint16(e.entry[e.target+2:], uint16(len(e.entry)))
	return nil
}
