package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
)

// A part is a plugin of a block. Configurations that say the same about it share it.
type part struct {
	block     string // the block it belongs to, see blockName
	directive corefile.Directive
	with      []corefile.Directive // what else it was made of
	needs     []*part              // which others it calls
	plugin    plugin.Plugin
	begin     func(ctx context.Context) error // in place of the plugin's own Start; may be nil
	stop      []func()                        // what ends it, last first
}

// blockName tells blocks apart over reloads: by what they serve.
func blockName(b *corefile.Block) string {
	var s strings.Builder
	for _, k := range b.Keys {
		s.WriteString(k.String() + " ")
	}
	for _, a := range b.Binds {
		s.WriteString(a.String() + " ")
	}
	return s.String()
}

// same reports whether o can stand for p.
func (p *part) same(o *part) bool {
	return p.block == o.block && p.directive.Plugin() == o.directive.Plugin() && corefile.Equal(p.directive, o.directive) &&
		slices.EqualFunc(p.with, o.with, func(x, y corefile.Directive) bool {
			return x.Plugin() == y.Plugin() && corefile.Equal(x, y)
		}) && slices.Equal(p.needs, o.needs)
}

// close ends the part.
func (p *part) close() {
	for _, f := range slices.Backward(p.stop) {
		f()
	}
	p.stop = nil
}

// start starts the plugin and notes how to end it.
func (p *part) start(ctx context.Context) error {
	life, cancel := context.WithCancel(context.Background())
	p.stop = append(p.stop, cancel)
	if c, ok := p.plugin.(plugin.Closer); ok {
		p.stop = append(p.stop, func() { _ = c.Close() }) // nothing to do about what cannot be closed
	}
	var err error
	if s, ok := p.plugin.(plugin.Starter); ok {
		err = s.Start(life)
	}
	if err == nil && p.begin != nil {
		err = p.begin(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: plugin/%s: %w", p.directive.Position(), p.directive.Plugin(), err)
	}
	return nil
}

// errNotBuilt is of a directive that corefile knows and this package does not, which a test rules
// out.
var errNotBuilt = errors.New("is not part of this program")

// passive are the directives without a plugin in the chain: they say how to listen, or what to
// serve beside.
var passive = map[string]bool{"root": true, "metadata": true, "timeouts": true, "multisocket": true, "reload": true, "bind": true,
	"debug": true, "ready": true, "health": true, "pprof": true, "prometheus": true, "view": true}

// harmless are plugins that do not change what a cache stores.
var harmless = map[string]bool{"errors": true, "log": true, "loop": true, "cancel": true, "any": true,
	"chaos": true, "nsid": true, "acl": true}

// refuse is the chain of a zone without plugins.
var refuse plugin.Handler = plugin.HandlerFunc(func(context.Context, *plugin.Request) plugin.Reply {
	return plugin.Fail("", dnswire.RcodeRefused, nil)
})
