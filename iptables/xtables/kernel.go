package xtables

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket options of ip_tables and ip6_tables, which have the same numbers.
const (
	soReplace     = 64 // set
	soAddCounters = 65
	soInfo        = 64 // get
	soEntries     = 65
)

// Offsets in the structs of those options.
const (
	tableName     = 32 // bytes, at the start of each
	infoHooks     = 32 // ipt_getinfo: valid hooks, hooks, underflows, number of entries, size
	infoCount     = 76
	infoSize      = 80
	infoEnd       = 84
	entriesSize   = 32 // ipt_get_entries: size, entries
	entriesStart  = 40
	replaceHooks  = 32 // ipt_replace: valid hooks, number of entries, size, hooks, underflows,
	replaceCount  = 36 // number of counters, where to write the old ones, entries
	replaceSize   = 40
	replacePlaces = 44
	replaceOld    = 84
	replacePtr    = 88
	replaceStart  = 96
	countersCount = 32 // xt_counters_info: number, counters
	countersStart = 40
)

// maxTable bounds what is read, so that sums of sizes fit everywhere.
const maxTable = 1 << 30

// A family is how to talk to the kernel about one address family.
type family struct {
	*layout
	domain, level int
}

var families = map[bool]family{
	false: {ipv4, unix.AF_INET, unix.SOL_IP},
	true:  {ipv6, unix.AF_INET6, unix.SOL_IPV6},
}

// ErrBusy says that somebody else holds the lock.
var ErrBusy = errors.New("the lock is held by another")

// Rewrite gives chains of a table other rules, in the network namespace of the calling thread, as
// one transaction. After an error the chains are as they were, or as they shall be.
func Rewrite(table string, v6 bool, edits []Edit) error {
	if strconv.IntSize != 64 {
		return errors.New("rewrite tables: not on 32 bits")
	}
	if len(table) >= tableName {
		return fmt.Errorf("rewrite table %q: name too long", table)
	}
	f := families[v6]
	patches, err := f.patches(edits)
	if err == nil {
		err = f.rewrite(table, patches)
	}
	if err != nil {
		return fmt.Errorf("rewrite table %s: %w", table, err)
	}
	return nil
}

func (f family) rewrite(table string, patches []patch) error {
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	fd, err := unix.Socket(f.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)

	info := make([]byte, infoEnd)
	copy(info, table)
	if err := f.get(fd, soInfo, info); err != nil {
		return fmt.Errorf("get info: %w", err)
	}
	was, size := tableOf(f.layout, info)
	if size > maxTable {
		return fmt.Errorf("%d bytes", size)
	}
	slack := room(patches)
	end := replaceStart + slack + size
	// The memory is of no use between changes, so it is not of the garbage collector's.
	mem, err := unix.Mmap(-1, 0, end+was.count*counterSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	defer unix.Munmap(mem)

	request := mem[replaceStart+slack-entriesStart : end]
	copy(request, table)
	order.PutUint32(request[entriesSize:], uint32(size))
	if err := f.get(fd, soEntries, request); err != nil {
		return fmt.Errorf("get entries: %w", err)
	}
	was.entries = request[entriesStart:]
	now, err := was.edit(mem[replaceStart:], patches)
	if err != nil {
		return err
	}
	old := mem[end:]
	clear(mem[:replaceStart])
	copy(mem, table)
	now.describe(mem, old)
	if err := f.set(fd, soReplace, mem[:replaceStart+len(now.entries)]); err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	counters := mem[:countersStart+now.count*counterSize] // an entry takes more than its counters do
	clear(counters)
	copy(counters, table)
	order.PutUint32(counters[countersCount:], uint32(now.count))
	carry(old, counters[countersStart:], patches)
	if err := f.set(fd, soAddCounters, counters); err != nil {
		return fmt.Errorf("add counters: %w", err)
	}
	return nil
}

// lock takes the lock that all writers of iptables-legacy share. It does not wait.
func lock() (unlock func(), err error) {
	path := os.Getenv("XTABLES_LOCKFILE") // as iptables does
	if path == "" {
		path = "/run/xtables.lock"
	}
	file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrBusy
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { file.Close() }, nil
}

// tableOf reads struct ipt_getinfo. The entries are missing; size is how many bytes they take.
func tableOf(l *layout, info []byte) (t *table, size int) {
	t = &table{layout: l, valid: order.Uint32(info[infoHooks:]), count: int(order.Uint32(info[infoCount:]))}
	for i := range hooks {
		t.hook[i] = order.Uint32(info[infoHooks+4+4*i:])
		t.underflow[i] = order.Uint32(info[infoHooks+4+4*hooks+4*i:])
	}
	return t, int(order.Uint32(info[infoSize:]))
}

// describe writes struct ipt_replace but for the name. The kernel will write the counters of the
// table that it replaces into old, which must not move.
func (t *table) describe(b, old []byte) {
	order.PutUint32(b[replaceHooks:], t.valid)
	order.PutUint32(b[replaceCount:], uint32(t.count))
	order.PutUint32(b[replaceSize:], uint32(len(t.entries)))
	for i := range hooks {
		order.PutUint32(b[replacePlaces+4*i:], t.hook[i])
		order.PutUint32(b[replacePlaces+4*hooks+4*i:], t.underflow[i])
	}
	order.PutUint32(b[replaceOld:], uint32(len(old)/counterSize))
	order.PutUint64(b[replacePtr:], uint64(uintptr(unsafe.Pointer(unsafe.SliceData(old)))))
}

// get asks for a socket option that fills all of b.
func (f family) get(fd, option int, b []byte) error {
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(f.level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return errno
	}
	if int(n) != len(b) {
		return fmt.Errorf("%d bytes, want %d", n, len(b))
	}
	return nil
}

func (f family) set(fd, option int, b []byte) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(f.level), uintptr(option),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
