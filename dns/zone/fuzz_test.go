package zone

import (
	"testing"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/dnstest"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/names"
)

// Whatever is asked, the answer is a message within its limit, and the slow path says the same.
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
	})
}
