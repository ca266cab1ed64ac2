package corefile

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"pgregory.net/rapid"
)

func TestKeys(t *testing.T) {
	tests := []struct {
		keys string
		want string
	}{
		{".", "dns://.:53"},
		{".:54", "dns://.:54"},
		{"Example.ORG", "dns://example.org.:53"},
		{"dns://a.org:0, b.org.", "dns://a.org.:0 dns://b.org.:53"},
		{"10.0.0.0/24:5", "dns://0.0.10.in-addr.arpa.:5"},
		{"10.1.254.0/23", "dns://254.1.10.in-addr.arpa.:53 dns://255.1.10.in-addr.arpa.:53"},
		{"10.0.0.7/32", "dns://7.0.0.10.in-addr.arpa.:53"},
		{"0.0.0.0/0", "dns://in-addr.arpa.:53"},
		{"2001:db8::/32:5", "dns://8.b.d.0.1.0.0.2.ip6.arpa.:5"},
		{"2001:db8::/31", "dns://8.b.d.0.1.0.0.2.ip6.arpa.:53 dns://9.b.d.0.1.0.0.2.ip6.arpa.:53"},
	}
	for _, tc := range tests {
		c, err := Parse("Corefile", []byte(tc.keys+" {\n}\n"), Options{})
		if err != nil {
			t.Errorf("%s: %v", tc.keys, err)
			continue
		}
		if got := strings.Trim(fmt.Sprint(c.Blocks[0].Keys), "[]"); got != tc.want {
			t.Errorf("%s: keys are %s, want %s", tc.keys, got, tc.want)
		}
	}
	c, err := Parse("Corefile", []byte("# nothing\n"), Options{DefaultPort: 1053})
	if err != nil {
		t.Fatal(err)
	}
	_, whoami := Find[*Whoami](c.Blocks[0])
	if k := c.Blocks[0].Keys[0]; k != (Key{"dns", ".", 1053}) || !whoami {
		t.Errorf("an empty Corefile serves %v", k)
	}
}

// TestReverseZones: an address is below one of the zones of a prefix exactly if it is in the prefix.
func TestReverseZones(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{4, 16}).Draw(t, "size")
		draw := func(name string) netip.Addr {
			a, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, name))
			return a
		}
		addr, other := draw("addr"), draw("other")
		prefix, err := addr.Prefix(rapid.IntRange(0, size*8).Draw(t, "bits"))
		if err != nil {
			t.Fatal(err)
		}
		zones := reverseZones(prefix)
		for _, a := range []netip.Addr{addr, other, addr.Next(), addr.Prev()} {
			if !a.IsValid() {
				continue
			}
			name, err := dnswire.ReverseAddr(a.String())
			if err != nil || a.Is4In6() {
				continue
			}
			n := 0
			for _, z := range zones {
				if dnswire.IsSubDomain(z, name) {
					n++
				}
			}
			if want := prefix.Contains(a); want != (n == 1) || n > 1 {
				t.Fatalf("%s is below %d zones of %s", a, n, prefix)
			}
		}
	})
}

