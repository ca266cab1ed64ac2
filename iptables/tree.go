package iptables

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"sort"
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

// rulesOf returns the rules of entries, one after the other.
func rulesOf(entries []entry) []string {
	var out []string
	for _, e := range entries {
		out = append(out, e.rules...)
	}
	return out
}

// A tree makes a dispatch tree: chains that take a packet to the entries it may match, in a
// number of rules that grows with the logarithm of the number of entries.
//
// It is a path-compressed prefix tree over destination address, then protocol, then port. Each
// inner chain sends packets to its children with goto, so that the end of any chain returns to
// the rule after the one that jumped to the root. The tree is a pure function of the set of
// entries: however the set came about, the chains are the same; and an entry that comes or goes
// changes the chains on its own path only, so that no others need to be made.
type tree struct {
	root   string // name of the root chain; the others are called prefix + hash
	prefix string
	flag   string // the address to test: -d, or -s
	chains []restore.Chain
}

// build returns the chains of the tree over entries, which are sorted by compareEntries. The
// root chain exists even if there are no entries.
func (t *tree) build(entries []entry) []restore.Chain { return t.part(entries, nil, nil) }

// part returns the chains of the tree over entries that the tree over other, built alike, may not
// have, or have otherwise. differ are those that are not in both, sorted like them.
func (t *tree) part(entries, other, differ []entry) []restore.Chain {
	if len(differ) > 0 || len(other) == 0 {
		t.node(t.root, entries, other, differ, 0)
	}
	return t.chains
}

func compareEntries(a, b entry) int { return compareKeys(a.key, b.key) }

// compareKeys orders as the levels of a tree do.
func compareKeys(a, b proxier.FrontendKey) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Port, b.Port))
}

// node makes the chain of that name, and those below it. other are the entries that a chain of that
// name and depth has to find in the other tree; see part.
func (t *tree) node(name string, entries, other, differ []entry, depth int) {
	at := len(t.chains)
	t.chains = append(t.chains, restore.Chain{Name: name})
	if isLeaf(entries, depth) {
		t.chains[at].Rules = rulesOf(entries)
		return
	}
	var rules []string
	by := splitOf(entries)
	alike := !isLeaf(other, depth) && splitOf(other) == by
	for len(entries) > 0 {
		key := entries[0].key
		run := by.run(entries, key)
		entries = entries[len(run):]
		if len(run) == 1 && len(run[0].rules) == 1 {
			rules = append(rules, run[0].rules[0]) // a chain of one rule costs more than it saves
			continue
		}
		match := by.match(t.flag, key)
		child := t.prefix + hash(t.prefix, by.scope(key), match)
		rules = append(rules, match+" -g "+child)
		var others, differs []entry
		if alike {
			others, differs = by.run(other, key), by.run(differ, key)
			if len(differs) == 0 {
				continue // the other tree has the same child
			}
		}
		t.node(child, run, others, differs, depth+1)
	}
	t.chains[at].Rules = rules
}

// isLeaf reports whether a chain holds the rules of entries itself.
func isLeaf(entries []entry, depth int) bool { return len(entries) <= leafSize || depth == maxDepth }

// A split divides sorted keys into runs: by a prefix of their addresses, by protocol, or by a
// prefix of their ports. Exactly one field is set.
type split struct {
	addrBits int
	protocol bool
	portBits int
}

// splitOf returns the coarsest split that separates some of the keys of sorted entries.
func splitOf(entries []entry) split {
	a, b := entries[0].key, entries[len(entries)-1].key
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
	case a.Addr != b.Addr || a.Protocol != b.Protocol:
		return false
	}
	return s.protocol || (a.Port^b.Port)>>(16-s.portBits) == 0
}

// run returns the entries, of sorted ones, that are in the same run as k.
func (s split) run(entries []entry, k proxier.FrontendKey) []entry {
	start := sort.Search(len(entries), func(i int) bool {
		return s.same(entries[i].key, k) || compareKeys(entries[i].key, k) > 0
	})
	entries = entries[start:]
	return entries[:sort.Search(len(entries), func(i int) bool { return !s.same(entries[i].key, k) })]
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
