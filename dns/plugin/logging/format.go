package logging

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/plugin"
)

// empty stands for a value that there is none of.
const empty = "-"

// An event is one query and its answer.
type event struct {
	request *plugin.Request
	reply   plugin.Reply
	msg     *dnswire.Msg // nil if nothing was sent
	kind    plugin.Kind
	took    time.Duration
}

// A format is a line with places for values. Each part appends either.
type format []func(b []byte, e *event) []byte

// append adds the line of an event.
func (f format) append(b []byte, e *event) []byte {
	for _, part := range f {
		b = part(b, e)
	}
	return b
}

// parse reads a format. What is in braces and has no meaning stays as it is.
func parse(text string) (f format) {
	literal := func(s string) {
		if s != "" {
			f = append(f, func(b []byte, _ *event) []byte { return append(b, s...) })
		}
	}
	for {
		open := strings.IndexByte(text, '{')
		end := -1
		if open >= 0 {
			end = strings.IndexByte(text[open:], '}')
		}
		if end < 0 {
			literal(text)
			return f
		}
		name := text[open+1 : open+end]
		if value := values[name]; value != nil {
			literal(text[:open])
			f = append(f, value)
		} else if label, ok := strings.CutPrefix(name, "/"); ok && label != "" {
			literal(text[:open])
			f = append(f, metadata(label))
		} else {
			literal(text[:open+end+1])
		}
		text = text[open+end+1:]
	}
}

// values are the placeholders that the log plugin knows, by their names without braces.
var values = map[string]func(b []byte, e *event) []byte{
	"type":    func(b []byte, e *event) []byte { return append(b, dnswire.Type(e.request.Type()).String()...) },
	"class":   func(b []byte, e *event) []byte { return append(b, dnswire.Class(e.request.Class()).String()...) },
	"name":    func(b []byte, e *event) []byte { return append(b, e.request.Name()...) },
	"proto":   func(b []byte, e *event) []byte { return append(b, e.request.Proto...) },
	"remote":  func(b []byte, e *event) []byte { return appendAddr(b, e.request.Client.Addr()) },
	"port":    func(b []byte, e *event) []byte { return strconv.AppendUint(b, uint64(e.request.Client.Port()), 10) },
	"local":   func(b []byte, e *event) []byte { return appendAddr(b, e.request.Local.Addr()) },
	"size":    func(b []byte, e *event) []byte { return strconv.AppendInt(b, int64(e.request.Size), 10) },
	"rcode":   appendRcode,
	"rsize":   appendSize,
	">rflags": appendFlags,
	"duration": func(b []byte, e *event) []byte {
		return append(strconv.AppendFloat(b, e.took.Seconds(), 'f', -1, 64), 's')
	},
	">bufsize": func(b []byte, e *event) []byte { return strconv.AppendInt(b, int64(e.request.Bufsize()), 10) },
	">do": func(b []byte, e *event) []byte {
		opt := e.request.Msg.IsEdns0()
		return strconv.AppendBool(b, opt != nil && opt.Do())
	},
	">id":     func(b []byte, e *event) []byte { return strconv.AppendUint(b, uint64(e.request.Msg.Id), 10) },
	">opcode": func(b []byte, e *event) []byte { return strconv.AppendInt(b, int64(e.request.Msg.Opcode), 10) },
}

// metadata returns what a label of the metadata plugin stands for: log's own, and the view.
func metadata(label string) func(b []byte, e *event) []byte {
	return func(b []byte, e *event) []byte {
		value := ""
		switch label {
		case "log/class":
			value = class(e.kind)
		case "log/type":
			value = e.kind.String()
		case "view/name":
			value = e.request.View
		}
		if value == "" {
			value = empty
		}
		return append(b, value...)
	}
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a = a.Unmap(); a.Is6() {
		return append(a.AppendTo(append(b, '[')), ']')
	}
	return a.AppendTo(b)
}

func appendRcode(b []byte, e *event) []byte {
	if e.msg == nil {
		return append(b, "NOERROR"...) // as CoreDNS says of what it does not answer
	}
	if name, ok := dnswire.RcodeToString[e.msg.Rcode]; ok {
		return append(b, name...)
	}
	return strconv.AppendInt(b, int64(e.msg.Rcode), 10)
}

func appendSize(b []byte, e *event) []byte {
	if e.msg == nil {
		return append(b, '0')
	}
	size := e.msg.Len()
	if e.msg.Compress {
		plain := *e.msg
		plain.Compress = false
		size = plain.Len()
	}
	return strconv.AppendInt(b, int64(size), 10)
}

func appendFlags(b []byte, e *event) []byte {
	if e.msg == nil {
		return append(b, empty...)
	}
	h := e.msg.MsgHdr
	start := len(b)
	for _, f := range []struct {
		on   bool
		name string
	}{
		{h.Response, "qr"}, {h.Authoritative, "aa"}, {h.Truncated, "tc"}, {h.RecursionDesired, "rd"},
		{h.RecursionAvailable, "ra"}, {h.Zero, "z"}, {h.AuthenticatedData, "ad"}, {h.CheckingDisabled, "cd"},
	} {
		if f.on {
			if len(b) > start {
				b = append(b, ',')
			}
			b = append(b, f.name...)
		}
	}
	return b
}
