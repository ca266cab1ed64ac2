package basic

import (
	"context"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	dnswire "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/plugintest"
)

const soaText = "60 IN SOA ns.example.org. host.example.org. 1 2 3 4 5"

// next answers what the tests below ask of the plugin behind.
func next(t *testing.T) *plugintest.Next {
	return &plugintest.Next{Replies: map[string]plugin.Reply{
		"full.example.org. A": plugintest.Answers(t, dnswire.RcodeSuccess, "full.example.org. 60 IN A 192.0.2.1", "--",
			"example.org. 60 IN NS ns.example.org.", "--", "ns.example.org. 60 IN A 192.0.2.9"),
		"none.example.org. A":  plugintest.Answers(t, dnswire.RcodeNameError, "--", "example.org. "+soaText),
		"empty.example.org. A": plugintest.Answers(t, dnswire.RcodeSuccess, "--", "example.org. "+soaText),
		"alias.example.org. A": plugintest.Answers(t, dnswire.RcodeSuccess, "alias.example.org. 60 IN CNAME empty.example.org.", "--", "example.org. "+soaText),
		"sub.example.org. A": plugintest.Answers(t, dnswire.RcodeSuccess, "--", "sub.example.org. 60 IN NS ns.sub.example.org.",
			"--", "ns.sub.example.org. 60 IN A 192.0.2.8"),
	}}
}

