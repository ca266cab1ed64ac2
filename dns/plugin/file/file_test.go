package file

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
	"github.com/fairway-lb/fairway/dns/plugin/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const master = `$TTL 3600
@	SOA	ns host 7 7200 1800 86400 60
@	NS	ns
@	NS	ns.elsewhere.net.
@	MX	10 mail
ns	A	192.0.2.1
	AAAA	2001:db8::1
mail	A	192.0.2.2
www	A	192.0.2.3
www	A	192.0.2.3
www	A	192.0.2.4
alias	CNAME	www
alias2	CNAME	alias
dead	CNAME	nowhere
out	CNAME	www.other.net.
gone	CNAME	gone.other.net.
fail	CNAME	fail.other.net.
round	CNAME	round2
round2	CNAME	round
a.deep	A	192.0.2.5
*	TXT	"wild"
*.deep	A	192.0.2.6
*.w	CNAME	www
sub	NS	ns.sub
sub	NS	ns
ns.sub	A	192.0.2.7
_s._tcp	SRV	1 2 3 www
dn	DNAME	www
dnx	DNAME	other.net.
foreign.net.	A	192.0.2.8
sub	DS	1 8 2 AA
`

const denial = "auth example.org. 60 IN SOA ns.example.org. host.example.org. 7 7200 1800 86400 60\n"
const apex = "auth example.org. 3600 IN NS ns.example.org.\nauth example.org. 3600 IN NS ns.elsewhere.net.\n"

func newFile(t *testing.T, text string, fall ...string) (*File, *plugintest.Next) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	next := &plugintest.Next{Replies: map[string]plugin.Reply{
		"www.other.net. A":    plugintest.Answers(t, 0, "www.other.net. 9 IN A 198.51.100.1", "--", "other.net. 9 IN NS ns.other.net."),
		"x.other.net. A":      plugintest.Answers(t, 0, "x.other.net. 9 IN A 198.51.100.2"),
		"gone.other.net. A":   plugintest.Answers(t, dnswire.RcodeNameError, "--", "other.net. 9 IN SOA ns. host. 1 2 3 4 5"),
		"fail.other.net. A":   plugin.Fail("", dnswire.RcodeServerFailure, os.ErrDeadlineExceeded),
		"x.y.example.org. A":  {Rcode: dnswire.RcodeNotImplemented},
		"w.notexample.org. A": {Rcode: dnswire.RcodeNotImplemented},
	}}
	f, err := New(&corefile.File{Zones: []corefile.FileZone{{Zone: "example.org.", Path: path}}, Fallthrough: fall}, next, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return f, next
}

func TestFile(t *testing.T) {
	tests := []struct {
		name, ask, want string
	}{
		{"address", "WWW.example.org. A", "NOERROR aa rd\nWWW.example.org. 3600 IN A 192.0.2.3\nWWW.example.org. 3600 IN A 192.0.2.4\n" + apex},
		{"no such type", "www.example.org. AAAA", "NOERROR aa rd\n" + denial},
		{"SOA", "example.org. SOA", "NOERROR aa rd\nexample.org. 3600 IN SOA ns.example.org. host.example.org. 7 7200 1800 86400 60\n" + apex},
		{"NS", "example.org. NS", "NOERROR aa rd\nexample.org. 3600 IN NS ns.example.org.\nexample.org. 3600 IN NS ns.elsewhere.net.\n" +
			"more ns.example.org. 3600 IN A 192.0.2.1\nmore ns.example.org. 3600 IN AAAA 2001:db8::1\n"},
		{"MX", "example.org. MX", "NOERROR aa rd\nexample.org. 3600 IN MX 10 mail.example.org.\n" + apex + "more mail.example.org. 3600 IN A 192.0.2.2\n"},
		{"SRV", "_s._tcp.example.org. SRV", "NOERROR aa rd\n_s._tcp.example.org. 3600 IN SRV 1 2 3 www.example.org.\n" + apex +
			"more www.example.org. 3600 IN A 192.0.2.3\nmore www.example.org. 3600 IN A 192.0.2.4\n"},
		{"name between names", "_tcp.example.org. A", "NOERROR aa rd\n" + denial},
		{"alias", "Alias2.example.org. A", "NOERROR aa rd\nAlias2.example.org. 3600 IN CNAME alias.example.org.\nalias.example.org. 3600 IN CNAME www.example.org.\n" +
			"www.example.org. 3600 IN A 192.0.2.3\nwww.example.org. 3600 IN A 192.0.2.4\n" + apex},
		{"alias itself", "alias.example.org. CNAME", "NOERROR aa rd\nalias.example.org. 3600 IN CNAME www.example.org.\n" + apex},
		{"alias to what is not there", "dead.deep.example.org. A", "NOERROR aa rd\ndead.deep.example.org. 3600 IN A 192.0.2.6\n" + apex},
		{"alias to a wildcard without the type", "dead.example.org. A", "NOERROR aa rd\ndead.example.org. 3600 IN CNAME nowhere.example.org.\n" + denial},
		{"alias out of the zone", "out.example.org. A", "NOERROR aa rd\nout.example.org. 3600 IN CNAME www.other.net.\nwww.other.net. 9 IN A 198.51.100.1\n" + apex},
		{"alias to no name outside", "gone.example.org. A", "NXDOMAIN aa rd\ngone.example.org. 3600 IN CNAME gone.other.net.\nauth other.net. 9 IN SOA ns. host. 1 2 3 4 5\n"},
		{"alias to a failure outside", "fail.example.org. A", "SERVFAIL aa rd error: i/o timeout\nfail.example.org. 3600 IN CNAME fail.other.net.\n"},
		{"wildcard", "any.thing.example.org. TXT", "NOERROR aa rd\nany.thing.example.org. 3600 IN TXT \"wild\"\n" + apex},
		{"wildcard without the type", "any.thing.example.org. MX", "NOERROR aa rd\n" + denial},
		{"wildcard and a name between", "deep.example.org. TXT", "NOERROR aa rd\n" + denial},
		{"closer wildcard", "b.c.deep.example.org. A", "NOERROR aa rd\nb.c.deep.example.org. 3600 IN A 192.0.2.6\n" + apex},
		{"name beside a wildcard", "a.deep.example.org. TXT", "NOERROR aa rd\n" + denial},
		{"below a name without a wildcard", "x.www.example.org. A", "NXDOMAIN aa rd\n" + denial},
		{"wildcard alias", "q.w.example.org. A", "NOERROR aa rd\nq.w.example.org. 3600 IN CNAME www.example.org.\n" +
			"www.example.org. 3600 IN A 192.0.2.3\nwww.example.org. 3600 IN A 192.0.2.4\n" + apex},
		{"wildcard by its own name", "*.deep.example.org. A", "NOERROR aa rd\n*.deep.example.org. 3600 IN A 192.0.2.6\n" + apex},
		{"delegation", "host.sub.example.org. A", "NOERROR rd\nauth sub.example.org. 3600 IN NS ns.sub.example.org.\nauth sub.example.org. 3600 IN NS ns.example.org.\n" +
			"more ns.sub.example.org. 3600 IN A 192.0.2.7\nmore ns.example.org. 3600 IN A 192.0.2.1\nmore ns.example.org. 3600 IN AAAA 2001:db8::1\n"},
		{"DS of a delegation", "sub.example.org. DS", "NOERROR aa rd\nsub.example.org. 3600 IN DS 1 8 2 AA\n" + apex},
		{"DS below a delegation", "x.sub.example.org. DS", "NOERROR rd\nauth sub.example.org. 3600 IN NS ns.sub.example.org.\nauth sub.example.org. 3600 IN NS ns.example.org.\n" +
			"more ns.sub.example.org. 3600 IN A 192.0.2.7\nmore ns.example.org. 3600 IN A 192.0.2.1\nmore ns.example.org. 3600 IN AAAA 2001:db8::1\n"},
		{"DNAME", "A.b.dnx.example.org. A", "REFUSED aa rd\ndnx.example.org. 3600 IN DNAME other.net.\nA.b.dnx.example.org. 3600 IN CNAME A.b.other.net.\n"},
		{"DNAME, found", "x.dnx.example.org. A", "NOERROR aa rd\ndnx.example.org. 3600 IN DNAME other.net.\nx.dnx.example.org. 3600 IN CNAME x.other.net.\nx.other.net. 9 IN A 198.51.100.2\n" + apex},
		{"DNAME into a name without children", "x.dn.example.org. A", "NXDOMAIN aa rd\ndn.example.org. 3600 IN DNAME www.example.org.\nx.dn.example.org. 3600 IN CNAME x.www.example.org.\n" + denial},
		{"DNAME itself", "dn.example.org. DNAME", "NOERROR aa rd\ndn.example.org. 3600 IN DNAME www.example.org.\n" + apex},
		{"record of another zone", "foreign.net. A", "REFUSED\n"},
		{"another zone with the same end", "w.notexample.org. A", "NOTIMP\n"},
		{"transfer", "example.org. AXFR tcp", "REFUSED\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			f, next := newFile(t, master)
			got := f.Wrap(next).Serve(t.Context(), plugintest.Ask(t, tc.ask))
			if diff := cmp.Diff(tc.want, plugintest.Show(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestRound bounds the work for aliases that lead to each other.
func TestRound(t *testing.T) {
	f, next := newFile(t, master)
	got := f.Wrap(next).Serve(t.Context(), plugintest.Ask(t, "round.example.org. A"))
	if n := len(got.Msg.Answer); n != maxAliases {
		t.Errorf("%d aliases, want %d", n, maxAliases)
	}
}

// TestDNAMETooLong answers YXDOMAIN if the new name does not fit.
func TestDNAMETooLong(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 60)+".", 3)
	f, next := newFile(t, "@ 1 SOA a b 1 2 3 4 5\nd 1 DNAME "+long+"example.org.\n")
	got := f.Wrap(next).Serve(t.Context(), plugintest.Ask(t, strings.Repeat("b", 60)+"."+strings.Repeat("c", 60)+".d.example.org. A"))
	if got.Code() != dnswire.RcodeYXDomain || len(got.Msg.Answer) != 1 {
		t.Error(plugintest.Show(got))
	}
}

func TestFallthrough(t *testing.T) {
	text := strings.ReplaceAll(master, "*\tTXT", "w\tTXT")
	for zone, want := range map[string]int{"": dnswire.RcodeNameError, ".": dnswire.RcodeNotImplemented, "y.example.org.": dnswire.RcodeNotImplemented, "z.": dnswire.RcodeNameError} {
		var fall []string
		if zone != "" {
			fall = []string{zone}
		}
		f, next := newFile(t, text, fall...)
		if got := f.Wrap(next).Serve(t.Context(), plugintest.Ask(t, "x.y.example.org. A")).Code(); got != want {
			t.Errorf("fallthrough %q: %d, want %d", zone, got, want)
		}
	}
}

// TestLast refuses what is not in its zones if nobody else is there to ask.
func TestLast(t *testing.T) {
	f, next := newFile(t, master, ".")
	if got := f.Wrap(plugin.End).Serve(t.Context(), plugintest.Ask(t, "other. A")).Code(); got != dnswire.RcodeRefused {
		t.Errorf("another zone: %d", got)
	}
	// A name that only has names below it is as good as none.
	next.Replies["deep.example.org. A"] = plugin.Reply{Rcode: dnswire.RcodeNotImplemented}
	if got := f.Wrap(next).Serve(t.Context(), plugintest.Ask(t, "deep.example.org. A")).Code(); got != dnswire.RcodeNotImplemented {
		t.Errorf("a name without records: %d", got)
	}
}

// TestRoot serves the root zone.
func TestRoot(t *testing.T) {
	z, err := read([]byte(". 60 IN SOA a. b. 1 2 3 4 5\n. 60 IN NS a.\na. 60 IN A 192.0.2.1\norg. 60 IN NS b.org.\n*.net. 60 IN A 192.0.2.2\n"), ".", "db")
	if err != nil {
		t.Fatal(err)
	}
	for ask, want := range map[string]string{
		"a.": "answer", "b.": "none", "x.net.": "answer", "x.org.": "delegated", ".": "empty",
	} {
		r := z.lookup(ask, dnswire.TypeA)
		got := "empty"
		switch {
		case r.delegated:
			got = "delegated"
		case len(r.answer) > 0:
			got = "answer"
		case r.rcode == dnswire.RcodeNameError:
			got = "none"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", ask, got, want)
		}
	}
}

func TestBadZones(t *testing.T) {
	for text, want := range map[string]string{
		"www 60 A 192.0.2.1\n":                 "zone example.org. has no SOA",
		"@ 60 SOA a b 1 2 3 4 5\nwww 60 A x\n": "dns: bad A",
		"other.org. 60 SOA a b 1 2 3 4 5\n":    "has no SOA",
	} {
		if _, err := read([]byte(text), "example.org.", "db"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	path := filepath.Join(t.TempDir(), "db")
	d := &corefile.File{Zones: []corefile.FileZone{{Zone: "example.org.", Path: path, Pos: corefile.Pos{File: "Corefile", Line: 3}}}}
	if _, err := New(d, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.HasPrefix(err.Error(), "line 3: ") {
		t.Errorf("a missing file that is read once: %v", err)
	}
}

// TestTransfer gives what the file has, each record once, between two SOAs.
func TestTransfer(t *testing.T) {
	f, _ := newFile(t, "@ 60 SOA a b 7 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\nns 60 A 192.0.2.1\nNS 30 A 192.0.2.1\n")
	for _, tc := range []struct {
		serial uint32
		want   int
	}{{0, 4}, {6, 4}, {7, 1}, {8, 1}} {
		rrs, err := f.Transfer("example.org.", tc.serial)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.Collect(rrs)
		if len(got) != tc.want || got[0].Header().Rrtype != dnswire.TypeSOA || got[len(got)-1].Header().Rrtype != dnswire.TypeSOA {
			t.Errorf("serial %d: %v", tc.serial, got)
		}
	}
	if _, err := f.Transfer("org.", 0); err != transfer.ErrNotAuthoritative {
		t.Errorf("another zone: %v", err)
	}
}

// TestReload has a file that comes late, changes with and without its serial, and breaks.
func TestReload(t *testing.T) {
	for _, byTime := range []bool{false, true} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			path := filepath.Join(dir, "db")
			d := &corefile.File{Zones: []corefile.FileZone{{Zone: "example.org.", Path: path, Reload: time.Minute, ReloadByMtime: byTime}}}
			f, err := New(d, nil, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			expect := func(want string) {
				t.Helper()
				got := f.Wrap(plugin.End).Serve(t.Context(), plugintest.Ask(t, "www.example.org. A"))
				text := dnswire.RcodeToString[got.Code()]
				if got.Msg != nil && len(got.Msg.Answer) > 0 {
					text = got.Msg.Answer[0].(*dnswire.A).A.String()
				}
				if text != want {
					t.Errorf("by time %v: %s, want %s", byTime, text, want)
				}
			}
			change := func(serial, octet int, more string) {
				t.Helper()
				text := fmt.Sprintf("@ 60 SOA a b %d 2 3 4 5\nwww 60 A 192.0.2.%d\n%s", serial, octet, more)
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(path, time.Time{}, time.Now()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(61 * time.Second)
			}
			expect("SERVFAIL")
			change(1, 1, "")
			expect("192.0.2.1")
			change(2, 2, "")
			expect("192.0.2.2")
			change(2, 3, "")
			expect(map[bool]string{false: "192.0.2.2", true: "192.0.2.3"}[byTime])
			change(4, 4, "broken\n")
			expect(map[bool]string{false: "192.0.2.2", true: "192.0.2.3"}[byTime])
			change(5, 5, "")
			expect("192.0.2.5")
		})
	}
}
