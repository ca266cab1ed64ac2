package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A DNS says how the proxy's process answers DNS queries too (node mode).
type DNS struct {
	// Listen is the node's addresses to listen on, with a comma between: IP or IP:port. "" means
	// that there is no resolver.
	Listen string `json:"listen,omitempty"`
	// Corefile is the resolver's configuration file, "" for the one that is built in.
	Corefile string `json:"corefile,omitempty"`
	// Service is namespace/name of the Service that pods have their nameserver's address from, ""
	// for none: it leads to this resolver while it answers.
	Service string `json:"service,omitempty"`
	// Clients are the CIDRs of those who may ask beside pods and the node itself, with a comma between.
	Clients string `json:"clients,omitempty"`
}

const (
	defaultDNSPort    = 53
	defaultDNSService = "kube-system/kube-dns"
)

// Addrs returns where to listen, nil for nowhere. All have one port.
func (d *DNS) Addrs() []netip.AddrPort {
	list, _ := d.addrs() // Validate reports errors
	return list
}

// ServiceName returns the parts of Service, empty if there is none.
func (d *DNS) ServiceName() (namespace, name string) {
	namespace, name, _ = strings.Cut(d.Service, "/")
	return namespace, name
}

// ClientCIDRs returns who else may ask.
func (d *DNS) ClientCIDRs() []netip.Prefix { return cidrs(d.Clients) }

func (d *DNS) addrs() (out []netip.AddrPort, err error) {
	for _, text := range splitList(d.Listen) {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			a, err := parseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("%q is not IP or IP:port", text)
			}
			at = netip.AddrPortFrom(a, defaultDNSPort)
		}
		at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
		switch a := at.Addr(); {
		case a.IsUnspecified():
			return nil, fmt.Errorf("%q would answer the world: name addresses of the node", text)
		case a.IsMulticast() || a.Zone() != "":
			return nil, fmt.Errorf("%q is not an address that pods can ask", text)
		case at.Port() == 0:
			return nil, fmt.Errorf("%q has no port", text)
		case len(out) > 0 && out[0].Port() != at.Port():
			return nil, fmt.Errorf("ports %d and %d: all addresses must have the same", out[0].Port(), at.Port())
		case slices.Contains(out, at):
			return nil, fmt.Errorf("%q is there twice", text)
		}
		out = append(out, at)
	}
	return out, nil
}

func (e *checker) dns(d *DNS) {
	list, err := d.addrs()
	msg := ""
	if err != nil {
		msg = err.Error()
	}
	e.check(err == nil, "--dns-listen", d.Listen, msg)
	e.check(d.Corefile == "" || d.Listen != "", "--dns-corefile", d.Corefile, "needs --dns-listen")
	for _, text := range splitList(d.Clients) {
		e.cidr("--dns-clients", text)
	}
	if d.Service == "" || len(list) == 0 {
		return
	}
	namespace, name := d.ServiceName()
	e.check(namespace != "" && name != "" && !strings.Contains(name, "/"), "--dns-service", d.Service, "must be NAMESPACE/NAME, or empty")
	for _, a := range list {
		e.check(!a.Addr().IsLoopback(), "--dns-listen", a.String(),
			"pods cannot reach loopback addresses, so no Service can lead there: name another address, or give --dns-service="+strconv.Quote(""))
	}
}
