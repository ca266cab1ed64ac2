package wire

import "encoding/binary"

const pointer = 0xc000 // marks two bytes as a pointer, RFC 1035, 4.1.4

// A Name is a name of a reply: labels in wire format, and after them a pointer to an earlier name
// of the message. With Tail 0 there is none, and Labels end with the final zero themselves.
type Name struct {
	Labels []byte
	Tail   uint16
}

// Asked is the name of the question.
var Asked = Name{Tail: pointer | HeaderLen}

// At returns the name that begins at an offset of the message, and false if that is further than
// a pointer reaches: then the name must be written again.
func At(offset int) (Name, bool) {
	return Name{Tail: pointer | uint16(offset&maxPointer)}, offset <= maxPointer
}

func (n Name) len() int {
	if n.Tail != 0 {
		return len(n.Labels) + 2
	}
	return len(n.Labels)
}

func (n Name) put(b []byte) int {
	i := copy(b, n.Labels)
	if n.Tail != 0 {
		binary.BigEndian.PutUint16(b[i:], n.Tail)
		i += 2
	}
	return i
}

// A Section is a part of a reply.
type Section uint8

const (
	Answer Section = iota
	Authority
	Additional
)

// A Builder writes one reply. Records are added section by section, in the order of the message;
// one that does not fit is not written at all, and the caller decides what that means: Truncate,
// or a reply without it.
type Builder struct {
	q      *Query
	buf    []byte // as long as the reply may be, without its OPT
	n      int
	counts [3]uint16
	tc     bool
}

// Begin starts a reply to q in out, of at most limit bytes. Room for an OPT record is set aside
// if the query has one. Both limit and len(out) must be at least MinUDP.
func Begin(q *Query, limit int, out []byte) Builder {
	room := min(limit, len(out))
	if q.EDNS {
		room -= optLen
	}
	b := Builder{q: q, buf: out[:room], n: q.end + 4}
	copy(b.buf[:b.n], q.Msg[:b.n])
	return b
}

// Len returns how long the reply is by now: the offset of the next record.
func (b *Builder) Len() int { return b.n }

// Room returns how many bytes of records still fit.
func (b *Builder) Room() int { return len(b.buf) - b.n }

// Add appends packed records, all or none.
func (b *Builder) Add(s Section, records []byte, count int) bool {
	if len(records) > b.Room() {
		return false
	}
	b.n += copy(b.buf[b.n:], records)
	b.counts[s] += uint16(count)
	return true
}

// Record appends a record of class IN. The TTL is in seconds.
func (b *Builder) Record(s Section, owner Name, typ uint16, ttl uint32, rdata []byte) bool {
	_, ok := b.Target(s, owner, typ, ttl, rdata, Name{})
	return ok
}

// Target appends a record of class IN whose data are some bytes and then a name: CNAME, NS and PTR
// (no bytes), MX (2), SRV (6). It returns where the name is in the message, for At.
func (b *Builder) Target(s Section, owner Name, typ uint16, ttl uint32, data []byte, target Name) (at int, ok bool) {
	size := len(data) + target.len()
	if owner.len()+10+size > b.Room() {
		return 0, false
	}
	p := b.buf[b.n:]
	i := owner.put(p)
	putFixed(p[i:], typ, ttl, size)
	i += 10
	i += copy(p[i:], data)
	at = b.n + i
	b.n = at + target.put(p[i:])
	b.counts[s]++
	return at, true
}

func putFixed(p []byte, typ uint16, ttl uint32, size int) {
	_ = p[9]
	binary.BigEndian.PutUint32(p, uint32(typ)<<16|ClassIN)
	binary.BigEndian.PutUint32(p[4:], ttl)
	binary.BigEndian.PutUint16(p[8:], uint16(size))
}

// A SOA is the data of a start of authority. Primary and Mailbox are the labels before the name
// of the zone itself, in wire format; both names end in the zone. Times are in seconds.
type SOA struct {
	Primary, Mailbox                        []byte
	TTL                                     uint32 // of the record
	Serial, Refresh, Retry, Expire, Minimum uint32
}

