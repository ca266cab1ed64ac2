package view

import (
	"strings"
	"testing"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
)

func TestMatch(t *testing.T) {
	tests := []struct {
		expr, ask string
		want      bool
	}{
		{"incidr(client_ip(), '10.244.0.0/16')", "a. A", true},
		{"incidr(client_ip(), '10.245.0.0/16')", "a. A", false},
		{"incidr(client_ip(), '2001:0DB8::/32')", "a. A from=2001:db8::1", true},
		{"incidr(client_ip(), '10.0.0.0/8')", "a. A from=::ffff:10.0.0.1", true},
		{"incidr(name(), '10.0.0.0/8')", "a. A", false},
		{"type() in ['A', 'AAAA']", "a. AAAA", true},
		{"type() in ['A', 'AAAA']", "a. MX", false},
		{"type() not in ['A', 'AAAA']", "a. MX", true},
		{"type() in []", "a. MX", false},
		{`name() matches '^abc\\..*\\.example\\.com\\.$'`, "abc.x.y.Example.com. A", true},
		{`name() matches '^abc\\..*\\.example\\.com\\.$'`, "abc.example.com. A", false},
		{"(type() == 'A' && name() == 'example.com.') || client_ip() == '1.2.3.4'", "EXAMPLE.com. A", true},
		{"(type() == 'A' && name() == 'example.com.') || client_ip() == '1.2.3.4'", "example.com. MX", false},
		{"(type() == 'A' && name() == 'example.com.') || client_ip() == '1.2.3.4'", "x. MX from=1.2.3.4", true},
		{"true || false && false", "a. A", true},
		{"!(type() == 'A')", "a. A", false},
		{"not do() and proto() == \"udp\"", "a. A", true},
		{"not do() and proto() == \"udp\"", "a. A do", false},
		{"do() == true", "a. A do", true},
		{"bufsize() >= 1232 and bufsize() < 1233", "a. A do", true},
		{"bufsize() == 65535", "a. A tcp", true},
		{"bufsize() == 512 && size() > 10 && opcode() <= 0 && id() != 70000", "a. A", true},
		{"name() startsWith 'a.' && name() endsWith '.b.' && name() contains '.x.'", "a.x.b. A", true},
		{"port() == '40212' and server_port() == '53' and server_ip() == '10.96.0.10' and class() == 'IN'", "a. A", true},
		{`name() == 'a\'b\\.'`, `a'b\. A`, false},
		{"size() in [1, 2, 3]", "a. A", false},
	}
	for _, tc := range tests {
		t.Run(tc.expr+" "+tc.ask, func(t *testing.T) {
			v, err := New(&corefile.View{Name: "v", Exprs: []string{"true", tc.expr}})
			if err != nil {
				t.Fatal(err)
			}
			if got := v.Match(plugintest.Ask(t, tc.ask)); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

func TestBadExpressions(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "the end where a value should be",
		"name()":                         "it is a text, want a truth value",
		"name() == 1":                    "== between a text and a number",
		"name() && true":                 "&& between a text and a truth value",
		"!name()":                        "not before a text",
		"name() < 'a'":                   "< between",
		"type() in 'A'":                  "in between",
		"type() in [1]":                  "in between",
		"type() in ['A', 1]":             "all of one kind",
		"type() in [name()]":             "a list has texts or numbers",
		"type() in ['A' 'B']":            `"B" in a list`,
		"metadata('a/b') == ''":          "the function metadata is not supported",
		"name == 'a'":                    `"==" where "(" should be`,
		"name( == 'a'":                   `where ")" should be`,
		"(true":                          `the end where ")" should be`,
		"true true":                      `"true" is not expected`,
		"name() matches name()":          "a pattern must be a text in quotes",
		"name() matches '('":             "error parsing regexp",
		"incidr(client_ip(), 'x')":       "no '/'",
		"incidr(client_ip(), name())":    "a network in quotes",
		"incidr(client_ip())":            `where "," should be`,
		"'a":                             "has no end",
		`'a\q' == ''`:                    `the escape \q`,
		"1 + 1 == 2":                     `"+" is not supported`,
		"true ? true : false":            `"?" is not supported`,
		"type() not == 'A'":              "after not",
		strings.Repeat("(", 60) + "true": "deeper than",
		strings.Repeat("!", 60) + "true": "deeper than",
		strings.Repeat("[", 60):          "deeper than",
		strings.Repeat("true||", 3000):   "longer than",
		"99999999999999999999 == size()": "out of range",
	} {
		if _, err := New(&corefile.View{Exprs: []string{text}}); err == nil ||
			!strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "expression ") {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

// FuzzParse compiles anything, and works out what compiles.
func FuzzParse(f *testing.F) {
	f.Add("incidr(client_ip(), '10.0.0.0/8') and not (type() in ['A', \"B\"]) || size() >= 1")
	f.Fuzz(func(t *testing.T, text string) {
		if e, err := parse(text); err == nil {
			e.eval(plugintest.Ask(t, "a.b. A"))
		}
	})
}
