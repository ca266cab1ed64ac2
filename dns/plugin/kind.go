package plugin

import (
	"context"
	"slices"

	dnswire "github.com/miekg/dns"
)

// A Kind is what a reply says, as far as plugins treat replies alike.
type Kind int

// The kinds of replies. Denial is NoData and NameError, success is Success and Delegation, and the
// rest are errors.
const (
	Success     Kind = iota // records, or NOERROR without any
	Delegation              // NOERROR, no answer, and the name servers to ask
	NoData                  // NOERROR, no answer, and an SOA
	NameError               // NXDOMAIN
	ServerError             // SERVFAIL, NOTIMP
	OtherError              // any other code
	Meta                    // a zone transfer
)

// KindOf classifies the message of a reply. A nil message is a ServerError.
func KindOf(m *dnswire.Msg) Kind {
	if m == nil {
		return ServerError
	}
	if len(m.Question) > 0 && (m.Question[0].Qtype == dnswire.TypeAXFR || m.Question[0].Qtype == dnswire.TypeIXFR) {
		return Meta
	}
	switch m.Rcode {
	case dnswire.RcodeSuccess:
		return successKind(m)
	case dnswire.RcodeNameError:
		return NameError
	case dnswire.RcodeServerFailure, dnswire.RcodeNotImplemented:
		return ServerError
	}
	return OtherError
}

func successKind(m *dnswire.Msg) Kind {
	if len(m.Answer) > 0 {
		return Success
	}
	kind := Success
	for _, rr := range m.Ns {
		switch rr.(type) {
		case *dnswire.SOA:
			return NoData
		case *dnswire.NS:
			kind = Delegation
		}
	}
	return kind
}

// Denied reports whether a message says that there is no such name or record, in its question or at
// the end of the aliases that the answer begins with (RFC 2308, 2.1 and 2.2), for which a kind is
// not enough.
func Denied(m *dnswire.Msg) bool {
	kind := KindOf(m)
	if kind != Success || len(m.Question) == 0 {
		return kind.Denial()
	}
	q := m.Question[0].Qtype
	asked := func(rr dnswire.RR) bool { return q == dnswire.TypeANY || rr.Header().Rrtype == q }
	soa := func(rr dnswire.RR) bool { return rr.Header().Rrtype == dnswire.TypeSOA }
	return !slices.ContainsFunc(m.Answer, asked) && slices.ContainsFunc(m.Ns, soa)
}

// Denial reports whether the kind says that there is no such name or record.
func (k Kind) Denial() bool { return k == NoData || k == NameError }

// Error reports whether the kind is an error of the server.
func (k Kind) Error() bool { return k >= ServerError }

// String returns the names that CoreDNS's log has for kinds.
func (k Kind) String() string {
	return [...]string{"NOERROR", "DELEGATION", "NODATA", "NXDOMAIN", "SERVERERROR", "OTHERERROR", "META"}[k]
}

type onlyIN struct{}

// OnlyIN refuses every class but IN. The server puts it behind the last plugin of a block that
// knows other classes (chaos, rewrite, template), so that no answer of class IN is given to a
// question of another.
var OnlyIN Plugin = onlyIN{}

func (onlyIN) Name() string { return "" }

func (onlyIN) Wrap(next Handler) Handler {
	return HandlerFunc(func(ctx context.Context, r *Request) Reply {
		if r.Class() != dnswire.ClassINET {
			return Fail("", dnswire.RcodeRefused, nil)
		}
		return next.Serve(ctx, r)
	})
}
