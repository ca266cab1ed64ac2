package iptables

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// markText returns the mark and its mask, as iptables-save prints them.
func markText(bit int) string {
	return fmt.Sprintf("%#x/%#[1]x", uint32(1)<<cmp.Or(bit, defaultMasqueradeBit))
}

// maskText returns the bit of the mark alone.
func (c *compiler) maskText() string {
	_, mask, _ := strings.Cut(c.mark, "/")
	return mask
}

// masqueradeTarget chooses source ports at random where the tool can ask for that: without, two
// connections that come at the same time may choose the same port, and one is lost.
func masqueradeTarget(o Options) string {
	if o.portsInOrder {
		return "-j MASQUERADE"
	}
	return "-j MASQUERADE --random-fully"
}

// postrouting returns KUBE-POSTROUTING. It masquerades what carries the mark, and takes the mark
// off first, so that a packet that passes again, in a tunnel for instance, is not masqueraded
// twice.
//
// It also finds hairpin connections: a connection that was translated and now goes to where it
// came from. Here one rule does what would take a chain per endpoint before translation.
func (c *compiler) postrouting() []restore.Chain {
	unmarked := "-m mark ! --mark " + c.mark
	translated := unmarked + " -m conntrack --ctstate DNAT"
	var hairpin []restore.Chain
	first := translated + " " + sameAddress(c.in.v6) + " " + c.masquerade
	if c.hairpinList {
		hairpin = c.hairpins()
		first = translated + " -j " + hairpinRoot
	}
	return append(hairpin, restore.Chain{Name: postroutingChain, Rules: []string{
		first,
		unmarked + " -j RETURN",
		"-j MARK --set-xmark " + c.maskText() + "/0x0",
		c.masquerade,
	}})
}

// sameAddress returns a match for packets whose source and destination address are equal: a
// classic BPF program over the IP header, which compares the addresses 32 bits at a time. See
// linux/filter.h for the encoding and iptables-extensions(8) for its notation.
func sameAddress(v6 bool) string {
	src, dst, words := 12, 16, 1
	if v6 {
		src, dst, words = 8, 24, 4
	}
	var prog []string
	for i := range words {
		prog = append(prog,
			"32 0 0 "+strconv.Itoa(src+4*i), // A = source word
			"7 0 0 0",                       // X = A
			"32 0 0 "+strconv.Itoa(dst+4*i), // A = destination word
			// if A != X, skip the remaining words and the accepting return
			"29 0 "+strconv.Itoa(4*(words-1-i)+1)+" 0")
	}
	prog = append(prog, "6 0 0 65535", "6 0 0 0") // return match, return no match
	return `-m bpf --bytecode "` + strconv.Itoa(len(prog)) + "," + strings.Join(prog, ",") + `"`
}

// hairpins is the way for kernels without xt_bpf: a tree over the addresses of endpoints that
// may be on this node.
func (c *compiler) hairpins() []restore.Chain {
	seen := map[netip.Addr]bool{}
	var entries []entry
	for _, f := range c.in.frontends {
		for o, r := range f.From {
			if !c.leads(f, proxier.Origin(o)) {
				continue
			}
			for _, e := range r.Pool.Endpoints {
				if seen[e.Addr] || !e.Local && e.NodeName != "" {
					continue
				}
				seen[e.Addr] = true
				addr := netip.PrefixFrom(e.Addr, e.Addr.BitLen()).String()
				entries = append(entries, entry{
					key:   proxier.FrontendKey{Addr: e.Addr},
					rules: []string{"-s " + addr + " -d " + addr + " " + c.masquerade},
				})
			}
		}
	}
	slices.SortFunc(entries, compareEntries)
	t := tree{root: hairpinRoot, prefix: hairpinPrefix, flag: "-s"}
	return t.build(entries)
}
