package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConntrackMax(t *testing.T) {
	for _, tc := range []struct{ perCore, min, cpus, want int }{
		{32768, 131072, 2, 131072},
		{32768, 131072, 8, 262144},
		{32768, 131072, 64, 1 << 20}, // capped
		{32768, 2 << 20, 1, 1 << 20},
		{0, 131072, 8, 0}, // the kernel's
	} {
		if got := (conntrackSettings{MaxPerCore: tc.perCore, Min: tc.min}).max(tc.cpus); got != tc.want {
			t.Errorf("%+v: %d", tc, got)
		}
	}
}

// TestConntrackSysctls: what is set, what is left alone, and that one failure does not keep the
// others from being set.
func TestConntrackSysctls(t *testing.T) {
	const full = "max=262144 buckets=65536 tcp_timeout_established=432000 tcp_timeout_close_wait=60 udp_timeout=30 udp_timeout_stream=120 tcp_be_liberal=0"
	tests := map[string]struct {
		settings conntrackSettings
		missing  string // a sysctl that this kernel lacks
		want     string // the whole state, "" if it is as before
		err      string
	}{
		"nothing asked": {},
		"timeouts": {
			settings: conntrackSettings{TCPEstablished: 24 * time.Hour, TCPCloseWait: time.Hour, UDP: time.Minute, UDPStream: 3 * time.Minute, TCPBeLiberal: true},
			want:     "max=262144 buckets=65536 tcp_timeout_established=86400 tcp_timeout_close_wait=3600 udp_timeout=60 udp_timeout_stream=180 tcp_be_liberal=1",
		},
		"a larger table": {
			settings: conntrackSettings{MaxPerCore: 1, Min: 524288},
			want:     strings.Replace(full, "max=262144 buckets=65536", "max=524288 buckets=131072", 1),
		},
		"an administrator's table is larger": {settings: conntrackSettings{MaxPerCore: 1, Min: 1000}},
		"one is missing": {
			settings: conntrackSettings{TCPEstablished: 24 * time.Hour, TCPCloseWait: time.Hour},
			missing:  "tcp_timeout_established",
			want:     "max=262144 buckets=65536 tcp_timeout_close_wait=3600 udp_timeout=30 udp_timeout_stream=120 tcp_be_liberal=0",
			err:      "net.netfilter.nf_conntrack_tcp_timeout_established=86400",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			dir := filepath.Join(root, "net", "netfilter")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			var names []string
			for pair := range strings.FieldsSeq(full) {
				name, value, _ := strings.Cut(pair, "=")
				if name == tc.missing {
					continue
				}
				names = append(names, name)
				if err := os.WriteFile(filepath.Join(dir, "nf_conntrack_"+name), []byte(value+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := tc.settings.apply(sysctls(root))
			if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			var got []string
			for _, name := range names {
				text, err := os.ReadFile(filepath.Join(dir, "nf_conntrack_"+name))
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, name+"="+strings.TrimSpace(string(text)))
			}
			want := tc.want
			if want == "" {
				want = full
			}
			if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
				t.Errorf("sysctls (-want +got):\n%s", diff)
			}
		})
	}
}
