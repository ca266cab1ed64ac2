package dnsdiff

import (
	"encoding/json"
	"slices"
	"strings"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/dnstest"
)

// A Difference is a query that the two resolvers answer differently.
type Difference struct {
	Query        Query
	Theirs, Ours dnstest.Answer
	Wrong        []string
	Rule         string // that allows it, "" if it is a fault
}

func (d Difference) String() string {
	theirs, _ := json.Marshal(d.Theirs.Cut()) // strings and numbers
	ours, _ := json.Marshal(d.Ours.Cut())
	from := ""
	if d.Query.From.IsValid() {
		from = " from " + d.Query.From.String()
	}
	return d.Query.String() + from + "\n  " + strings.Join(d.Wrong, "\n  ") + "\n  CoreDNS: " + string(theirs) + "\n  Fairway: " + string(ours)
}

// compare returns how two answers to a query differ, nil if they say the same.
func (s Setup) compare(q Query, theirs, ours *dnswire.Msg) *Difference {
	d := &Difference{Query: q, Theirs: s.fold(dnstest.Of(q.String(), theirs)), Ours: s.fold(dnstest.Of(q.String(), ours))}
	hidden := s.hide(&d.Theirs)
	if hidden && len(d.Theirs.Answer) == 0 && d.Ours.Rcode == "NXDOMAIN" {
		return &Difference{Query: q, Rule: namespaceLabels}
	}
	d.Wrong = dnstest.Compare(d.Theirs, d.Ours, dnstest.Options{})
	if err := dnstest.Order(ours); err != nil {
		d.Wrong = append(d.Wrong, err.Error())
	}
	if len(d.Wrong) == 0 {
		return nil
	}
	d.Rule = explain(d.Theirs, d.Ours)
	return d
}

// fold brings what depends on a cache, or on who asked an upstream first, into one form: TTLs 0,
// names in lower case.
func (s Setup) fold(a dnstest.Answer) dnstest.Answer {
	for _, section := range []*[]string{&a.Answer, &a.Authority, &a.Additional} {
		*section = slices.Clone(*section)
		for i, rr := range *section {
			(*section)[i] = s.foldRecord(rr)
		}
		slices.Sort(*section)
	}
	return a
}

func (s Setup) foldRecord(rr string) string {
	words := strings.Fields(rr)
	if len(words) < 5 {
		return rr
	}
	owner := strings.ToLower(words[0])
	cached := s.Cached(owner)
	if cached {
		words[1] = "0"
	}
	if words[3] == "SRV" && words[len(words)-1] == "." {
		words[6] = "port" // plugin whoami: the client's
	}
	if cached || foreign(owner) {
		for i := range words {
			if i != 2 && i != 3 { // class and type
				words[i] = strings.ToLower(words[i])
			}
		}
	}
	return strings.Join(words, " ")
}

// hide takes pointers into namespaces that the setup hides out of CoreDNS's answer, which has them
// all. It reports whether there were any.
func (s Setup) hide(a *dnstest.Answer) bool {
	if s.hidden == nil || !strings.HasSuffix(a.Question, " PTR") {
		return false
	}
	before := len(a.Answer)
	a.Answer = slices.DeleteFunc(a.Answer, func(rr string) bool {
		target := strings.Fields(rr)[4]
		labels := strings.Split(strings.TrimSuffix(target, ".svc."+zone), ".")
		return s.hidden(labels[len(labels)-1])
	})
	return len(a.Answer) < before
}
