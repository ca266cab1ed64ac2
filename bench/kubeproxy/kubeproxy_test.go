package kubeproxy

import "testing"

func TestSyncState(t *testing.T) {
	const queued, synced = "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
	const v4, v6 = `{ip_family="IPv4"}`, `{ip_family="IPv6"}`
	tests := map[string]struct {
		m    map[string]float64
		done bool
	}{
		"not started":       {map[string]float64{}, false},
		"nothing asked yet": {map[string]float64{queued + v4: 0, synced + v4: 0}, false},
		"asked":             {map[string]float64{queued + v4: 2, synced + v4: 1}, false},
		"done":              {map[string]float64{queued + v4: 2, synced + v4: 3}, true},
		"one of two":        {map[string]float64{queued + v4: 2, synced + v4: 3, queued + v6: 2, synced + v6: 1}, false},
		"both":              {map[string]float64{queued + v4: 2, synced + v4: 3, queued + v6: 2, synced + v6: 2}, true},
	}
	for name, tt := range tests {
		if _, done := syncState(tt.m); done != tt.done {
			t.Errorf("%s: done %v", name, done)
		}
	}
}
