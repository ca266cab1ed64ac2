package corefile

import (
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"

	dnswire "github.com/miekg/dns"
)

func parseRewrite(s *stanza) (*Rewrite, error) {
	d := &Rewrite{}
	return d, s.each(func() error {
		r := RewriteRule{Pos: s.pos()}
		if s.number == 1 {
			d.Pos = r.Pos
		}
		args := s.RemainingArgs()
		if len(args) < 2 { // rewrite stop { name regex a b; answer name b a }
			for s.NextBlock() {
				args = append(args, s.Val())
			}
		}
		if len(args) == 0 {
			return s.Errf("no rule type specified for rewrite")
		}
		if mode := strings.ToLower(args[0]); mode == "continue" || mode == "stop" {
			if r.Continue, args = mode == "continue", args[1:]; len(args) == 0 {
				return s.Errf("%s rule must begin with a rule type", mode)
			}
		}
		err := s.rewriteRule(&r, strings.ToLower(args[0]), args[1:])
		d.Rules = append(d.Rules, r)
		return err
	})
}

func (s *stanza) rewriteRule(r *RewriteRule, kind string, args []string) (err error) {
	switch kind {
	case "answer":
		return s.Errf("response rewrites must begin with a name rule")
	case "name":
		r.Name, err = s.rewriteName(args)
	case "class":
		r.Class, err = s.rewriteCode(kind, args, dnswire.StringToClass)
	case "type":
		r.Type, err = s.rewriteCode(kind, args, dnswire.StringToType)
	case "ttl":
		r.TTL, err = s.rewriteTTL(args)
	case "rcode":
		r.Rcode, err = s.rewriteRcode(args)
	case "cname":
		r.CNAME, err = s.rewriteCNAME(args)
	case "edns0":
		r.EDNS0, err = s.rewriteEDNS0(args)
	default:
		return s.Errf("invalid rule type %q", kind)
	}
	return err
}

// nameMatch makes a condition on names of one of the five kinds.
func (s *stanza) nameMatch(rule, kind, text string) (m NameMatch, err error) {
	m = NameMatch{Kind: strings.ToLower(kind), Text: text}
	switch m.Kind {
	case "exact", "prefix", "suffix", "substring":
		m.Text = normalize(text)
	case "regex":
		if len(text) > maxRegexp {
			return m, s.Errf("regex pattern too long in a %s rule: %d > %d", rule, len(text), maxRegexp)
		}
		if m.Pattern, err = regexp.Compile(text); err != nil {
			return m, s.Errf("invalid regex pattern in a %s rule: %s", rule, text)
		}
	default:
		return m, s.Errf("%s rule supports only exact, prefix, suffix, substring, and regex name matching, received: %s", rule, m.Kind)
	}
	return m, nil
}

// groups compiles a pattern, which must have as many groups as the replacement uses.
func (s *stanza) groups(from, to string) (*regexp.Regexp, error) {
	if len(from) > maxRegexp {
		return nil, s.Errf("regex pattern too long: %d > %d", len(from), maxRegexp)
	}
	re, err := regexp.Compile(from)
	if err != nil {
		return nil, s.Errf("invalid regex matching pattern: %s", from)
	}
	used := 0
	for i := range 101 {
		if strings.Contains(to, "{"+strconv.Itoa(i)+"}") {
			used++
		}
	}
	if used > re.NumSubexp() {
		return nil, s.Errf("the rewrite regex pattern (%s) uses more subexpressions than its corresponding matching regex pattern (%s)", to, from)
	}
	return re, nil
}

// rewriteName reads [exact|prefix|suffix|substring|regex] FROM TO [answer ...]...
func (s *stanza) rewriteName(args []string) (*RewriteName, error) {
	if len(args) < 2 {
		return nil, s.Errf("too few arguments for a name rule")
	}
	if len(args) == 2 {
		args = append([]string{"exact"}, args...)
	}
	r := &RewriteName{}
	var err error
	if strings.ToLower(args[0]) == "regex" {
		r.Match = NameMatch{Kind: "regex", Text: args[1]}
		r.Match.Pattern, err = s.groups(args[1], args[2])
	} else {
		r.Match, err = s.nameMatch("name", args[0], args[1])
	}
	if err != nil {
		return nil, err
	}
	r.To = normalize(args[2])
	r.Auto = r.Match.Kind == "exact"
	if len(args) == 3 {
		return r, nil
	}
	auto, err := s.answers(r, args[3:])
	r.Auto = r.Auto || auto
	return r, err
}

