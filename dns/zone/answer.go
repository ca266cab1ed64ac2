package zone

import (
	"bytes"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/wire"
	"github.com/fairway-lb/fairway/proxier/names"
)

// An outcome says what became of a question.
type outcome uint8

const (
	answered outcome = iota // a reply is written
	outside                 // no zone of ours
	falls                   // there is no such name, and the next plugin is to be asked
	chase                   // the answer is another name
	refused                 // of a class or type that is not answered here
)

// Answer answers from the index. It leaves to the slow path what is not in its zones, what falls
// through, names that stand for other names, and what is to be refused.
func (z *Zone) Answer(q *wire.Query, limit int, out []byte) (int, bool) {
	n, o := z.answer(q, limit, out)
	return n, o == answered
}

func (z *Zone) answer(q *wire.Query, limit int, out []byte) (int, outcome) {
	a := z.match(q)
	switch {
	case a == nil:
		return 0, outside
	case q.Class != wire.ClassIN, q.Type == wire.TypeAXFR, q.Type == wire.TypeIXFR:
		return 0, refused
	}
	c := call{z: z, x: z.index.Load(), apex: a, q: q, limit: limit, out: out, skip: q.Labels() - a.labels}
	if a.reverse {
		return c.reverse()
	}
	return c.forward()
}

// A call is one question on its way to its answer.
type call struct {
	z     *Zone
	x     *index
	apex  *apex
	q     *wire.Query
	limit int
	out   []byte
	skip  int    // labels before the name of the zone
	f     filter // which ports, endpoints and zones are asked for
}

// A filter is what the labels before a Service's name ask for; nil is anything.
type filter struct {
	port, protocol []byte
	zone           []byte // dots between labels
}

var (
	labelSvc     = []byte("svc")
	labelPod     = []byte("pod")
	labelNS      = []byte("ns")
	labelDNS     = []byte("dns")
	labelVersion = []byte("dns-version")
)

// version is the data of the TXT record at dns-version: the version of the specification.
var version = []byte("\x051.1.0")

func is(label []byte, text []byte) bool { return bytes.Equal(label, text) }

// forward answers in a zone of names. Labels are looked at from the right.
func (c *call) forward() (int, outcome) {
	q, last := c.q, c.skip-1
	if c.skip == 0 {
		return c.top()
	}
	top := q.Label(last)
	switch {
	case is(top, labelSvc), is(top, labelPod):
	case c.skip == 1 && is(top, labelVersion) && q.Type == wire.TypeTXT:
		b := c.begin()
		b.Record(wire.Answer, wire.Asked, wire.TypeTXT, c.z.ttl.version, version)
		return b.Finish(wire.FlagAA, wire.Success), answered
	case c.skip == 2 && is(top, labelDNS) && is(q.Label(0), labelNS):
		return c.serverAddresses()
	default:
		return c.missing()
	}
	if c.skip == 1 {
		return c.noData()
	}
	if !c.x.namespaces[string(q.Label(last-1))] {
		return c.missing()
	}
	if is(top, labelPod) {
		return c.pod()
	}
	if c.skip == 2 {
		return c.noData()
	}
	t := c.x.entries
	if c.apex.cluster {
		t = c.x.imports
	}
	start, end := q.Suffix(last-2), q.Suffix(last)
	e := find(t, start[:len(start)-len(end)])
	if e == nil {
		return c.missing()
	}
	return c.service(e)
}

func (c *call) begin() wire.Builder { return wire.Begin(c.q, c.limit, c.out) }

var (
	soaPrimary = []byte("\x02ns\x03dns")
	soaMailbox = []byte("\x0ahostmaster")
)

func (c *call) soa(b *wire.Builder, s wire.Section, ttl uint32) {
	serial := c.x.serial
	if c.apex.cluster {
		serial = c.x.imported
	}
	soa := wire.SOA{Primary: soaPrimary, Mailbox: soaMailbox, TTL: ttl, Serial: serial,
		Refresh: 7200, Retry: 1800, Expire: 86400, Minimum: c.z.ttl.minimum}
	b.SOA(s, c.q.Tail(c.skip), &soa)
}

// noData says that the name exists, but nothing of that type.
func (c *call) noData() (int, outcome) { return c.negative(wire.Success), answered }

func (c *call) negative(rcode int) int {
	b := c.begin()
	c.soa(&b, wire.Authority, c.z.ttl.denial)
	return b.Finish(wire.FlagAA, rcode)
}

