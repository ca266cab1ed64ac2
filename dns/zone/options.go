package zone

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/names"
)

// Options are what a Zone needs beside its own directive. The zero value is good.
type Options struct {
	// Resolver asks for the names that Services of type ExternalName lead to. Without one they end
	// with the CNAME.
	Resolver plugin.Resolver
	// Rotate puts addresses in a random order, as the plugin loadbalance does. Without it they
	// come in the order of the EndpointSlices.
	Rotate bool
	// Passing says what the TTL of an answer becomes on its way through the cache plugin, in
	// seconds; denial is for answers without records. Nil leaves it.
	Passing func(denial bool, ttl uint32) uint32
	// Local returns the addresses that this server is asked at, without loopback ones. They say
	// which Services lead here, for the question NS. Nil means none.
	Local func() []netip.Addr
	// Programmed, if set, is told of every EndpointSlice that came into force after the first
	// complete state: which kind of Service it is of, in the words of the metric
	// dns_programming_duration_seconds, and when the change behind it happened.
	Programmed func(kind string, trigger time.Time)
}

// A Zone answers for a cluster. Answer and the plugin's Handler are safe for concurrent use, also
// with Update, of which one runs at a time.
type Zone struct {
	directive corefile.Kubernetes
	opts      Options
	zones     []apex // most labels first
	primary   []byte // name of the zone that PTR records lead into, in wire format
	fall      [][]byte
	ttl       ttls
	wanted    map[string]bool // namespaces; nil: all

	index atomic.Pointer[index]

	mu   sync.Mutex // held by Update
	last names.Inputs
}

// An apex is one of the zones of the directive.
type apex struct {
	name    []byte // wire format, lower case
	labels  int
	reverse bool
	cluster bool // a zone of imported Services
}

// ttls are what the records of answers live, in seconds.
type ttls struct {
	address, version, soa, denial, minimum uint32
}

// New returns a Zone that knows nothing yet: it answers SERVFAIL until its first Update.
func New(d corefile.Kubernetes, o Options) (*Zone, error) {
	z := &Zone{directive: d, opts: o}
	if z.opts.Local == nil {
		z.opts.Local = func() []netip.Addr { return nil }
	}
	for _, text := range d.Zones {
		name, err := wire.AppendName(nil, plugin.Canonical(text))
		if err != nil {
			return nil, fmt.Errorf("zone %q: %w", text, err)
		}
		a := apex{name: name, labels: labels(name), reverse: isReverse(name)}
		for _, m := range d.MulticlusterZones {
			a.cluster = a.cluster || plugin.Canonical(m) == plugin.Canonical(text)
		}
		z.zones = append(z.zones, a)
	}
	slices.SortStableFunc(z.zones, func(a, b apex) int { return cmp.Compare(b.labels, a.labels) })
	var err error
	if z.primary, err = wire.AppendName(nil, plugin.Canonical(cmp.Or(d.PrimaryZone, "."))); err != nil {
		return nil, fmt.Errorf("zone %q: %w", d.PrimaryZone, err)
	}
	for _, text := range d.Fallthrough {
		name, err := wire.AppendName(nil, plugin.Canonical(text))
		if err != nil {
			return nil, fmt.Errorf("fallthrough %q: %w", text, err)
		}
		z.fall = append(z.fall, name)
	}
	if len(d.Namespaces) > 0 {
		z.wanted = map[string]bool{}
		for _, ns := range d.Namespaces {
			z.wanted[ns] = true
		}
	}
	z.ttl = z.ttls()
	z.index.Store(&index{entries: &table[*entry]{}, imports: &table[*entry]{}, reverse: &table[*key]{}, pods: &table[*names.Pod]{}})
	return z, nil
}

// maxSOA bounds the TTL of the SOA record, as CoreDNS does.
const maxSOA = 300

func (z *Zone) ttls() ttls {
	passing := z.opts.Passing
	if passing == nil {
		passing = func(_ bool, ttl uint32) uint32 { return ttl }
	}
	const version = 28800 // fixed by CoreDNS
	soa := min(z.directive.TTL, maxSOA)
	return ttls{
		address: passing(false, z.directive.TTL),
		version: passing(false, version),
		soa:     passing(false, soa),
		denial:  passing(true, soa),
		minimum: z.directive.TTL,
	}
}

// labels counts the labels of a name in wire format, without the root.
func labels(name []byte) (n int) {
	for ; name[0] != 0; name = name[1+int(name[0]):] {
		n++
	}
	return n
}

var (
	inAddr = []byte("\x07in-addr\x04arpa\x00")
	ip6    = []byte("\x03ip6\x04arpa\x00")
)

func isReverse(name []byte) bool {
	return bytes.HasSuffix(name, inAddr) || bytes.HasSuffix(name, ip6)
}

// match returns the zone that a name is in: the one of most labels.
func (z *Zone) match(q *wire.Query) *apex {
	for i := range z.zones {
		a := &z.zones[i]
		if skip := q.Labels() - a.labels; skip >= 0 && bytes.Equal(q.Suffix(skip), a.name) {
			return a
		}
	}
	return nil
}

// falls reports whether a name without an answer is for the next plugin.
func (z *Zone) falls(q *wire.Query) bool {
	for _, f := range z.fall {
		if skip := q.Labels() - labels(f); skip >= 0 && bytes.Equal(q.Suffix(skip), f) {
			return true
		}
	}
	return false
}

// Name returns "kubernetes".
func (z *Zone) Name() string { return "kubernetes" }

// Serial returns the serial of the SOA record: the second since 1970 of the last change that answers
// show, or one more than the last if there are several in a second. It is 0 before the first state.
func (z *Zone) Serial() uint32 { return z.index.Load().serial }

// Ready reports whether the first complete state of the cluster is there.
func (z *Zone) Ready() bool { return z.index.Load().synced }
