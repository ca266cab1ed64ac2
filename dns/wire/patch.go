package wire

import (
	"encoding/binary"
	"errors"
)

var errMessage = errors.New("read message: malformed")

// skipName returns the offset after the name at off, or -1. Pointers end a name and are not
// followed: their target is not needed to find what comes next.
func skipName(msg []byte, off int) int {
	for start := off; off < len(msg); {
		c := int(msg[off])
		switch {
		case c == 0:
			return off + 1
		case c >= 0xc0:
			// RFC 9267: a pointer must go back, and then it cannot make a loop. There are no names
			// in the header, which changes with every reply.
			if off+2 > len(msg) {
				return -1
			}
			to := int(binary.BigEndian.Uint16(msg[off:])) & maxPointer
			if to >= start || to < HeaderLen {
				return -1
			}
			return off + 2
		case c > 63:
			return -1
		}
		off += c + 1
		if off-start >= MaxName {
			return -1
		}
	}
	return -1
}

// A record is where one record of a message is.
type record struct {
	start, fixed, end int // fixed is the offset of the type, after the owner
	section           Section
}

func (r record) typ(msg []byte) uint16 { return binary.BigEndian.Uint16(msg[r.fixed:]) }

// walk calls f for each record of a message with one question or none. It stops when f returns
// false. It returns the end of the last record that f took, or of the question, and false if the
// message is malformed.
func walk(msg []byte, f func(record) bool) (end int, ok bool) {
	if len(msg) < HeaderLen || binary.BigEndian.Uint16(msg[4:]) > 1 {
		return 0, false
	}
	off := HeaderLen
	if binary.BigEndian.Uint16(msg[4:]) == 1 {
		if off = skipName(msg, off); off < 0 || off+4 > len(msg) {
			return 0, false
		}
		off += 4
	}
	for s := Answer; s <= Additional; s++ {
		for range binary.BigEndian.Uint16(msg[6+2*int(s):]) {
			r := record{start: off, section: s}
			if r.fixed = skipName(msg, off); r.fixed < 0 || r.fixed+10 > len(msg) {
				return off, false
			}
			r.end = r.fixed + 10 + int(binary.BigEndian.Uint16(msg[r.fixed+8:]))
			if r.end > len(msg) {
				return off, false
			}
			if !f(r) {
				return off, true
			}
			off = r.end
		}
	}
	return off, true
}

// A Packed is a message that is kept to be sent again: one question, no OPT. It never changes
// after Pack, so that many may use it at once.
type Packed struct {
	msg  []byte
	ttls []uint16 // offsets of the TTLs in msg
}

// Pack makes a Packed of a whole message, of which it keeps a copy. The data of records are not
// looked at: it is for messages that this process has packed. An OPT record is left out; nothing
// may follow it.
func Pack(msg []byte) (*Packed, error) {
	if len(msg) > 0xffff {
		return nil, errMessage
	}
	p := &Packed{msg: make([]byte, 0, len(msg))}
	opt, bad := 0, false // where the OPT begins
	end, ok := walk(msg, func(r record) bool {
		if bad = opt > 0; bad { // it would move, and pointers to it break
			return false
		}
		if r.typ(msg) == TypeOPT {
			opt, bad = r.start, r.section != Additional
		} else {
			p.ttls = append(p.ttls, uint16(r.fixed+4))
		}
		return true
	})
	if !ok || bad || binary.BigEndian.Uint16(msg[4:]) != 1 {
		return nil, errMessage
	}
	if opt > 0 {
		end = opt
	}
	p.msg = append(p.msg, msg[:end]...)
	if opt > 0 {
		binary.BigEndian.PutUint16(p.msg[10:], binary.BigEndian.Uint16(msg[10:])-1)
	}
	return p, nil
}

// Msg returns the message itself. The caller must not change it.
func (p *Packed) Msg() []byte { return p.msg }

// Len returns the length of the message.
func (p *Packed) Len() int { return len(p.msg) }

// Rcode returns the response code.
func (p *Packed) Rcode() int { return Rcode(p.msg) }

// Reply writes the message to out as an answer to q, cut to limit: with q's id, RD, CD and
// spelling of the question, the flags of set added, an OPT if q has one, and each TTL set to ttl
// seconds. It returns false if q asks for another name: only the lengths
// are compared, the rest is the caller's key. Both limit and len(out) must be at least MinUDP.
func (p *Packed) Reply(q *Query, limit int, out []byte, set uint16, ttl uint32) (n int, ok bool) {
	begin := q.end + 4
	if len(p.msg) < begin || p.msg[q.end-1] != 0 || skipName(p.msg, HeaderLen) != q.end {
		return 0, false
	}
	room := min(limit, len(out))
	if q.EDNS {
		room -= optLen
	}
	n = copy(out[:room], p.msg)
	copy(out, q.Msg[:2])
	copy(out[HeaderLen:], q.Question())
	flags := binary.BigEndian.Uint16(p.msg[2:])&^(FlagOpcode|FlagRD|FlagCD) | set | FlagQR | q.Flags&(FlagRD|FlagCD)
	binary.BigEndian.PutUint16(out[2:], flags)
	for _, at := range p.ttls {
		if int(at)+4 > n {
			break
		}
		binary.BigEndian.PutUint32(out[at:], ttl)
	}
	if n < len(p.msg) {
		n = cut(p.msg, out, n)
	}
	if q.EDNS {
		n += PutOPT(out[n:n+optLen], q.UDPSize, Rcode(out), q.DO)
		binary.BigEndian.PutUint16(out[10:], binary.BigEndian.Uint16(out[10:])+1)
	}
	return n, true
}

// cut makes out, which has the first n bytes of msg, a message of whole records and marks it as
// truncated. It returns the new length. Pointers go backwards, so that none loses its target.
func cut(msg, out []byte, n int) int {
	var counts [3]uint16
	fits, _ := walk(msg, func(r record) bool {
		if r.end <= n {
			counts[r.section]++
		}
		return r.end <= n
	})
	for s, c := range counts {
		binary.BigEndian.PutUint16(out[6+2*s:], c)
	}
	out[2] |= FlagTC >> 8
	return fits
}
