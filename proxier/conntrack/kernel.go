package conntrack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Attributes of ctnetlink's dump filter, from linux/netfilter/nfnetlink_conntrack.h.
const (
	ctaFilter          = 25 // since Linux 5.8; earlier kernels skip it
	ctaFilterOrigFlags = 1
	ctaTupleZone       = 3 // a zone of one direction only
	// filterProtocol is the flag that compares the protocol number of the original tuple, from
	// net/netfilter/nf_internals.h in the kernel.
	filterProtocol = 1 << 3
)

// How often an interrupted dump starts again before Clean gives up until the next call.
const maxDumps = 5

// A kernel holds two netlink sockets: one is busy with the dump while the other deletes.
type kernel struct {
	read, write map[int]*nl.SocketHandle
	unfiltered  bool // tests: do not ask the kernel to filter
}

func openKernel() (*kernel, error) {
	r, err := socket()
	if err != nil {
		return nil, err
	}
	w, err := socket()
	if err != nil {
		r[unix.NETLINK_NETFILTER].Close()
		return nil, err
	}
	return &kernel{read: r, write: w}, nil
}

func socket() (map[int]*nl.SocketHandle, error) {
	s, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	// A kernel that does not answer must not stop the caller, which also applies snapshots.
	err = errors.Join(s.SetSendTimeout(&nl.SocketTimeoutTv), s.SetReceiveTimeout(&nl.SocketTimeoutTv))
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("set netlink timeouts: %w", err)
	}
	return map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: s}}, nil
}

func (k *kernel) close() {
	k.read[unix.NETLINK_NETFILTER].Close()
	k.write[unix.NETLINK_NETFILTER].Close()
}

// dump calls f for each flow of t, while it is being received. A flow may be told of twice, and
// one that comes or goes during the dump may be missed, unless the dump was interrupted: then it
// is repeated. F may delete flows.
func (k *kernel) dump(ctx context.Context, t table, f func(*flow)) error {
	filter := !k.unfiltered
	var err error
	for range maxDumps {
		err = k.dumpOnce(ctx, t, filter, f)
		switch {
		case filter && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)):
			filter = false // a kernel that knows the attribute and not our flag
		case errors.Is(err, nl.ErrDumpInterrupted), errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("dump: %w", err)
		default:
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("dump: %d attempts: %w", maxDumps, err)
}

func (k *kernel) dumpOnce(ctx context.Context, t table, filter bool, f func(*flow)) error {
	req := dumpRequest(k.read, t, filter)
	var fl flow
	err := req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(msg []byte) bool {
		if ctx.Err() != nil {
			return false
		}
		if parse(msg, t, &fl) {
			f(&fl)
		}
		return true
	})
	return errors.Join(err, ctx.Err())
}

// remove deletes f. It returns false if f, or this incarnation of it, is there no more.
func (k *kernel) remove(t table, f *flow) (bool, error) {
	if len(f.tuple) == 0 || len(f.id) == 0 {
		return false, errors.New("flow without tuple or id") // the kernel would take it for "delete all"
	}
	req := request(k.write, t, nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	req.AddData(nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, f.tuple))
	req.AddData(nl.NewRtAttr(nl.CTA_ID, f.id))
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}

// dumpRequest asks for the flows of t, or if filter is false for those of its family.
func dumpRequest(sockets map[int]*nl.SocketHandle, t table, filter bool) *nl.NetlinkRequest {
	req := request(sockets, t, nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	if filter {
		proto := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
		proto.AddRtAttr(nl.CTA_PROTO_NUM, nl.Uint8Attr(uint8(t.protocol)))
		tuple := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil)
		tuple.AddChild(proto)
		flags := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
		flags.AddRtAttr(ctaFilterOrigFlags, nl.Uint32Attr(filterProtocol))
		req.AddData(tuple)
		req.AddData(flags)
	}
	return req
}

func request(sockets map[int]*nl.SocketHandle, t table, op, flags int) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(netlink.ConntrackTable<<8|op, flags)
	req.Sockets = sockets
	family := uint8(unix.AF_INET)
	if t.v6 {
		family = unix.AF_INET6
	}
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	return req
}

// parse reads one message of a dump into f, whose slices stay parts of msg. It returns false for
// what is not a flow of t.
func parse(msg []byte, t table, f *flow) bool {
	if len(msg) < nl.SizeofNfgenmsg {
		return false
	}
	*f = flow{}
	var protocol uint8
	for typ, val := range attributes(msg[nl.SizeofNfgenmsg:]) {
		switch typ {
		case nl.CTA_TUPLE_ORIG:
			f.tuple = val
			_, f.to, protocol = parseTuple(val)
			f.zone = max(f.zone, tupleZone(val))
		case nl.CTA_TUPLE_REPLY:
			f.from, _, _ = parseTuple(val)
		case nl.CTA_ID:
			f.id = val
		case nl.CTA_ZONE:
			f.zone = max(f.zone, bigEndian16(val))
		}
	}
	return protocol == uint8(t.protocol) && f.to.IsValid() && f.from.IsValid() && f.to.Addr().Is6() == t.v6
}

func tupleZone(b []byte) uint16 {
	for typ, val := range attributes(b) {
		if typ == ctaTupleZone {
			return bigEndian16(val)
		}
	}
	return 0
}

// bigEndian16 reads the first two bytes of b, 0 if there are fewer.
func bigEndian16(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return binary.BigEndian.Uint16(b)
}

func parseTuple(b []byte) (src, dst netip.AddrPort, protocol uint8) {
	var srcAddr, dstAddr netip.Addr
	var srcPort, dstPort uint16
	for typ, val := range attributes(b) {
		switch typ {
		case nl.CTA_TUPLE_IP:
			for typ, val := range attributes(val) {
				switch typ {
				case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
					srcAddr, _ = netip.AddrFromSlice(val)
				case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
					dstAddr, _ = netip.AddrFromSlice(val)
				}
			}
		case nl.CTA_TUPLE_PROTO:
			for typ, val := range attributes(val) {
				switch {
				case typ == nl.CTA_PROTO_NUM && len(val) >= 1:
					protocol = val[0]
				case typ == nl.CTA_PROTO_SRC_PORT:
					srcPort = bigEndian16(val)
				case typ == nl.CTA_PROTO_DST_PORT:
					dstPort = bigEndian16(val)
				}
			}
		}
	}
	return netip.AddrPortFrom(srcAddr, srcPort), netip.AddrPortFrom(dstAddr, dstPort), protocol
}

// attributes yields type and value of each netlink attribute in b, up to the first that is cut off.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofNlAttr || n > len(b) {
				return
			}
			typ := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(typ, b[unix.SizeofNlAttr:n]) {
				return
			}
			b = b[min((n+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
		}
	}
}

// localAddresses returns the addresses of this network namespace but for loopback, which no
// NodePort is served on.
func localAddresses(v6 bool) (map[netip.Addr]bool, error) {
	family := netlink.FAMILY_V4
	if v6 {
		family = netlink.FAMILY_V6
	}
	var list []netlink.Addr
	var err error
	for range maxDumps {
		if list, err = netlink.AddrList(nil, family); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	out := map[netip.Addr]bool{}
	for _, a := range list {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && !ip.IsLoopback() {
			out[ip.Unmap()] = true
		}
	}
	return out, nil
}
