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

// A kind is what queries have in common that are counted together: all of a Query, with sizes
// by the bucket. From the lowest bits on: the buckets of the answer and of the query in 4 each, the
// code in 5, the type in 5, the plugin in 8, DO, and the family.
type kind uint32

const (
	kindDO uint32 = 1 << 26
	kindV6 uint32 = 1 << 27
)

func kindOf(q *Query) kind {
	k := uint32(sizeBucket(q.Out)) | uint32(sizeBucket(q.In))<<4 | uint32(min(uint(q.Rcode), uint(len(rcodeNames)-1)))<<8 | uint32(q.By)<<18
	if q.Type < uint16(len(typeIndex)) {
		k |= uint32(typeIndex[q.Type]) << 13
	}
	if q.DO {
		k |= kindDO
	}
	if q.V6 {
		k |= kindV6
	}
	return kind(k)
}

// Count adds a query, but for how long it took. It does not allocate.
func (s *Stripe) Count(q *Query) { s.add(kindOf(q), 1, uint64(q.In), uint64(q.Out)) }

// add adds n queries of a kind, of so many bytes in all.
func (s *Stripe) add(k kind, n, in, out uint64) {
	s.requests[k>>27&1][k>>13&0x1f].Add(n)
	if uint32(k)&kindDO != 0 {
		s.do.Add(n)
	}
	s.responses[k>>8&0x1f][k>>18&0xff].Add(n)
	s.in[k>>4&0xf].Add(n)
	s.inSum.Add(in)
	s.out[k&0xf].Add(n)
	s.outSum.Add(out)
}

// Took adds the time that each of n queries took.
func (s *Stripe) Took(n int, d time.Duration) {
	ns := uint64(max(d, 0))
	s.took[timeBucket(ns)].Add(uint64(n))
	s.tookSum.Add(uint64(n) * ns)
}

// A Tally gathers what one worker counts in a batch of queries, so that a stripe is written once
// for all queries of a kind. It belongs to one goroutine. The zero Tally is empty.
type Tally struct {
	n     int
	kinds [8]counted
	last  time.Duration // what Flush was told last
}

type counted struct {
	stripe     *Stripe
	kind       kind
	n, in, out uint64
}

// Count adds a query.
func (t *Tally) Count(s *Stripe, q *Query) {
	k := kindOf(q)
	for i := range t.n {
		if c := &t.kinds[i]; c.kind == k && c.stripe == s {
			c.n++
			c.in += uint64(q.In)
			c.out += uint64(q.Out)
			return
		}
	}
	if t.n == len(t.kinds) {
		t.Flush(t.last) // a batch of more kinds: part of it counts as the batch before
	}
	t.kinds[t.n] = counted{s, k, 1, uint64(q.In), uint64(q.Out)}
	t.n++
}

// Flush writes what was gathered. Each query took so long.
func (t *Tally) Flush(took time.Duration) {
	for i := range t.n {
		c := &t.kinds[i]
		c.stripe.add(c.kind, c.n, c.in, c.out)
		c.stripe.Took(int(c.n), took)
		c.stripe = nil
	}
	t.n, t.last = 0, took
}

// smallBuckets are the buckets of the usual sizes.
var smallBuckets = func() (t [1024]uint8) {
	for n := range t {
		t[n] = findBucket(n)
	}
	return t
}()

func sizeBucket(n int) uint8 {
	if uint(n) < uint(len(smallBuckets)) {
		return smallBuckets[n]
	}
	return findBucket(n)
}

func findBucket(n int) uint8 {
	for i, b := range sizeBounds {
		if uint64(n) <= b {
			return uint8(i)
		}
	}
	return uint8(len(sizeBounds))
}

func timeBucket(ns uint64) int {
	for i, b := range timeBounds {
		if ns <= b {
			return i
		}
	}
	return len(timeBounds)
}