// answers reads answer auto, answer name FROM TO and answer value FROM TO, any number of them.
// The word answer may be left out after the first.
func (s *stanza) answers(r *RewriteName, args []string) (auto bool, err error) {
	kind := r.Match.Kind
	if len(args) < 2 {
		return false, s.Errf("invalid arguments for %s rule", kind)
	}
	if args[0] != "answer" {
		return false, s.Errf("exceeded the number of arguments for a non-answer rule argument for %s rule", kind)
	}
	names := false
	for len(args) > 0 {
		if args[0] == "answer" {
			if args = args[1:]; len(args) == 0 {
				return false, s.Errf("type missing for answer rule for %s rule", kind)
			}
		}
		what := args[0]
		args = args[1:]
		switch what {
		case "auto":
			auto = true
			continue
		case "name", "value":
		default:
			return false, s.Errf("invalid type %q for answer rule for %s rule", what, kind)
		}
		if len(args) < 2 {
			return false, s.Errf("%s answer rule for %s rule: 2 arguments required", what, kind)
		}
		re, err := s.groups(args[0], args[1])
		if err != nil {
			return false, err
		}
		names = names || what == "name"
		r.Answers = append(r.Answers, AnswerChange{Value: what == "value", Pattern: re, To: normalize(args[1])})
		args = args[2:]
	}
	if auto && names {
		return false, s.Errf("auto name answer rule cannot be combined with explicit name anwer rules") // CoreDNS's spelling
	}
	return auto, nil
}

// rewriteCode reads FROM TO for a type or a class.
func (s *stanza) rewriteCode(kind string, args []string, codes map[string]uint16) (*RewriteCode, error) {
	if len(args) != 2 {
		return nil, s.Errf("%s rules must have exactly two arguments", kind)
	}
	var out [2]uint16
	for i, a := range args {
		var ok bool
		if out[i], ok = codes[strings.ToUpper(a)]; !ok {
			return nil, s.Errf("invalid %s %q", kind, strings.ToUpper(a))
		}
	}
	return &RewriteCode{From: out[0], To: out[1]}, nil
}

// rewriteTTL reads [KIND] NAME SECONDS, or a range of seconds such as 30-, -300 and 30-300.
func (s *stanza) rewriteTTL(args []string) (*RewriteTTL, error) {
	if len(args) < 2 {
		return nil, s.Errf("too few (%d) arguments for a ttl rule", len(args))
	}
	if len(args) > 3 {
		return nil, s.Errf("too many (%d) arguments for a ttl rule", len(args))
	}
	if len(args) == 2 {
		args = append([]string{"exact"}, args...)
	}
	r := &RewriteTTL{}
	low, high, isRange := strings.Cut(args[2], "-")
	if !isRange {
		high = low
	}
	var ok [2]bool
	r.Min, ok[0] = seconds(low, 0)
	r.Max, ok[1] = seconds(high, 1<<31-1)
	if args[2] == "-" || args[2] == "" || !ok[0] || !ok[1] || r.Min > r.Max {
		return nil, s.Errf("invalid TTL '%s' for a ttl rule", args[2])
	}
	var err error
	r.Match, err = s.nameMatch("ttl", args[0], args[1])
	return r, err
}

// seconds reads a number of 32 bits, none for "".
func seconds(text string, none uint32) (uint32, bool) {
	if text == "" {
		return none, true
	}
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err == nil
}

// rewriteRcode reads [KIND] NAME FROM TO.
func (s *stanza) rewriteRcode(args []string) (*RewriteRcode, error) {
	if len(args) < 3 {
		return nil, s.Errf("too few (%d) arguments for a rcode rule", len(args))
	}
	if len(args) > 4 {
		return nil, s.Errf("too many (%d) arguments for a rcode rule", len(args))
	}
	if len(args) == 3 {
		args = append([]string{"exact"}, args...)
	}
	r := &RewriteRcode{}
	var ok bool
	if r.From, ok = rcode(args[2]); !ok {
		return nil, s.Errf("invalid matching RCODE '%s' for a rcode rule", args[2])
	}
	if r.To, ok = rcode(args[3]); !ok {
		return nil, s.Errf("invalid replacement RCODE '%s' for a rcode rule", args[3])
	}
	var err error
	r.Match, err = s.nameMatch("rcode", args[0], args[1])
	return r, err
}

// rcode reads the name or the number of an rcode.
func rcode(text string) (int, bool) {
	if n, err := strconv.ParseUint(text, 10, 32); err == nil && n <= 23 {
		return int(n), true
	}
	n, ok := dnswire.StringToRcode[strings.ToUpper(text)]
	return n, ok
}

