package view

import (
	"fmt"
	"strconv"
	"strings"
)

// A token is one word, number, text or sign of an expression.
type token struct {
	kind tokenKind
	text string // of a text without its quotes
}

type tokenKind int

const (
	end tokenKind = iota
	word
	number
	text
	sign
)

func (t token) String() string {
	if t.kind == end {
		return "the end"
	}
	return strconv.Quote(t.text)
}

// signs are the longest first.
var signs = []string{"==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "(", ")", "[", "]", ","}

// lex splits an expression.
func lex(s string) (out []token, err error) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		var t token
		switch c := s[0]; {
		case c == '\'' || c == '"':
			if t, s, err = quoted(s); err != nil {
				return nil, err
			}
			out = append(out, t)
			continue
		case isDigit(c):
			t = token{number, s[:span(s, isDigit)]}
		case isLetter(c):
			t = token{word, s[:span(s, func(c byte) bool { return isLetter(c) || isDigit(c) })]}
		default:
			for _, sg := range signs {
				if strings.HasPrefix(s, sg) {
					t = token{sign, sg}
					break
				}
			}
			if t.text == "" {
				return nil, fmt.Errorf("%q is not supported", s[:1])
			}
		}
		out = append(out, t)
		s = s[len(t.text):]
	}
	return append(out, token{}), nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }

func span(s string, is func(byte) bool) int {
	n := 0
	for n < len(s) && is(s[n]) {
		n++
	}
	return n
}

// quoted reads a text in quotes of either kind, in which a backslash escapes.
func quoted(s string) (t token, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case s[0]:
			return token{text, b.String()}, s[i+1:], nil
		case '\\':
			if i++; i == len(s) {
				return t, "", fmt.Errorf("the text %s has no end", s)
			}
			switch s[i] {
			case '\\', '\'', '"':
				b.WriteByte(s[i])
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			default:
				return t, "", fmt.Errorf("the escape \\%c is not supported", s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return t, "", fmt.Errorf("the text %s has no end", s)
}
