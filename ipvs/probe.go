package ipvs

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"

	libipvs "github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Probe returns nil if this kernel has what the backend needs, or an error that names each thing
// that is missing. It tries the things themselves, so that the kernel loads modules that it has;
// kernel versions are not looked at. It needs CAP_SYS_ADMIN and CAP_NET_ADMIN, and says so if it
// does not have them. It may be called concurrently.
func Probe() error {
	result := make(chan error)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, and the namespace with it.
		runtime.LockOSThread()
		ns, err := netns.New()
		if err != nil {
			result <- fmt.Errorf("ipvs probe: network namespace: %w", err)
			return
		}
		defer ns.Close()
		result <- probe()
	}()
	return <-result
}

// needs are what the backend cannot do without.
var needs = []struct {
	name, option string
	try          func() error
}{
	{"virtual servers", "CONFIG_IP_VS", virtualServer},
	{"scheduler rr", "CONFIG_IP_VS_RR", scheduler},
	{"dummy links", "CONFIG_DUMMY", dummyLink}, // they hold the virtual addresses
	{"ipset", "CONFIG_IP_SET", ipset},          // masquerade, source ranges, refusals
}

func probe() error {
	var missing []string
	for _, n := range needs {
		switch err := n.try(); {
		case errors.Is(err, unix.EPERM):
			return fmt.Errorf("ipvs probe: %s: %w", n.name, err)
		case err != nil:
			missing = append(missing, fmt.Sprintf("%s (%s: %v)", n.name, n.option, err))
		}
	}
	if missing != nil {
		return fmt.Errorf("kernel lacks %s", strings.Join(missing, ", "))
	}
	return nil
}

// errNoFamily says that there is nobody to ask.
var errNoFamily = errors.New("not in this kernel")

// handle opens IPVS. The kernel is asked for the family first, which also loads the module:
// libipvs would only log that it is absent, and then talk to whoever has family number 0.
func handle() (*libipvs.Handle, error) {
	if _, err := netlink.GenlFamilyGet("IPVS"); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil, errNoFamily
		}
		return nil, err
	}
	return libipvs.New("")
}

func virtualServer() error {
	h, err := handle()
	if err != nil {
		return err
	}
	defer h.Close()
	_, err = h.GetConfig()
	return err
}

func scheduler() error {
	h, err := handle()
	if err != nil {
		return err
	}
	defer h.Close()
	return h.NewService(&libipvs.Service{
		AddressFamily: nl.FAMILY_V4,
		Protocol:      unix.IPPROTO_TCP,
		Address:       net.IPv4(192, 0, 2, 1), // TEST-NET-1, in a namespace without any link
		Port:          1,
		SchedName:     libipvs.RoundRobin,
		Netmask:       0xffffffff,
	})
}

func dummyLink() error {
	return netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "probe"}})
}

func ipset() error {
	_, _, err := netlink.IpsetProtocol()
	return err
}
