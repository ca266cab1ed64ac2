package dnstest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	dnswire "github.com/miekg/dns"
)

// Options say what Compare does not look at.
type Options struct {
	// Aging reports whether the TTLs of records of a name may be smaller than expected: those of
	// names that a cache holds. The name has its final dot.
	Aging func(name string) bool
	// IgnoreOPT leaves EDNS out.
	IgnoreOPT bool
}

// Compare returns what is wrong with an answer, nothing if it says what want says. Either may be
// cut. Where want was truncated, got must have as many records of the same kind; it may have more,
// for it is compressed better.
func Compare(want, got Answer, o Options) (wrong []string) {
	report := func(what string, want, got any) {
		wrong = append(wrong, fmt.Sprintf("%s: want %v, got %v", what, want, got))
	}
	if want.Rcode != got.Rcode {
		report("rcode", want.Rcode, got.Rcode)
	}
	cutThere, cutHere := hasFlag(want.Flags, "tc"), hasFlag(got.Flags, "tc")
	if without(want.Flags, "tc") != without(got.Flags, "tc") || cutHere && !cutThere {
		report("flags", want.Flags, got.Flags)
	}
	if want.Question != got.Question {
		report("question", want.Question, got.Question)
	}
	if !o.IgnoreOPT && want.OPT != got.OPT {
		report("OPT", want.OPT, got.OPT)
	}
	for _, s := range []struct {
		name      string
		want, got []string
	}{
		{"answer", want.Answer, got.Answer}, {"authority", want.Authority, got.Authority}, {"additional", want.Additional, got.Additional},
	} {
		if cutThere {
			if err := similar(s.want, s.got, s.name == "answer"); err != "" {
				report(s.name, err, cut(s.got))
			}
			continue
		}
		if !sameRecords(cut(s.want), cut(s.got), o) {
			report(s.name, strings.Join(cut(s.want), " | "), strings.Join(cut(s.got), " | "))
		}
	}
	return wrong
}

func hasFlag(flags, f string) bool { return slices.Contains(strings.Fields(flags), f) }

func without(flags, f string) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(flags), func(x string) bool { return x == f }), " ")
}

// similar compares truncated sections: which records are in them is chance.
func similar(want, got []string, answer bool) string {
	if answer && Total(got) < Total(want) {
		return fmt.Sprintf("at least %d records", Total(want))
	}
	shapes := map[string]bool{}
	for _, rr := range want {
		shapes[shape(rr)] = true
	}
	for _, rr := range got {
		if answer && !strings.HasPrefix(rr, "... ") && !shapes[shape(rr)] {
			return fmt.Sprintf("nothing like %q", rr)
		}
	}
	return ""
}

// shape is a record without its data.
func shape(rr string) string {
	words := strings.Fields(rr)
	return strings.Join(words[:min(4, len(words))], " ")
}

func sameRecords(want, got []string, o Options) bool {
	if o.Aging == nil || len(want) != len(got) {
		return slices.Equal(want, got)
	}
	used := make([]bool, len(got))
next:
	for _, w := range want {
		for i, g := range got {
			if !used[i] && sameRecord(w, g, o) {
				used[i] = true
				continue next
			}
		}
		return false
	}
	return true
}

func sameRecord(want, got string, o Options) bool {
	if want == got {
		return true
	}
	w, g := strings.Fields(want), strings.Fields(got)
	if len(w) < 4 || len(w) != len(g) || w[0] != g[0] || !slices.Equal(w[2:], g[2:]) || !o.Aging(w[0]) {
		return false
	}
	most, err1 := strconv.Atoi(w[1])
	ttl, err2 := strconv.Atoi(g[1])
	return err1 == nil && err2 == nil && ttl <= most
}

// Order returns an error if a CNAME comes after the records that it leads to.
func Order(m *dnswire.Msg) error {
	seen := map[string]bool{}
	for _, rr := range m.Answer {
		owner := strings.ToLower(rr.Header().Name)
		if c, ok := rr.(*dnswire.CNAME); ok && seen[strings.ToLower(c.Target)] && !strings.EqualFold(c.Target, owner) {
			return fmt.Errorf("%s comes after %s, to which it leads", rr, c.Target)
		}
		seen[owner] = true
	}
	return nil
}
