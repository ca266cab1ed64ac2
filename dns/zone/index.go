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

// An entry is one Service and what is packed for it. What most queries read is in two neighbouring
// lines of the processor's cache: of thousands of names, that of the next query is in no cache.
type entry struct {
	packed []byte // the name as in key, v4, v6: in near if they fit
	*details
	v4len, v6len int32
	nameLen      uint8
	kind         names.Kind
	ported       bool // svc has ports
	near         [nearLen]byte
}

// nearLen makes an entry as long as two lines, which is a size that Go allocates.
const nearLen = 128 - 43

// details are what the other queries read.
type details struct {
	key *key
	svc *names.Service
	// order has every address of svc.Slices, sorted by the label of the endpoint and then by
	// cluster: those of one name stand together, and equal addresses of them.
	order []ref
	// addrs has the same sorted by address, and then by label.
	addrs []ref
	pods  bool // endpoints are named after their pods
	// imported is for ServiceImports, whose endpoints have their cluster in their name.
	imported bool
}

// name is the two labels in wire format.
func (e *entry) name() []byte { return e.packed[:e.nameLen] }

// v4 and v6 are the address records of the Service's own name, with the question as owner. Addresses
// occur once.
func (e *entry) v4() []byte { return e.packed[e.nameLen:][:e.v4len] }

func (e *entry) v6() []byte { return e.packed[int(e.nameLen)+int(e.v4len):] }

// A ref is an address of an entry: address i of slice s.
type ref struct{ s, i uint16 }

// Lengths of packed address records whose owner is a pointer.
const (
	lenA    = 2 + 10 + 4
	lenAAAA = 2 + 10 + 16
)

// find returns the entry of the Service whose two labels in wire format are name.
func find(t *table[*entry], name []byte) *entry {
	for it := t.find(hashOf(name)); it != nil; it = it.more() {
		if bytes.Equal(it.value.name(), name) {
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

func (z *Zone) newEntry(k *key, s *names.Service, imported bool) *entry {
	if z.directive.NoEndpoints {
		bare := *s
		bare.Slices, s = nil, &bare
	}
	e := &entry{kind: s.Kind, ported: len(s.Ports) > 0,
		details: &details{key: k, svc: s, pods: z.directive.EndpointPodNames, imported: imported}}
	e.sortRefs()
	var v4, v6 []byte
	switch s.Kind {
	case names.ClusterIP:
		for _, a := range s.IPs {
			v4, v6 = pack(v4, v6, a, z.ttl.address)
		}
	case names.Headless:
		v4, v6 = e.packEndpoints(z.ttl.address)
	}
	e.nameLen, e.v4len, e.v6len = uint8(len(k.name)), int32(len(v4)), int32(len(v6))
	if n := len(k.name) + len(v4) + len(v6); n > nearLen {
		e.packed = make([]byte, 0, n)
	} else {
		e.packed = e.near[:0]
	}
	e.packed = append(append(append(e.packed, k.name...), v4...), v6...)
	return e
}

// packEndpoints packs the addresses of all endpoints, in the order of the slices.
func (e *entry) packEndpoints(ttl uint32) (v4, v6 []byte) {
	n4, n6 := 0, 0
	for _, s := range e.svc.Slices {
		switch s.Width {
		case 4:
			n4 += s.Len()
		case 16:
			n6 += s.Len()
		}
	}
	v4, v6 = make([]byte, 0, n4*lenA), make([]byte, 0, n6*lenAAAA)
	seen := make(map[netip.Addr]struct{}, n4+n6)
	for _, s := range e.svc.Slices {
		for i := range s.Len() {
			if a := s.Addr(i); a.IsValid() {
				if _, twice := seen[a]; !twice {
					seen[a] = struct{}{}
					v4, v6 = pack(v4, v6, a, ttl)
				}
			}
		}
	}
	return v4, v6
}

// pack appends an address record to those of its family.
func pack(v4, v6 []byte, a netip.Addr, ttl uint32) (_, _ []byte) {
	if a.Is4() {
		return appendAddress(v4, wire.TypeA, ttl, a.AsSlice()), v6
	}
	return v4, appendAddress(v6, wire.TypeAAAA, ttl, a.AsSlice())
}

func appendAddress(b []byte, typ byte, ttl uint32, addr []byte) []byte {
	b = append(b, 0xc0, wire.HeaderLen, 0, typ, 0, wire.ClassIN,
		byte(ttl>>24), byte(ttl>>16), byte(ttl>>8), byte(ttl), 0, byte(len(addr)))
	return append(b, addr...)
}

// maxRefs is how many slices, and addresses of one slice, a ref can tell. The API server allows
// 1,000 endpoints in a slice.
const maxRefs = 1 << 16

func (e *entry) sortRefs() {
	total := 0
	for _, s := range e.svc.Slices {
		total += s.Len()
	}
	if total == 0 {
		return
	}
	type labelled struct {
		ref
		label string
	}
	list := make([]labelled, 0, total)
	var buf [maxLabel]byte
	for i, s := range e.svc.Slices[:min(len(e.svc.Slices), maxRefs)] {
		for j := range min(s.Len(), maxRefs) {
			r := ref{uint16(i), uint16(j)}
			list = append(list, labelled{r, string(e.label(buf[:0], r))})
		}
	}
	refs := func() []ref {
		out := make([]ref, len(list))
		for i := range list {
			out[i] = list[i].ref
		}
		return out
	}
	slices.SortStableFunc(list, func(a, b labelled) int {
		if c := strings.Compare(a.label, b.label); c != 0 {
			return c
		}
		if c := strings.Compare(e.cluster(a.ref), e.cluster(b.ref)); c != 0 {
			return c
		}
		return e.byAddress(a.ref, b.ref)
	})
	e.order = refs()
	slices.SortStableFunc(list, func(a, b labelled) int { return e.byAddress(a.ref, b.ref) })
	e.addrs = refs()
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

// cluster returns the cluster in the name of an endpoint, "" if there is none.
func (e *entry) cluster(r ref) string {
	if !e.imported {
		return ""
	}
	return e.slice(r).Cluster
}
