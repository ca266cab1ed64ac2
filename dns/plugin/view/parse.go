package view

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/fairway-lb/fairway/dns/plugin"
)

// A kind is the type of a value.
type kind string

const (
	isBool kind = "truth value"
	isInt  kind = "number"
	isText kind = "text"
	isList kind = "list"
)

// A value is what an expression results in.
type value struct {
	truth bool
	num   int
	text  string
	list  []value
}

// An expr is a part of an expression that can be worked out for a query.
type expr struct {
	kind  kind
	of    kind   // of a list's values
	fixed *value // set if it is the same for every query
	eval  func(r *plugin.Request) value
}

func constant(k kind, v value) expr {
	return expr{kind: k, fixed: &v, eval: func(*plugin.Request) value { return v }}
}

const (
	maxLength = 10000 // bytes of an expression
	maxDepth  = 50    // of parentheses and such
)

type parser struct {
	tokens []token
	depth  int
}

// parse compiles an expression, which must be a truth value.
func parse(s string) (expr, error) {
	if len(s) > maxLength {
		return expr{}, fmt.Errorf("longer than %d bytes", maxLength)
	}
	tokens, err := lex(s)
	if err != nil {
		return expr{}, err
	}
	p := &parser{tokens: tokens}
	e, err := p.or()
	if err != nil {
		return expr{}, err
	}
	if t := p.tokens[0]; t.kind != end {
		return expr{}, fmt.Errorf("%v is not expected", t)
	}
	if e.kind != isBool {
		return expr{}, fmt.Errorf("it is a %s, want a %s", e.kind, isBool)
	}
	return e, nil
}

// accept takes the next token if it is one of these signs or words.
func (p *parser) accept(texts ...string) (string, bool) {
	t := p.tokens[0]
	if t.kind != sign && t.kind != word || !slices.Contains(texts, t.text) {
		return "", false
	}
	p.tokens = p.tokens[1:]
	return t.text, true
}

func (p *parser) expect(text string) error {
	if _, ok := p.accept(text); !ok {
		return fmt.Errorf("%v where %q should be", p.tokens[0], text)
	}
	return nil
}

// or reads a chain of "or".
func (p *parser) or() (expr, error) {
	return p.chain(p.and, []string{"||", "or"}, func(a, b func(*plugin.Request) value) func(*plugin.Request) value {
		return func(r *plugin.Request) value { return value{truth: a(r).truth || b(r).truth} }
	})
}

// and reads a chain of "and".
func (p *parser) and() (expr, error) {
	return p.chain(p.comparison, []string{"&&", "and"}, func(a, b func(*plugin.Request) value) func(*plugin.Request) value {
		return func(r *plugin.Request) value { return value{truth: a(r).truth && b(r).truth} }
	})
}

func (p *parser) chain(part func() (expr, error), by []string, join func(a, b func(*plugin.Request) value) func(*plugin.Request) value) (expr, error) {
	left, err := part()
	for err == nil {
		op, ok := p.accept(by...)
		if !ok {
			return left, nil
		}
		var right expr
		if right, err = part(); err == nil && (left.kind != isBool || right.kind != isBool) {
			err = fmt.Errorf("%s between a %s and a %s", op, left.kind, right.kind)
		}
		left = expr{kind: isBool, eval: join(left.eval, right.eval)}
	}
	return left, err
}

var comparisons = []string{"==", "!=", "<=", ">=", "<", ">", "in", "not", "matches", "contains", "startsWith", "endsWith"}

// comparison reads a value, or two values that are compared.
func (p *parser) comparison() (expr, error) {
	left, err := p.unary()
	if err != nil {
		return left, err
	}
	op, ok := p.accept(comparisons...)
	if !ok {
		return left, nil
	}
	negate := false
	if op == "not" {
		negate = true
		if op, ok = p.accept("in", "matches", "contains", "startsWith", "endsWith"); !ok {
			return left, fmt.Errorf("%v after not", p.tokens[0])
		}
	}
	right, err := p.unary()
	if err != nil {
		return right, err
	}
	e, err := compare(op, left, right)
	if negate && err == nil {
		return not(e)
	}
	return e, err
}

