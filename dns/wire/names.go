package wire

import (
	"encoding/binary"
	"errors"
)

var errName = errors.New("pack name: malformed")

// AppendName appends a name in wire format. It takes the presentation format of RFC 1035, 5.1,
// with \X and \DDD; the final dot may be missing. The case of letters stays.
func AppendName(dst []byte, name string) ([]byte, error) {
	start, label := len(dst), len(dst)
	dst = append(dst, 0)
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '.':
			if name == "." {
				return dst, nil
			}
			if !closeLabel(dst, label) {
				return dst[:start], errName
			}
			label = len(dst)
			dst = append(dst, 0)
			continue
		case c == '\\' && i+3 < len(name) && digits(name[i+1:i+4]):
			n := int(name[i+1]-'0')*100 + int(name[i+2]-'0')*10 + int(name[i+3]-'0')
			if n > 255 {
				return dst[:start], errName
			}
			c = byte(n)
			i += 3
		case c == '\\' && i+1 < len(name):
			i++
			c = name[i]
		case c == '\\':
			return dst[:start], errName
		}
		dst = append(dst, c)
	}
	if label != len(dst)-1 { // no final dot
		if !closeLabel(dst, label) {
			return dst[:start], errName
		}
		dst = append(dst, 0)
	}
	if len(dst)-start > MaxName {
		return dst[:start], errName
	}
	return dst, nil
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// closeLabel writes the length of the label that begins at start.
func closeLabel(b []byte, start int) bool {
	n := len(b) - start - 1
	b[start] = byte(n)
	return 0 < n && n <= 63
}

// Text returns the presentation format of a name in wire format, with the final dot, for logs and
// for miekg/dns. What is not a name gives "".
func Text(name []byte) string {
	if len(name) == 1 && name[0] == 0 {
		return "."
	}
	out := make([]byte, 0, len(name)+8)
	for len(name) > 0 && name[0] != 0 {
		n := int(name[0])
		if n > 63 || n >= len(name) {
			return ""
		}
		for _, c := range name[1 : n+1] {
			switch {
			case c < ' ' || c > '~':
				out = append(out, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
			case c == '.' || c == ' ' || c == '\'' || c == '@' || c == ';' || c == '(' || c == ')' || c == '"' || c == '\\':
				out = append(out, '\\', c)
			default:
				out = append(out, c)
			}
		}
		out = append(out, '.')
		name = name[n+1:]
	}
	return string(out)
}

// A Compressor writes the names of one message so that each says only what no name before it said
// (RFC 1035, 4.1.4). It remembers the first names and never allocates. Names are compared without
// regard to case, and keep the spelling of the first.
type Compressor struct {
	at [slots]uint16 // offsets of names in the message by hash; 0 is none, for there is the header
	n  int
}

const slots = 512 // a power of 2

// Reset forgets a message.
func (c *Compressor) Reset() { *c = Compressor{} }

// Learn remembers a name that is in the message already, uncompressed and valid: that of the
// question.
func (c *Compressor) Learn(msg []byte, off int) {
	for ; off <= maxPointer && msg[off] != 0; off += int(msg[off]) + 1 {
		c.find(msg, msg[off:], off)
	}
}

// AppendName appends a valid name in wire format to msg, which must be the message from its header
// on.
func (c *Compressor) AppendName(msg, name []byte) []byte {
	for name[0] != 0 {
		if at := c.find(msg, name, len(msg)); at != 0 {
			return binary.BigEndian.AppendUint16(msg, pointer|at)
		}
		n := int(name[0]) + 1
		msg = append(msg, name[:n]...)
		name = name[n:]
	}
	return append(msg, 0)
}

// find returns where a name is in the message. If it is nowhere it is remembered as the one at
// off, where the caller writes it.
func (c *Compressor) find(msg, name []byte, off int) uint16 {
	h := hash(name)
	for c.at[h%slots] != 0 {
		if at := c.at[h%slots]; same(msg, int(at), name) {
			return at
		}
		h++
	}
	if off <= maxPointer && c.n < slots*3/4 { // some slot stays free: the search ends
		c.at[h%slots] = uint16(off)
		c.n++
	}
	return 0
}

// hash is FNV-1a over a name in lower case.
func hash(name []byte) uint32 {
	h := uint32(2166136261)
	for _, b := range name {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		h = (h ^ uint32(b)) * 16777619
		if b == 0 {
			break
		}
	}
	return h
}

// same reports whether the name at off in the message is name. Only names that this Compressor
// wrote or learned are looked at, so that each pointer leads backwards.
func same(msg []byte, off int, name []byte) bool {
	for {
		if off >= len(msg) {
			return false
		}
		for msg[off] >= 0xc0 {
			off = int(binary.BigEndian.Uint16(msg[off:])) & maxPointer
		}
		n := int(name[0])
		if int(msg[off]) != n {
			return false
		}
		if n == 0 {
			return true
		}
		if !fold(msg[off+1:off+1+n], name[1:1+n]) {
			return false
		}
		off += n + 1
		name = name[n+1:]
	}
}

// fold reports whether two labels are the same but for the case of letters.
func fold(a, b []byte) bool {
	for i, x := range a {
		y := b[i]
		if x != y && (x|0x20 != y|0x20 || x|0x20 < 'a' || x|0x20 > 'z') {
			return false
		}
	}
	return true
}
