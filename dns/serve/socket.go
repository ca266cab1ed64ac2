package serve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxDatagram is the longest query that is read, and the longest reply over UDP.
const maxDatagram = 4096

// A socket is a UDP socket that receives, and one that sends. They are closed when the last that
// may send is done: a file descriptor that is closed earlier may become somebody else's.
//
// There are two because the receiving one is in Go's poller, which wants to be told when there is
// room to send. The kernel sees to that with each packet that leaves, and then wakes the poller for
// nothing: 3 to 4 % of what a query costs.
type socket struct {
	fd     int
	out    int             // sends; fd if there cannot be another
	file   *os.File        // owns fd
	raw    syscall.RawConn // waits for what can be read
	addr   netip.AddrPort
	v6     bool
	pktinf bool // wildcard: messages say which address was asked
	refs   atomic.Int32
}

func (s *socket) acquire() { s.refs.Add(1) }

func (s *socket) release() {
	if s.refs.Add(-1) == 0 {
		if s.out != s.fd {
			unix.Close(s.out)
		}
		s.file.Close()
	}
}

// overflowed returns how many datagrams the kernel dropped because too many were queued.
func (s *socket) overflowed() uint64 {
	const drops = 8 // SK_MEMINFO_DROPS
	var info [drops + 1]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return 0
	}
	return uint64(info[drops])
}

// bindUDP makes a socket of an address, with SO_REUSEPORT. It sends with what receives until divide.
func bindUDP(addr netip.AddrPort) (*socket, error) {
	if !addr.Addr().IsValid() {
		s, err := bindUDP(netip.AddrPortFrom(netip.IPv6Unspecified(), addr.Port()))
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) { // no IPv6 here
			return bindUDP(netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port()))
		}
		return s, err
	}
	s := &socket{v6: !addr.Addr().Unmap().Is4(), pktinf: addr.Addr().IsUnspecified(), addr: addr}
	s.refs.Store(1)
	var err error
	if s.fd, err = s.open(); err != nil {
		return nil, err
	}
	s.out, s.file = s.fd, os.NewFile(uintptr(s.fd), "udp")
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// divide opens the socket that sends. It is for when all that receive on the port are bound: one
// that is bound after another has left the group begins a group of its own, and gets everything.
func (s *socket) divide() {
	out, err := s.open()
	if err != nil {
		return
	}
	if s.detach(out) != nil {
		unix.Close(out)
		return
	}
	s.out = out
}

// open makes a socket that is bound to the address, and has the port in it if there was none.
func (s *socket) open() (fd int, err error) {
	family := unix.AF_INET
	if s.v6 {
		family = unix.AF_INET6
	}
	if fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return fd, os.NewSyscallError("socket", err)
	}
	if err := s.setup(fd); err != nil {
		unix.Close(fd)
		return fd, err
	}
	return fd, nil
}

// receiveBuffer is asked for so that a burst waits rather than gets lost. Without privileges the
// kernel's limit may give less.
const receiveBuffer = 2 << 20

