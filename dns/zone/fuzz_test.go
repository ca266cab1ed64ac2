package zone

import (
	"slices"
	"testing"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/dnstest"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/names"
)

// Whatever is asked, the answer is a message within its limit, and each name in it is one that the
// question leads to: so all pointers lead where they should.
func FuzzAnswer(f *testing.F) {
	answers, err := dnstest.Load(recordings, "plain")
	if err != nil {
		f.Fatal(err)
	}
	for _, a := range answers {
		m, _, err := dnstest.Parse(a.Q)
		if err != nil {
			f.Fatal(err)
		}
		packed, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed, uint16(512))
	}
	d := defaults()
	d.Pods, d.Zonal = corefile.PodsVerified, true
	d.Zones, d.MulticlusterZones = append(d.Zones, "clusterset.local."), []string{"clusterset.local."}
	z := newZone(f, d, Options{})
	z.Update(fixtures(f, names.Keep{Pods: true, Zones: true}))
	f.Fuzz(func(t *testing.T, msg []byte, room uint16) {
		var q wire.Query
		if q.Parse(msg) != wire.OK {
			return
		}
		limit := max(512, int(room))
		out := make([]byte, limit)
		n, ok := z.Answer(&q, limit, out)
		if !ok {
			return
		}
		reply := new(dnswire.Msg)
		if err := reply.Unpack(out[:n]); err != nil {
			t.Fatalf("%x: %v", out[:n], err)
		}
		if n > limit || !reply.Response || reply.Truncated && len(reply.Answer) == 0 && reply.Question[0].Qtype == dnswire.TypeA {
			t.Fatalf("%d bytes of %d: %s", n, limit, reply)
		}
		checkNames(t, z, reply)
	})
}

// checkNames looks at the names in a reply: answers are for the question, they lead to names that
// exist, and each further address is one of such a name.
func checkNames(t *testing.T, z *Zone, reply *dnswire.Msg) {
	t.Helper()
	ask := func(name string, typ uint16) []dnswire.RR {
		p := z.ask(dnswire.Question{Name: name, Qtype: typ, Qclass: dnswire.ClassINET})
		if p.err != nil || p.outcome != answered || p.msg.Rcode != dnswire.RcodeSuccess {
			t.Fatalf("%s, which is in\n%s\nis no name: %+v", name, reply, p)
		}
		return p.msg.Answer
	}
	targets := map[string]bool{}
	for _, rr := range reply.Answer {
		if rr.Header().Name != reply.Question[0].Name {
			t.Fatalf("an answer to something else: %s", reply)
		}
		switch rr := rr.(type) {
		case *dnswire.SRV:
			targets[rr.Target] = true
		case *dnswire.NS:
			targets[rr.Ns] = true
		case *dnswire.PTR:
			ask(rr.Ptr, dnswire.TypeTXT)
		}
	}
	for name := range targets {
		ask(name, dnswire.TypeTXT)
	}
	for _, rr := range reply.Extra {
		h := rr.Header()
		same := func(other dnswire.RR) bool { return dnswire.IsDuplicate(rr, other) }
		if h.Rrtype != dnswire.TypeOPT && (!targets[h.Name] || !slices.ContainsFunc(ask(h.Name, h.Rrtype), same)) {
			t.Fatalf("%s belongs to nothing in\n%s", rr, reply)
		}
	}
	for _, rr := range reply.Ns {
		if soa := ask(rr.Header().Name, dnswire.TypeSOA); len(soa) != 1 || rr.Header().Rrtype != dnswire.TypeSOA {
			t.Fatalf("%s is no zone in\n%s", rr, reply)
		}
	}
}
