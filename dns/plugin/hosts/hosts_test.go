package hosts

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const file = `# comment
127.0.0.1 localhost # more
192.168.1.10 Example.com  example twice.example.com
192.168.1.10 twice.example.com
fdfc:a744:27b5:3b0e::1 example.com
fe80::1%eth0 zoned.example.com
192.168.1.20 *.wild.com
192.168.1.21 a.wild.com
fd00::21 *.wild.com
not-an-address x.example.com
10.0.0.1
192.168.1.30 outside.net  bad..name
`

func newHosts(t *testing.T, d corefile.Hosts, text string) *Hosts {
	t.Helper()
	d.Path = filepath.Join(t.TempDir(), "hosts")
	if text != "" {
		write(t, d.Path, text)
	}
	h, err := New(&d, NewMetrics(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHosts(t *testing.T) {
	const passed = "NOERROR\n" // the plugin behind answers so
	all := []string{"."}
	base := corefile.Hosts{Zones: all, TTL: 3600}
	with := func(change func(*corefile.Hosts)) corefile.Hosts {
		d := base
		change(&d)
		return d
	}
	some := with(func(d *corefile.Hosts) { d.Zones = []string{"example.com.", "wild.com."} })
	fall := with(func(d *corefile.Hosts) { d.Fallthrough = all })
	partly := with(func(d *corefile.Hosts) { d.Fallthrough = []string{"net."} })
	further := with(func(d *corefile.Hosts) { d.Fallthrough = all; d.FallthroughUnsupported = true })
	inline := with(func(d *corefile.Hosts) {
		d.Inline = []string{"10.9.9.9 example.com in.example.com", "192.168.1.10 example.com"}
		d.TTL = 60
	})
	single := with(func(d *corefile.Hosts) { d.NoReverse = true })
	tests := []struct {
		name string
		d    corefile.Hosts
		ask  string
		want string
	}{
		{"address", base, "EXAMPLE.com. A", "NOERROR aa rd\nEXAMPLE.com. 3600 IN A 192.168.1.10\n"},
		{"alias", base, "example. A", "NOERROR aa rd\nexample. 3600 IN A 192.168.1.10\n"},
		{"IPv6", base, "example.com. AAAA", "NOERROR aa rd\nexample.com. 3600 IN AAAA fdfc:a744:27b5:3b0e::1\n"},
		{"zone of an address", base, "zoned.example.com. AAAA", "NOERROR aa rd\nzoned.example.com. 3600 IN AAAA fe80::1\n"},
		{"twice is once", base, "twice.example.com. A", "NOERROR aa rd\ntwice.example.com. 3600 IN A 192.168.1.10\n"},
		{"no such family", base, "localhost. AAAA", "NOERROR aa rd\n"},
		{"other type", base, "localhost. TXT", "NOERROR aa rd\n"},
		{"no such name", base, "nowhere. A", "SERVFAIL\n"},
		{"bad line", base, "x.example.com. A", "SERVFAIL\n"},

		{"wildcard", base, "any.wild.com. A", "NOERROR aa rd\nany.wild.com. 3600 IN A 192.168.1.20\n"},
		{"wildcard beside a name", base, "a.wild.com. A", "NOERROR aa rd\na.wild.com. 3600 IN A 192.168.1.21\n"},
		{"wildcard and apex", base, "wild.com. A", "SERVFAIL\n"},
		{"wildcard and two labels", base, "b.a.wild.com. A", "SERVFAIL\n"},
		{"wildcard has no PTR", base, "20.1.168.192.in-addr.arpa. PTR", passed},

		{"pointer", base, "10.1.168.192.IN-ADDR.arpa. PTR", "NOERROR aa rd\n10.1.168.192.IN-ADDR.arpa. 3600 IN PTR example.com.\n" +
			"10.1.168.192.IN-ADDR.arpa. 3600 IN PTR example.\n10.1.168.192.IN-ADDR.arpa. 3600 IN PTR twice.example.com.\n"},
		{"IPv6 pointer", base, "1." + strings.Repeat("0.", 15) + "e.0.b.3.5.b.7.2.4.4.7.a.c.f.d.f.ip6.arpa. PTR",
			"NOERROR aa rd\n1." + strings.Repeat("0.", 15) + "e.0.b.3.5.b.7.2.4.4.7.a.c.f.d.f.ip6.arpa. 3600 IN PTR example.com.\n"},
		{"unknown pointer", base, "1.1.168.192.in-addr.arpa. PTR", passed},
		{"pointer of a network", base, "168.192.in-addr.arpa. PTR", passed},
		{"pointer of no address", base, "010.1.168.192.in-addr.arpa. PTR", passed},
		{"no_reverse", single, "10.1.168.192.in-addr.arpa. PTR", passed},

		{"zones hold it", some, "example.com. A", "NOERROR aa rd\nexample.com. 3600 IN A 192.168.1.10\n"},
		{"outside of zones", some, "outside.net. A", passed},
		{"zones end at labels", some, "badexample.com. A", passed},
		{"inside, unknown", some, "x.wild.example.com. A", "SERVFAIL\n"},
		{"pointer outside of zones", some, "10.1.168.192.in-addr.arpa. PTR", "NOERROR aa rd\n10.1.168.192.in-addr.arpa. 3600 IN PTR example.com.\n" +
			"10.1.168.192.in-addr.arpa. 3600 IN PTR twice.example.com.\n"},

		{"fallthrough", fall, "nowhere. A", passed},
		{"fallthrough keeps NODATA", fall, "localhost. AAAA", "NOERROR aa rd\n"},
		{"fallthrough of a zone", partly, "nowhere.net. A", passed},
		{"fallthrough of another zone", partly, "nowhere.com. A", "SERVFAIL\n"},
		{"unsupported falls through", further, "localhost. TXT", passed},
		{"supported does not", further, "localhost. AAAA", "NOERROR aa rd\n"},

		{"inline joins the file", inline, "example.com. A", "NOERROR aa rd\nexample.com. 60 IN A 192.168.1.10\nexample.com. 60 IN A 10.9.9.9\n"},
		{"inline alone", inline, "in.example.com. A", "NOERROR aa rd\nin.example.com. 60 IN A 10.9.9.9\n"},
		{"inline pointer", inline, "9.9.9.10.in-addr.arpa. PTR", "NOERROR aa rd\n9.9.9.10.in-addr.arpa. 60 IN PTR example.com.\n9.9.9.10.in-addr.arpa. 60 IN PTR in.example.com.\n"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r := plugintest.Ask(t, tc.ask)
			next := &plugintest.Next{Replies: map[string]plugin.Reply{r.Name() + " " + dnswire.TypeToString[r.Type()]: {Rcode: dnswire.RcodeSuccess}}}
			got := newHosts(t, tc.d, file).Wrap(next).Serve(t.Context(), r)
			if diff := cmp.Diff(tc.want, plugintest.Show(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLongLine has a line that is longer than any buffer, and one after it.
func TestLongLine(t *testing.T) {
	name := " " + strings.Repeat(strings.Repeat("a", 60)+".", 4)
	h := newHosts(t, corefile.Hosts{Zones: []string{"."}, TTL: 1},
		"10.0.0.1 first"+strings.Repeat(name, 1<<13)+" last\n10.0.0.2 next # "+strings.Repeat("x", 2<<20)+"\n10.0.0.3 end")
	for _, name := range []string{"first.", "last.", "next.", "end."} {
		if got := h.Wrap(plugin.End).Serve(t.Context(), plugintest.Ask(t, name+" A")); got.Code() != dnswire.RcodeSuccess {
			t.Errorf("%s: %s", name, plugintest.Show(got))
		}
	}
}

// TestReload has the file come, change, become what cannot be read, and go.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := corefile.Hosts{Path: filepath.Join(dir, "hosts"), Zones: []string{"."}, TTL: 1, Reload: 5 * time.Second,
			Inline: []string{"10.0.0.9 inline"}}
		m := NewMetrics()
		h, err := New(&d, m, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		expect := func(name, want string) {
			t.Helper()
			got, _, _ := strings.Cut(plugintest.Show(h.Wrap(plugin.End).Serve(t.Context(), plugintest.Ask(t, name+" A"))), "\n")
			if got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		expect("a.", "SERVFAIL")
		expect("inline.", "NOERROR aa rd")
		write(t, d.Path, "10.0.0.1 a\n")
		expect("a.", "SERVFAIL")
		time.Sleep(6 * time.Second)
		expect("a.", "NOERROR aa rd")
		if got := testutil.ToFloat64(m.entries); got != 4 {
			t.Errorf("%v entries, want 4", got)
		}
		// A new size, or a new time with the old size.
		write(t, d.Path, "10.0.0.1 b\n")
		if err := os.Chtimes(d.Path, time.Time{}, time.Unix(1e9, 0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		expect("a.", "SERVFAIL")
		expect("b.", "NOERROR aa rd")
		if err := os.Remove(d.Path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second)
		expect("b.", "NOERROR aa rd")
		expect("inline.", "NOERROR aa rd")
	})
}
