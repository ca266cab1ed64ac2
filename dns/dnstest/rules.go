package dnstest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Rule is one deliberate difference from CoreDNS. Its ID is that of a row of
// docs/dns-differences.md.
type Rule struct {
	ID string
	// Allows reports whether theirs, CoreDNS's answer, and ours differ in this way.
	Allows func(theirs, ours Answer) bool
}

// Explain returns the rule that allows an answer to differ, nil if it is a fault.
func Explain(theirs, ours Answer) *Rule {
	for i := range Rules {
		if Rules[i].Allows(theirs, ours) {
			return &Rules[i]
		}
	}
	return nil
}

// Rules are the deliberate differences that show in single answers. A rule is as narrow as it can
// be without knowing the objects.
var Rules = []Rule{
	{"externalname-rcode", func(theirs, ours Answer) bool {
		return (typed(theirs, "A") || typed(theirs, "AAAA")) && theirs.Rcode == "NOERROR" && onlyCNAME(theirs) &&
			(ours.Rcode == "NXDOMAIN" && slices.Equal(folded(theirs.Answer), folded(ours.Answer)) || ours.Rcode == "SERVFAIL" && len(ours.Answer) == 0)
	}},
	{"externalname-nodata", func(theirs, ours Answer) bool {
		return (typed(theirs, "A") || typed(theirs, "AAAA")) && theirs.Rcode == "NOERROR" && ours.Rcode == "NOERROR" && onlyCNAME(theirs) &&
			slices.Equal(folded(theirs.Answer), folded(ours.Answer)) && len(theirs.Authority) == 0 &&
			len(ours.Authority) == 1 && strings.Contains(ours.Authority[0], " SOA ")
	}},
	{"txt-nodata", func(theirs, ours Answer) bool {
		return typed(theirs, "TXT") && theirs.Rcode == "NXDOMAIN" && noData(ours) && labels(theirs) <= 2+zone(ours)
	}},
	{"pod-depth", func(theirs, ours Answer) bool {
		return strings.Contains(lower(theirs), ".pod.") && labels(theirs) > 3+zone(ours) && ours.Rcode == "NXDOMAIN" && theirs.Rcode == "NOERROR"
	}},
	{"pod-srv", func(theirs, ours Answer) bool {
		return typed(theirs, "SRV") && strings.Contains(lower(theirs), ".pod.") && len(theirs.Answer) == 1 &&
			strings.Contains(theirs.Answer[0], " SRV 0 100 0 ") && noData(ours)
	}},
	{"ns-case", func(theirs, ours Answer) bool {
		return (typed(theirs, "NS") || strings.HasPrefix(lower(theirs), "ns.dns.")) && name(theirs) != lower(theirs) &&
			len(theirs.Answer) == 0 && ours.Rcode == "NOERROR" && (len(ours.Answer) > 0 || noData(ours))
	}},
	{"class", func(theirs, ours Answer) bool {
		return ours.Rcode == "REFUSED" && len(ours.Answer) == 0 && !strings.Contains(ours.Question, " IN ")
	}},
	{"edns-options", func(theirs, ours Answer) bool {
		there, here := strings.Fields(theirs.OPT), strings.Fields(ours.OPT)
		theirs.OPT, ours.OPT = "", ""
		return len(there) > 3 && len(here) == 4 && here[3] == "opts=0" && slices.Equal(there[:3], here[:3]) &&
			len(Compare(theirs, ours, Options{})) == 0
	}},
	{"notify", func(theirs, ours Answer) bool {
		return Flag(theirs.Q, "opcode=notify") && ours.Rcode == "NOTIMP" && len(ours.Answer) == 0
	}},
	{"autopath-bare", func(theirs, ours Answer) bool {
		// The name of a namespace itself: N.svc.Z.
		return theirs.Rcode == "SERVFAIL" && strings.Contains(lower(theirs), ".svc.") && noData(ours)
	}},
	{"autopath-alias", func(theirs, ours Answer) bool {
		// A second alias of the question's name, or the search domain in lower case.
		their, our := withoutAliasTwice(theirs), lowered(ours.Answer)
		twice := len(their) < len(theirs.Answer)
		spelled := !slices.Equal(lowered(theirs.Answer), theirs.Answer) || !slices.Equal(our, ours.Answer)
		theirs.Answer, ours.Answer = nil, nil
		return (twice || spelled) && slices.Equal(their, our) && len(Compare(theirs, ours, Options{})) == 0
	}},
	{"udp-size", func(theirs, ours Answer) bool {
		// The client takes more than a datagram should carry.
		return !Flag(theirs.Q, "tcp") && hasFlag(ours.Flags, "tc") && len(theirs.OPT) > 0 && theirs.Rcode == ours.Rcode &&
			Total(theirs.Answer) > Total(ours.Answer) && Total(ours.Answer) > 0 && theirs.Question == ours.Question &&
			similar(theirs.Answer, ours.Answer, false) == ""
	}},
}

// lowered returns records in lower case, sorted.
func lowered(section []string) (out []string) {
	for _, rr := range section {
		out = append(out, strings.ToLower(rr))
	}
	slices.Sort(out)
	return out
}

// withoutAliasTwice returns the answer in lower case, and of several aliases of the question's name
// with one target only that of the lowest TTL.
func withoutAliasTwice(a Answer) (out []string) {
	lowest := map[string]int{}
	for _, rr := range lowered(a.Answer) {
		fields := strings.Fields(rr)
		if len(fields) != 5 || fields[3] != "cname" || fields[0] != lower(a) {
			out = append(out, rr)
			continue
		}
		ttl, _ := strconv.Atoi(fields[1])
		if was, ok := lowest[fields[4]]; !ok || ttl < was {
			lowest[fields[4]] = ttl
		}
	}
	for target, ttl := range lowest {
		out = append(out, fmt.Sprintf("%s %d in cname %s", lower(a), ttl, target))
	}
	slices.Sort(out)
	return out
}

// folded returns records in lower case and without TTLs, sorted.
func folded(section []string) (out []string) {
	for _, rr := range section {
		fields := strings.Fields(strings.ToLower(rr))
		out = append(out, strings.Join(append(fields[:1:1], fields[2:]...), " "))
	}
	slices.Sort(out)
	return out
}

func lower(a Answer) string { return strings.ToLower(name(a)) }

// name is the name of the question, with its final dot.
func name(a Answer) string {
	n, _, _ := strings.Cut(a.Question, " ")
	return n
}

func typed(a Answer, typ string) bool { return strings.HasSuffix(a.Question, " "+typ) }

func onlyCNAME(a Answer) bool {
	return len(a.Answer) > 0 && !slices.ContainsFunc(a.Answer, func(rr string) bool { return !strings.Contains(rr, " IN CNAME ") })
}

func noData(a Answer) bool {
	return a.Rcode == "NOERROR" && len(a.Answer) == 0 && len(a.Authority) == 1 && strings.Contains(a.Authority[0], " SOA ")
}

// labels counts the labels of the question's name.
func labels(a Answer) int { return strings.Count(name(a), ".") }

// zone counts the labels of the zone that a negative answer is of.
func zone(a Answer) int {
	if len(a.Authority) == 0 {
		return 0
	}
	owner, _, _ := strings.Cut(a.Authority[0], " ")
	return strings.Count(owner, ".")
}
