package cache

import (
	"strings"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	dnswire "github.com/miekg/dns"
)

// defaultTTL is that of a message without records, and of one that is neither an answer nor a
// denial, in seconds.
const defaultTTL = 5

// kindOf classifies a message more strictly than [plugin.KindOf]. A NOERROR that does not answer
// its question is a denial if it has an SOA, even behind a CNAME (RFC 2308, 2.2). An NXDOMAIN with
// records, and an answer whose signatures have expired for a client that looks at them, are errors.
func kindOf(m *dnswire.Msg, do bool, now time.Time) plugin.Kind {
	k := plugin.KindOf(m)
	switch {
	case k == plugin.NameError && len(m.Answer) > 0:
		return plugin.OtherError
	case do && expired(m, now):
		return plugin.OtherError
	case k == plugin.Success && len(m.Answer) > 0 && !answers(m) && hasSOA(m):
		return plugin.NoData
	}
	return k
}

// keepable reports whether a message of a kind may be kept. A denial without an SOA may not, for
// nobody says how long it holds, nor may a NOERROR that answers nothing: it may be a referral, a
// resolver that gave up half way, or an answer meant for one client.
func keepable(m *dnswire.Msg, k plugin.Kind) bool {
	switch {
	case m.Truncated:
		return false
	case k == plugin.Success:
		return answers(m)
	case k == plugin.NoData, k == plugin.NameError:
		return hasSOA(m)
	}
	return k == plugin.ServerError
}

func hasSOA(m *dnswire.Msg) bool {
	for _, rr := range m.Ns {
		if rr.Header().Rrtype == dnswire.TypeSOA {
			return true
		}
	}
	return false
}

// answers reports whether the answer section has a record of the type that was asked, at the name
// that was asked or at the end of its chain of CNAMEs. A chain that forks or runs in a circle leads
// nowhere.
func answers(m *dnswire.Msg) bool {
	q := m.Question[0]
	name := q.Name
	for range len(m.Answer) + 1 {
		target, has, ok := at(m.Answer, name, q)
		switch {
		case !ok:
			return false
		case has:
			return true
		case target == "":
			return false
		}
		name = target
	}
	return false
}

// at looks for the records of one name: the target of its CNAME, whether there is what q asks
// for, and false if it has two CNAMEs.
func at(rrs []dnswire.RR, name string, q dnswire.Question) (target string, has, ok bool) {
	for _, rr := range rrs {
		h := rr.Header()
		if !strings.EqualFold(h.Name, name) || q.Qclass != dnswire.ClassANY && h.Class != q.Qclass {
			continue
		}
		if h.Rrtype == q.Qtype || q.Qtype == dnswire.TypeANY {
			has = true
		}
		if c, is := rr.(*dnswire.CNAME); is {
			if target != "" && !strings.EqualFold(target, c.Target) {
				return "", false, false
			}
			target = c.Target
		}
	}
	return target, has, true
}

func expired(m *dnswire.Msg, now time.Time) bool {
	for _, s := range [][]dnswire.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range s {
			if sig, is := rr.(*dnswire.RRSIG); is && !sig.ValidityPeriod(now) {
				return true
			}
		}
	}
	return false
}

// A limit is how long answers of one kind are kept, in seconds.
type limit struct{ least, most uint32 }

func (l limit) clamp(ttl uint32) uint32 { return min(max(ttl, l.least), l.most) }

func limits(o *corefile.Cache) (success, denial limit, servfail uint32) {
	s := func(d time.Duration) uint32 { return uint32(d / time.Second) }
	return limit{s(o.SuccessMinTTL), s(o.SuccessTTL)}, limit{s(o.DenialMinTTL), s(o.DenialTTL)}, s(o.ServfailTTL)
}

// ttl returns how long a message may be kept, in seconds, which is also the TTL that all of its
// records get.
func (c *Cache) ttl(m *dnswire.Msg, k plugin.Kind) uint32 {
	switch k {
	case plugin.ServerError:
		return c.servfail
	case plugin.NoData, plugin.NameError:
		return c.denial.clamp(least(m, c.denial.most))
	case plugin.Success:
		return c.success.clamp(least(m, c.success.most))
	}
	return c.success.clamp(defaultTTL)
}

// least returns the smallest TTL of the records, and at most that.
func least(m *dnswire.Msg, most uint32) uint32 {
	any := false
	for _, s := range [][]dnswire.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range s {
			if h := rr.Header(); h.Rrtype != dnswire.TypeOPT {
				most, any = min(most, h.Ttl), true
			}
		}
	}
	if !any {
		return defaultTTL
	}
	return most
}

// Passing returns the function that tells the TTL, in seconds, that a client sees in an answer that
// is not kept, but passes a cache on its way: the least TTL of the answer, or of the denial, within
// the limits for what is kept. All records of the answer have it. So CoreDNS does, and clients of
// kubeadm's Corefile see it.
func Passing(d *corefile.Cache) func(denial bool, ttl uint32) uint32 {
	success, denials, _ := limits(d)
	return func(denial bool, ttl uint32) uint32 {
		if denial {
			return denials.clamp(ttl)
		}
		return success.clamp(ttl)
	}
}
