package restore

import (
	"fmt"
	"slices"
	"strings"
)

// A Ruleset is a list of tables, as iptables-save prints them.
type Ruleset []Table

// A Table is one table, such as nat.
type Table struct {
	Name   string  `json:"name"`
	Chains []Chain `json:"chains"`
}

// A Chain is one chain of a table.
type Chain struct {
	Name string `json:"name"`
	// Policy is ACCEPT or DROP for a built-in chain, and empty for a chain that somebody made.
	Policy string `json:"policy,omitempty"`
	// Rules are without "-A CHAIN ".
	Rules []string `json:"rules"`
}

// Table returns the table of that name, or nil.
func (r Ruleset) Table(name string) *Table {
	for i := range r {
		if r[i].Name == name {
			return &r[i]
		}
	}
	return nil
}

// Chain returns the chain of that name, or nil. It searches from the first.
func (t *Table) Chain(name string) *Chain {
	if t == nil {
		return nil
	}
	for i := range t.Chains {
		if t.Chains[i].Name == name {
			return &t.Chains[i]
		}
	}
	return nil
}

// Sort orders the chains as iptables-nft-save does: built-in ones first, as they are, and the
// others by name.
func (t *Table) Sort() {
	made := func(c Chain) bool { return c.Policy == "" }
	var builtin []Chain
	for _, c := range t.Chains {
		if !made(c) {
			builtin = append(builtin, c)
		}
	}
	rest := slices.DeleteFunc(t.Chains, func(c Chain) bool { return !made(c) })
	slices.SortFunc(rest, func(a, b Chain) int { return strings.Compare(a.Name, b.Name) })
	t.Chains = slices.Insert(rest, 0, builtin...)
}

// String returns the text that iptables-restore reads.
func (r Ruleset) String() string { return string(r.Append(nil)) }

// Append appends the text that iptables-restore reads to b.
func (r Ruleset) Append(b []byte) []byte {
	for _, t := range r {
		b = t.Append(b)
	}
	return b
}

// Append appends the text that iptables-restore reads to b.
func (t Table) Append(b []byte) []byte {
	b = append(append(append(b, '*'), t.Name...), '\n')
	for _, c := range t.Chains {
		policy := c.Policy
		if policy == "" {
			policy = "-"
		}
		b = append(append(append(append(append(b, ':'), c.Name...), ' '), policy...), " [0:0]\n"...)
	}
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			b = append(append(append(append(append(b, "-A "...), c.Name...), ' '), r...), '\n')
		}
	}
	return append(b, "COMMIT\n"...)
}

// Parse reads what iptables-save printed, with or without counters. An error names the line.
func Parse(text []byte) (Ruleset, error) {
	var out Ruleset
	var table *Table          // the table being read, nil outside
	index := map[string]int{} // chain name -> position in table
	line := 0
	for l := range strings.Lines(string(text)) { // one copy; all rules are parts of it
		line++
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' {
			continue
		}
		if table == nil {
			if l[0] != '*' || !isName(l[1:]) {
				return nil, fmt.Errorf("line %d: not a table: %.80q", line, l)
			}
			out = append(out, Table{Name: l[1:]})
			table = &out[len(out)-1]
			clear(index)
			continue
		}
		var err error
		switch {
		case l == "COMMIT":
			table = nil
		case l[0] == ':':
			err = parseChain(table, index, l[1:])
		default:
			err = parseRule(table, index, l)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
	if table != nil {
		return nil, fmt.Errorf("line %d: table %s does not end with COMMIT", line, table.Name)
	}
	return out, nil
}

func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

func parseChain(t *Table, index map[string]int, l string) error {
	name, rest, _ := strings.Cut(l, " ")
	policy, counters, _ := strings.Cut(strings.TrimSpace(rest), " ")
	counters = strings.TrimSpace(counters)
	if !isName(name) || !isName(policy) || counters != "" && !isCounters(counters) {
		return fmt.Errorf("not a chain: %.80q", l)
	}
	if _, ok := index[name]; ok {
		return fmt.Errorf("chain %s occurs twice", name)
	}
	if policy == "-" {
		policy = ""
	}
	index[name] = len(t.Chains)
	t.Chains = append(t.Chains, Chain{Name: name, Policy: policy})
	return nil
}

func parseRule(t *Table, index map[string]int, l string) error {
	if l[0] == '[' {
		counters, rest, _ := strings.Cut(l, " ")
		if !isCounters(counters) {
			return fmt.Errorf("not a rule: %.80q", l)
		}
		l = strings.TrimSpace(rest)
	}
	rest, ok := strings.CutPrefix(l, "-A ")
	if !ok {
		return fmt.Errorf("not a rule: %.80q", l)
	}
	name, rule, _ := strings.Cut(strings.TrimSpace(rest), " ")
	i, ok := index[name]
	if !ok {
		return fmt.Errorf("rule in chain %.80q, which is not declared", name)
	}
	t.Chains[i].Rules = append(t.Chains[i].Rules, strings.TrimSpace(rule))
	return nil
}

// isCounters reports whether s looks like [packets:bytes].
func isCounters(s string) bool {
	s, ok := strings.CutPrefix(s, "[")
	s, ok2 := strings.CutSuffix(s, "]")
	packets, count, ok3 := strings.Cut(s, ":")
	return ok && ok2 && ok3 && isDigits(packets) && isDigits(count)
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// Args splits a rule into its arguments: at spaces, with double quotes and backslashes as
// iptables-restore understands them. An unfinished quotation ends with the rule.
func Args(rule string) []string { return AppendArgs(nil, rule) }

// AppendArgs appends the arguments of a rule to out.
func AppendArgs(out []string, rule string) []string {
	if !strings.Contains(rule, `"`) { // as most
		for arg := range strings.FieldsFuncSeq(rule, func(r rune) bool { return r == ' ' || r == '\t' }) {
			out = append(out, arg)
		}
		return out
	}
	var arg strings.Builder
	quoted, escaped, started := false, false, false
	for i := range len(rule) {
		c := rule[i]
		switch {
		case escaped:
			arg.WriteByte(c)
			escaped = false
		case c == '\\' && quoted:
			escaped = true
		case c == '"':
			quoted = !quoted
			started = true
		case (c == ' ' || c == '\t') && !quoted:
			if started {
				out = append(out, arg.String())
				arg.Reset()
				started = false
			}
		default:
			arg.WriteByte(c)
			started = true
		}
	}
	if started {
		out = append(out, arg.String())
	}
	return out
}

// Target returns the chain or target that a rule jumps or goes to, and "" if it has none.
func Target(rule string) string {
	if strings.Contains(rule, `"`) {
		args := Args(rule)
		for i, a := range args[:max(0, len(args)-1)] {
			if a == "-j" || a == "-g" {
				return args[i+1]
			}
		}
		return ""
	}
	rest := ""
	if i := strings.LastIndex(" "+rule, " -j "); i >= 0 {
		rest = rule[i+3:]
	} else if i := strings.LastIndex(" "+rule, " -g "); i >= 0 {
		rest = rule[i+3:]
	}
	name, _, _ := strings.Cut(rest, " ")
	return name
}
