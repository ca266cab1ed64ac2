package conntrack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/proxier"
	"github.com/fairway-lb/fairway/proxier/netlab"
)

// namespace puts the calling goroutine's thread into a new network namespace, without a name, in
// which the given addresses are local. The thread is never given back: it ends with the test, and
// the namespace with it.
func namespace(t *testing.T, addrs ...string) {
	t.Helper()
	netlab.Require(t)
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	for _, s := range addrs {
		addr, err := netlink.ParseAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(lo, addr); err != nil {
			t.Fatalf("add %s: %v", s, err)
		}
	}
}

// routeOut sends packets to the addresses out of an interface that nobody listens behind.
func routeOut(t *testing.T, addrs ...string) {
	t.Helper()
	run(t, "ip link add out type veth peer name peer")
	run(t, "ip link set peer up")
	run(t, "ip link set out up")
	for _, a := range addrs {
		run(t, "ip route add "+a+" dev out")
	}
}

func run(t *testing.T, command string) {
	t.Helper()
	args := strings.Fields(command)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "XTABLES_LOCKFILE="+t.TempDir()+"/lock")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// endpoint answers each datagram with its own address.
func endpoint(t *testing.T, addr string) {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := c.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				c.WriteTo([]byte(addr), from)
			}
		}
	}()
}

// A client keeps one source port, and with it one entry of the table.
type client struct {
	*net.UDPConn
}

func dial(t *testing.T, from, to string) client {
	t.Helper()
	d := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))}
	c, err := d.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return client{c.(*net.UDPConn)}
}

// ask returns who answers, or "" if nobody does.
func (c client) ask() string {
	buf := make([]byte, 64)
	if _, err := c.Write([]byte("?")); err != nil {
		return "" // an ICMP error that came for the datagram before
	}
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	n, err := c.Read(buf)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

// wantAnswer asks until the answer is the wanted one, because a busy machine may answer late. A
// stale entry is kept alive by that, so it fails all the same.
func wantAnswer(t *testing.T, c client, want, when string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if got = c.ask(); got == want {
			return
		}
	}
	t.Errorf("%s: %s is answered by %q, want %q", when, c.RemoteAddr(), got, want)
}

func clean(t *testing.T, c *Cleaner, prev, now *proxier.Snapshot, want int) {
	t.Helper()
	got, err := c.Clean(t.Context(), prev, now)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("Clean deleted %d entries, want %d", got, want)
	}
}

