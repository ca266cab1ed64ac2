package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// conntrackLimit is the most connections that a node is made to track, as in kube-proxy: a
// machine with many cores would otherwise reserve gigabytes for the table.
const conntrackLimit = 1 << 20

// conntrackSettings are the connection-tracking sysctls of kube-proxy's configuration. Zero
// leaves the kernel's value alone.
type conntrackSettings struct {
	MaxPerCore, Min              int
	TCPEstablished, TCPCloseWait time.Duration
	UDP, UDPStream               time.Duration
	TCPBeLiberal                 bool
}

// apply sets the sysctls of the network namespace. The connection table works with the kernel's
// own values too, so the error is a warning. The size of the table is only ever raised: an
// administrator's larger one stays.
func (c conntrackSettings) apply(sys sysctls) error {
	var errs []error
	if size := c.max(runtime.NumCPU()); size > 0 {
		errs = append(errs, sys.raise("net/netfilter/nf_conntrack_max", size),
			sys.raise("net/netfilter/nf_conntrack_buckets", size/4))
	}
	set := func(name string, d time.Duration) {
		if d > 0 {
			errs = append(errs, sys.set(name, int(d.Seconds())))
		}
	}
	set("net/netfilter/nf_conntrack_tcp_timeout_established", c.TCPEstablished)
	set("net/netfilter/nf_conntrack_tcp_timeout_close_wait", c.TCPCloseWait)
	set("net/netfilter/nf_conntrack_udp_timeout", c.UDP)
	set("net/netfilter/nf_conntrack_udp_timeout_stream", c.UDPStream)
	if c.TCPBeLiberal {
		errs = append(errs, sys.set("net/netfilter/nf_conntrack_tcp_be_liberal", 1))
	}
	return errors.Join(errs...)
}

// max is the size of the connection table on a machine of so many processors; 0 for any.
func (c conntrackSettings) max(cpus int) int {
	if c.MaxPerCore <= 0 {
		return 0
	}
	return min(max(c.MaxPerCore*cpus, c.Min), conntrackLimit)
}

// sysctls is the folder that holds them: /proc/sys.
type sysctls string

func (s sysctls) get(name string) (int, error) {
	text, err := os.ReadFile(filepath.Join(string(s), name))
	if err != nil {
		return 0, fmt.Errorf("sysctl: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func (s sysctls) set(name string, value int) error {
	if now, err := s.get(name); err == nil && now == value {
		return nil // no write, which may not be allowed
	}
	f, err := os.OpenFile(filepath.Join(string(s), name), os.O_WRONLY|os.O_TRUNC, 0)
	if err == nil {
		_, err = f.WriteString(strconv.Itoa(value))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("sysctl %s=%d: %w", strings.ReplaceAll(name, "/", "."), value, err)
	}
	return nil
}

func (s sysctls) raise(name string, value int) error {
	if now, err := s.get(name); err == nil && now >= value {
		return nil
	}
	return s.set(name, value)
}