// missing says that there is no such name. Before the first complete state nobody knows that, and
// the next plugin knows it even less.
func (c *call) missing() (int, outcome) {
	switch {
	case !c.x.synced:
		return c.negative(wire.ServFail), answered
	case c.z.falls(c.q):
		return 0, falls
	}
	return c.negative(wire.NXDomain), answered
}

// top answers at the name of the zone itself.
func (c *call) top() (int, outcome) {
	switch c.q.Type {
	case wire.TypeSOA:
		b := c.begin()
		c.soa(&b, wire.Answer, c.z.ttl.soa)
		return b.Finish(wire.FlagAA, wire.Success), answered
	case wire.TypeNS:
		return c.nameServers()
	}
	return c.noData()
}

// pod answers names of pods: their addresses with dashes.
func (c *call) pod() (int, outcome) {
	mode := c.z.directive.Pods
	switch {
	case mode != corefile.PodsInsecure && mode != corefile.PodsVerified, c.skip > 3:
		return c.missing()
	case c.skip == 2:
		return c.noData()
	}
	a, ok := parseDashed(c.q.Label(0))
	a = a.Unmap()
	if !ok || mode == corefile.PodsVerified && !c.x.podAt(a, c.q.Label(1)) {
		return c.missing()
	}
	typ := uint16(wire.TypeA)
	if a.Is6() {
		typ = wire.TypeAAAA
	}
	if c.q.Type != typ {
		return c.noData()
	}
	b := c.begin()
	if a.Is4() {
		v := a.As4()
		b.Record(wire.Answer, wire.Asked, typ, c.z.ttl.address, v[:])
	} else {
		v := a.As16()
		b.Record(wire.Answer, wire.Asked, typ, c.z.ttl.address, v[:])
	}
	return b.Finish(wire.FlagAA, wire.Success), answered
}

// service answers a name of a Service, and those below it.
func (c *call) service(e *entry) (int, outcome) {
	q, rest := c.q, c.skip-3
	switch {
	case e.kind == names.Missing:
		return c.missing()
	case e.kind == names.ExternalName:
		if rest > 0 || !leadsAway(e.svc.External) {
			return c.missing()
		}
		return c.external(e.svc.External)
	case e.kind == names.ClusterIP && c.z.directive.IgnoreEmpty && len(e.addrs) == 0:
		return c.missing()
	}
	switch {
	case rest == 0:
	case rest == 1:
		return c.endpoint(e, q.Suffix(0)[:1+len(q.Label(0))], nil)
	case rest == 2:
		port, protocol := q.Label(0), q.Label(1)
		if c.apex.cluster && port[0] != '_' && protocol[0] != '_' {
			return c.endpoint(e, q.Suffix(0)[:1+len(port)], protocol)
		}
		c.f.port, c.f.protocol = bare(port), bare(protocol)
	default:
		return c.zonal(e, rest)
	}
	if e.kind == names.Headless {
		return c.headless(e, false)
	}
	return c.clusterIP(e)
}

// bare returns a label without its underscore, nil if nothing is left.
func bare(label []byte) []byte {
	if label[0] == '_' {
		label = label[1:]
	}
	if len(label) == 0 {
		return nil
	}
	return label
}

// match reports whether a port is asked for.
func (f *filter) match(p *names.Port) bool {
	return (f.port == nil || string(f.port) == p.Name) && (f.protocol == nil || string(f.protocol) == p.Protocol)
}

// portless stands for the ports of a Service or a slice without any: it has addresses, and no SRV.
var portless = []names.Port{{Number: names.NoPort}}

// ports returns how many ports of a list are asked for.
func (f *filter) ports(list []names.Port) (n int) {
	if f.port == nil && f.protocol == nil {
		return len(list)
	}
	for i := range list {
		if f.match(&list[i]) {
			n++
		}
	}
	return n
}

func portsOf(s *names.Slice) []names.Port {
	if len(s.Ports) == 0 {
		return portless
	}
	return s.Ports
}