// SOA appends the start of authority of a zone: often a Tail of the question.
func (b *Builder) SOA(s Section, zone Name, soa *SOA) bool {
	size := len(soa.Primary) + len(soa.Mailbox) + 2*zone.len() + 20
	if zone.len()+10+size > b.Room() {
		return false
	}
	p := b.buf[b.n:]
	i := zone.put(p)
	putFixed(p[i:], TypeSOA, soa.TTL, size)
	i += 10
	i += copy(p[i:], soa.Primary)
	i += zone.put(p[i:])
	i += copy(p[i:], soa.Mailbox)
	i += zone.put(p[i:])
	for _, v := range [...]uint32{soa.Serial, soa.Refresh, soa.Retry, soa.Expire, soa.Minimum} {
		binary.BigEndian.PutUint32(p[i:], v)
		i += 4
	}
	b.n += i
	b.counts[s]++
	return true
}

// Truncate marks the reply as cut.
func (b *Builder) Truncate() { b.tc = true }

// Finish writes header and OPT and returns the length of the reply. Flags are those of the answer
// (FlagAA, FlagRA, FlagAD); RD and CD are the query's. Rcodes above 15 need EDNS and lose their
// upper bits without.
func (b *Builder) Finish(flags uint16, rcode int) int {
	flags |= FlagQR | b.q.Flags&(FlagRD|FlagCD) | uint16(rcode&FlagRcode)
	if b.tc {
		flags |= FlagTC
	}
	h := b.buf[:HeaderLen]
	binary.BigEndian.PutUint16(h[2:], flags)
	binary.BigEndian.PutUint16(h[4:], 1)
	binary.BigEndian.PutUint16(h[6:], b.counts[Answer])
	binary.BigEndian.PutUint16(h[8:], b.counts[Authority])
	binary.BigEndian.PutUint16(h[10:], b.counts[Additional])
	if !b.q.EDNS {
		return b.n
	}
	binary.BigEndian.PutUint16(h[10:], b.counts[Additional]+1)
	b.n += PutOPT(b.buf[b.n:b.n+optLen], b.q.UDPSize, rcode, b.q.DO)
	return b.n
}

// PutOPT writes an OPT record without options (RFC 6891, 6.1.2) and returns its length.
func PutOPT(b []byte, size uint16, rcode int, do bool) int {
	_ = b[optLen-1]
	b[0] = 0
	binary.BigEndian.PutUint16(b[1:], TypeOPT)
	binary.BigEndian.PutUint16(b[3:], size)
	b[5] = byte(rcode >> 4)
	b[6] = 0 // version
	b[7], b[8] = 0, 0
	if do {
		b[7] = 0x80
	}
	b[9], b[10] = 0, 0
	return optLen
}

// Reject writes the reply that a verdict other than OK and Slow asks for, and returns its length:
// 0 for none. out has room for MinUDP bytes.
func Reject(q *Query, v Verdict, out []byte) int {
	switch v {
	case BadForm:
		return headerOnly(q, FormErr, out)
	case BadOpcode:
		return headerOnly(q, NotImp, out)
	case BadVersion:
		const badVers = 16
		size, do := q.UDPSize, q.DO
		q.UDPSize, q.DO = 0, false // as CoreDNS
		b := Begin(q, MinUDP, out)
		n := b.Finish(0, badVers)
		q.UDPSize, q.DO = size, do
		return n
	}
	return 0
}

// Refuse writes a reply with nothing but a code: REFUSED for what this server does not serve,
// SERVFAIL when it cannot. It returns the length; out has room for MinUDP bytes.
func Refuse(q *Query, rcode int, out []byte) int {
	b := Begin(q, MinUDP, out)
	return b.Finish(0, rcode)
}

func headerOnly(q *Query, rcode uint16, out []byte) int {
	clear(out[:HeaderLen])
	binary.BigEndian.PutUint16(out, q.ID)
	binary.BigEndian.PutUint16(out[2:], FlagQR|q.Flags&(FlagOpcode|FlagRD|FlagAD|FlagCD)|rcode)
	return HeaderLen
}
