package dnsdiff

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/dns/dnstest"
)

// rules are deliberate differences that only generated queries show, besides dnstest.Rules. Each
// has its row in docs/dns-differences.md.
var rules = []dnstest.Rule{
	{ID: soaNoData, Allows: func(theirs, ours dnstest.Answer) bool {
		return strings.HasSuffix(theirs.Question, " SOA") && theirs.Rcode == "NOERROR" && len(theirs.Answer) == 0 && ours.Rcode == "NXDOMAIN"
	}},
	{ID: "reverse-depth", Allows: func(theirs, ours dnstest.Answer) bool {
		name, _, _ := strings.Cut(theirs.Question, " ")
		name = strings.ToLower(name)
		depth := strings.Count(name, ".")
		return (strings.HasSuffix(name, ".in-addr.arpa.") && depth > 6 || strings.HasSuffix(name, ".ip6.arpa.") && depth > 34) &&
			theirs.Rcode == "NOERROR" && ours.Rcode == "NXDOMAIN"
	}},
	{ID: "ns-nodata", Allows: func(theirs, ours dnstest.Answer) bool {
		return strings.HasPrefix(strings.ToLower(theirs.Question), "ns.dns."+zone+" ") && theirs.Rcode == "NXDOMAIN" &&
			ours.Rcode == "NOERROR" && len(ours.Answer) == 0
	}},
	{ID: "autopath-case", Allows: func(theirs, ours dnstest.Answer) bool {
		return theirs.Question != ours.Question && equal(lower(theirs), lower(ours))
	}},
	{ID: "autopath-case", Allows: func(theirs, ours dnstest.Answer) bool {
		return theirs.Question == ours.Question && equal(lower(theirs), lower(ours)) && spelled(ours)
	}},
}

// Rules that need more than the two answers.
const (
	soaNoData       = "soa-nodata"
	namespaceLabels = "namespace-labels-ptr"
	cutEarlier      = "cut-earlier"
)

// spelled reports whether the names in an answer are spelled as the question has them.
func spelled(a dnstest.Answer) bool {
	name, _, _ := strings.Cut(a.Question, " ")
	for _, rr := range slices.Concat(a.Answer, a.Authority) {
		owner, _, _ := strings.Cut(rr, " ")
		if !strings.HasSuffix(name, owner) {
			return false
		}
	}
	return true
}

func equal(a, b dnstest.Answer) bool { return len(dnstest.Compare(a, b, dnstest.Options{})) == 0 }

// lower is an answer with all names in lower case.
func lower(a dnstest.Answer) (out dnstest.Answer) {
	text, _ := json.Marshal(a)                                      // strings and numbers
	_ = json.Unmarshal([]byte(strings.ToLower(string(text))), &out) // of what was just made
	for _, s := range []*[]string{&out.Answer, &out.Authority, &out.Additional} {
		slices.Sort(*s)
	}
	return out
}

// explain returns the name of the rule that allows two answers to differ, "" if it is a fault.
func explain(theirs, ours dnstest.Answer) string {
	if r := dnstest.Explain(theirs, ours); r != nil {
		return r.ID
	}
	for _, r := range rules {
		if r.Allows(theirs, ours) {
			return r.ID
		}
	}
	return ""
}