// TestRealFlows sends datagrams through NAT rules made by hand, changes the rules as a backend
// would, and sees where the flows go before and after Clean.
func TestRealFlows(t *testing.T) {
	families := []struct {
		name, iptables, node, remote, vip, vip2, a, b, all string
	}{
		{"ipv4", "iptables", "192.168.10.1", "192.168.20.9", "10.96.0.10", "10.96.0.20", "10.244.1.11", "10.244.1.12", "0.0.0.0"},
		{"ipv6", "ip6tables", "fd00:10::1", "fd00:20::9", "fd00:96::10", "fd00:96::20", "fd00:244:1::11", "fd00:244:1::12", "::"},
	}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			at := net.JoinHostPort
			// The clients are local too: their packets are translated on the way out.
			namespace(t, f.node+"/32", f.a+"/32", f.b+"/32", f.vip2+"/32")
			// A flow needs a route to the virtual address before it is translated.
			routeOut(t, f.vip, f.remote)
			endpoint(t, at(f.a, "5353"))
			endpoint(t, at(f.b, "5353"))
			endpoint(t, at(f.node, "30055")) // a service of the host
			endpoint(t, at(f.vip2, "53"))    // what answered at vip2 before it was a Service's

			dnat := func(op, to, port, endpoint string) {
				dst := "-d " + to
				if to == "" {
					dst = "-m addrtype --dst-type LOCAL"
				}
				run(t, f.iptables+" -w -t nat "+op+" OUTPUT -p udp "+dst+" --dport "+port+" -j DNAT --to-destination "+at(endpoint, "5353"))
			}
			dnat("-A", f.vip, "53", f.a)
			dnat("-A", "", "30053", f.a)
			before := snapshot(at0(f.all), service{name: "dns", serving: []string{at(f.a, "5353")},
				frontends: []string{at(f.vip, "53"), at(f.all, "30053")}})
			c := New()
			clean(t, c, nil, before, 0)

			cluster := dial(t, at(f.node, "40001"), at(f.vip, "53"))
			nodePort := dial(t, at(f.node, "40002"), at(f.node, "30053"))
			host := dial(t, at(f.node, "40003"), at(f.node, "30055"))
			early := dial(t, at(f.node, "40004"), at(f.vip2, "53"))
			remote := dial(t, at(f.node, "40005"), at(f.remote, "30053"))
			wantAnswer(t, cluster, at(f.a, "5353"), "first")
			wantAnswer(t, nodePort, at(f.a, "5353"), "first")
			wantAnswer(t, host, at(f.node, "30055"), "first")
			wantAnswer(t, early, at(f.vip2, "53"), "first")
			if _, err := remote.Write([]byte("?")); err != nil {
				t.Fatal(err)
			}

			// The endpoint changes, and vip2 becomes an address of the Service.
			dnat("-D", f.vip, "53", f.a)
			dnat("-D", "", "30053", f.a)
			dnat("-A", f.vip, "53", f.b)
			dnat("-A", f.vip2, "53", f.b)
			dnat("-A", "", "30053", f.b)
			after := snapshot(at0(f.all), service{name: "dns", serving: []string{at(f.b, "5353")},
				frontends: []string{at(f.vip, "53"), at(f.vip2, "53"), at(f.all, "30053")}})
			wantAnswer(t, cluster, at(f.a, "5353"), "before Clean") // the fault that Clean is for
			wantAnswer(t, nodePort, at(f.a, "5353"), "before Clean")
			wantAnswer(t, early, at(f.vip2, "53"), "before Clean")
			hostID, remoteID := entryOf(t, host), entryOf(t, remote)
			clean(t, c, before, after, 3)
			wantAnswer(t, cluster, at(f.b, "5353"), "after Clean")
			wantAnswer(t, nodePort, at(f.b, "5353"), "after Clean")
			wantAnswer(t, early, at(f.b, "5353"), "after Clean")
			if got := entryOf(t, host); got != hostID {
				t.Errorf("the entry of the host's own service is %q, was %q", got, hostID)
			}
			if got := entryOf(t, remote); got != remoteID {
				t.Errorf("the entry of a flow to another host is %q, was %q", got, remoteID)
			}
			clean(t, c, before, after, 0)

			// The Service goes, and with it whoever could answer.
			dnat("-D", f.vip, "53", f.b)
			dnat("-D", f.vip2, "53", f.b)
			dnat("-D", "", "30053", f.b)
			clean(t, c, after, snapshot(at0(f.all)), 3)
			wantAnswer(t, cluster, "", "after the Service is gone")
			wantAnswer(t, early, at(f.vip2, "53"), "after the Service is gone")
			if got := c.Deleted(f.name == "ipv6"); got != 6 {
				t.Errorf("Deleted = %d, want 6", got)
			}
			if got := c.Deleted(f.name != "ipv6"); got != 0 {
				t.Errorf("Deleted of the other family = %d, want 0", got)
			}
		})
	}
}

func at0(any string) string { return any + "/0" }

// entryOf returns the entry of the client's flow, with its id and without what changes by itself.
func entryOf(t *testing.T, c client) string {
	t.Helper()
	local := c.LocalAddr().(*net.UDPAddr).AddrPort()
	remote := c.RemoteAddr().(*net.UDPAddr).AddrPort()
	var out string
	tab := table{v6: remote.Addr().Is6(), protocol: proxier.UDP}
	each(t, tab, func(f *flow) {
		if src, dst, _ := parseTuple(f.tuple); src == local && dst == remote {
			out = f.String() + " id " + string(f.id)
		}
	})
	if out == "" {
		t.Errorf("flow %s -> %s has no entry", local, remote)
	}
	return out
}

func each(t *testing.T, tab table, f func(*flow)) {
	t.Helper()
	k, err := openKernel()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	if err := k.dump(t.Context(), tab, f); err != nil {
		t.Fatal(err)
	}
}

