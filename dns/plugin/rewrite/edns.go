package rewrite

import (
	"encoding/binary"
	"net/netip"
	"slices"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
)

// upstreamSize is the UDP size in the OPT record of a query that had none, in bytes.
const upstreamSize = 1232

// ednsRule changes an option of the query: append if there is none, replace if there is one, set in
// either case, or unset.
func ednsRule(c *corefile.RewriteEDNS0) rule {
	code := map[string]uint16{"local": c.Code, "nsid": dnswire.EDNS0NSID, "subnet": dnswire.EDNS0SUBNET}[c.Option]
	is := func(o dnswire.EDNS0) bool { return o.Option() == code }
	return rule{
		match: func(r *plugin.Request) bool {
			if c.Action != "unset" && option(c, r) == nil {
				return false
			}
			opt := r.Msg.IsEdns0()
			has := opt != nil && slices.ContainsFunc(opt.Option, is)
			return has && c.Action != "append" || !has && c.Action != "replace"
		},
		edit: func(r *plugin.Request) []change {
			opt := r.Msg.IsEdns0()
			if opt == nil {
				if c.Action == "unset" {
					return nil
				}
				r.Msg.SetEdns0(upstreamSize, false)
				opt = r.Msg.IsEdns0()
			}
			opt.Option = slices.DeleteFunc(opt.Option, is)
			r.Send = slices.DeleteFunc(slices.Clone(r.Send), is)
			if c.Action != "unset" {
				o := option(c, r)
				opt.Option = append(opt.Option, o)
				r.Send = append(r.Send, o)
			}
			return nil
		},
	}
}

// option returns the option that a rule makes for a query, nil if it has no value.
func option(c *corefile.RewriteEDNS0, r *plugin.Request) dnswire.EDNS0 {
	switch c.Option {
	case "nsid":
		return &dnswire.EDNS0_NSID{Code: dnswire.EDNS0NSID}
	case "subnet":
		return subnet(c, r.Client.Addr().WithZone("").Unmap())
	}
	data := c.Data
	if c.Variable != "" {
		if data = variable(c.Variable, r); data == nil {
			return nil
		}
	}
	return &dnswire.EDNS0_LOCAL{Code: c.Code, Data: data}
}

// subnet says from which network a client asks (RFC 7871).
func subnet(c *corefile.RewriteEDNS0, client netip.Addr) dnswire.EDNS0 {
	o := &dnswire.EDNS0_SUBNET{Code: dnswire.EDNS0SUBNET, Family: 1, SourceNetmask: c.V4}
	if client.Is6() {
		o.Family, o.SourceNetmask = 2, c.V6
	}
	p, err := client.Prefix(int(o.SourceNetmask))
	if err != nil {
		return nil
	}
	o.Address = p.Addr().AsSlice()
	return o
}

// variable returns what a variable of an option stands for, nil if for nothing.
func variable(name string, r *plugin.Request) []byte {
	port := func(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }
	switch name {
	case "{qname}":
		return []byte(r.Spelled())
	case "{qtype}":
		return port(r.Type())
	case "{client_ip}":
		return r.Client.Addr().WithZone("").Unmap().AsSlice()
	case "{client_port}":
		return port(r.Client.Port())
	case "{server_ip}":
		return r.Local.Addr().WithZone("").Unmap().AsSlice()
	case "{server_port}":
		return port(r.Local.Port())
	case "{protocol}":
		return []byte(r.Proto)
	}
	return nil
}