func TestPlugins(t *testing.T) {
	const soa = "604800 IN SOA localhost. root.localhost. 1 0 0 0 604800\n"
	local := NewLocal(&corefile.Local{}, LocalRequests())
	noPrefix := NewLocal(&corefile.Local{NoLocalhostPrefix: true}, LocalRequests())
	chaos := NewChaos(&corefile.Chaos{}, "Fairway-1.0", []string{"us"})
	nsid := NewNSID(&corefile.NSID{Data: "Use The Force"})
	header := NewHeader(&corefile.Header{Response: []corefile.HeaderRule{{Flag: "ra", Set: true}, {Flag: "aa", Set: true}, {Flag: "rd"}}})
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat(strings.Repeat("a", 49)+".", 5) + "b."
	tests := []struct {
		plugin plugin.Plugin
		ask    string
		want   string
	}{
		{Any{}, "Example.org. ANY", "NOERROR rd\nExample.org. 8482 IN HINFO \"ANY obsoleted\" \"See RFC 8482\"\n"},
		{Any{}, "x.example.org. A", "REFUSED\n"},
		{Whoami{}, "Example.org. A", "NOERROR aa rd\nmore Example.org. 0 IN A 10.244.1.5\nmore _udp.Example.org. 0 IN SRV 0 0 40212 .\n"},
		{Whoami{}, ". AAAA tcp from=fd00::1", "NOERROR aa rd\nmore . 0 IN AAAA fd00::1\nmore _tcp. 0 IN SRV 0 0 40212 .\n"},
		{Whoami{}, long + " A", "NOERROR aa rd\nmore " + long + " 0 IN A 10.244.1.5\n"},
		{Whoami{}, "a.b. MX from=::ffff:10.0.0.1", "NOERROR aa rd\nmore a.b. 0 IN A 10.0.0.1\nmore _udp.a.b. 0 IN SRV 0 0 40212 .\n"},

		{chaos, "version.bind. TXT class=CH", "NOERROR rd\nversion.bind. 0 CH TXT \"Fairway-1.0\"\n"},
		{chaos, "VERSION.server. TXT class=CH", "NOERROR rd\nVERSION.server. 0 CH TXT \"Fairway-1.0\"\n"},
		{chaos, "authors.bind. TXT class=CH", "NOERROR rd\nauthors.bind. 0 CH TXT \"us\"\n"},
		{chaos, "id.server. TXT class=CH", "NOERROR rd\nid.server. 0 CH TXT \"" + host + "\"\n"},
		{chaos, "other.bind. TXT class=CH", "REFUSED\n"},
		{chaos, "version.bind. TXT", "REFUSED\n"},
		{chaos, "version.bind. A class=CH", "REFUSED\n"},
		{NewChaos(&corefile.Chaos{Version: "V", Authors: []string{}}, "x", []string{"us"}), "authors.bind. TXT class=CH", "NOERROR rd\n"},
		{NewChaos(&corefile.Chaos{Version: "V"}, "x", nil), "version.bind. TXT class=CH", "NOERROR rd\nversion.bind. 0 CH TXT \"V\"\n"},

		{Minimal{}, "full.example.org. A", "NOERROR rd\nfull.example.org. 60 IN A 192.0.2.1\n"},
		{Minimal{}, "none.example.org. A", "NXDOMAIN rd\nauth example.org. " + soaText + "\n"},
		{Minimal{}, "empty.example.org. A", "NOERROR rd\nauth example.org. " + soaText + "\n"},
		{Minimal{}, "alias.example.org. A", "NOERROR rd\nalias.example.org. 60 IN CNAME empty.example.org.\nauth example.org. " + soaText + "\n"},
		{Minimal{}, "sub.example.org. A", "NOERROR rd\nauth sub.example.org. 60 IN NS ns.sub.example.org.\nmore ns.sub.example.org. 60 IN A 192.0.2.8\n"},
		{Minimal{}, "other.example.org. A", "REFUSED\n"},

		{header, "none.example.org. A", "NXDOMAIN aa ra\nauth example.org. " + soaText + "\n"},
		{header, "other.example.org. A", "REFUSED aa ra\n"},

		{nsid, "none.example.org. A buf=1232", "NXDOMAIN rd\nauth example.org. " + soaText + "\n"},

		{local, "localhost. A", "NOERROR rd\nlocalhost. 604800 IN A 127.0.0.1\n"},
		{local, "LocalHost. AAAA", "NOERROR rd\nLocalHost. 604800 IN AAAA ::1\n"},
		{local, "localhost. SOA", "NOERROR rd\nlocalhost. " + soa},
		{local, "localhost. NS", "NOERROR rd\nlocalhost. 604800 IN NS localhost.\n"},
		{local, "localhost. MX", "NOERROR rd\nauth localhost. " + soa},
		{local, "localhost.example.org. A", "NOERROR rd\nlocalhost.example.org. 604800 IN A 127.0.0.1\n"},
		{local, "localhost.example.org. TXT", "NOERROR rd\nauth localhost.example.org. " + soa},
		{local, "a.b.localhost. AAAA", "NOERROR rd\na.b.localhost. 604800 IN AAAA ::1\n"},
		{local, "1.0.0.127.in-addr.arpa. PTR", "NOERROR rd\n1.0.0.127.in-addr.arpa. 604800 IN PTR localhost.\n"},
		{local, "1.0.0.127.IN-ADDR.arpa. A", "NOERROR rd\nauth 127.IN-ADDR.arpa. " + soa},
		{local, "2.0.0.127.in-addr.arpa. PTR", "NXDOMAIN rd\nauth 127.in-addr.arpa. " + soa},
		{local, "0.in-addr.arpa. A", "NOERROR rd\nauth 0.in-addr.arpa. " + soa},
		{local, "255.in-addr.arpa. NS", "NOERROR rd\n255.in-addr.arpa. 604800 IN NS localhost.\n"},
		{local, "notlocalhost. A", "REFUSED\n"},
		{local, "1.127.in-addr.arpa.example. A", "REFUSED\n"},
		{noPrefix, "localhost.example.org. A", "REFUSED\n"},
		{noPrefix, "x.localhost. A", "NOERROR rd\nx.localhost. 604800 IN A 127.0.0.1\n"},
	}
	for _, tc := range tests {
		t.Run(tc.plugin.Name()+" "+tc.ask, func(t *testing.T) {
			got := tc.plugin.Wrap(next(t)).Serve(t.Context(), plugintest.Ask(t, tc.ask))
			if diff := cmp.Diff(tc.want, plugintest.Show(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLocalCounts has localhost itself left out of the counter, as CoreDNS does.
func TestLocalCounts(t *testing.T) {
	requests := LocalRequests()
	h := NewLocal(&corefile.Local{}, requests).Wrap(plugin.End)
	for _, ask := range []string{"localhost. A", "localhost.example.org. A", "x.localhost. A", "example.org. A"} {
		h.Serve(t.Context(), plugintest.Ask(t, ask))
	}
	if got := testutil.ToFloat64(requests); got != 2 {
		t.Errorf("counted %v, want 2", got)
	}
}

// TestNSID answers who asked for it, with and without a message of the plugins behind.
func TestNSID(t *testing.T) {
	h := NewNSID(&corefile.NSID{Data: "Use The Force"}).Wrap(next(t))
	for _, ask := range []string{"full.example.org. A buf=1232", "refused.example.org. A buf=1232"} {
		r := plugintest.Ask(t, ask)
		r.Msg.IsEdns0().Option = []dnswire.EDNS0{&dnswire.EDNS0_NSID{Code: dnswire.EDNS0NSID}}
		got := plugintest.Show(h.Serve(t.Context(), r))
		if want := "more option 3 55736520546865" + "20466f726365\n"; !strings.HasSuffix(got, want) {
			t.Errorf("%s has no NSID: %s", ask, got)
		}
	}
}

// TestBufsize looks at what the plugin behind is offered.
func TestBufsize(t *testing.T) {
	for _, tc := range []struct {
		ask  string
		want uint16
	}{{"a. A buf=4096", 1100}, {"a. A buf=512", 512}, {"a. A buf=1100", 1100}, {"a. A", 0}} {
		behind := next(t)
		r := plugintest.Ask(t, tc.ask)
		before := r.Msg.Copy()
		NewBufsize(&corefile.Bufsize{Size: 1100}).Wrap(behind).Serve(t.Context(), r)
		var got uint16
		if opt := behind.Last().Msg.IsEdns0(); opt != nil {
			got = opt.UDPSize()
		}
		if got != tc.want {
			t.Errorf("%s: %d is offered, want %d", tc.ask, got, tc.want)
		}
		if r.Msg.String() != before.String() {
			t.Errorf("%s: the query itself was changed", tc.ask)
		}
	}
}

// TestHeaderQuery changes the query behind the plugin, and not the one before it.
func TestHeaderQuery(t *testing.T) {
	behind := next(t)
	r := plugintest.Ask(t, "a. A")
	NewHeader(&corefile.Header{Query: []corefile.HeaderRule{{Flag: "rd"}}}).Wrap(behind).Serve(t.Context(), r)
	if behind.Last().Msg.RecursionDesired || !r.Msg.RecursionDesired {
		t.Error("rd is not cleared in the copy alone")
	}
}

// TestCancel has a plugin that waits for longer than the client does.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewCancel(&corefile.Cancel{Timeout: 5001 * time.Millisecond}).Wrap(plugin.HandlerFunc(
			func(ctx context.Context, r *plugin.Request) plugin.Reply {
				<-ctx.Done()
				return plugin.Fail("slow", dnswire.RcodeServerFailure, ctx.Err())
			}))
		start := time.Now()
		got := h.Serve(t.Context(), plugintest.Ask(t, "a. A"))
		if !got.Drop || time.Since(start) != 5001*time.Millisecond {
			t.Errorf("%s after %v", plugintest.Show(got), time.Since(start))
		}
	})
}

// TestShared has two plugins change the reply of a third one that gives the same message to all.
func TestShared(t *testing.T) {
	shared := plugintest.Answers(t, dnswire.RcodeSuccess, "full.example.org. 60 IN A 192.0.2.1", "--", "example.org. 60 IN NS ns.example.org.")
	plugin.Option(shared.Msg, &dnswire.EDNS0_EDE{InfoCode: dnswire.ExtendedErrorCodeStaleAnswer})
	before := shared.Msg.Copy()
	cached := plugin.HandlerFunc(func(context.Context, *plugin.Request) plugin.Reply { return shared })
	h := NewNSID(&corefile.NSID{Data: "x"}).Wrap(
		NewHeader(&corefile.Header{Response: []corefile.HeaderRule{{Flag: "ra", Set: true}}}).Wrap(Minimal{}.Wrap(cached)))
	r := plugintest.Ask(t, "full.example.org. A buf=1232")
	r.Msg.IsEdns0().Option = []dnswire.EDNS0{&dnswire.EDNS0_NSID{Code: dnswire.EDNS0NSID}}
	got := plugintest.Show(h.Serve(t.Context(), r))
	if want := "NOERROR ra\nfull.example.org. 60 IN A 192.0.2.1\nmore option 15 3 (Stale Answer): ()\nmore option 3 78\n"; got != want {
		t.Error(cmp.Diff(want, got))
	}
	if diff := cmp.Diff(before.String(), shared.Msg.String()); diff != "" {
		t.Errorf("a message of another was changed: %s", diff)
	}
}