// entry describes a flow as the library wants it.
func entry(protocol proxier.Protocol, src, dst, rep netip.AddrPort) *netlink.ConntrackFlow {
	fl := &netlink.ConntrackFlow{FamilyType: nl.FAMILY_V4, TimeOut: 600,
		Forward: netlink.IPTuple{Protocol: uint8(protocol), SrcIP: src.Addr().AsSlice(), SrcPort: src.Port(), DstIP: dst.Addr().AsSlice(), DstPort: dst.Port()},
		Reverse: netlink.IPTuple{Protocol: uint8(protocol), SrcIP: rep.Addr().AsSlice(), SrcPort: rep.Port(), DstIP: src.Addr().AsSlice(), DstPort: src.Port()},
	}
	if dst.Addr().Is6() {
		fl.FamilyType = nl.FAMILY_V6
	}
	if protocol == proxier.TCP {
		fl.ProtoInfo = &netlink.ProtoInfoTCP{State: nl.TCP_CONNTRACK_ESTABLISHED}
	}
	return fl
}

// create puts an entry into the table without a packet.
func create(t *testing.T, h *netlink.Handle, protocol proxier.Protocol, from, to, answers string) {
	t.Helper()
	src, dst, rep := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to), netip.MustParseAddrPort(answers)
	fl := entry(protocol, src, dst, rep)
	if err := h.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(fl.FamilyType), fl); err != nil {
		t.Fatalf("create entry %s %s -> %s by %s: %v", protocol, from, to, answers, err)
	}
}

