package dnstest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	dnswire "github.com/miekg/dns"
)

// An Answer is a reply in a form that can be compared and read. It is the form of the recordings.
type Answer struct {
	Q          string   `json:"q"` // the query: name, type, flags
	Rcode      string   `json:"rcode"`
	Flags      string   `json:"flags"` // of qr aa tc rd ra ad cd
	Wire       int      `json:"wire"`  // bytes, not compared
	Question   string   `json:"question"`
	Answer     []string `json:"answer"`     // records, sorted, with the last "... total N" if cut
	Authority  []string `json:"authority"`  // sorted, SOA serials 0
	Additional []string `json:"additional"` // sorted, without OPT
	OPT        string   `json:"opt"`
}

// Load reads a recording: one of the files answers.NAME.jsonl in dns/testdata/coredns, which is
// the folder dir.
func Load(dir, name string) ([]Answer, error) {
	data, err := os.ReadFile(filepath.Join(dir, "answers."+name+".jsonl"))
	if err != nil {
		return nil, err
	}
	var out []Answer
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var a Answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			return nil, fmt.Errorf("%s line %d: %w", name, len(out)+1, err)
		}
		out = append(out, a)
	}
	return out, lines.Err()
}

// maxShown is after how many records a section is cut.
const maxShown = 12

// Of returns a reply in comparable form. query is how it was asked, in the notation of Parse.
func Of(query string, m *dnswire.Msg) Answer {
	a := Answer{Q: query, Rcode: rcode(m), Flags: flags(m), Question: fmt.Sprintf("%d questions", len(m.Question))}
	if len(m.Question) == 1 {
		q := m.Question[0]
		a.Question = fmt.Sprintf("%s %s %s", q.Name, class(q.Qclass), dnswire.Type(q.Qtype))
	}
	a.Answer, a.Authority, a.Additional = section(m.Answer), section(m.Ns), section(m.Extra)
	if o := m.IsEdns0(); o != nil {
		a.OPT = fmt.Sprintf("v%d udp=%d do=%v opts=%d", o.Version(), o.UDPSize(), o.Do(), len(o.Option))
	}
	return a
}

// Cut returns the answer as the recordings have it: long sections cut.
func (a Answer) Cut() Answer {
	a.Answer, a.Authority, a.Additional = cut(a.Answer), cut(a.Authority), cut(a.Additional)
	return a
}

func cut(list []string) []string {
	if len(list) <= maxShown || Total(list) != len(list) {
		return list // short, or cut already
	}
	return append(slices.Clone(list[:maxShown]), fmt.Sprintf("... total %d", len(list)))
}

// Total returns how many records a section has, also if it was cut.
func Total(section []string) int {
	if n := len(section); n > 0 {
		if text, ok := strings.CutPrefix(section[n-1], "... total "); ok {
			total, _ := strconv.Atoi(text)
			return total
		}
	}
	return len(section)
}

func rcode(m *dnswire.Msg) string {
	code := m.Rcode
	if o := m.IsEdns0(); o != nil && code < 16 {
		code |= o.ExtendedRcode() &^ 0xf
	}
	if code == dnswire.RcodeBadVers {
		return "BADSIG" // its other name, which the recordings have
	}
	return dnswire.RcodeToString[code]
}

func flags(m *dnswire.Msg) string {
	var out []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"qr", m.Response}, {"aa", m.Authoritative}, {"tc", m.Truncated}, {"rd", m.RecursionDesired},
		{"ra", m.RecursionAvailable}, {"ad", m.AuthenticatedData}, {"cd", m.CheckingDisabled},
	} {
		if f.set {
			out = append(out, f.name)
		}
	}
	return strings.Join(out, " ")
}

func class(c uint16) string {
	switch c {
	case dnswire.ClassINET:
		return "IN"
	case dnswire.ClassCHAOS:
		return "CH"
	}
	return fmt.Sprintf("CLASS%d", c)
}

func section(rrs []dnswire.RR) (out []string) {
	for _, rr := range rrs {
		switch r := rr.(type) {
		case *dnswire.OPT:
			continue
		case *dnswire.SOA:
			soa := *r
			soa.Serial = 0
			rr = &soa
		}
		out = append(out, strings.Join(strings.Fields(rr.String()), " "))
	}
	slices.Sort(out)
	return out
}
