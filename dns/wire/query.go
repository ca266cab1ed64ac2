package wire

import "encoding/binary"

// Sizes of the format, in bytes.
const (
	HeaderLen  = 12
	MaxName    = 255 // RFC 1035, 2.3.4, with the final zero
	MinUDP     = 512 // what every client takes, RFC 1035, 4.2.1
	optLen     = 11  // an OPT record without options
	maxLabels  = 127 // in a name of MaxName bytes
	maxPointer = 0x3fff
)

// Bits of the second word of the header.
const (
	FlagQR     = 1 << 15
	FlagOpcode = 0xf << 11
	FlagAA     = 1 << 10
	FlagTC     = 1 << 9
	FlagRD     = 1 << 8
	FlagRA     = 1 << 7
	FlagAD     = 1 << 5
	FlagCD     = 1 << 4
	FlagRcode  = 0xf
)

// Response codes.
const (
	Success  = 0
	FormErr  = 1
	ServFail = 2
	NXDomain = 3
	NotImp   = 4
	Refused  = 5
)

// Record types and classes that the fast path tells apart.
const (
	TypeA     = 1
	TypeNS    = 2
	TypeCNAME = 5
	TypeSOA   = 6
	TypePTR   = 12
	TypeMX    = 15
	TypeTXT   = 16
	TypeAAAA  = 28
	TypeSRV   = 33
	TypeOPT   = 41
	TypeIXFR  = 251
	TypeAXFR  = 252
	TypeANY   = 255

	ClassIN  = 1
	ClassCH  = 3
	ClassANY = 255
)

// A Verdict says what to do with a message.
type Verdict uint8

const (
	OK          Verdict = iota // a plain query: the fast path may answer
	Slow                       // well formed so far and unusual: miekg/dns must read it, and may find fault with it
	BadForm                    // answer FORMERR, header only
	BadOpcode                  // answer NOTIMP, header only
	BadVersion                 // answer BADVERS with an OPT (RFC 6891, 6.1.3)
	Drop                       // no answer: too short to be a message, or itself a reply
	NumVerdicts = iota
)

// A Query is a parsed query. Parse fills it without allocating, and it is used again for the next
// message. It is not safe for concurrent use; what it returns is valid until the next Parse.
type Query struct {
	ID      uint16
	Flags   uint16 // as on the wire
	Type    uint16
	Class   uint16
	EDNS    bool // there was an OPT record
	Version uint8
	DO      bool
	UDPSize uint16 // as the client said, 0 without OPT; a server may lower it before answering
	Msg     []byte // the whole message

	// How it came: set by the server, not by Parse.
	V6  bool // the client's address; false for one mapped to IPv6
	TCP bool

	labels int
	end    int              // of the name in Msg
	starts [maxLabels]uint8 // of the labels in name
	name   [MaxName]byte    // lower case
}

// Name returns the name that was asked in wire format and lower case, with the final zero.
func (q *Query) Name() []byte { return q.name[:q.end-HeaderLen] }

// Question returns the question as received: the name as spelled, the type and the class.
func (q *Query) Question() []byte { return q.Msg[HeaderLen : q.end+4] }

// Labels returns how many labels the name has, without the root.
func (q *Query) Labels() int { return q.labels }

// Suffix returns the name without its first skip labels; at most Labels may be skipped, and then
// the root is left.
func (q *Query) Suffix(skip int) []byte { return q.name[q.start(skip) : q.end-HeaderLen] }

// Label returns label i of the name, counted from the left, without its length.
func (q *Query) Label(i int) []byte { return q.name[int(q.starts[i])+1 : q.start(i+1)] }

// Tail returns a name of a reply: the question's without its first skip labels, in the client's
// spelling.
func (q *Query) Tail(skip int) Name { return Name{Tail: pointer | uint16(HeaderLen+q.start(skip))} }

func (q *Query) start(label int) int {
	if label >= q.labels {
		return q.end - HeaderLen - 1
	}
	return int(q.starts[label])
}