// fill puts n entries of flows to vip into the table, a hundred at a time: one message is taken as
// a pattern in which client address and port are replaced.
func fill(t *testing.T, n int, answers func(i int) string) {
	t.Helper()
	k, err := openKernel()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	client := netip.MustParseAddrPort("10.244.3.255:48879")
	pattern := func(by string) []byte {
		fl := entry(proxier.UDP, client, netip.MustParseAddrPort(vip), netip.MustParseAddrPort(by))
		req := request(nil, table{protocol: proxier.UDP}, nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_CREATE)
		for typ, tuple := range map[int]netlink.IPTuple{nl.CTA_TUPLE_ORIG: fl.Forward, nl.CTA_TUPLE_REPLY: fl.Reverse} {
			ip := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
			ip.AddRtAttr(nl.CTA_IP_V4_SRC, tuple.SrcIP)
			ip.AddRtAttr(nl.CTA_IP_V4_DST, tuple.DstIP)
			proto := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
			proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{tuple.Protocol})
			proto.AddRtAttr(nl.CTA_PROTO_SRC_PORT, nl.BEUint16Attr(tuple.SrcPort))
			proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, nl.BEUint16Attr(tuple.DstPort))
			attr := nl.NewRtAttr(unix.NLA_F_NESTED|typ, nil)
			attr.AddChild(ip)
			attr.AddChild(proto)
			req.AddData(attr)
		}
		req.AddData(nl.NewRtAttr(nl.CTA_TIMEOUT, nl.BEUint32Attr(fl.TimeOut)))
		return req.Serialize()
	}
	patterns := map[string][]byte{a: pattern(a), b: pattern(b)}
	var batch []byte
	for i := range n {
		ip := [4]byte{10, 244, 3, byte(i / 60000)}
		msg := bytes.ReplaceAll(patterns[answers(i)], client.Addr().AsSlice(), ip[:])
		msg = bytes.ReplaceAll(msg, []byte{0xbe, 0xef}, binary.BigEndian.AppendUint16(nil, uint16(1024+i%60000)))
		batch = append(batch, msg...)
		if i%100 == 99 || i == n-1 {
			if err := unix.Sendto(k.write[unix.NETLINK_NETFILTER].Socket.GetFd(), batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	if got := count(t, table{protocol: proxier.UDP}); got != n {
		t.Fatalf("%d entries in the table, want %d", got, n)
	}
}

func tableHandle(t *testing.T) *netlink.Handle {
	t.Helper()
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func count(t *testing.T, tab table) (n int) {
	t.Helper()
	each(t, tab, func(*flow) { n++ })
	return n
}

func numbered(ip netip.Addr, i int) string {
	return netip.AddrPortFrom(ip, uint16(1024+i%60000)).String()
}

// TestExact has a few stale entries of every kind among 10,000 that must all survive.
func TestExact(t *testing.T) {
	namespace(t, node+"/32")
	h := tableHandle(t)
	const each = 1250
	unrelated := []struct {
		protocol       proxier.Protocol
		client         string
		to, answeredBy string
	}{
		{proxier.UDP, "10.244.1.50", vip, b},                                // flows of an endpoint that stays
		{proxier.UDP, "10.244.1.51", vip2, a},                               // another Service on the endpoint that goes
		{proxier.UDP, "10.244.1.50", "8.8.8.8:30053", "8.8.8.8:30053"},      // a NodePort's number on another host
		{proxier.UDP, "192.168.20.9", node + ":30055", node + ":30055"},     // a service of the host
		{proxier.UDP, "192.168.20.9", "192.168.20.1:53", "192.168.20.1:53"}, // the Service's port on another host
		{proxier.UDP, "10.244.1.52", a, a},                                  // the endpoint that goes, asked directly
		{proxier.TCP, "10.244.1.50", vip, a},                                // TCP to the same address
		{proxier.TCP, "192.168.20.9", node + ":30053", a},
	}
	for _, u := range unrelated {
		for i := range each {
			create(t, h, u.protocol, numbered(netip.MustParseAddr(u.client), i), u.to, u.answeredBy)
		}
	}
	for i := range 10 {
		create(t, h, proxier.UDP, numbered(netip.MustParseAddr("10.244.1.60"), i), vip, a)
		create(t, h, proxier.UDP, numbered(netip.MustParseAddr("10.244.1.61"), i), node+":30053", a)
	}
	create(t, h, proxier.SCTP, "10.244.1.60:9", vip, a)
	sctp := func(e string) service {
		return service{name: "sctp", protocol: proxier.SCTP, frontends: []string{vip}, serving: []string{e}}
	}
	other := service{name: "other", frontends: []string{vip2}, serving: []string{a}}
	prev := snapshot(all, service{name: "dns", frontends: []string{vip, np}, serving: []string{a, b}}, other, sctp(a))
	now := snapshot(all, service{name: "dns", frontends: []string{vip, np}, serving: []string{b}}, other, sctp(b))
	clean(t, New(), prev, now, 21)
	if got := count(t, table{protocol: proxier.UDP}) + count(t, table{protocol: proxier.TCP}); got != len(unrelated)*each {
		t.Errorf("%d entries survive, want %d", got, len(unrelated)*each)
	}
}

// TestKernelFilter compares what the kernel sends for one protocol with and without the filter
// that kernels before 5.8 do not have.
func TestKernelFilter(t *testing.T) {
	namespace(t)
	h := tableHandle(t)
	for i := range 50 {
		create(t, h, proxier.UDP, numbered(netip.MustParseAddr("10.244.1.50"), i), vip, a)
		create(t, h, proxier.TCP, numbered(netip.MustParseAddr("10.244.1.50"), i), vip, a)
		create(t, h, proxier.UDP, numbered(netip.MustParseAddr("fd00::50"), i), "[fd00:96::10]:53", "[fd00:244::1]:53")
	}
	for _, unfiltered := range []bool{false, true} {
		k, err := openKernel()
		if err != nil {
			t.Fatal(err)
		}
		defer k.close()
		k.unfiltered = unfiltered
		n := 0
		if err := k.dump(t.Context(), table{protocol: proxier.UDP}, func(*flow) { n++ }); err != nil {
			t.Fatal(err)
		}
		if n != 50 {
			t.Errorf("unfiltered %t: %d flows, want 50", unfiltered, n)
		}
	}
	// The messages themselves: the kernel must have left TCP out.
	sent := func(filter bool) (n int) {
		k, err := openKernel()
		if err != nil {
			t.Fatal(err)
		}
		defer k.close()
		req := dumpRequest(k.read, table{protocol: proxier.UDP}, filter)
		if err := req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func([]byte) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got := sent(false); got != 100 {
		t.Errorf("the kernel sends %d entries without a filter, want 100", got)
	}
	if got := sent(true); got != 50 {
		t.Errorf("the kernel sends %d entries with a filter, want 50", got)
	}
}

// TestMemory cleans a table of 120,000 entries and watches the heap meanwhile.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a table with 120,000 entries")
	}
	namespace(t)
	const entries, stale = 120_000, 1_000
	fill(t, entries, func(i int) string {
		if i%(entries/stale) == 0 {
			return a
		}
		return b
	})
	prev := snapshot(all, service{name: "dns", frontends: []string{vip}, serving: []string{a, b}})
	now := snapshot(all, service{name: "dns", frontends: []string{vip}, serving: []string{b}})

	start := time.Now()
	grown := heapGrowth(func() { clean(t, New(), prev, now, stale) })
	took := time.Since(start)
	if got := count(t, table{protocol: proxier.UDP}); got != entries-stale {
		t.Errorf("%d entries survive, want %d", got, entries-stale)
	}
	t.Logf("%d entries: %v, heap grew by %d KiB", entries, took, grown>>10)
	const bound = 16 << 20
	if grown > bound {
		t.Errorf("heap grew by %d MiB, want at most %d", grown>>20, bound>>20)
	}
	// The yardstick must be able to see a table that is held in memory.
	whole := heapGrowth(func() {
		var list []flow
		each(t, table{protocol: proxier.UDP}, func(f *flow) { list = append(list, *f) })
		runtime.KeepAlive(list)
	})
	if whole < bound {
		t.Errorf("holding the table grew the heap by %d KiB only: the bound shows nothing", whole>>10)
	}
}

// heapGrowth returns by how much the heap grew at most while f ran.
func heapGrowth(f func()) uint64 {
	heap := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	runtime.GC()
	base, done, peak := heap(), make(chan struct{}), make(chan uint64)
	go func() {
		most := base
		for {
			most = max(most, heap())
			select {
			case <-done:
				peak <- most
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	f()
	close(done)
	return <-peak - base
}

// TestFailureIsRetried takes the right to delete away for one call.
func TestFailureIsRetried(t *testing.T) {
	namespace(t)
	h := tableHandle(t)
	create(t, h, proxier.UDP, "10.244.1.50:1", vip, a)
	prev := snapshot(all, service{name: "dns", frontends: []string{vip}, serving: []string{a}})
	now := snapshot(all)
	c := New()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := c.Clean(ctx, prev, now); !errors.Is(err, context.Canceled) || n != 0 {
		t.Fatalf("Clean with an ended context = %d, %v", n, err)
	}
	if got := count(t, table{protocol: proxier.UDP}); got != 1 {
		t.Fatalf("%d entries after a failed run, want 1", got)
	}
	clean(t, c, now, now, 1)
	clean(t, c, now, now, 0)
}

// TestDeletionNamesItsEntry shows that an entry which began anew since it was read survives, and
// that no deletion is sent without a name, which the kernel would take for the whole table.
func TestDeletionNamesItsEntry(t *testing.T) {
	namespace(t)
	h := tableHandle(t)
	tab := table{protocol: proxier.UDP}
	create(t, h, proxier.UDP, "10.244.1.50:1", vip, a)
	k, err := openKernel()
	if err != nil {
		t.Fatal(err)
	}
	defer k.close()
	each(t, tab, func(f *flow) {
		was := *f
		was.id = []byte{f.id[0] ^ 1, f.id[1], f.id[2], f.id[3]}
		if ok, err := k.remove(tab, &was); ok || err != nil {
			t.Errorf("remove of an earlier entry of the tuple = %t, %v", ok, err)
		}
	})
	if ok, err := k.remove(tab, &flow{}); ok || err == nil {
		t.Errorf("remove without a name = %t, %v", ok, err)
	}
	if got := count(t, tab); got != 1 {
		t.Errorf("%d entries, want 1", got)
	}
	each(t, tab, func(f *flow) {
		if ok, err := k.remove(tab, f); !ok || err != nil {
			t.Errorf("remove = %t, %v", ok, err)
		}
	})
}
