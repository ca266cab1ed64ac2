package server

import (
	"errors"
	"fmt"
	"strconv"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/plugin"
)

var (
	errDepth    = errors.New("too many lookups for one query")
	errQuestion = errors.New("name of a lookup is malformed")
)

func portText(p uint16) string { return strconv.Itoa(int(p)) }

// maxMessage is the longest message over TCP.
const maxMessage = 65535

// finish makes the message that the client gets of a reply: its own question and id, an OPT only
// if it sent one, and no more bytes than limit. The message of the reply, which others may hold,
// is not changed.
func finish(query *dnswire.Msg, p plugin.Reply, limit int) ([]byte, error) {
	m := new(dnswire.Msg)
	if p.Msg != nil {
		*m = *p.Msg // RD is as the query has it, unless a plugin meant to change it
	} else {
		m.Rcode, m.RecursionDesired = p.Rcode, query.RecursionDesired
	}
	m.Id, m.Response, m.Opcode, m.CheckingDisabled = query.Id, true, query.Opcode, query.CheckingDisabled
	m.Question = query.Question
	m.Compress = true
	m.Extra = withoutOPT(m.Extra)
	if opt := query.IsEdns0(); opt != nil {
		m.Extra = append(m.Extra, replyOPT(opt, p.Msg, m.Rcode))
	} else if m.Rcode > 0xf { // cannot be said without an OPT
		m.Rcode = dnswire.RcodeServerFailure
	}
	m.Truncate(limit)
	out, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack reply to %q: %w", query.Question[0].Name, err)
	}
	return out, nil
}

// withoutOPT returns a copy of the records, without OPT.
func withoutOPT(rrs []dnswire.RR) []dnswire.RR {
	out := make([]dnswire.RR, 0, len(rrs)+1)
	for _, rr := range rrs {
		if _, ok := rr.(*dnswire.OPT); !ok {
			out = append(out, rr)
		}
	}
	return out
}

// replyOPT answers the client's OPT: its own size and DO bit (as CoreDNS does), and the options
// that a plugin has put into the reply.
func replyOPT(asked *dnswire.OPT, reply *dnswire.Msg, rcode int) *dnswire.OPT {
	opt := &dnswire.OPT{Hdr: dnswire.RR_Header{Name: ".", Rrtype: dnswire.TypeOPT}}
	opt.SetUDPSize(asked.UDPSize())
	if asked.Do() {
		opt.SetDo()
	}
	opt.SetExtendedRcode(uint16(rcode))
	if reply != nil {
		if from := reply.IsEdns0(); from != nil {
			opt.Option = from.Option
		}
	}
	return opt
}

// failure is a reply when there is none to be had: header and question.
func failure(query *dnswire.Msg, rcode int) []byte {
	m := new(dnswire.Msg)
	m.SetRcode(query, rcode)
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	return out
}
