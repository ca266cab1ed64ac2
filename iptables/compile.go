package iptables

import (
	"crypto/sha256"
	"encoding/base32"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/iptables/restore"
	"github.com/fairway-lb/fairway/proxier"
)

// Options say how to program the kernel. The zero Options are ready for use.
type Options struct {
	// MasqueradeBit is the bit of the packet mark, 1 to 31, that asks for masquerading; 0 means
	// 14. kubelet and network plugins know the bit, so change it on all of them or on none.
	MasqueradeBit int
	// Variant is "nft" or "legacy". Empty: the one that kubelet uses, or that holds more rules.
	Variant string
	// IPv4 and IPv6 are the families to program. Both false: those that the kernel has.
	IPv4, IPv6 bool
	// TCPBeLiberal lets packets pass that connection tracking finds invalid. New also sets it
	// if the sysctl net.netfilter.nf_conntrack_tcp_be_liberal is on.
	TCPBeLiberal bool
	// LockWait is how long to wait for the lock that writers of iptables-legacy share; 0 means 5 s.
	LockWait time.Duration
	// Intercept is for tests: it is called before every operation on the kernel, and an error
	// that it returns takes the operation's place.
	Intercept func(op, object string) error
	// Note, if not nil, is told why iptables-restore wrote what usually takes no program. That is
	// slower, and no failure. It is called by Apply.
	Note func(reason error)
	// NoSocket, if not nil, is told that the kernel of a family cannot look for sockets (xt_socket), and
	// what it said: from then on stand-ins take connections whether they are there or not. It is
	// called by Apply.
	NoSocket func(err error)

	// hairpinList tests for hairpin connections endpoint by endpoint, for kernels without xt_bpf.
	hairpinList bool
	// noSocket lets stand-ins take connections always, for kernels without xt_socket.
	noSocket bool
	// portsInOrder does without --random-fully, which iptables has since 1.6.2.
	portsInOrder bool
}

const (
	defaultMasqueradeBit = 14
	defaultLockWait      = 5 * time.Second
)

// A Program is what Compile makes of a Snapshot: the chains that Fairway owns, and of the
// built-in chains the rules that Fairway puts into them.
type Program struct {
	IPv4 restore.Ruleset `json:"ipv4,omitempty"`
	IPv6 restore.Ruleset `json:"ipv6,omitempty"`
}

// String returns the program as input for iptables-restore and ip6tables-restore, one after the
// other, each under a comment that says which.
func (p Program) String() string {
	var b strings.Builder
	if p.IPv4 != nil {
		b.WriteString("# iptables-restore\n" + p.IPv4.String())
	}
	if p.IPv6 != nil {
		b.WriteString("# ip6tables-restore\n" + p.IPv6.String())
	}
	return b.String()
}

// Compile returns the rules that implement s. It is pure: equal frontends give equal rules. If
// o names no family, it compiles both.
func Compile(s *proxier.Snapshot, o Options) Program {
	var p Program
	both := !o.IPv4 && !o.IPv6
	if o.IPv4 || both {
		p.IPv4 = compile(nil, inputOf(s, false), o).ruleset()
	}
	if o.IPv6 || both {
		p.IPv6 = compile(nil, inputOf(s, true), o).ruleset()
	}
	return p
}

// An input is the part of a snapshot that the rules of one family depend on.
type input struct {
	v6          bool
	frontends   []*proxier.Frontend
	node        *proxier.Node
	healthPorts []uint16
}

func inputOf(s *proxier.Snapshot, v6 bool) input {
	in := input{v6: v6, node: s.Node, healthPorts: s.HealthPorts}
	// Frontends are sorted, IPv4 first.
	i, _ := slices.BinarySearchFunc(s.Frontends, true, func(f *proxier.Frontend, _ bool) int {
		if f.Addr.Is6() {
			return 1
		}
		return -1
	})
	if v6 {
		in.frontends = s.Frontends[i:]
	} else {
		in.frontends = s.Frontends[:i]
	}
	return in
}

