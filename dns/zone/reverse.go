package zone

import (
	"bytes"
	"net/netip"
	"slices"
	"sort"
	"strings"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/wire"
)

// hashAddr is the hash of an address in the tables.
func hashAddr(a netip.Addr) uint64 {
	b := a.As16()
	return hashOf(b[:])
}

// reverse answers in a zone of addresses.
func (c *call) reverse() (int, outcome) {
	if c.skip == 0 {
		return c.top()
	}
	a, ok := reverseAddr(c.q.Name())
	if !ok || c.q.Type != wire.TypePTR {
		return c.missing()
	}
	w := ptrWriter{c: c, b: c.begin()}
	hits := c.x.reverse.find(hashAddr(a))
	for it := hits; it != nil; it = it.more() { // the address of a Service leads to that Service alone
		e := c.visible(it.value)
		if e != nil && slices.Contains(e.svc.IPs, a) {
			w.write(e, nil)
			return w.b.Finish(wire.FlagAA, wire.Success), answered
		}
	}
	found := false
	for it := hits; it != nil; it = it.more() {
		if e := c.visible(it.value); e != nil && !w.full {
			found = w.endpoints(e, a) || found
		}
	}
	if !found {
		return c.missing()
	}
	return w.b.Finish(wire.FlagAA, wire.Success), answered
}

// visible returns the entry of a key, nil if its namespace is not served.
func (c *call) visible(k *key) *entry {
	if !c.x.namespaces[k.namespace] {
		return nil
	}
	return find(c.x.entries, k.name)
}

// A ptrWriter writes PTR records. The end that all targets share is written once.
type ptrWriter struct {
	c    *call
	b    wire.Builder
	tail wire.Name // "svc" and the primary zone, once it is in the message
	full bool
	buf  [3*64 + 4 + wire.MaxName]byte
}

// endpoints writes a record for each label under which a Service has an endpoint of an address.
func (w *ptrWriter) endpoints(e *entry, a netip.Addr) (found bool) {
	list := e.at(a)
	var last []byte
	var buf [2][maxLabel]byte
	n := 0
	for _, r := range list {
		label := e.label(buf[n][:0], r)
		if len(label) == 0 || string(label) == string(last) {
			continue
		}
		found = true
		if !w.write(e, label) {
			w.b.Truncate()
			w.full = true
			return true
		}
		last, n = label, 1-n
	}
	return found
}

func (w *ptrWriter) write(e *entry, label []byte) bool {
	b := append(append(w.buf[:0], label...), e.key.name...)
	target := w.tail
	if target.Tail == 0 {
		b = append(append(b, 3), labelSvc...)
		b = append(b, w.c.z.primary...)
	}
	target.Labels = b
	at, ok := w.b.Target(wire.Answer, wire.Asked, wire.TypePTR, w.c.z.ttl.address, nil, target)
	if ok && w.tail.Tail == 0 {
		if tail, near := wire.At(at + len(label) + len(e.key.name)); near {
			w.tail = tail
		}
	}
	return ok
}

// at returns the endpoints of an address.
func (e *entry) at(a netip.Addr) []ref {
	width, bin := 4, a.As16()
	addr := bin[12:]
	if a.Is6() {
		width, addr = 16, bin[:]
	}
	compare := func(r ref) int {
		s := e.slice(r)
		if s.Width != width {
			return s.Width - width
		}
		return bytes.Compare(s.Bytes(int(r.i)), addr)
	}
	low := sort.Search(len(e.addrs), func(i int) bool { return compare(e.addrs[i]) >= 0 })
	high := low
	for ; high < len(e.addrs) && compare(e.addrs[high]) == 0; high++ {
	}
	return e.addrs[low:high]
}

// podAt reports whether a pod of a namespace has an address.
func (x *index) podAt(a netip.Addr, namespace []byte) bool {
	for it := x.pods.find(hashAddr(a)); it != nil; it = it.more() {
		if it.value.IP == a && it.value.Namespace == string(namespace) {
			return true
		}
	}
	return false
}

// SearchPath returns the zones in which a pod looks for names, for autopath: those of its
// namespace, of all Services, and of the cluster. It is nil for an address that no pod has, or pods
// of several namespaces (those on the node's own network), and unless the directive asks for
// verified pods.
func (z *Zone) SearchPath(client netip.Addr) []string {
	if z.directive.Pods != corefile.PodsVerified {
		return nil
	}
	namespace := ""
	client = client.Unmap()
	for it := z.index.Load().pods.find(hashAddr(client)); it != nil; it = it.more() {
		switch p := it.value; {
		case p.IP != client || p.Namespace == namespace:
		case namespace != "":
			return nil
		default:
			namespace = p.Namespace
		}
	}
	if namespace == "" {
		return nil
	}
	primary := plugin.Canonical(z.directive.PrimaryZone)
	svc := "svc." + strings.TrimPrefix(primary, ".")
	return []string{namespace + "." + svc, svc, primary}
}
