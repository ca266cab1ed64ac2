package iptables

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"strconv"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// The shape of a dispatch tree. Two bits per level make the expected number of rules that a
// packet meets smallest among fan-outs (4 tests decide 2 bits, at 2.5 tests on average). Levels end
// at odd numbers of bits, so that a range of addresses that are all in use comes down to leaves of
// 8, not of 4: a chain is three entries of a table that iptables-legacy copies for every change. For
// the same reason a leaf may have 12 rules. Packets meet as many rules on average as with 8.
const (
	levelBits = 2
	leafSize  = 12
	// maxDepth bounds the levels below the root, whatever the addresses are: nf_tables refuses
	// a path of more than 16 chains, and counts a goto as it counts a jump. A leaf at that
	// depth is as long as it must be.
	maxDepth = 9
)

// An entry is what a dispatch tree finds: the rules for one frontend, which match its address,
// port and protocol completely. The tree only decides which entries a packet has to be tried on.
type entry struct {
	key   proxier.FrontendKey
	rules []string
	// chains are what rules refer to and no other entry does.
	chains []restore.Chain
}

// A tree makes a dispatch tree: chains that take a packet to the entries it may match, in a
// number of rules that grows with the logarithm of the number of entries.
//
// It is a path-compressed prefix tree over destination address, then protocol, then port. Each
// inner chain sends packets to its children with goto, so that the end of any chain returns to
// the rule after the one that jumped to the root. The tree is a pure function of the set of
// entries: however the set came about, the chains are the same; and an entry that comes or goes
// changes the chains on its own path only.
type tree struct {
	root   string // name of the root chain; the others are called prefix + hash
	prefix string
	flag   string // the address to test: -d, or -s
	chains []restore.Chain
}

// build returns the chains of the tree over entries, which are sorted by compareEntries. The
// root chain exists even if there are no entries.
func (t *tree) build(entries []entry) []restore.Chain {
	t.node(t.root, entries, 0)
	return t.chains
}

func compareEntries(a, b entry) int {
	return cmp.Or(a.key.Addr.Compare(b.key.Addr), cmp.Compare(a.key.Protocol, b.key.Protocol),
		cmp.Compare(a.key.Port, b.key.Port))
}

func (t *tree) node(name string, entries []entry, depth int) {
	at := len(t.chains)
	t.chains = append(t.chains, restore.Chain{Name: name})
	var rules []string
	if len(entries) <= leafSize || depth == maxDepth {
		for _, e := range entries {
			rules = append(rules, e.rules...)
		}
		t.chains[at].Rules = rules
		return
	}
	by := splitBetween(entries[0].key, entries[len(entries)-1].key)
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && by.same(entries[0].key, entries[n].key) {
			n++
		}
		if n == 1 && len(entries[0].rules) == 1 {
			rules = append(rules, entries[0].rules[0]) // a chain of one rule costs more than it saves
		} else {
			match := by.match(t.flag, entries[0].key)
			child := t.prefix + hash(t.prefix, by.scope(entries[0].key), match)
			rules = append(rules, match+" -g "+child)
			t.node(child, entries[:n], depth+1)
		}
		entries = entries[n:]
	}
	t.chains[at].Rules = rules
}

// A split divides sorted keys into runs: by a prefix of their addresses, by protocol, or by a
// prefix of their ports. Exactly one field is set.
type split struct {
	addrBits int
	protocol bool
	portBits int
}

// splitBetween returns the coarsest split that separates two keys.
func splitBetween(a, b proxier.FrontendKey) split {
	// The next odd number, or the last bit.
	level := func(common, width int) int { return min(common-(common+1)%levelBits+levelBits, width) }
	switch {
	case a.Addr != b.Addr:
		return split{addrBits: level(commonBits(a.Addr, b.Addr), a.Addr.BitLen())}
	case a.Protocol != b.Protocol:
		return split{protocol: true}
	}
	return split{portBits: level(bits.LeadingZeros16(a.Port^b.Port), 16)}
}

// same reports whether a and b are in the same run.
func (s split) same(a, b proxier.FrontendKey) bool {
	switch {
	case s.addrBits > 0:
		return commonBits(a.Addr, b.Addr) >= s.addrBits
	case s.protocol:
		return a.Protocol == b.Protocol
	}
	return (a.Port^b.Port)>>(16-s.portBits) == 0
}

// match returns the test for the run that k is in.
func (s split) match(flag string, k proxier.FrontendKey) string {
	switch {
	case s.addrBits > 0:
		return flag + " " + netip.PrefixFrom(k.Addr, s.addrBits).Masked().String()
	case s.protocol:
		return "-p " + protocol(k.Protocol)
	}
	width := uint16(1)<<(16-s.portBits) - 1
	ports := strconv.Itoa(int(k.Port &^ width))
	if width > 0 {
		ports += ":" + strconv.Itoa(int(k.Port|width))
	}
	p := protocol(k.Protocol)
	return "-p " + p + " -m " + p + " --dport " + ports
}

// scope is what makes match unique within a tree.
func (s split) scope(k proxier.FrontendKey) string {
	if s.addrBits > 0 {
		return ""
	}
	return k.Addr.String()
}

// commonBits returns how many leading bits two addresses of one family share.
func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	skip := 0
	if a.Is4() {
		skip = 96
	}
	if d := binary.BigEndian.Uint64(x[:8]) ^ binary.BigEndian.Uint64(y[:8]); d != 0 {
		return bits.LeadingZeros64(d) - skip
	}
	return 64 + bits.LeadingZeros64(binary.BigEndian.Uint64(x[8:])^binary.BigEndian.Uint64(y[8:])) - skip
}
