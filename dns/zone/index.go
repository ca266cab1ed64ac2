package zone

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/names"
)

// An index is what a Zone knows at one moment. It never changes.
type index struct {
	synced     bool
	serial     uint32 // of the SOA
	imported   uint32 // of the SOA of multi-cluster zones
	namespaces map[string]bool
	entries    *table[*entry] // Services by their two labels
	imports    *table[*entry] // ServiceImports
	reverse    *table[*key]   // Services by address: of the Service, or of a ready endpoint
	pods       *table[*names.Pod]
}

// A key is the name of a Service. It stays the same while the Service changes, so that the table
// of addresses need not.
type key struct {
	name      []byte // the two labels in wire format
	hash      uint64
	namespace string
}

// An entry is one Service and what is packed for it.
type entry struct {
	key *key
	svc *names.Service
	// v4 and v6 are the address records of the Service's own name, with the question as owner.
	// Addresses occur once.
	v4, v6 []byte
	// order has every address of svc.Slices, sorted by the label of the endpoint: first the named
	// ones, with a label of their own, then by address. Those of one label stand together.
	order []ref
	named int
	// addrs has the same sorted by address, and then by name.
	addrs []ref
}

// A ref is an address of an entry: address i of slice s.
type ref struct{ s, i uint16 }

// Lengths of packed address records whose owner is a pointer.
const (
	lenA    = 2 + 10 + 4
	lenAAAA = 2 + 10 + 16
)

// find returns the entry of the Service whose two labels in wire format name begins with.
func find(t *table[*entry], name []byte) *entry {
	hash := hashOf(name)
	for _, it := range t.find(hash) {
		if bytes.Equal(it.value.key.name, name) {
			return it.value
		}
	}
	return nil
}

func newKey(s *names.Service) *key {
	b := make([]byte, 0, len(s.Name)+len(s.Namespace)+2)
	b = append(append(b, byte(len(s.Name))), s.Name...)
	b = append(append(b, byte(len(s.Namespace))), s.Namespace...)
	return &key{name: b, hash: hashOf(b), namespace: s.Namespace}
}

// usable reports whether a Service's name can be asked for.
func usable(s *names.Service) bool {
	return 0 < len(s.Name) && len(s.Name) <= 63 && 0 < len(s.Namespace) && len(s.Namespace) <= 63
}

func (z *Zone) newEntry(k *key, s *names.Service) *entry {
	if z.directive.NoEndpoints {
		bare := *s
		bare.Slices, s = nil, &bare
	}
	e := &entry{key: k, svc: s}
	e.sortRefs(z.directive.EndpointPodNames)
	switch s.Kind {
	case names.ClusterIP:
		for _, a := range s.IPs {
			e.pack(a, z.ttl.address)
		}
	case names.Headless:
		e.packEndpoints(z.ttl.address)
	}
	e.v4, e.v6 = slices.Clip(e.v4), slices.Clip(e.v6)
	return e
}

// packEndpoints packs the addresses of all endpoints, in the order of the slices.
func (e *entry) packEndpoints(ttl uint32) {
	n4, n6 := 0, 0
	for _, s := range e.svc.Slices {
		switch s.Width {
		case 4:
			n4 += s.Len()
		case 16:
			n6 += s.Len()
		}
	}
	e.v4, e.v6 = make([]byte, 0, n4*lenA), make([]byte, 0, n6*lenAAAA)
	seen := make(map[netip.Addr]struct{}, n4+n6)
	for _, s := range e.svc.Slices {
		for i := range s.Len() {
			if a := s.Addr(i); a.IsValid() {
				if _, twice := seen[a]; !twice {
					seen[a] = struct{}{}
					e.pack(a, ttl)
				}
			}
		}
	}
}

// pack appends an address record to v4 or v6.
func (e *entry) pack(a netip.Addr, ttl uint32) {
	if a.Is4() {
		e.v4 = appendAddress(e.v4, wire.TypeA, ttl, a.AsSlice())
	} else {
		e.v6 = appendAddress(e.v6, wire.TypeAAAA, ttl, a.AsSlice())
	}
}

func appendAddress(b []byte, typ byte, ttl uint32, addr []byte) []byte {
	b = append(b, 0xc0, wire.HeaderLen, 0, typ, 0, wire.ClassIN,
		byte(ttl>>24), byte(ttl>>16), byte(ttl>>8), byte(ttl), 0, byte(len(addr)))
	return append(b, addr...)
}

// maxRefs is how many slices, and addresses of one slice, a ref can tell. The API server allows
// 1,000 endpoints in a slice.
const maxRefs = 1 << 16

func (e *entry) sortRefs(pods bool) {
	total := 0
	for _, s := range e.svc.Slices {
		total += s.Len()
	}
	if total == 0 {
		return
	}
	e.order = make([]ref, 0, total)
	for i, s := range e.svc.Slices[:min(len(e.svc.Slices), maxRefs)] {
		for j := range min(s.Len(), maxRefs) {
			r := ref{uint16(i), uint16(j)}
			e.order = append(e.order, r)
			if host(s, r, pods) != "" {
				e.named++
			}
		}
	}
	e.addrs = e.order
	if e.named > 0 || e.svc.Slices[0].Cluster != "" {
		e.addrs = slices.Clone(e.order)
		slices.SortStableFunc(e.addrs, func(a, b ref) int {
			if c := e.byAddress(a, b); c != 0 {
				return c
			}
			return compareHosts(host(e.slice(a), a, pods), host(e.slice(b), b, pods))
		})
	}
	slices.SortStableFunc(e.order, func(a, b ref) int {
		x, y := e.slice(a), e.slice(b)
		c := compareHosts(host(x, a, pods), host(y, b, pods))
		if c == 0 && x.Cluster != y.Cluster {
			c = strings.Compare(x.Cluster, y.Cluster)
		}
		if c == 0 {
			c = e.byAddress(a, b)
		}
		return c
	})
}

func (e *entry) byAddress(a, b ref) int {
	x, y := e.slice(a), e.slice(b)
	if x.Width != y.Width {
		return cmp.Compare(x.Width, y.Width)
	}
	if x.Width == 0 {
		return strings.Compare(x.Targets[a.i], y.Targets[b.i])
	}
	return bytes.Compare(x.Bytes(int(a.i)), y.Bytes(int(b.i)))
}

func (e *entry) slice(r ref) *names.Slice { return e.svc.Slices[r.s] }

// compareHosts sorts endpoints that have a name of their own before those that have none.
func compareHosts(a, b string) int {
	if (a == "") != (b == "") {
		if a == "" {
			return 1
		}
		return -1
	}
	return cmp.Compare(a, b)
}

// host returns an endpoint's own label, "" if it is named by its address.
func host(s *names.Slice, r ref, pods bool) string {
	if s.Hosts != nil && s.Hosts[r.i] != "" {
		return s.Hosts[r.i]
	}
	if pods && s.Pods != nil {
		return s.Pods[r.i]
	}
	return ""
}
