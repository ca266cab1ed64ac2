package nameserver

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
)

// The kinds of servers that serve a zone file: authoritative ones, which cannot know a cluster
// but tell how little an answer can cost.
const (
	NSD     = "nsd"
	Unbound = "unbound"
)

// Static says how to run a server of a zone file.
type Static struct {
	Kind     string // NSD or Unbound
	Space    *Space
	Addr     netip.AddrPort
	Zone     string // such as cluster.local
	ZoneFile string // the text of the zone
	Upstream string // host:port that Unbound forwards everything else to
	Threads  int    // processes of NSD, threads of Unbound
}

// StartStatic starts a server of a zone file and returns when it answers. Its program is the one
// in PATH.
func StartStatic(ctx context.Context, o Static) (*Server, error) {
	return launch(ctx, &Server{Name: o.Kind, Space: o.Space, Addr: o.Addr}, func(s *Server) (*exec.Cmd, error) {
		conf := s.nsd(o)
		if o.Kind == Unbound {
			conf = s.unbound(o)
		}
		for name, text := range map[string]string{"zone": o.ZoneFile, "conf": conf} {
			if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
				return nil, err
			}
		}
		return exec.Command(o.Kind, "-d", "-c", filepath.Join(s.dir, "conf")), nil
	})
}

// nsd is the configuration of NSD. Its limit on answers to one client would make it slow here,
// where all clients have one address.
func (s *Server) nsd(o Static) string {
	return fmt.Sprintf(`server:
	ip-address: %[1]s@%[2]d
	server-count: %[3]d
	reuseport: yes
	rrl-ratelimit: 0
	minimal-responses: yes
	username: ""
	database: ""
	zonesdir: %[4]q
	pidfile: "%[4]s/pid"
	xfrdfile: "%[4]s/xfrd"
	zonelistfile: "%[4]s/zones"
remote-control:
	control-enable: no
zone:
	name: %[5]s
	zonefile: zone
`, o.Addr.Addr(), o.Addr.Port(), o.Threads, s.dir, o.Zone)
}

// unbound is the configuration of Unbound, without DNSSEC.
func (s *Server) unbound(o Static) string {
	upstream := netip.MustParseAddrPort(o.Upstream)
	return fmt.Sprintf(`server:
	interface: %[1]s@%[2]d
	num-threads: %[3]d
	so-reuseport: yes
	access-control: 0.0.0.0/0 allow
	do-not-query-localhost: no
	module-config: "iterator"
	minimal-responses: yes
	username: ""
	chroot: ""
	directory: %[4]q
	pidfile: ""
	use-syslog: no
	infra-cache-numhosts: 1000
remote-control:
	control-enable: no
auth-zone:
	name: %[5]s
	zonefile: zone
	for-downstream: yes
	for-upstream: no
	fallback-enabled: no
forward-zone:
	name: "."
	forward-addr: %[6]s@%[7]d
`, o.Addr.Addr(), o.Addr.Port(), o.Threads, s.dir, o.Zone, upstream.Addr(), upstream.Port())
}
