package scale

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Rules are what is programmed in the kernel, in all tables of both families.
type Rules struct {
	Chains   int `json:"chains"`
	Rules    int `json:"rules"`
	Sets     int `json:"sets,omitempty"` // of nftables, maps among them, those of single rules too
	Elements int `json:"elements,omitempty"`
	// Bytes are, for iptables-legacy, the kernel's tables as it keeps them, for one processor
	// (IPT_SO_GET_INFO). What nftables keeps cannot be asked for: for it, they are the length of
	// its own description of all chains, rules, sets, and elements, which is a netlink dump.
	Bytes int64 `json:"bytes"`
	// Unit says which of the two Bytes are.
	Unit string `json:"unit"`
}

// What Bytes can be.
const (
	legacyUnit = "kernel's table"
	nftUnit    = "netlink dump"
)

// programmed returns what is programmed in the calling thread's namespace.
func programmed() (*Rules, error) {
	r := &Rules{}
	if err := r.addLegacy(); err != nil {
		return nil, fmt.Errorf("rules of iptables-legacy: %w", err)
	}
	if r.Bytes > 0 {
		r.Unit = legacyUnit
		return r, nil
	}
	if err := undisturbed(func() error {
		n := *r
		err := n.addNFT()
		if err == nil {
			*r = n
		}
		return err
	}); err != nil {
		return nil, fmt.Errorf("rules of nftables: %w", err)
	}
	r.Unit = nftUnit
	return r, nil
}

// undisturbed calls count until no change of the rules came between: a dump that was interrupted
// is worth nothing, and neither is a set that went before it was read.
func undisturbed(count func() error) error {
	for deadline := time.Now().Add(maxCounting); ; time.Sleep(10 * time.Millisecond) {
		err := count()
		disturbed := errors.Is(err, nl.ErrDumpInterrupted) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT)
		if !disturbed || time.Now().After(deadline) {
			return err
		}
	}
}

// maxCounting is how long counting is begun anew when rules change meanwhile.
const maxCounting = 30 * time.Second

// addLegacy adds the tables of iptables-legacy. A table is there once somebody used it.
func (r *Rules) addLegacy() error {
	for _, f := range []struct {
		names, save   string
		family, level int
	}{
		{"/proc/thread-self/net/ip_tables_names", "iptables-legacy-save", unix.AF_INET, unix.SOL_IP},
		{"/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy-save", unix.AF_INET6, unix.SOL_IPV6},
	} {
		names, err := os.ReadFile(f.names)
		if errors.Is(err, fs.ErrNotExist) {
			continue // this kernel does not have them
		}
		if err != nil {
			return err
		}
		for table := range strings.FieldsSeq(string(names)) {
			size, err := tableSize(f.family, f.level, table)
			if err != nil {
				return fmt.Errorf("table %s: %w", table, err)
			}
			r.Bytes += size
			out, err := exec.Command(f.save, "-t", table).Output()
			if err != nil {
				return fmt.Errorf("%s: %w", f.save, err)
			}
			for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
				switch line := lines.Text(); {
				case strings.HasPrefix(line, ":"):
					r.Chains++
				case strings.HasPrefix(line, "-A "):
					r.Rules++
				}
			}
		}
	}
	return nil
}

// tableSize is the size of a table's entries in bytes.
func tableSize(family, level int, table string) (int64, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	const getInfo = 64 // IPT_SO_GET_INFO and IP6T_SO_GET_INFO: linux/netfilter_ipv4/ip_tables.h
	var info struct {  // ipt_getinfo, ip6t_get_info
		name             [32]byte
		hooks            uint32
		entry, underflow [5]uint32
		entries, size    uint32
	}
	copy(info.name[:len(info.name)-1], table)
	length := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), getInfo,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return 0, os.NewSyscallError("getsockopt", errno)
	}
	return int64(info.size), nil
}

// addNFT adds what is in nftables, which has the rules of iptables-nft as well.
func (r *Rules) addNFT() error {
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer s.Close()
	sockets := map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: s}}
	dump := func(message int, what []byte, each func(b []byte) error) error {
		req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|message, unix.NLM_F_DUMP)
		req.Sockets = sockets
		req.AddRawData(what)
		var wrong error
		err := req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(b []byte) bool {
			r.Bytes += int64(unix.SizeofNlMsghdr + len(b))
			wrong = each(b)
			return wrong == nil
		})
		return errors.Join(err, wrong)
	}
	count := func(n *int) func([]byte) error { return func([]byte) error { *n++; return nil } }
	all := make([]byte, nfgenmsg) // of any family
	var sets [][]byte             // what asks for the elements of one
	err = errors.Join(
		dump(unix.NFT_MSG_GETCHAIN, all, count(&r.Chains)),
		dump(unix.NFT_MSG_GETRULE, all, count(&r.Rules)),
		dump(unix.NFT_MSG_GETSET, all, func(b []byte) error {
			r.Sets++
			a, err := nl.ParseRouteAttrAsMap(b[nfgenmsg:])
			sets = append(sets, slices.Concat([]byte{b[0], 0, 0, 0}, // the family
				nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_TABLE, a[unix.NFTA_SET_TABLE].Value).Serialize(),
				nl.NewRtAttr(unix.NFTA_SET_ELEM_LIST_SET, a[unix.NFTA_SET_NAME].Value).Serialize()))
			return err
		}))
	for _, set := range sets {
		if err != nil {
			break
		}
		err = dump(unix.NFT_MSG_GETSETELEM, set, func(b []byte) error {
			n, err := elements(b)
			r.Elements += n
			return err
		})
	}
	return err
}

// nfgenmsg is the length of the header of that name, which comes before the attributes.
const nfgenmsg = 4

// typeMask is what of an attribute's type is not a flag: NLA_TYPE_MASK of linux/netlink.h.
const typeMask = 0x3fff

// elements is the number of elements in a message of a dump of a set.
func elements(b []byte) (int, error) {
	all, err := nl.ParseRouteAttr(b[nfgenmsg:])
	for _, a := range all {
		if a.Attr.Type&typeMask == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			list, err := nl.ParseRouteAttr(a.Value)
			return len(list), err
		}
	}
	return 0, err
}