// Limit returns how many bytes a reply over UDP may have: what the client takes (RFC 6891, 6.2.5),
// and never more than most.
func (q *Query) Limit(most int) int { return max(MinUDP, min(int(q.UDPSize), most)) }

// Parse reads a message. Unless it returns OK, BadVersion or Slow, only ID and Flags are set, and
// after Drop not even these. After Slow all fields of the question are set, and those of EDNS if
// the first additional record is the OPT.
//
// The rules of acceptance are CoreDNS's (coredns.md, 1.4); what follows the last record is
// ignored.
func (q *Query) Parse(msg []byte) Verdict {
	q.Msg = msg
	if len(msg) < HeaderLen || msg[2]&(FlagQR>>8) != 0 {
		return Drop
	}
	q.ID = binary.BigEndian.Uint16(msg)
	q.Flags = binary.BigEndian.Uint16(msg[2:])
	if q.Flags&FlagOpcode != 0 {
		return BadOpcode
	}
	counts := binary.BigEndian.Uint64(msg[4:])
	an, ns, ar := uint16(counts>>32), uint16(counts>>16), uint16(counts)
	if counts>>48 != 1 || an > 1 || ns > 1 || ar > 2 {
		return BadForm
	}
	if !q.question(msg) {
		return BadForm
	}
	q.EDNS, q.Version, q.DO, q.UDPSize = false, 0, false, 0
	if an|ns != 0 {
		return Slow // an IXFR, or nonsense
	}
	return q.additional(msg[q.end+4:], int(ar))
}

// question reads the only question. A pointer in its name would lead into the header: there is
// nothing before it to point at.
func (q *Query) question(msg []byte) bool {
	off, n := HeaderLen, 0
	for {
		if off >= len(msg) {
			return false
		}
		c := int(msg[off])
		if c == 0 {
			break
		}
		if c > 63 || off+c+2-HeaderLen > MaxName {
			return false
		}
		q.starts[n] = uint8(off - HeaderLen)
		n++
		off += c + 1
	}
	off++
	if len(msg)-off < 4 {
		return false
	}
	lower(q.name[:], msg[HeaderLen:off])
	q.labels, q.end = n, off
	q.Type = binary.BigEndian.Uint16(msg[off:])
	q.Class = binary.BigEndian.Uint16(msg[off+2:])
	return true
}

// additional reads the OPT record, if it comes first. Other records are for the slow path.
func (q *Query) additional(rest []byte, count int) Verdict {
	for i := range count {
		if len(rest) < optLen {
			return BadForm
		}
		if rest[0] != 0 || binary.BigEndian.Uint16(rest[1:]) != TypeOPT {
			return Slow
		}
		if i > 0 {
			return BadForm // a second OPT, RFC 6891, 6.1.1
		}
		end := optLen + int(binary.BigEndian.Uint16(rest[9:]))
		if end > len(rest) || !options(rest[optLen:end]) {
			return BadForm
		}
		q.EDNS = true
		q.UDPSize = binary.BigEndian.Uint16(rest[3:])
		q.Version = rest[6]
		q.DO = rest[7]&0x80 != 0
		rest = rest[end:]
	}
	if q.Version != 0 {
		return BadVersion
	}
	return OK
}

// options reports whether b is a list of EDNS options (RFC 6891, 6.1.2).
func options(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 4 {
			return false
		}
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return false
		}
		b = b[n:]
	}
	return true
}

// lower copies a name in wire format and makes its letters small. Lengths of labels are below
// 'A', so that they need no care. Eight bytes are done at a time.
func lower(dst, src []byte) {
	const ones = 0x0101010101010101
	i := 0
	for ; i+8 <= len(src); i += 8 {
		x := binary.LittleEndian.Uint64(src[i:])
		low := x & (0x7f * ones)
		atLeastA := low + (0x80-'A')*ones
		aboveZ := low + (0x80-'Z'-1)*ones
		upper := (atLeastA &^ aboveZ) &^ x & (0x80 * ones)
		binary.LittleEndian.PutUint64(dst[i:], x|upper>>2)
	}
	for ; i < len(src); i++ {
		c := src[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst[i] = c
	}
}
