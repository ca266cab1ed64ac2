package xtables

import (
	"bytes"
	"encoding/binary"
)

// The kernel's byte order and, on 64-bit machines, its alignment.
var order = binary.NativeEndian

const align = 8

// A layout is where things are in an entry (struct ipt_entry or ip6t_entry): the conditions on
// addresses, interfaces and protocol; offsets; counters. Matches and a target follow.
type layout struct {
	header   int // bytes before the first match
	protocol int // uint16
	flags    int // uint8
	ip       int // bytes of conditions
	target   int // uint16, offset of the target; the size of the entry is the uint16 behind it
	comefrom int // uint32, of the kernel's
	counters int // 16 bytes, up to the end of the header
	used     uint8
}

var (
	ipv4 = &layout{header: 112, protocol: 80, flags: 82, ip: 84, target: 88, comefrom: 92, counters: 96}
	// used is IP6T_F_PROTO: the protocol is a condition.
	ipv6 = &layout{header: 168, protocol: 128, flags: 131, ip: 133, target: 140, comefrom: 144, counters: 152, used: 1}
)

// Sizes common to both families.
const (
	hooks         = 5  // NF_INET_NUMHOOKS
	extHeader     = 32 // struct xt_entry_match, xt_entry_target: size, name, revision
	extName       = 2  // offset of the name
	extRevision   = 31
	standardSize  = extHeader + 8  // struct xt_standard_target
	errorSize     = extHeader + 32 // struct xt_error_target
	counterSize   = 16
	errorName     = "ERROR" // the target at the head of a chain, and the chain at the end of a table
	verdictReturn = 5       // -XT_RETURN
)

// name returns the string in b up to its first zero.
func name(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
