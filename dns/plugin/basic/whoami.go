package basic

import (
	"context"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/plugin"
)

// Whoami answers every question with the client's own address, port and transport, in the
// additional section. It never asks the next plugin.
type Whoami struct{}

// Name returns "whoami".
func (Whoami) Name() string { return "whoami" }

// Wrap returns the plugin. There is nothing behind it.
func (Whoami) Wrap(plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(_ context.Context, r *plugin.Request) plugin.Reply {
		m := r.Answer()
		m.Extra = []dnswire.RR{address(r.Spelled(), r.Class(), 0, r.Client.Addr())}
		// A name of full length has no room for one more label.
		if name := transport(r); valid(name) {
			m.Extra = append(m.Extra, &dnswire.SRV{
				Hdr:    dnswire.RR_Header{Name: name, Rrtype: dnswire.TypeSRV, Class: r.Class()},
				Port:   r.Client.Port(),
				Target: ".",
			})
		}
		return plugin.Answered("whoami", m)
	})
}

func transport(r *plugin.Request) string {
	if name := r.Spelled(); name != "." {
		return "_" + r.Proto + "." + name
	}
	return "_" + r.Proto + "."
}

func valid(name string) bool {
	_, ok := dnswire.IsDomainName(name)
	return ok
}
