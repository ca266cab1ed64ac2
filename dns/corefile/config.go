package corefile

import (
	"fmt"
	"net/netip"
)

// DefaultText is the configuration of a server that was given none, as CoreDNS has it.
const DefaultText = ". {\nwhoami\nlog\n}\n"

// A Config is a whole Corefile, checked. It is read-only after Load, and then safe for concurrent
// use.
type Config struct {
	Blocks   []*Block
	Hash     [64]byte // SHA-512 of the parsed token tree, the value that CoreDNS computes
	Warnings []string // what was accepted but deserves a log line, such as a hosts file that is absent
}

// A Block is one server block: some zones, served by one chain of plugins.
type Block struct {
	Keys    []Key
	Binds   []netip.Addr // addresses to listen on; nil: all
	Plugins []Directive  // in CoreDNS's order of plugins; several of one kind in the order of the file
	Pos                  // of the first key
}

// A Key is one zone of a block, with the port that it is served on.
type Key struct {
	Scheme string // "dns"
	Zone   string // lower case, with the final dot
	Port   uint16
}

// String returns the key as CoreDNS spells it, such as dns://cluster.local.:53.
func (k Key) String() string { return fmt.Sprintf("%s://%s:%d", k.Scheme, k.Zone, k.Port) }

// A Pos is where in a Corefile something is.
type Pos struct {
	File string
	Line int
}

func (p Pos) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// A Directive is what one plugin of a block was told: one of the pointer types of this package,
// such as *Forward.
type Directive interface {
	// Plugin is the name of the plugin, such as "forward".
	Plugin() string
	// Position is where the directive begins.
	Position() Pos
}

// Position returns p itself; it makes every directive that embeds a Pos tell where it is.
func (p Pos) Position() Pos { return p }

// Find returns the first directive of type T in a block, or the zero T and false.
func Find[T Directive](b *Block) (T, bool) {
	for _, d := range b.Plugins {
		if t, ok := d.(T); ok {
			return t, true
		}
	}
	var none T
	return none, false
}

// Options are what a Corefile depends on besides its text.
type Options struct {
	// DefaultPort is the port of a key without one (flag -dns.port). 0 means 53.
	DefaultPort uint16
	// OwnObjects says that the caller brings the cluster's objects itself (a folder of manifests,
	// the proxy's own store), so that kubernetes needs neither a kubeconfig nor the environment of
	// a pod.
	OwnObjects bool
	// AllFaults asks for an error with every fault, joined, and not only the first: for a check
	// before a Corefile is used.
	AllFaults bool
}
