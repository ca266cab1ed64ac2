package datapath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairway-lb/fairway/bench/stage"
	"github.com/fairway-lb/fairway/bench/stats"
)

// A client measures one destination from the namespace of the calling thread.
type client struct {
	to   netip.AddrPort
	size sizes
}

// sizes say how much is measured in a turn.
type sizes struct {
	warm      int           // connections before all, which are not timed
	connects  int           // connections of which each is timed
	cycles    int           // connect, ask, answer, close
	trips     int           // questions and answers on one connection
	datagrams int           // round trips of a datagram
	bulk      time.Duration // of one-way traffic
}

// The measures of a turn, with their units.
const (
	Connect50  = "connect p50, µs"
	Connect99  = "connect p99, µs"
	Cycles     = "connect, ask, close, per s"
	Trip50     = "round trip p50, µs"
	Trip99     = "round trip p99, µs"
	Bulk       = "bulk, Gbit/s"
	Datagram50 = "UDP round trip p50, µs"
	Datagram99 = "UDP round trip p99, µs"
	Lost       = "UDP lost, %"
	Failed     = "failed connections"
)

// Measures are those of a turn, in the order of a report.
var Measures = []string{Connect50, Connect99, Cycles, Trip50, Trip99, Bulk, Datagram50, Datagram99, Lost, Failed}

// MoreIsBetter tells rates from times.
func MoreIsBetter(measure string) bool { return measure == Cycles || measure == Bulk }

// turn makes all measurements once. Single connections that fail are counted; an error means that
// nothing works.
func (c client) turn() (map[string]float64, error) {
	out := map[string]float64{}
	var errs []error
	for _, f := range []func(map[string]float64) error{c.connects, c.cycles, c.trips, c.bulk, c.datagrams} {
		errs = append(errs, f(out))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%s: %w", c.to, err)
	}
	return out, nil
}

func (c client) socket(kind int) (int, error) {
	family := unix.AF_INET
	if c.to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	t := unix.NsecToTimeval(stage.Patience.Nanoseconds())
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &t), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &t))
	if err == nil && kind == unix.SOCK_STREAM {
		err = errors.Join(
			unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), // close by a reset
			unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt", err)
	}
	return fd, nil
}

func (c client) connect(fd int) error {
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(c.to.Port()), Addr: c.to.Addr().As16()}
	if c.to.Addr().Is4() {
		to = &unix.SockaddrInet4{Port: int(c.to.Port()), Addr: c.to.Addr().As4()}
	}
	return os.NewSyscallError("connect", unix.Connect(fd, to))
}

// dial returns a connection and how long the connecting itself took.
func (c client) dial() (fd int, took time.Duration, err error) {
	if fd, err = c.socket(unix.SOCK_STREAM); err != nil {
		return -1, 0, err
	}
	start := time.Now()
	err = c.connect(fd)
	took = time.Since(start)
	if err != nil {
		_ = unix.Close(fd)
	}
	return fd, took, err
}

// most of the connections must work, or there is nothing to measure.
func most(failed, n int, last error) error {
	if failed > n/10 {
		return fmt.Errorf("%d of %d failed: %w", failed, n, last)
	}
	return nil
}

func (c client) connects(out map[string]float64) error {
	var times []float64
	var last error
	failed := 0
	for range c.size.warm { // what the one before has put out of the processor's caches
		if fd, _, err := c.dial(); err == nil {
			_ = unix.Close(fd)
		}
	}
	for range c.size.connects {
		fd, took, err := c.dial()
		if err != nil {
			failed, last = failed+1, err
			if failed > 3 && len(times) == 0 {
				break
			}
			continue
		}
		_ = unix.Close(fd)
		times = append(times, micro(took))
	}
	out[Connect50], out[Connect99] = stats.Median(times), stats.Quantile(times, 0.99)
	out[Failed] += float64(failed)
	return most(failed, len(times)+failed, last)
}

func (c client) cycles(out map[string]float64) error {
	var last error
	failed := 0
	start := time.Now()
	for range c.size.cycles {
		if err := c.cycle(); err != nil {
			failed, last = failed+1, err
		}
	}
	out[Cycles] = float64(c.size.cycles-failed) / time.Since(start).Seconds()
	out[Failed] += float64(failed)
	return most(failed, c.size.cycles, last)
}

func (c client) cycle() error {
	fd, _, err := c.dial()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return ask(fd, []byte{stage.Echo, 1}, 1)
}

// ask sends a message and waits for want bytes of answer.
func ask(fd int, message []byte, want int) error {
	if _, err := unix.Write(fd, message); err != nil {
		return os.NewSyscallError("write", err)
	}
	var answer [256]byte
	for got := 0; got < want; {
		n, err := unix.Read(fd, answer[:])
		if err != nil || n == 0 {
			return fmt.Errorf("read: %d bytes, %w", n, errors.Join(err))
		}
		got += n
	}
	return nil
}

func (c client) trips(out map[string]float64) error {
	fd, _, err := c.dial()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	message := make([]byte, 64)
	if err := ask(fd, append([]byte{stage.Echo}, message...), len(message)); err != nil {
		return err
	}
	times := make([]float64, 0, c.size.trips)
	for range c.size.trips {
		start := time.Now()
		if err := ask(fd, message, len(message)); err != nil {
			return err
		}
		times = append(times, micro(time.Since(start)))
	}
	out[Trip50], out[Trip99] = stats.Median(times), stats.Quantile(times, 0.99)
	return nil
}

func (c client) bulk(out map[string]float64) error {
	fd, _, err := c.dial()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte{stage.Sink}); err != nil {
		return os.NewSyscallError("write", err)
	}
	block := make([]byte, 256<<10)
	sent := 0
	start := time.Now()
	for time.Since(start) < c.size.bulk {
		n, err := unix.Write(fd, block)
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		sent += n
	}
	out[Bulk] = float64(sent) * 8 / time.Since(start).Seconds() / 1e9
	return nil
}

func (c client) datagrams(out map[string]float64) error {
	fd, err := c.socket(unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := c.connect(fd); err != nil {
		return err
	}
	message, answer := make([]byte, 64), make([]byte, 64)
	times := make([]float64, 0, c.size.datagrams)
	lost := 0
	for i := range c.size.datagrams {
		binary.NativeEndian.PutUint64(message, uint64(i))
		start := time.Now()
		_, err := unix.Write(fd, message)
		for err == nil {
			_, err = unix.Read(fd, answer)
			if err == nil && bytes.Equal(answer, message) { // else it is late: the answer to one counted as lost
				break
			}
		}
		if err == nil {
			times = append(times, micro(time.Since(start)))
		} else if lost++; lost > 10 && len(times) == 0 {
			return fmt.Errorf("datagrams: all %d lost: %w", lost, err)
		}
	}
	out[Datagram50], out[Datagram99] = stats.Median(times), stats.Quantile(times, 0.99)
	out[Lost] = 100 * float64(lost) / float64(c.size.datagrams)
	return nil
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
