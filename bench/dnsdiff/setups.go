package dnsdiff

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairway-lb/fairway/bench/nameserver"
)

// A Setup is a Corefile under which both resolvers are compared. $API and $UPSTREAM are filled in.
type Setup struct {
	Name     string
	Corefile string
	FromPods bool // queries come from the addresses of the cluster's pods
	// Cached reports whether answers for a name, in lower case, come from a cache: then TTLs
	// depend on when it was asked for first, and the spelling on how.
	Cached func(name string) bool
	// Tier is what namespace_labels wants of the label tier, "" if it is not used.
	Tier string

	hidden func(namespace string) bool // by Tier; see Setup.of
}

// of returns the setup with what depends on the cluster.
func (s Setup) of(c *Cluster) Setup {
	if s.Tier != "" {
		s.hidden = func(namespace string) bool {
			return slices.ContainsFunc(c.Namespaces, func(n *corev1.Namespace) bool {
				return n.Name == namespace && n.Labels["tier"] != s.Tier
			})
		}
	}
	return s
}

// zone is the domain of the clusters.
const zone = "cluster.local."

func everything(string) bool { return true }
func nothing(string) bool    { return false }

// foreign reports whether a name is not of the cluster.
func foreign(name string) bool { return !strings.HasSuffix(name, zone) }

// Setups are the Corefiles of the comparison. Each is one that people run, or has options that
// change answers.
var Setups = []Setup{
	{Name: "kubeadm", Cached: foreign, Corefile: nameserver.Kubeadm},
	{Name: "bare", Cached: nothing, Corefile: `cluster.local in-addr.arpa ip6.arpa {
	errors
	ready
	kubernetes {
		$API
	}
}
`},
	{Name: "k3s", Cached: everything, Corefile: `.:53 {
	errors
	health
	ready
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		$API
		pods insecure
		fallthrough in-addr.arpa ip6.arpa
	}
	hosts {
		192.0.2.200 node-1 node-1.example.com
		2001:db8::200 node-1
		ttl 60
		fallthrough
	}
	prometheus :9153
	forward . $UPSTREAM
	cache 30
	loop
	reload
	loadbalance
}
`},
	{Name: "verified, autopath", FromPods: true, Cached: nothing, Corefile: `.:53 {
	errors
	ready
	autopath @kubernetes
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		$API
		pods verified
		fallthrough in-addr.arpa ip6.arpa
		ttl 10
	}
	forward . $UPSTREAM
}
`},
	{Name: "endpoint_pod_names, several zones", Cached: nothing, Corefile: `.:53 {
	errors
	ready
	kubernetes cluster.local corp.example. 10.0.0.0/8 fd00::/8 {
		$API
		endpoint_pod_names
		ttl 3600
		fallthrough 10.0.0.0/8
	}
	forward . $UPSTREAM {
		except example.net
	}
}
`},
	{Name: "selectors", Cached: nothing, Corefile: `.:53 {
	errors
	ready
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		$API
		labels app=one
		namespaces default prod svc
		pods verified
		ignore empty_service
		ttl 0
		fallthrough
	}
	forward . $UPSTREAM
	loadbalance
}
`},
	{Name: "noendpoints", Cached: everything, Tier: "one", Corefile: `.:53 {
	errors
	ready
	bufsize 1232
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		$API
		namespace_labels tier=one
		noendpoints
	}
	cache
	forward . $UPSTREAM
}
`},
	{Name: "stub domains", Cached: everything, Corefile: `cluster.local:53 {
	errors
	ready
	kubernetes cluster.local {
		$API
		pods disabled
	}
	cache 5
}
example.com {
	forward . $UPSTREAM
	cache 30
	errors
}
example.net {
}
in-addr.arpa {
	whoami
}
. {
	template IN ANY invalid {
		rcode NXDOMAIN
	}
	forward . $UPSTREAM
	minimal
	any
}
`},
	{Name: "rewrite", Cached: nothing, Corefile: `.:53 {
	errors
	ready
	rewrite name suffix .corp.example. .cluster.local. answer auto
	rewrite name exact front.example.com web.default.svc.cluster.local
	rewrite ttl suffix example.net 17
	rewrite type ANY HINFO
	kubernetes cluster.local in-addr.arpa ip6.arpa {
		$API
		pods insecure
		fallthrough in-addr.arpa ip6.arpa
	}
	forward . $UPSTREAM
}
`},
}
