package metrics

import (
	"sync/atomic"
	"time"
)

// A Proto is how a query came.
type Proto uint8

// The protocols that clients use.
const (
	UDP Proto = iota
	TCP
)

func (p Proto) String() string {
	if p == TCP {
		return "tcp"
	}
	return "udp"
}

// typeNames are the types of queries that are told apart, as in CoreDNS; all others are "other".
var typeNames = [...]string{"other", "A", "AAAA", "ANY", "AXFR", "CNAME", "DNSKEY", "DS", "HTTPS", "IXFR", "MX", "NS", "NSEC",
	"NSEC3", "PTR", "RRSIG", "SOA", "SRV", "SVCB", "TXT"}

// typeIndex is the place in typeNames of types below 256, which are all that have one.
var typeIndex = func() (t [256]uint8) {
	numbers := map[string]uint8{"A": 1, "AAAA": 28, "ANY": 255, "AXFR": 252, "CNAME": 5, "DNSKEY": 48, "DS": 43, "HTTPS": 65,
		"IXFR": 251, "MX": 15, "NS": 2, "NSEC": 47, "NSEC3": 50, "PTR": 12, "RRSIG": 46, "SOA": 6, "SRV": 33, "SVCB": 64, "TXT": 16}
	for i, name := range typeNames {
		if n, ok := numbers[name]; ok {
			t[n] = uint8(i)
		}
	}
	return t
}()

// rcodeNames are the response codes; what is beyond them is counted as the last.
var rcodeNames = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
	"NOTAUTH", "NOTZONE", "DSOTYPENI", "12", "13", "14", "15", "BADVERS", "BADKEY", "BADTIME", "BADMODE", "BADNAME", "BADALG",
	"BADTRUNC", "BADCOOKIE", "other"}

// A Plugin is the place of a plugin's name among the answering ones. The zero Plugin has no name.
type Plugin uint8

// pluginNames are those that can answer a query.
var pluginNames = [...]string{"", "kubernetes", "forward", "cache", "hosts", "rewrite", "template", "autopath", "acl", "any",
	"chaos", "whoami", "local", "loop", "minimal", "loadbalance", "dns64", "transfer", "errors", "log", "prometheus", "header",
	"nsid", "bufsize", "file", "view", "cancel", "debug", "metadata", "erratic", "reload", "k8s_external"}

// PluginOf returns the Plugin of a name; the zero Plugin if no answering plugin has that name.
func PluginOf(name string) Plugin {
	for i, n := range pluginNames {
		if n == name {
			return Plugin(i)
		}
	}
	return 0
}

// String returns the name in the Corefile.
func (p Plugin) String() string { return pluginNames[p] }

// Sizes in bytes and durations of histograms, as in CoreDNS; durations in nanoseconds.
var (
	sizeBounds = [...]uint64{0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3}
	timeBounds = func() (b [16]uint64) {
		for i := range b {
			b[i] = 250_000 << i
		}
		return b
	}()
)

// A Query is one query that was answered, or dropped.
type Query struct {
	V6    bool // the client's address
	Type  uint16
	DO    bool
	In    int // bytes of the query
	Out   int // bytes of the answer; 0 if none was sent
	Rcode int
	By    Plugin
}

// A Stripe counts queries of one protocol in one server block, usually those of one worker. It is
// safe for concurrent use, but fast only as long as one goroutine writes.
type Stripe struct {
	proto     Proto
	requests  [2][len(typeNames)]atomic.Uint64
	responses [len(rcodeNames)][len(pluginNames)]atomic.Uint64
	do        atomic.Uint64
	in, out   [len(sizeBounds) + 1]atomic.Uint64
	took      [len(timeBounds) + 1]atomic.Uint64
	inSum     atomic.Uint64
	outSum    atomic.Uint64
	tookSum   atomic.Uint64 // ns
}

// Count adds a query, but for how long it took. It does not allocate.
func (s *Stripe) Count(q *Query) {
	family, kind := 0, uint8(0)
	if q.V6 {
		family = 1
	}
	if q.Type < uint16(len(typeIndex)) {
		kind = typeIndex[q.Type]
	}
	s.requests[family][kind].Add(1)
	if q.DO {
		s.do.Add(1)
	}
	s.responses[min(uint(q.Rcode), uint(len(rcodeNames)-1))][q.By].Add(1)
	s.in[sizeBucket(q.In)].Add(1)
	s.inSum.Add(uint64(q.In))
	s.out[sizeBucket(q.Out)].Add(1)
	s.outSum.Add(uint64(q.Out))
}

// Took adds the time that each of n queries took.
func (s *Stripe) Took(n int, d time.Duration) {
	ns := uint64(max(d, 0))
	s.took[timeBucket(ns)].Add(uint64(n))
	s.tookSum.Add(uint64(n) * ns)
}

func sizeBucket(n int) int {
	for i, b := range sizeBounds {
		if uint64(n) <= b {
			return i
		}
	}
	return len(sizeBounds)
}

func timeBucket(ns uint64) int {
	for i, b := range timeBounds {
		if ns <= b {
			return i
		}
	}
	return len(timeBounds)
}