// frontend returns the frontend of that key, or nil.
func (in input) frontend(key proxier.FrontendKey) *proxier.Frontend {
	i, ok := slices.BinarySearchFunc(in.frontends, key, func(f *proxier.Frontend, k proxier.FrontendKey) int {
		return f.Compare(k)
	})
	if !ok {
		return nil
	}
	return in.frontends[i]
}

// A compiler makes chains. What it makes of a frontend depends on the node, the options and whether
// chains are commented, and on no other frontend but for what partials returns.
type compiler struct {
	in          input
	pods        []string // matches for packets of pods, one of which holds
	mark        string   // 0x4000/0x4000
	masquerade  string   // the target
	hairpinList bool
	beLiberal   bool
	poolNames   map[*proxier.Pool]string
}

func newCompiler(in input, o Options) *compiler {
	if o.noSocket {
		in.frontends = alwaysStandIn(in.frontends)
	}
	return &compiler{in: in, pods: podMatch(in), mark: markText(o.MasqueradeBit), masquerade: masqueradeTarget(o),
		hairpinList: o.hairpinList, beLiberal: o.TCPBeLiberal, poolNames: map[*proxier.Pool]string{}}
}

// alwaysStandIn returns frontends whose stand-ins take all connections, there or not.
func alwaysStandIn(frontends []*proxier.Frontend) []*proxier.Frontend {
	if !standsIn(frontends) {
		return frontends
	}
	out := slices.Clone(frontends)
	for i, f := range out {
		if f.StandIn == nil {
			continue
		}
		g := *f
		for o := range g.From {
			g.From[o].Pool = f.StandIn
		}
		g.StandIn = nil
		out[i] = &g
	}
	return out
}

// standsIn reports whether a frontend has a stand-in.
func standsIn(frontends []*proxier.Frontend) bool {
	return slices.ContainsFunc(frontends, func(f *proxier.Frontend) bool { return f.StandIn != nil })
}

// podMatch returns the tests for a packet that comes from a pod, none if the node cannot tell.
// An empty test matches every packet.
func podMatch(in input) []string {
	pods := in.node.Pods.For(in.v6)
	if pods.Interface != "" {
		return []string{"-i " + pods.Interface}
	}
	var out []string
	for _, p := range pods.Prefixes {
		out = append(out, prefixMatch("-s", p))
	}
	return out
}

// prefixMatch returns the test for an address, empty if every address passes, as iptables-save
// prints it.
func prefixMatch(flag string, p netip.Prefix) string {
	if p.Bits() == 0 {
		return ""
	}
	return flag + " " + p.Masked().String()
}

// portMatch returns the test for a protocol and destination port.
func portMatch(k proxier.FrontendKey) string { return string(appendPort(nil, k)) }

func appendPort(b []byte, k proxier.FrontendKey) []byte {
	p := protocol(k.Protocol)
	b = append(append(append(append(append(b, "-p "...), p...), " -m "...), p...), " --dport "...)
	return strconv.AppendUint(b, uint64(k.Port), 10)
}

// keyMatch returns the test for a frontend's packets. A NodePort has no address to test; where
// its tree is entered, the packet is known to be for the node.
func keyMatch(k proxier.FrontendKey) string {
	b := make([]byte, 0, 80)
	if !k.IsNodePort() {
		b = netip.PrefixFrom(k.Addr, k.Addr.BitLen()).AppendTo(append(b, "-d "...))
		b = append(b, ' ')
	}
	return string(appendPort(b, k))
}

// unspecified returns the address in the key of a NodePort.
func unspecified(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func protocol(p proxier.Protocol) string {
	switch p {
	case proxier.UDP:
		return "udp"
	case proxier.SCTP:
		return "sctp"
	}
	return "tcp"
}

// rule joins the parts of a rule that are not empty.
func rule(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

// hash returns the 16 characters that kube-proxy's chain names end in: base32 of SHA-256.
func hash(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
	}
	var sum [sha256.Size]byte
	return base32.StdEncoding.EncodeToString(h.Sum(sum[:0]))[:16]
}
