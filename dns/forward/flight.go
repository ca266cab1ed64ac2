package forward

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
	dnswire "github.com/miekg/dns"
)

// A flightKey is what must be the same for two clients to get the same answer.
type flightKey struct {
	name       string // lower case
	typ, class uint16
	do, cd, rd bool
	tcp        bool   // asked of the upstream over TCP at once
	send       string // packed EDNS options that the Corefile wants the upstream to get
}

// A flight is a question that is being asked. Its outcome is set before done is closed.
type flight struct {
	clients int // that took part in it; under the lock of flights
	done    chan struct{}
	msg     *dnswire.Msg // shared by all who wait: nobody changes it
	err     error
}

// fly returns the answer of the flight for a request, a new one or one that is under way.
func (f *Forward) fly(ctx context.Context, r *plugin.Request) (*dnswire.Msg, error) {
	opt := r.Msg.IsEdns0()
	k := flightKey{name: r.Name(), typ: r.Type(), class: r.Class(), do: opt != nil && opt.Do(),
		cd: r.Msg.CheckingDisabled, rd: r.Msg.RecursionDesired,
		tcp: f.o.ForceTCP || !f.o.PreferUDP && r.TCP()}
	var err error
	if k.send, err = options(r.Send); err != nil {
		return nil, err
	}
	f.mu.Lock()
	fl := f.flights[k]
	if fl == nil {
		if f.closed || len(f.flights) >= maxFlights {
			f.mu.Unlock()
			return nil, errTooMany
		}
		fl = &flight{done: make(chan struct{})}
		f.flights[k] = fl
		spelled := r.Spelled()
		f.running.Go(func() { f.land(k, fl, spelled, r.Send) })
	}
	fl.clients++
	f.mu.Unlock()
	select {
	case <-fl.done:
		return fl.msg, fl.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// land makes a flight. It does not end with the client that began it: others may wait too.
func (f *Forward) land(k flightKey, fl *flight, spelled string, send []dnswire.EDNS0) {
	defer func() {
		f.mu.Lock()
		delete(f.flights, k)
		f.mu.Unlock()
		close(fl.done)
	}()
	ctx, cancel := context.WithTimeout(f.base, f.limit)
	defer cancel()
	q, err := newQuestion(k, spelled, send)
	if err != nil {
		fl.err = err
		return
	}
	m, err := f.resolve(ctx, q)
	if err != nil {
		fl.err = err
		return
	}
	fl.msg = f.scrub(m, q)
}

// ednsSize is what fits into one packet on nearly every path (DNS flag day 2020).
const ednsSize = 1232

// A question is a query to upstreams: the same for all attempts but for the id.
type question struct {
	flightKey
	wire  []byte // the query with an OPT
	plain []byte // without
	asked []byte // name, type and class in wire, lower case
}

// newQuestion makes a question of a key, in the spelling of a client. The options are those of the
// key.
func newQuestion(k flightKey, spelled string, send []dnswire.EDNS0) (*question, error) {
	m := new(dnswire.Msg)
	m.Question = []dnswire.Question{{Name: spelled, Qtype: k.typ, Qclass: k.class}}
	m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = k.rd, k.cd, true
	q := &question{flightKey: k}
	var err error
	if q.plain, err = m.Pack(); err != nil {
		return nil, err
	}
	end := len(q.plain) - 4
	q.asked = append(lower(q.plain[wire.HeaderLen:end]), q.plain[end:]...)
	m.SetEdns0(ednsSize, k.do)
	m.IsEdns0().Option = send
	q.wire, err = m.Pack()
	return q, err
}

// options packs EDNS options, to compare them.
func options(list []dnswire.EDNS0) (string, error) {
	if len(list) == 0 {
		return "", nil
	}
	opt := &dnswire.OPT{Hdr: dnswire.RR_Header{Name: ".", Rrtype: dnswire.TypeOPT}, Option: list}
	b := make([]byte, dnswire.Len(opt))
	n, err := dnswire.PackRR(opt, b, 0, nil, false)
	return string(b[:n]), err
}

func lower(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		out[i] = c
	}
	return out
}

// A verdict says what a message that came back is.
type verdict int

const (
	reply   verdict = iota // the answer
	foreign                // not an answer to this question: ignored
	broken                 // an answer by its header and question, but not to be read: it may be cut
)

// read looks whether a message is the answer to a question with that id.
func (q *question) read(b []byte, id uint16) (*dnswire.Msg, verdict) {
	if len(b) < wire.HeaderLen || binary.BigEndian.Uint16(b) != id {
		return nil, foreign
	}
	flags := binary.BigEndian.Uint16(b[2:])
	if flags&wire.FlagQR == 0 || flags&wire.FlagOpcode != 0 {
		return nil, foreign
	}
	m := new(dnswire.Msg)
	switch binary.BigEndian.Uint16(b[4:]) {
	case 1:
		if !q.is(b[wire.HeaderLen:]) {
			return nil, foreign
		}
	case 0: // an error of a server that did not read the question
		if wire.Rcode(b) == wire.Success || wire.Rcode(b) == wire.NXDomain {
			return nil, foreign
		}
		m.Question = []dnswire.Question{q.asDecoded()}
		m.Rcode, m.Response = wire.Rcode(b), true
		return m, reply
	default:
		return nil, foreign
	}
	if err := m.Unpack(b); err != nil || len(m.Question) != 1 {
		return nil, broken
	}
	return m, reply
}

// is reports whether b begins with the question, in whatever case.
func (q *question) is(b []byte) bool {
	n := len(q.asked)
	return len(b) >= n && string(lower(b[:n-4])) == string(q.asked[:n-4]) && string(b[n-4:n]) == string(q.asked[n-4:])
}

func (q *question) asDecoded() dnswire.Question {
	return dnswire.Question{Name: q.name, Qtype: q.typ, Qclass: q.class}
}

// dress returns a message as the answer to one client of those that share it.
func dress(r *plugin.Request, shared *dnswire.Msg) *dnswire.Msg {
	m := *shared
	m.Id, m.Opcode, m.Response = r.Msg.Id, dnswire.OpcodeQuery, true
	m.RecursionDesired, m.CheckingDisabled = r.Msg.RecursionDesired, r.Msg.CheckingDisabled
	opt := r.Msg.IsEdns0()
	m.AuthenticatedData = shared.AuthenticatedData && (r.Msg.AuthenticatedData || opt != nil && opt.Do())
	m.Question = r.Msg.Question
	is := r.Spelled()
	m.Answer, m.Ns, m.Extra = respell(m.Answer, is), respell(m.Ns, is), respell(m.Extra, is)
	return &m
}

// respell returns the records with each owner that is name but for the case spelled so. Records that
// change are copied, and so is the slice then.
func respell(rrs []dnswire.RR, name string) []dnswire.RR {
	own := false
	for i, rr := range rrs {
		if h := rr.Header(); h.Name == name || !strings.EqualFold(h.Name, name) {
			continue
		}
		if !own {
			rrs, own = slices.Clone(rrs), true
		}
		rrs[i] = dnswire.Copy(rr)
		rrs[i].Header().Name = name
	}
	return rrs
}