// write makes files in a new folder and returns the folder.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestImports takes imports from files, from the folder of the importing file.
func TestImports(t *testing.T) {
	t.Setenv("FILE", "more")
	dir := write(t, map[string]string{
		"Corefile":             ". {\n import {$FILE}/*.override\n import common\n forward . 1.1.1.1\n}\nimport more/*.server\n(common) {\n errors\n}\n",
		"common":               "log\n",
		"more/a.override":      "cache\nimport b.txt\n",
		"more/b.txt":           "loop\n",
		"more/a.server":        "a.org:55 {\n import ../snippets\n import s\n bogus\n}\n",
		"snippets":             "whoami\n",
		"more/unused.override": "chaos x\n",
	})
	_, err := Load(filepath.Join(dir, "Corefile"), Options{})
	if want := filepath.Join(dir, "more/s"); err == nil || !strings.Contains(err.Error(), "File to import not found") {
		t.Fatalf("got %v, want that %s is not there", err, want)
	}
	server := filepath.Join(dir, "more/a.server")
	if err := os.WriteFile(server, []byte("a.org:55 {\n import ../snippets\n bogus\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Load(filepath.Join(dir, "Corefile"), Options{})
	if want := server + ":3 - Error during parsing: Unknown directive 'bogus'"; err == nil || err.Error() != want {
		t.Fatalf("got  %v\nwant %s", err, want)
	}
	if err := os.WriteFile(server, []byte("a.org:55 {\n import ../snippets\n}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(filepath.Join(dir, "Corefile"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range c.Blocks {
		for _, d := range b.Plugins {
			rel, _ := filepath.Rel(dir, d.Position().File)
			got = append(got, fmt.Sprintf("%s %s %s:%d", b.Keys[0].Zone, d.Plugin(), rel, d.Position().Line))
		}
	}
	want := []string{
		". log common:1", ". chaos more/unused.override:1", ". cache more/a.override:1", ". loop more/b.txt:1",
		". forward Corefile:4", "a.org. whoami snippets:1",
	}
	if diff := cmp.Diff([]string{want[0], want[1], want[2], want[3], want[4], want[5]}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestBounds has what would keep the library busy, or never end.
func TestBounds(t *testing.T) {
	t.Setenv("LOOP", "{$LOOP}")
	t.Setenv("GROW", "{$GROW}{$GROW}x")
	t.Setenv("INNER", "whoami")
	t.Setenv("OUTER", "{$INNER}")
	dir := write(t, map[string]string{
		"self": "errors\nimport self\n",
		"a":    "import b\n",
		"b":    "import a\n",
		"star": "import st*\n",
	})
	snippets := func(n int, body string) string {
		var s strings.Builder
		fmt.Fprintf(&s, "(s0) {\n%s}\n", body)
		for i := range n {
			fmt.Fprintf(&s, "(s%d) {\nimport s%d\nimport s%d\n}\n", i+1, i, i)
		}
		fmt.Fprintf(&s, ". {\nimport s%d\n}\n", n)
		return s.String()
	}
	tests := []struct{ name, text, want string }{
		{"file imports itself", ". {\n import self\n}\n", "maximum file import depth (10000) exceeded"},
		{"two files", "import a\n", "maximum file import depth (10000) exceeded"},
		{"glob of itself", "import star\n", "maximum file import depth (10000) exceeded"},
		{"device", "import /dev/zero\n", "is not a regular file"},
		{"doubling", snippets(40, "errors\n"), "maximum snippet import depth (10000) exceeded"},
		{"doubling of much", snippets(12, strings.Repeat("log a b c d e f g h\n", 100)), "more than 262144 tokens after imports"},
		{"imports times tokens", snippets(12, strings.Repeat("log\n", 40)), "are too many"},
		{"unclosed snippets", strings.Repeat("(a) {\n", 1000), "Syntax error"},
		{"large", strings.Repeat("# \n", 400000), "larger than 1048576 bytes"},
		{"variable of itself", ". {\n {$LOOP}\n}\n", "environment variable LOOP does not come to an end"},
		{"variable that grows", ". {\n {$GROW}\n}\n", "environment variable GROW does not come to an end"},
		{"unclosed variable", ". {\n {$GROW\n}\n", "Unknown directive"},
		{"open braces", strings.Repeat("{", 1000), ""},
	}
	for _, tc := range tests {
		_, err := Parse(filepath.Join(dir, "Corefile"), []byte(tc.text), Options{})
		if err == nil && tc.want != "" || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
	if _, err := Parse("Corefile", []byte(". {\n {$OUTER}\n}\n"), Options{}); err != nil {
		t.Errorf("a variable in a variable: %v", err)
	}
}

// TestRefusals: what CoreDNS has and Fairway has not is refused by name, what is left over too.
func TestRefusals(t *testing.T) {
	tests := []struct{ inside, want string }{
		{"etcd", "plugin/etcd: Corefile:2 - Error during parsing: plugin 'etcd' exists in CoreDNS and is not supported"},
		{"dnstap /tmp/x", "(use log)"},
		{"proxy . 1.1.1.1", "Corefile:2 - Error during parsing: Unknown directive 'proxy' (removed in CoreDNS 1.5.0: use forward)"},
		{"kubernetes {\n resyncperiod 5s\n}", "plugin/kubernetes: Corefile:3 - Error during parsing: unknown property 'resyncperiod' (removed"},
		{"template IN A {\n expr true\n}", "option 'expr' exists in CoreDNS and is not supported"},
		{"autopath @hosts\nhosts", "hosts does not implement the AutoPather interface"},
		{"bufsize {\n foo\n}", "unknown property 'foo'"},
		{"reload\nreload", "this plugin can only be used once per Server Block"},
		{"acl " + strings.Repeat("a", 64), "zone is not a valid domain name"},
		{"bind 127.0.0.1 {\n except 127.0.0.1\n}", "no address is left to listen on"},
		{"cache {\n success -1\n}", "cache capacity can not be negative"},
		{"forward . 1.1.1.1:0", "invalid port"},
		{"forward . tls://[1.1.1.1%a", "brackets do not match"},
		{"template IN A {\n match " + strings.Repeat("a", 10001) + "\n}", "regex pattern too long: 10001 > 10000"},
		{"errors {\n consolidate 1s " + strings.Repeat("a", 10001) + "\n}", "regex pattern too long"},
		{"rewrite name regex " + strings.Repeat("a", 10001) + " b", "regex pattern too long"},
		{"rewrite ttl regex " + strings.Repeat("a", 10001) + " 5", "regex pattern too long"},
	}
	for _, tc := range tests {
		_, err := Parse("Corefile", []byte("example.org {\n"+tc.inside+"\n}\n"), Options{OwnObjects: true})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s:\ngot  %v\nwant %s", tc.inside, err, tc.want)
		}
	}
}

// TestAllFaults: a check names everything that is wrong.
func TestAllFaults(t *testing.T) {
	text := ". {\n etcd\n bogus\n cache 0\n forward . 1.1.1.1\n whoami x\n}\ntls://a.org {\n dnssec\n}\nb.org {\n}\nb.org {\n}\n"
	_, first := Parse("Corefile", []byte(text), Options{})
	_, err := Parse("Corefile", []byte(text), Options{AllFaults: true})
	if first == nil || err == nil || !strings.HasPrefix(err.Error(), first.Error()+"\n") {
		t.Fatalf("first %v, all %v", first, err)
	}
	lines := strings.Split(err.Error(), "\n")
	want := []string{"plugin 'etcd'", "Unknown directive 'bogus'", "plugin 'dnssec'", "scheme tls", "plugin/cache: Corefile:4", "plugin/whoami: Corefile:6", "cannot serve dns://b.org.:53"}
	if len(lines) != len(want) {
		t.Fatalf("%d faults, want %d:\n%v", len(lines), len(want), err)
	}
	for i, w := range want {
		if !strings.Contains(lines[i], w) {
			t.Errorf("fault %d is %q, want %q", i, lines[i], w)
		}
	}
}

func TestEqual(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"cache 30", "\n\ncache 30", true},
		{"cache 30", "cache 31", false},
		{"log a.org\nlog b.org", "log a.org\n\nlog b.org", true},
		{"template IN A {\n match a\n}", "\ntemplate IN A {\n\n match a\n}", true},
		{"template IN A {\n match a\n}", "template IN A {\n match b\n}", false},
		{"rewrite name a b\nrewrite name c d", "rewrite name a b\n\nrewrite name c d", true},
		{"rewrite name a b\nrewrite name c d", "rewrite name a b\nrewrite name c e", false},
		{"any", "minimal", false},
	}
	for _, tc := range tests {
		a, b := inBlock(t, tc.a).Plugins[0], inBlock(t, tc.b).Plugins[0]
		if got := Equal(a, b); got != tc.want {
			t.Errorf("%q and %q: equal is %v, want %v", tc.a, tc.b, got, tc.want)
		}
		if line := b.Position().Line; strings.HasPrefix(tc.b, "\n") && line == 2 {
			t.Errorf("%q: Equal changed the place", tc.b)
		}
	}
}