// clusterIP answers with the addresses of the Service itself.
func (c *call) clusterIP(e *entry) (int, outcome) {
	if c.q.Type == wire.TypeSRV || !e.ported || c.f.port != nil || c.f.protocol != nil { // else any will do
		ports := e.svc.Ports
		if len(ports) == 0 && !c.apex.cluster { // an import without ports is no name, for CoreDNS
			ports = portless
		}
		switch n := c.f.ports(ports); {
		case n == 0:
			return c.missing()
		case c.q.Type == wire.TypeSRV:
			return c.serviceSRV(e, ports, n*len(e.svc.IPs))
		}
	}
	switch c.q.Type {
	case wire.TypeA:
		return c.packed(e.v4(), lenA)
	case wire.TypeAAAA:
		return c.packed(e.v6(), lenAAAA)
	}
	return c.noData()
}

// headless answers with the addresses of the endpoints that have a port that is asked for. With
// exists the name stands even if there are none.
func (c *call) headless(e *entry, exists bool) (int, outcome) {
	pairs, others, target := 0, 0, false
	for _, s := range e.svc.Slices {
		n := c.f.ports(portsOf(s))
		here := c.inZone(s)
		if n == 0 || here == 0 {
			others += s.Len()
			continue
		}
		pairs += n * here
		others += s.Len() - here
		target = target || s.Width == 0
	}
	switch {
	case pairs == 0 && !exists:
		return c.missing()
	case pairs == 0:
		return c.noData()
	}
	switch c.q.Type {
	case wire.TypeA, wire.TypeAAAA, wire.TypeCNAME:
		if target {
			return c.targets(e, e.order)
		}
	}
	switch c.q.Type {
	case wire.TypeA:
		if others == 0 {
			return c.packed(e.v4(), lenA)
		}
		return c.some(e, e.addrs, 4)
	case wire.TypeAAAA:
		if others == 0 {
			return c.packed(e.v6(), lenAAAA)
		}
		return c.some(e, e.addrs, 16)
	case wire.TypeSRV:
		return c.endpointSRV(e, e.order, pairs)
	}
	return c.noData()
}

// inZone returns how many addresses of a slice are in the zone that is asked for.
func (c *call) inZone(s *names.Slice) int {
	if c.f.zone == nil {
		return s.Len()
	}
	n := 0
	for i := range s.Len() {
		if c.here(s, uint16(i)) {
			n++
		}
	}
	return n
}

func (c *call) here(s *names.Slice, i uint16) bool {
	return c.f.zone == nil || s.Zones != nil && s.Zones[i] == string(c.f.zone)
}

// endpoint answers the name of one endpoint, whose label comes with its length. In a zone of imported Services its cluster is asked
// for too.
func (c *call) endpoint(e *entry, label, cluster []byte) (int, outcome) {
	list := e.find(label, cluster)
	pairs, target := 0, false
	for _, r := range list {
		s := e.slice(r)
		pairs += len(portsOf(s))
		target = target || s.Width == 0
	}
	if pairs == 0 {
		return c.missing()
	}
	switch c.q.Type {
	case wire.TypeA, wire.TypeAAAA, wire.TypeCNAME:
		if target {
			return c.targets(e, list)
		}
	}
	switch c.q.Type {
	case wire.TypeA:
		return c.some(e, list, 4)
	case wire.TypeAAAA:
		return c.some(e, list, 16)
	case wire.TypeSRV:
		return c.endpointSRV(e, list, pairs)
	}
	return c.noData()
}

// zonal answers ZONE.pin._zone.SERVICE and ZONE.prefer._zone.SERVICE, of which the latter falls
// back to all endpoints. ZONE may have several labels.
func (c *call) zonal(e *entry, rest int) (int, outcome) {
	prefer := is(c.q.Label(rest-2), []byte("prefer"))
	switch {
	case !c.z.directive.Zonal, c.apex.cluster, e.svc.Kind != names.Headless,
		!is(c.q.Label(rest-1), []byte("_zone")), !prefer && !is(c.q.Label(rest-2), []byte("pin")):
		return c.missing()
	}
	var buf [wire.MaxName]byte
	zone := buf[:0]
	for i := range rest - 2 {
		if i > 0 {
			zone = append(zone, '.')
		}
		zone = append(zone, c.q.Label(i)...)
	}
	c.f.zone = zone
	if prefer && c.empty(e) {
		c.f.zone = nil
	}
	return c.headless(e, true)
}

// empty reports whether no endpoint is in the zone that is asked for.
func (c *call) empty(e *entry) bool {
	for _, s := range e.svc.Slices {
		if c.inZone(s) > 0 {
			return false
		}
	}
	return true
}
