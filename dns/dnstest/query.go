package dnstest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	dnswire "github.com/miekg/dns"
)

// Parse reads a query in the notation of queries.txt: "name type [flags]", with the flags udp, tcp,
// do, cd, ad, norec, buf=N, class=CH or ANY, opt=none, ver1, cookie, ecs, nsid or unk,
// opcode=notify, update or status, q0 and q2 (so many questions).
func Parse(query string) (m *dnswire.Msg, proto string, err error) {
	words := strings.Fields(query)
	if len(words) < 2 {
		return nil, "", fmt.Errorf("query %q: no type", query)
	}
	qtype, ok := dnswire.StringToType[words[1]]
	if !ok {
		number, found := strings.CutPrefix(words[1], "TYPE")
		n, err := strconv.ParseUint(number, 10, 16)
		if !found || err != nil {
			return nil, "", fmt.Errorf("query %q: no type %s", query, words[1])
		}
		qtype = uint16(n)
	}
	m, proto = new(dnswire.Msg), "udp"
	m.SetQuestion(dnswire.Fqdn(words[0]), qtype)
	for _, flag := range words[2:] {
		if err := apply(m, &proto, flag); err != nil {
			return nil, "", fmt.Errorf("query %q: %w", query, err)
		}
	}
	return m, proto, nil
}

func apply(m *dnswire.Msg, proto *string, flag string) error {
	name, value, _ := strings.Cut(flag, "=")
	switch name {
	case "udp", "tcp":
		*proto = name
	case "do":
		edns(m).SetDo()
	case "cd":
		m.CheckingDisabled = true
	case "ad":
		m.AuthenticatedData = true
	case "norec":
		m.RecursionDesired = false
	case "buf":
		n, err := strconv.ParseUint(value, 10, 16)
		edns(m).SetUDPSize(uint16(n))
		return err
	case "class":
		m.Question[0].Qclass = dnswire.StringToClass[value]
	case "opcode":
		m.Opcode = dnswire.StringToOpcode[strings.ToUpper(value)]
		m.RecursionDesired = m.Opcode != dnswire.OpcodeNotify
	case "q0":
		m.Question = nil
	case "q2":
		m.Question = append(m.Question, m.Question[0])
	case "opt":
		return option(m, value)
	default:
		return fmt.Errorf("no flag %s", flag)
	}
	return nil
}

func option(m *dnswire.Msg, name string) error {
	o := edns(m)
	switch name {
	case "none":
	case "ver1":
		o.SetVersion(1)
	case "cookie":
		o.Option = append(o.Option, &dnswire.EDNS0_COOKIE{Code: dnswire.EDNS0COOKIE, Cookie: "0123456789abcdef"})
	case "ecs":
		o.Option = append(o.Option, &dnswire.EDNS0_SUBNET{Code: dnswire.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{192, 0, 2, 0}})
	case "nsid":
		o.Option = append(o.Option, &dnswire.EDNS0_NSID{Code: dnswire.EDNS0NSID})
	case "unk":
		o.Option = append(o.Option, &dnswire.EDNS0_LOCAL{Code: 65001, Data: []byte("x")})
	default:
		return fmt.Errorf("no option %s", name)
	}
	return nil
}

// edns returns the OPT record of a query, which is made if there is none.
func edns(m *dnswire.Msg) *dnswire.OPT {
	if o := m.IsEdns0(); o != nil {
		return o
	}
	const size = 1232
	m.SetEdns0(size, false)
	return m.IsEdns0()
}

// Flag reports whether a query in the notation of Parse has a flag.
func Flag(query, flag string) bool {
	words := strings.Fields(query)
	return len(words) > 2 && slices.Contains(words[2:], flag)
}