func compare(op string, a, b expr) (expr, error) {
	test := func(f func(a, b value) bool) (expr, error) {
		return expr{kind: isBool, eval: func(r *plugin.Request) value { return value{truth: f(a.eval(r), b.eval(r))} }}, nil
	}
	bad := fmt.Errorf("%s between a %s and a %s", op, a.kind, b.kind)
	same := func(x, y value) bool { return x.truth == y.truth && x.num == y.num && x.text == y.text }
	switch op {
	case "==", "!=":
		if a.kind != b.kind || a.kind == isList {
			return expr{}, bad
		}
		return test(func(x, y value) bool { return same(x, y) == (op == "==") })
	case "in":
		if b.kind != isList || b.of != "" && b.of != a.kind || a.kind == isList {
			return expr{}, bad
		}
		return test(func(x, y value) bool {
			return slices.ContainsFunc(y.list, func(v value) bool { return same(x, v) })
		})
	case "<", "<=", ">", ">=":
		if a.kind != b.kind || a.kind != isInt {
			return expr{}, bad
		}
		return test(func(x, y value) bool {
			switch op {
			case "<":
				return x.num < y.num
			case "<=":
				return x.num <= y.num
			case ">":
				return x.num > y.num
			}
			return x.num >= y.num
		})
	}
	if a.kind != isText || b.kind != isText {
		return expr{}, bad
	}
	if op == "matches" {
		return matches(a, b)
	}
	f := map[string]func(s, part string) bool{"contains": strings.Contains, "startsWith": strings.HasPrefix, "endsWith": strings.HasSuffix}[op]
	return test(func(x, y value) bool { return f(x.text, y.text) })
}

func matches(a, b expr) (expr, error) {
	if b.fixed == nil {
		return expr{}, errors.New("a pattern must be a text in quotes")
	}
	re, err := regexp.Compile(b.fixed.text)
	return expr{kind: isBool, eval: func(r *plugin.Request) value { return value{truth: re.MatchString(a.eval(r).text)} }}, err
}

func not(e expr) (expr, error) {
	if e.kind != isBool {
		return expr{}, fmt.Errorf("not before a %s", e.kind)
	}
	return expr{kind: isBool, eval: func(r *plugin.Request) value { return value{truth: !e.eval(r).truth} }}, nil
}

// unary reads a value with "not" before it, any number of times.
func (p *parser) unary() (expr, error) {
	if p.depth++; p.depth > maxDepth {
		return expr{}, fmt.Errorf("deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	if _, ok := p.accept("!", "not"); ok {
		e, err := p.unary()
		if err != nil {
			return e, err
		}
		return not(e)
	}
	return p.value()
}

// value reads a text, a number, a list, a function, or an expression in parentheses.
func (p *parser) value() (expr, error) {
	t := p.tokens[0]
	if t.kind != end {
		p.tokens = p.tokens[1:]
	}
	switch {
	case t.kind == text:
		return constant(isText, value{text: t.text}), nil
	case t.kind == number:
		n, err := strconv.Atoi(t.text)
		return constant(isInt, value{num: n}), err
	case t.kind == word && (t.text == "true" || t.text == "false"):
		return constant(isBool, value{truth: t.text == "true"}), nil
	case t.kind == word:
		return p.call(t.text)
	case t == token{sign, "("}:
		e, err := p.or()
		if err == nil {
			err = p.expect(")")
		}
		return e, err
	case t == token{sign, "["}:
		return p.list()
	}
	return expr{}, fmt.Errorf("%v where a value should be", t)
}

// list reads values up to a bracket. They are fixed and of one kind.
func (p *parser) list() (expr, error) {
	var v value
	e := expr{}
	for {
		if _, ok := p.accept("]"); ok {
			l := constant(isList, v)
			l.of = e.of
			return l, nil
		}
		item, err := p.unary()
		if err != nil {
			return e, err
		}
		if item.fixed == nil || item.kind == isList || e.of != "" && e.of != item.kind {
			return e, errors.New("a list has texts or numbers, all of one kind")
		}
		e.of = item.kind
		v.list = append(v.list, *item.fixed)
		if _, ok := p.accept(","); !ok {
			if p.tokens[0] != (token{sign, "]"}) {
				return e, fmt.Errorf("%v in a list", p.tokens[0])
			}
		}
	}
}

// call reads the arguments of a function.
func (p *parser) call(name string) (expr, error) {
	if err := p.expect("("); err != nil {
		return expr{}, err
	}
	if name == "incidr" {
		return p.incidr()
	}
	f, ok := functions[name]
	if !ok {
		return expr{}, fmt.Errorf("the function %s is not supported", name)
	}
	return f, p.expect(")")
}

// incidr reads an address and a fixed network.
func (p *parser) incidr() (expr, error) {
	a, err := p.or()
	if err == nil {
		err = p.expect(",")
	}
	if err != nil {
		return a, err
	}
	b, err := p.or()
	if err == nil {
		err = p.expect(")")
	}
	if err != nil {
		return b, err
	}
	if a.kind != isText || b.kind != isText || b.fixed == nil {
		return b, errors.New("incidr takes an address, and a network in quotes")
	}
	network, err := netip.ParsePrefix(b.fixed.text)
	network = network.Masked()
	return expr{kind: isBool, eval: func(r *plugin.Request) value {
		addr, err := netip.ParseAddr(a.eval(r).text)
		return value{truth: err == nil && network.Contains(addr.Unmap())}
	}}, err
}
