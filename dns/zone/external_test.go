package zone

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/dnstest"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/proxier/names"
)

// TestExternalNameDenied: what says that a target outside has nothing says so of the name that leads
// there: its code and its SOA (RFC 2308, 2.1 and 2.2), of the last zone if there are more aliases. Other
// records beside an answer from outside are not passed on.
func TestExternalNameDenied(t *testing.T) {
	const (
		soa    = "example.com. 60 IN SOA ns.example.com. host.example.com. 0 2 3 4 5"
		cname  = "e.ns.svc.cluster.local. 30 IN CNAME www.example.com."
		away   = "www.example.com. 60 IN CNAME cdn.example.net."
		theirs = "example.net. 60 IN SOA ns.example.net. host.example.net. 0 2 3 4 5"
		ns     = "example.com. 60 IN NS ns.example.com."
		a      = "www.example.com. 60 IN A 192.0.2.1"
	)
	for name, tc := range map[string]struct {
		code           int
		answer, beside []string
		want, proof    []string
	}{
		"no name":                   {dnswire.RcodeNameError, nil, []string{soa}, []string{cname}, []string{soa}},
		"no name, and no SOA":       {dnswire.RcodeNameError, nil, nil, []string{cname}, nil},
		"no record":                 {dnswire.RcodeSuccess, nil, []string{soa}, []string{cname}, []string{soa}},
		"no name behind an alias":   {dnswire.RcodeNameError, []string{away}, []string{theirs}, []string{cname, away}, []string{theirs}},
		"no record behind an alias": {dnswire.RcodeSuccess, []string{away}, []string{theirs}, []string{cname, away}, []string{theirs}},
		"an address":                {dnswire.RcodeSuccess, []string{a}, []string{ns}, []string{cname, a}, nil},
		"an address and an SOA":     {dnswire.RcodeSuccess, []string{a}, []string{soa}, []string{cname, a}, nil},
		"a referral":                {dnswire.RcodeSuccess, nil, []string{ns}, []string{cname}, nil},
	} {
		z := newZone(t, defaults(), Options{Resolver: plugin.ResolverFunc(func(_ context.Context, r *plugin.Request, name string, qtype uint16) plugin.Reply {
			m := r.Ask(name, qtype).Answer()
			m.Rcode = tc.code
			for section, texts := range map[*[]dnswire.RR][]string{&m.Answer: tc.answer, &m.Ns: tc.beside} {
				for _, text := range texts {
					rr, err := dnswire.NewRR(text)
					if err != nil {
						t.Fatal(err)
					}
					*section = append(*section, rr)
				}
			}
			return plugin.Reply{Msg: m}
		})})
		z.Update(inputs(service("ns", "e", names.ExternalName, func(s *names.Service) { s.External = "www.example.com" })))
		const query = "e.ns.svc.cluster.local A"
		m, proto, err := dnstest.Parse(query)
		if err != nil {
			t.Fatal(err)
		}
		got := dnstest.Of(query, slow(t, z, m, proto))
		if got.Rcode != dnswire.RcodeToString[tc.code] {
			t.Errorf("%s: %s", name, got.Rcode)
		}
		if diff := cmp.Diff(tc.want, got.Answer); diff != "" {
			t.Errorf("%s: answer (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(tc.proof, got.Authority); diff != "" {
			t.Errorf("%s: authority (-want +got):\n%s", name, diff)
		}
	}
}
