// Package kubeproxy runs real kube-proxy in a network namespace, as a subject of the conformance
// suite and of measurements. The program is bench/peers' build of the released version.
//
// It changes nothing of kube-proxy but by its flags: it leaves the connection table's sysctls
// alone, so that it can run in a namespace, and binds its two HTTP servers to loopback.
//
// kube-proxy takes iptables from PATH; each process gets a PATH of its own with the variant it
// shall use, and a lock file of its own, because /run/xtables.lock is shared by all namespaces.
// What it programs is its own, and goes with the namespace.
package kubeproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fairway-lb/fairway/bench/process"
)

// The modes of kube-proxy that are compared.
const (
	IPTables = "iptables"
	NFTables = "nftables"
)

// Options say how to run kube-proxy.
type Options struct {
	Bin        string                   // path of the program
	Mode       string                   // IPTables or NFTables
	Variant    string                   // of iptables: nft (the default) or legacy
	In         func(func() error) error // runs a function in the namespace to program
	Kubeconfig string                   // path of the file
	Node       string                   // --hostname-override
	Args       []string                 // further flags
	Group      *process.Group           // counts what it uses; nil for none
}

// A Proxy is a running kube-proxy.
type Proxy struct {
	*process.Process
	dir  string
	http *http.Client
}

const (
	healthAddr  = "127.0.0.1:10256"
	metricsAddr = "127.0.0.1:10249"
)

// Start starts kube-proxy and returns at once. Stop it with [Proxy.Close].
func Start(o Options) (*Proxy, error) {
	dir, err := process.TempDir("kube-proxy")
	if err != nil {
		return nil, err
	}
	p := &Proxy{dir: dir}
	env, err := Tools(dir, o.Variant)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	cmd := exec.Command(o.Bin, append([]string{
		"--proxy-mode", o.Mode,
		"--kubeconfig", o.Kubeconfig,
		"--hostname-override", o.Node,
		"--conntrack-max-per-core=0", "--conntrack-min=0",
		"--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
		"--healthz-bind-address", healthAddr, "--metrics-bind-address", metricsAddr,
	}, o.Args...)...)
	cmd.Env = append(os.Environ(), env...)
	err = o.In(func() (err error) {
		p.Process, err = o.Group.Start(cmd)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	p.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (c net.Conn, err error) {
			err = o.In(func() error {
				c, err = new(net.Dialer).DialContext(ctx, network, address)
				return err
			})
			return c, err
		},
	}}
	return p, nil
}

// Tools fills dir with links that give iptables of one variant (nft, the default, or legacy) its
// plain names, and returns the environment of a process that shall use it.
func Tools(dir, variant string) ([]string, error) {
	if variant == "" {
		variant = "nft"
	}
	multi, err := exec.LookPath("xtables-" + variant + "-multi")
	if err != nil {
		return nil, fmt.Errorf("iptables-%s: %w", variant, err)
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, tool := range []string{"", "-save", "-restore"} {
			if err := os.Symlink(multi, filepath.Join(dir, family+tool)); err != nil {
				return nil, fmt.Errorf("iptables-%s: %w", variant, err)
			}
		}
	}
	return []string{
		"PATH=" + dir + string(os.PathListSeparator) + os.Getenv("PATH"),
		"XTABLES_LOCKFILE=" + filepath.Join(dir, "xtables.lock"),
	}, nil
}

// Close kills kube-proxy and removes its files. What it programmed stays.
func (p *Proxy) Close() error {
	p.Kill()
	p.http.CloseIdleConnections()
	return os.RemoveAll(p.dir)
}

// metrics returns the samples of kube-proxy's own metrics, by name and labels as in the text
// format.
func (p *Proxy) metrics(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+metricsAddr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	out := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || !strings.HasPrefix(name, "kubeproxy_") {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = v
		}
	}
	return out, lines.Err()
}

// quiet is how long kube-proxy must have had nothing to do to count as settled. Objects take a
// few milliseconds from the API server to its queue.
const quiet = 150 * time.Millisecond

// Settle waits until kube-proxy has programmed all that it was told: no family has a request
// queued after its last successful sync, and that has been so for a while.
func (p *Proxy) Settle(ctx context.Context) error {
	var since time.Time
	var last string
	for {
		m, err := p.metrics(ctx)
		state, done := syncState(m)
		if err != nil || !done || state != last {
			since, last = time.Now(), state
		} else if time.Since(since) >= quiet {
			return nil
		}
		select {
		case <-p.Done():
			return p.Err()
		case <-ctx.Done():
			return fmt.Errorf("kube-proxy did not settle: %w: %v: %s", ctx.Err(), err, p.Output())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// syncState condenses the metrics to what changes whenever kube-proxy is told or does something,
// and tells whether it has done all.
func syncState(m map[string]float64) (state string, done bool) {
	const prefix = "kubeproxy_sync_proxy_rules_"
	families := 0
	done = true
	for _, family := range []string{"IPv4", "IPv6"} {
		label := `{ip_family="` + family + `"}`
		queued, told := m[prefix+"last_queued_timestamp_seconds"+label]
		synced := m[prefix+"last_timestamp_seconds"+label]
		if told {
			families++
			done = done && queued > 0 && synced >= queued
		}
		state += fmt.Sprint(queued, synced, " ")
	}
	state += fmt.Sprint(m[prefix+"service_changes_total"], m[prefix+"endpoint_changes_total"])
	return state, done && families > 0
}
