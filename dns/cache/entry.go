package cache

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
	dnswire "github.com/miekg/dns"
)

// A key is what entries are found by.
type key struct {
	hash       uint64
	name       []byte // wire format, lower case
	typ, class uint16
	do, cd     bool
}

// seal computes the hash. The seed is random, so that nobody outside can aim at one bucket.
func (k *key) seal(seed maphash.Seed) {
	more := uint64(k.typ)<<32 | uint64(k.class)<<16
	if k.do {
		more |= 1
	}
	if k.cd {
		more |= 2
	}
	const odd = 0x9e3779b97f4a7c15
	h := maphash.Bytes(seed, k.name) ^ more*odd
	h ^= h >> 32
	k.hash = max(h*odd, 1) // 0 marks a free slot
}

// An entry is an answer. It does not change once stored, but for the atomics.
type entry struct {
	packed     *wire.Packed
	name       string // as in key
	typ, class uint16
	do, cd     bool
	ad         bool
	denial     bool // of the store for denials: NXDOMAIN, NODATA and errors
	rcode      uint8
	ttl        uint32 // seconds from stored on
	stored     int64  // nanoseconds on the cache's clock
	spin       span

	used atomic.Bool // since the hand of the bucket last passed

	// For prefetch: how often it was asked for, without a long gap, and when last.
	hits atomic.Int64
	last atomic.Int64

	// At most one refresh at a time, and none before retry on the cache's clock.
	refreshing atomic.Bool
	retry      atomic.Int64
}

func (e *entry) is(k *key) bool {
	return e.typ == k.typ && e.class == k.class && e.do == k.do && e.cd == k.cd && e.name == string(k.name)
}

// left returns how many whole seconds the answer is good for; 0 or less if it has expired.
func (e *entry) left(now int64) int64 { return int64(e.ttl) - (now-e.stored)/int64(time.Second) }

// touch notes a hit.
func (e *entry) touch() {
	if !e.used.Load() {
		e.used.Store(true)
	}
}

// asked notes a query for prefetch and returns how many there were, one after the other with no
// gap longer than that. Two at the same moment may count as one.
func (e *entry) asked(now int64, gap time.Duration) int64 {
	if last := e.last.Swap(now); last < now-int64(gap) {
		e.hits.Store(1)
		return 1
	}
	return e.hits.Add(1)
}

// begin reports whether the caller may refresh the entry now. If so, it must call end.
func (e *entry) begin(now int64) bool {
	return now >= e.retry.Load() && e.refreshing.CompareAndSwap(false, true)
}

// end allows the next refresh, but not before that moment.
func (e *entry) end(notBefore int64) {
	e.retry.Store(notBefore)
	e.refreshing.Store(false)
}

// maxMessage is the longest message that is kept. It bounds the memory of a full cache, which
// who owns a zone on the Internet could fill with messages of 64 KiB.
const maxMessage = 4096

// pack makes an entry of a message, whose records it does not change. It returns nil if the
// message cannot be kept: too long, or not to be packed.
func pack(k *key, m *dnswire.Msg) *entry {
	c := *m
	c.Truncated, c.CheckingDisabled, c.RecursionDesired, c.Zero = false, false, false, false
	c.Compress = true
	asked := m.Question[0].Name
	c.Answer, c.Ns, c.Extra = spell(m.Answer, asked), spell(m.Ns, asked), spell(m.Extra, asked)
	raw, err := c.Pack()
	if err != nil || len(raw) > maxMessage {
		return nil
	}
	if new(dnswire.Msg).Unpack(raw) != nil { // what can be packed cannot always be read
		return nil
	}
	p, err := wire.Pack(raw)
	if err != nil {
		return nil
	}
	return &entry{packed: p, name: string(k.name), typ: k.typ, class: k.class, do: k.do, cd: k.cd,
		ad: m.AuthenticatedData, rcode: uint8(m.Rcode), spin: addresses(p.Msg())}
}

// spell returns the records with owner names that are the question's but for the case spelled as
// there: then all of them are pointers to it, and follow the spelling of each client. OPT records
// are left out.
func spell(rrs []dnswire.RR, asked string) []dnswire.RR {
	out := make([]dnswire.RR, 0, len(rrs))
	for _, rr := range rrs {
		h := rr.Header()
		switch {
		case h.Rrtype == dnswire.TypeOPT:
			continue
		case h.Name != asked && strings.EqualFold(h.Name, asked):
			rr = dnswire.Copy(rr)
			rr.Header().Name = asked
		}
		out = append(out, rr)
	}
	return out
}

// message returns the entry as a message that answers r, with all TTLs set to ttl.
func (e *entry) message(r *plugin.Request, ttl uint32) (*dnswire.Msg, error) {
	m := new(dnswire.Msg)
	if err := m.Unpack(e.packed.Msg()); err != nil {
		return nil, err
	}
	stored := m.Question[0].Name
	for _, s := range [][]dnswire.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range s {
			h := rr.Header()
			h.Ttl = ttl
			if h.Name == stored {
				h.Name = r.Spelled()
			}
		}
	}
	m.Question = r.Msg.Question
	m.Id = r.Msg.Id
	m.RecursionDesired, m.CheckingDisabled = r.Msg.RecursionDesired, r.Msg.CheckingDisabled
	m.AuthenticatedData = e.ad && wantsAD(r.Msg)
	return m, nil
}

// wantsAD reports whether a client knows what the AD bit of an answer means (RFC 6840, 5.7).
func wantsAD(q *dnswire.Msg) bool { return q.AuthenticatedData || do(q) }

func do(q *dnswire.Msg) bool {
	opt := q.IsEdns0()
	return opt != nil && opt.Do()
}

// A span is where a message has several addresses of one name in a row. They have the same length,
// and nothing points into them, so that they may change places.
type span struct {
	start, size uint16
	count       uint16 // 0 or at least 2
}

// addresses finds the last run of address records in the answer section of a valid message.
func addresses(msg []byte) span {
	off := wire.HeaderLen
	for msg[off] != 0 {
		off += int(msg[off]) + 1
	}
	off += 5
	var s span
	for range binary.BigEndian.Uint16(msg[6:]) {
		owner := off
		for msg[off] != 0 && msg[off] < 0xc0 {
			off += int(msg[off]) + 1
		}
		pointer := off == owner && msg[off] >= 0xc0
		off += 1 + int(msg[off]>>7) // a pointer has two bytes, the root one
		typ := binary.BigEndian.Uint16(msg[off:])
		off += 10 + int(binary.BigEndian.Uint16(msg[off+8:]))
		size := uint16(off - owner)
		switch {
		case !pointer || typ != wire.TypeA && typ != wire.TypeAAAA:
			s = span{}
		case s.count > 0 && s.size == size && bytes.Equal(msg[s.start:s.start+4], msg[owner:owner+4]):
			s.count++
		default:
			s = span{start: uint16(owner), size: size, count: 1}
		}
	}
	if s.count < 2 {
		return span{}
	}
	return s
}

// rotate puts one of the addresses of a reply first, each equally often. Those that a cut took away
// stay out of it.
func (s span) rotate(reply []byte) {
	if s.count < 2 {
		return
	}
	count := min(int(s.count), (len(reply)-int(s.start))/int(s.size))
	if count < 2 {
		return
	}
	const fixed = 12 // owner, type, class, TTL and length, the same for all
	first := reply[int(s.start)+fixed:][:s.size-fixed]
	other := reply[int(s.start)+rand.IntN(count)*int(s.size)+fixed:][:s.size-fixed]
	var kept [16]byte
	n := copy(kept[:], first)
	copy(first, other)
	copy(other, kept[:n])
}