// rewriteCNAME reads [KIND] FROM TO.
func (s *stanza) rewriteCNAME(args []string) (*RewriteCNAME, error) {
	if len(args) == 2 {
		args = append([]string{"exact"}, args...)
	}
	if len(args) != 3 {
		return nil, s.Errf("too few (%d) arguments for a cname rule", len(args))
	}
	r := &RewriteCNAME{To: strings.ToLower(args[2])}
	from := strings.ToLower(args[1])
	switch kind := strings.ToLower(args[0]); kind {
	case "exact":
		r.Match, r.To = NameMatch{Kind: kind, Text: normalize(from)}, normalize(r.To)
	case "prefix", "suffix", "substring": // as they are: no final dot is added
		r.Match = NameMatch{Kind: kind, Text: from}
	case "regex":
		if len(from) > maxRegexp {
			return nil, s.Errf("regex pattern too long in a cname rule: %d > %d", len(from), maxRegexp)
		}
		re, err := regexp.Compile(from)
		if err != nil {
			return nil, s.Errf("invalid cname rewrite regex pattern: %v", err)
		}
		r.Match = NameMatch{Kind: kind, Text: from, Pattern: re}
	default:
		return nil, s.Errf("unknown cname rewrite type: %s", kind)
	}
	return r, nil
}

// rewriteEDNS0 reads local|nsid|subnet set|replace|append|unset [CODE DATA | V4 V6] [revert].
func (s *stanza) rewriteEDNS0(args []string) (r *RewriteEDNS0, err error) {
	if len(args) < 2 {
		return nil, s.Errf("too few arguments for an EDNS0 rule")
	}
	r = &RewriteEDNS0{Option: strings.ToLower(args[0]), Action: strings.ToLower(args[1])}
	unset := false
	switch r.Action {
	case "append", "replace", "set":
		if r.Revert = args[len(args)-1] == "revert"; r.Revert {
			args = args[:len(args)-1]
		}
	case "unset":
		unset = true
	default:
		return nil, s.Errf("invalid action: %q", r.Action)
	}
	args = args[2:]
	switch r.Option {
	case "local":
		switch {
		case unset && len(args) != 1:
			return nil, s.Errf("local unset action requires exactly two arguments")
		case !unset && len(args) != 2:
			return nil, s.Errf("EDNS0 local rules require three or four args")
		}
		err = s.ednsLocal(r, args)
	case "nsid":
		switch {
		case unset && len(args) != 0:
			err = s.Errf("nsid unset action requires exactly one argument")
		case len(args) != 0:
			err = s.Errf("EDNS0 NSID rules can accept no more than one arg")
		}
	case "subnet":
		switch {
		case unset && len(args) != 0:
			err = s.Errf("subnet unset action requires exactly one argument")
		case unset:
		case len(args) != 2:
			err = s.Errf("EDNS0 subnet rules require three or four args")
		default:
			err = s.ednsSubnet(r, args)
		}
	default:
		err = s.Errf("invalid rule type %q", r.Option)
	}
	return r, err
}

// ednsVariable is what stands for a property of the query, or for metadata of another plugin.
var ednsVariable = regexp.MustCompile(`^\{(qname|qtype|client_ip|client_port|protocol|server_ip|server_port|[^{}/]+/[^{}]+)\}$`)

// ednsLocal reads the code and the data of a local option.
func (s *stanza) ednsLocal(r *RewriteEDNS0, args []string) error {
	code, err := strconv.ParseUint(args[0], 0, 16)
	if err != nil {
		return s.Err(err.Error())
	}
	r.Code = uint16(code)
	if len(args) == 1 {
		return nil
	}
	data := args[1]
	if strings.HasPrefix(data, "{") && strings.HasSuffix(data, "}") {
		if !ednsVariable.MatchString(data) {
			return s.Errf("unsupported variable name %q", data)
		}
		r.Variable = data
		return nil
	}
	r.Data = []byte(data)
	if digits, ok := strings.CutPrefix(data, "0x"); ok {
		if r.Data, err = hex.DecodeString(digits); err != nil {
			return s.Err(err.Error())
		}
	}
	return nil
}

// ednsSubnet reads the lengths of the two masks.
func (s *stanza) ednsSubnet(r *RewriteEDNS0, args []string) error {
	for i, family := range []struct {
		name string
		most uint64
		to   *uint8
	}{{"IPv4", 32, &r.V4}, {"IPv6", 128, &r.V6}} {
		n, err := strconv.ParseUint(args[i], 0, 16)
		if err != nil {
			return s.Err(err.Error())
		}
		if n > family.most {
			return s.Errf("invalid %s bit mask length %d", family.name, n)
		}
		*family.to = uint8(n)
	}
	return nil
}
