package trace

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairway-lb/fairway/iptables/restore"
)

// A Packet is the first of a new connection.
type Packet struct {
	Src, Dst netip.Addr
	Protocol string // tcp, udp or sctp
	Port     uint16 // destination
	In       string // the interface it arrives on; empty if this node sends it
	Mark     uint32
}

// An Outcome is what becomes of a packet.
type Outcome struct {
	// Verdict is ACCEPT, DROP, or what REJECT answers with, such as tcp-reset.
	Verdict string
	// To is where the packet goes: its destination, or where DNAT sends it.
	To netip.AddrPort
	// Masqueraded tells that its source is replaced.
	Masqueraded bool
	// Probability of this outcome, with recent lists empty; outcomes of lists have none.
	Probability float64
	// Affinity is the name of the recent list that was written, if any.
	Affinity string
	// Mark is the packet's at the end.
	Mark uint32
}

// A Machine holds rules and the addresses of the node.
type Machine struct {
	tables map[string]map[string]*chain
	local  func(netip.Addr) bool
	// Socket, if set, tells whether a socket is bound to an address and port of a protocol.
	Socket func(at netip.AddrPort, protocol string) bool
	// Visit, if set, is called for every rule that a packet is tried on.
	Visit func(table, chain string, rule string)
}

type chain struct {
	policy string
	rules  []rule
}

type rule struct {
	text    string
	matches []match
	target  string
	jump    string // chain to jump to
	goTo    bool
	args    map[string]string
}

// New returns a machine. It fails if it does not understand a rule, or if a rule leads to a chain
// that is not there.
func New(rules restore.Ruleset, local func(netip.Addr) bool) (*Machine, error) {
	m := &Machine{tables: map[string]map[string]*chain{}, local: local}
	for _, t := range rules {
		chains := map[string]*chain{}
		m.tables[t.Name] = chains
		for _, c := range t.Chains {
			chains[c.Name] = &chain{policy: c.Policy}
		}
		for _, c := range t.Chains {
			for _, text := range c.Rules {
				r, err := parse(text)
				if err == nil && r.target != "" && !builtinTarget(r.target) {
					r.jump = r.target
					if chains[r.jump] == nil {
						err = errors.New("no such chain")
					}
				}
				if err != nil {
					return nil, fmt.Errorf("%s %s: rule %q: %w", t.Name, c.Name, text, err)
				}
				chains[c.Name].rules = append(chains[c.Name].rules, r)
			}
		}
	}
	return m, nil
}

func builtinTarget(s string) bool {
	return slices.Contains([]string{"ACCEPT", "DROP", "RETURN", "REJECT", "MARK", "DNAT", "MASQUERADE"}, s)
}

// A walk is one way through the rules.
type walk struct {
	packet      Packet
	translated  bool
	masquerade  bool
	probability float64
	affinity    string
	// dice are the choices to repeat; when they run out, the first alternative is taken and the
	// other is noted in pending.
	dice    []bool
	thrown  []bool
	pending [][]bool
}

// Run returns every outcome of a packet, in the order of the rules that decide.
func (m *Machine) Run(p Packet) ([]Outcome, error) {
	var out []Outcome
	todo := [][]bool{nil}
	for len(todo) > 0 {
		w := &walk{packet: p, probability: 1, dice: todo[len(todo)-1]}
		todo = todo[:len(todo)-1]
		verdict, err := m.travel(w)
		if err != nil {
			return nil, err
		}
		out = append(out, Outcome{
			Verdict: verdict, To: netip.AddrPortFrom(w.packet.Dst, w.packet.Port),
			Masqueraded: w.masquerade, Probability: w.probability, Affinity: w.affinity, Mark: w.packet.Mark,
		})
		todo = append(todo, w.pending...)
	}
	return out, nil
}

// travel takes a packet through the hooks, in netfilter's order.
func (m *Machine) travel(w *walk) (string, error) {
	if w.packet.In == "" {
		return m.hooks(w, "nat OUTPUT", "filter OUTPUT", "nat POSTROUTING")
	}
	if verdict, err := m.hooks(w, "nat PREROUTING"); err != nil || verdict != "ACCEPT" {
		return verdict, err
	}
	if m.local(w.packet.Dst) { // routing looks at the translated destination
		return m.hooks(w, "filter INPUT")
	}
	return m.hooks(w, "filter FORWARD", "nat POSTROUTING")
}

func (m *Machine) hooks(w *walk, names ...string) (verdict string, err error) {
	for _, name := range names {
		table, chain, _ := strings.Cut(name, " ")
		if verdict, err = m.hook(w, table, chain); err != nil || verdict != "ACCEPT" {
			break
		}
	}
	return verdict, err
}

// hook runs a built-in chain and what it calls.
func (m *Machine) hook(w *walk, table, name string) (string, error) {
	base := m.tables[table][name]
	if base == nil {
		return "ACCEPT", nil
	}
	verdict, err := m.chain(w, table, name, 0)
	if verdict == "" {
		verdict = base.policy
	}
	return verdict, err
}

// chain returns a verdict, or "" to go on after the rule that jumped here. depth counts jumps and
// gotos, as nf_tables does.
func (m *Machine) chain(w *walk, table, name string, depth int) (string, error) {
	if depth > 15 {
		return "", fmt.Errorf("%s %s: more than 16 chains deep", table, name)
	}
	for _, r := range m.tables[table][name].rules {
		if m.Visit != nil {
			m.Visit(table, name, r.text)
		}
		if !m.matches(w, r) {
			continue
		}
		switch r.target {
		case "":
		case "ACCEPT", "DROP":
			return r.target, nil
		case "RETURN":
			return "", nil
		case "REJECT":
			return r.args["--reject-with"], nil
		case "MARK":
			if err := w.mark(r.args["--set-xmark"]); err != nil {
				return "", err
			}
		case "DNAT":
			to, err := netip.ParseAddrPort(r.args["--to-destination"])
			if err != nil {
				return "", err
			}
			w.packet.Dst, w.packet.Port, w.translated = to.Addr(), to.Port(), true
			return "ACCEPT", nil
		case "MASQUERADE":
			w.masquerade = true
			return "ACCEPT", nil
		default:
			verdict, err := m.chain(w, table, r.jump, depth+1)
			if err != nil || verdict != "" || r.goTo {
				return verdict, err
			}
		}
	}
	return "", nil
}

func (w *walk) mark(xmark string) error {
	value, mask, _ := strings.Cut(xmark, "/")
	v, err := strconv.ParseUint(value, 0, 32)
	if err != nil {
		return err
	}
	k, err := strconv.ParseUint(mask, 0, 32)
	w.packet.Mark = w.packet.Mark&^uint32(k) ^ uint32(v)
	return err
}

// flip decides something that two packets alike may decide differently. p is the probability of
// yes.
func (w *walk) flip(p float64) bool {
	yes := true
	if n := len(w.thrown); n < len(w.dice) {
		yes = w.dice[n]
	} else {
		w.pending = append(w.pending, append(slices.Clone(w.thrown), false))
	}
	w.thrown = append(w.thrown, yes)
	if yes {
		w.probability *= p
	} else {
		w.probability *= 1 - p
	}
	return yes
}