func (s *socket) setup(fd int) error {
	set := func(level, name, value int) error { return unix.SetsockoptInt(fd, level, name, value) }
	share := func() error {
		return os.NewSyscallError("SO_REUSEPORT", set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	}
	// A socket for which the kernel chooses the port is shared only afterwards: else the choice may
	// fall on a port that another process of the same user shares.
	choose := s.addr.Port() == 0
	if !choose {
		if err := share(); err != nil {
			return err
		}
	}
	if s.pktinf {
		var err error
		if s.v6 { // gives the address of IPv4 packets too, mapped
			err = set(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			err = set(unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		}
		if err != nil {
			return os.NewSyscallError("IP_PKTINFO", err)
		}
	}
	if s.v6 { // the wildcard takes IPv4 too, whatever the system's default is
		if err := set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return os.NewSyscallError("IPV6_V6ONLY", err)
		}
		_ = set(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT)
	}
	// A forged ICMP message must not change how replies are sent. Not all kernels have it.
	_ = set(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
	if set(unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil { // needs CAP_NET_ADMIN
		_ = set(unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	sa, err := sockaddr(s.addr, s.v6)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if choose {
		if err := share(); err != nil {
			return err
		}
	}
	if sa, err = unix.Getsockname(fd); err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		s.addr = netip.AddrPortFrom(s.addr.Addr(), uint16(sa.Port))
	case *unix.SockaddrInet6:
		s.addr = netip.AddrPortFrom(s.addr.Addr(), uint16(sa.Port))
	}
	return nil
}

func sockaddr(addr netip.AddrPort, v6 bool) (unix.Sockaddr, error) {
	if !v6 {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().Unmap().As4()}, nil
	}
	sa := &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	if zone := addr.Addr().Zone(); zone != "" {
		link, err := net.InterfaceByName(zone)
		if err != nil {
			return nil, fmt.Errorf("zone %s: %w", zone, err)
		}
		sa.ZoneId = uint32(link.Index)
	}
	return sa, nil
}

// detach takes a socket out of its SO_REUSEPORT group: the kernel gives a connected socket only
// what comes from its peer, here nobody. What is queued stays. Replies name their receiver and
// their source, so that they go out as before.
func (s *socket) detach(fd int) error {
	nobody := s.addr.Addr()
	if s.pktinf {
		nobody = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	sa, err := sockaddr(netip.AddrPortFrom(nobody, 9), s.v6) // discard
	if err != nil {
		return err
	}
	return unix.Connect(fd, sa)
}

// mmsghdr is the kernel's struct of the same name.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// A peer is a client's address, as the kernel writes it: of either family.
type peer = unix.RawSockaddrInet6

// A control is a control message with the address that was asked: IP_PKTINFO or IPV6_PKTINFO,
// which the kernel takes back to say where a reply comes from. It is aligned as the kernel needs.
type control [(controlLen + 7) / 8]uint64

// controlLen is CMSG_LEN(sizeof(struct in6_pktinfo)), the longer of the two. With the padding of
// CMSG_SPACE the kernel would allocate memory for each reply: see ____sys_sendmsg in net/socket.c.
const controlLen = unix.SizeofCmsghdr + 20

// neutral makes a received control fit for sending: routing finds the interface. An address of a
// link has its interface in the address of the client.
func (c *control) neutral(v6 bool) {
	b := (*[controlLen]byte)(unsafe.Pointer(c))
	if v6 {
		clear(b[unix.SizeofCmsghdr+16 : unix.SizeofCmsghdr+20])
	} else {
		clear(b[unix.SizeofCmsghdr : unix.SizeofCmsghdr+4])
	}
}

// local returns the address that was asked.
func (c *control) local(s *socket, controllen uint64) netip.AddrPort {
	if controllen == 0 {
		return netip.AddrPortFrom(s.addr.Addr().Unmap(), s.addr.Port())
	}
	b := (*[controlLen]byte)(unsafe.Pointer(c))[unix.SizeofCmsghdr:]
	if s.v6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[:16])).Unmap(), s.addr.Port())
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), s.addr.Port()) // ipi_spec_dst
}

// isV6 reports whether a client speaks IPv6. An address that is mapped is not IPv6.
func isV6(p *peer) bool {
	return p.Family == unix.AF_INET6 &&
		(binary.NativeEndian.Uint64(p.Addr[:8]) != 0 || binary.BigEndian.Uint32(p.Addr[8:]) != 0xffff)
}

// addr returns the address of a client without its zone.
func addr(p *peer) netip.Addr {
	if p.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(p)).Addr)
	}
	return netip.AddrFrom16(p.Addr).Unmap()
}

// client returns the address of a client, with its port and zone.
func (s *socket) client(p *peer) netip.AddrPort {
	a := addr(p)
	if a.Is6() && a.IsLinkLocalUnicast() {
		a = a.WithZone(s.link(p.Scope_id))
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&p.Port))[:]))
}

// link returns the name of an interface, or its number if that has gone. It asks for this one
// alone: anybody on a link can cause the call, and net.InterfaceByIndex has all of them listed.
func (s *socket) link(index uint32) string {
	if r, err := unix.NewIfreq("?"); err == nil {
		r.SetUint32(index)
		if unix.IoctlIfreq(s.fd, unix.SIOCGIFNAME, r) == nil {
			return r.Name()
		}
	}
	return strconv.FormatUint(uint64(index), 10)
}

// sendPatience is how long a reply waits for room in the send buffer.
const sendPatience = 100 // milliseconds

// wait blocks until the socket can send, for at most sendPatience.
func (s *socket) wait() bool {
	fds := []unix.PollFd{{Fd: int32(s.out), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(fds, sendPatience)
		if err != unix.EINTR {
			return n > 0
		}
	}
}

// Receiving and sending never block, and so the scheduler is not told of them: a thread that says
// it is in a system call has its turn taken over and given back, for which others are woken. That
// costs several times what the call does when queries come one at a time.

// recv receives the messages that are there.
func recv(fd int, hdrs []mmsghdr) (int, syscall.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&hdrs[0])), uintptr(len(hdrs)), unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// send sends all messages that can be sent and returns how many could not.
func (s *socket) send(hdrs []mmsghdr) (lost int) {
	for len(hdrs) > 0 {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.out), uintptr(unsafe.Pointer(&hdrs[0])), uintptr(len(hdrs)), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case e == 0:
			hdrs = hdrs[n:]
		case e == unix.EINTR || e == unix.EAGAIN && s.wait():
		default: // the first of them cannot be sent: its client is out of reach, or a lie
			hdrs = hdrs[1:]
			lost++
		}
	}
	return lost
}
