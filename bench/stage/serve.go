package stage

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// The first byte that a client sends on a TCP connection says what it wants. Datagrams are
// echoed.
const (
	Who  = 'w' // the address that was reached, as a line
	Echo = 'e' // what follows, back
	Sink = 's' // nothing
)

// server answers on every endpoint's address: one thread with one loop, so that it costs the same
// at each connection, and costs nothing while nobody asks. (Go's servers would wake a second
// thread now and then, which is what most of the spread of a latency would come from.)
type server struct {
	epoll, tcp, udp, wake int
	fds                   map[int]byte // connections, and what they want
	buf                   []byte
	err                   error
}

// serveEndpoints makes the server pod answer on every address of endpointRange until stop.
func (s *Stage) serveEndpoints() (stop func(), err error) {
	if err := s.routes(); err != nil {
		return nil, err
	}
	v := &server{fds: map[int]byte{}, buf: make([]byte, 1<<20)}
	if err := s.Lab.In(Server, v.open); err != nil {
		return nil, errors.Join(fmt.Errorf("server: %w", err), v.close())
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // and never unlock
		if v.err = Pin(1); v.err == nil {
			v.err = v.loop()
		}
	})
	return func() {
		_, _ = unix.Write(v.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		wg.Wait()
		_ = v.close()
	}, nil
}

// Pin prepares the calling thread, which must be locked to its goroutine and end with it, for
// blocking calls: no signal interrupts them (the runtime's own would), and the thread stays on one
// processor, if there are so many.
func Pin(cpu int) error {
	var signals unix.Sigset_t
	for i := range signals.Val {
		signals.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &signals, nil); err != nil {
		return os.NewSyscallError("sigmask", err)
	}
	if cpu >= runtime.NumCPU() {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &set))
}

func (v *server) open() (err error) {
	const flags = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	if v.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create", err)
	}
	if v.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	if v.tcp, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|flags, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	if v.udp, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|flags, 0); err != nil {
		return os.NewSyscallError("socket", err)
	}
	for _, fd := range []int{v.tcp, v.udp} {
		if err := errors.Join(
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.Bind(fd, &unix.SockaddrInet6{Port: endpointPort})); err != nil {
			return os.NewSyscallError("bind", err)
		}
	}
	// A wildcard socket must reply from the address that it was asked at, which for IPv6 does not
	// count as an address of the pod's own only because a local route has it.
	if err := errors.Join(
		unix.SetsockoptInt(v.udp, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1),
		unix.SetsockoptInt(v.udp, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Listen(v.tcp, 4096); err != nil {
		return os.NewSyscallError("listen", err)
	}
	return errors.Join(v.watch(v.tcp), v.watch(v.udp), v.watch(v.wake))
}

func (v *server) watch(fd int) error {
	return unix.EpollCtl(v.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (v *server) close() error {
	for fd := range v.fds {
		_ = unix.Close(fd)
	}
	for _, fd := range []int{v.tcp, v.udp, v.wake, v.epoll} {
		if fd > 0 {
			_ = unix.Close(fd)
		}
	}
	return v.err
}

func (v *server) loop() error {
	events := make([]unix.EpollEvent, 64)
	for {
		n, err := unix.EpollWait(v.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, e := range events[:max(n, 0)] {
			switch fd := int(e.Fd); fd {
			case v.wake:
				return nil
			case v.tcp:
				v.accept()
			case v.udp:
				v.datagrams()
			default:
				if !v.read(fd) {
					_ = unix.Close(fd)
					delete(v.fds, fd)
				}
			}
		}
	}
}

func (v *server) accept() {
	for {
		fd, _, err := unix.Accept4(v.tcp, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		v.fds[fd] = 0
		if v.watch(fd) != nil {
			_ = unix.Close(fd)
			delete(v.fds, fd)
		}
	}
}

// read takes what has come on a connection. It returns false at its end.
func (v *server) read(fd int) bool {
	n, err := unix.Read(fd, v.buf)
	if errors.Is(err, unix.EAGAIN) {
		return true
	}
	if err != nil || n <= 0 {
		return false
	}
	data := v.buf[:n]
	if v.fds[fd] == 0 {
		v.fds[fd], data = data[0], data[1:]
		if v.fds[fd] == Who {
			local, err := unix.Getsockname(fd)
			if err != nil {
				return false
			}
			a := netip.AddrFrom16(local.(*unix.SockaddrInet6).Addr).Unmap()
			_, err = unix.Write(fd, append(a.AppendTo(nil), '\n'))
			return err == nil
		}
	}
	if v.fds[fd] == Echo && len(data) > 0 {
		_, err = unix.Write(fd, data) // small: it fits the socket's buffer
		return err == nil
	}
	return true
}

func (v *server) datagrams() {
	var oob [64]byte
	for {
		n, oobn, _, from, err := unix.Recvmsg(v.udp, v.buf, oob[:], 0)
		if err != nil {
			return
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) == 0 {
			continue
		}
		info := unix.Inet6Pktinfo{Addr: [16]byte(messages[0].Data[:16])} // by any interface
		reply := unix.PktInfo6(&info)
		_, _ = unix.SendmsgN(v.udp, v.buf[:n], reply, from, 0)
	}
}
