package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"sync/atomic"
	"time"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/plugin"
	"github.com/fairway-lb/fairway/dns/plugin/poll"
	"github.com/fairway-lb/fairway/dns/plugin/transfer"
	"github.com/fairway-lb/fairway/dns/wire"
)

// File is the plugin, with all zones of a block.
type File struct {
	names    []string
	set      plugin.ZoneSet // of the names
	zones    map[string]*loaded
	fall     plugin.Fall
	resolver plugin.Resolver
}

// loaded is one zone as it was last read. It holds nil until the file was read once.
type loaded struct {
	atomic.Pointer[zone]
	poll *poll.File
}

// New returns the plugin and reads its files. A file that is not there may come later, unless it is
// read only once.
func New(d *corefile.File, resolver plugin.Resolver, log *slog.Logger) (*File, error) {
	f := &File{zones: map[string]*loaded{}, fall: plugin.NewFall(d.Fallthrough), resolver: resolver}
	for _, c := range d.Zones {
		l := &loaded{}
		l.poll = &poll.File{
			Path: c.Path, Every: c.Reload,
			Load: func(text []byte, _ time.Time) error {
				z, err := read(text, c.Zone, c.Path)
				if err != nil {
					return err
				}
				if old := l.Load(); old == nil || c.ReloadByMtime || old.soa.Serial != z.soa.Serial {
					l.Store(z)
				}
				return nil
			},
			Failed: func(err error) { log.Warn("zone file", "zone", c.Zone, "err", err) },
		}
		if err := l.poll.Read(); errors.Is(err, fs.ErrNotExist) && c.Reload > 0 {
			l.poll.Failed(err)
		} else if err != nil {
			return nil, fmt.Errorf("line %d: %w", c.Line, err)
		}
		if f.zones[c.Zone] == nil {
			f.names = append(f.names, c.Zone)
		}
		f.zones[c.Zone] = l
	}
	f.set = plugin.NewZoneSet(f.names)
	return f, nil
}

// Name returns "file".
func (*File) Name() string { return "file" }

// Start begins to look for changes of the files.
func (f *File) Start(ctx context.Context) error {
	for _, l := range f.zones {
		l.poll.Start(ctx)
	}
	return nil
}

// Close ends what Start began.
func (f *File) Close() error {
	for _, l := range f.zones {
		l.poll.Close()
	}
	return nil
}

// Passes implements plugin.Passer.
func (f *File) Passes(q *wire.Query) bool { return !f.set.Holds(q) }

// Wrap returns the plugin in front of next.
func (f *File) Wrap(next plugin.Handler) plugin.Handler {
	return plugin.HandlerFunc(func(ctx context.Context, r *plugin.Request) plugin.Reply {
		origin := plugin.Longest(f.names, r.Name())
		switch {
		case origin == "" && next == plugin.End:
			return plugin.Fail("file", dnswire.RcodeRefused, nil) // there is no one else to ask
		case origin == "":
			return next.Serve(ctx, r)
		}
		if r.Type() == dnswire.TypeAXFR || r.Type() == dnswire.TypeIXFR {
			return plugin.Fail("file", dnswire.RcodeRefused, nil) // the plugin transfer allows it, if any
		}
		z := f.zones[origin].Load()
		if z == nil {
			return plugin.Fail("file", dnswire.RcodeServerFailure, fmt.Errorf("zone %s was not read yet", origin))
		}
		found := z.lookup(r.Spelled(), r.Type())
		if (found.rcode == dnswire.RcodeNameError || found.hollow) && len(found.answer) == 0 && f.fall.Through(r.Name()) {
			return next.Serve(ctx, r)
		}
		m := r.Answer()
		m.Rcode, m.Answer, m.Ns, m.Extra = found.rcode, found.answer, found.ns, found.extra
		// A delegation is not ours to be sure of (RFC 1034, 4.3.1).
		m.Authoritative = !found.delegated || len(found.answer) > 0
		if found.outside {
			return plugin.Answered("file", m).Chase(ctx, f.resolver, r, found.target)
		}
		return plugin.Answered("file", m)
	})
}

// Transfer implements transfer.Transferer.
func (f *File) Transfer(name string, serial uint32) (iter.Seq[dnswire.RR], error) {
	l := f.zones[name]
	if l == nil {
		return nil, transfer.ErrNotAuthoritative
	}
	z := l.Load()
	if z == nil {
		return nil, fmt.Errorf("zone %s was not read yet", name)
	}
	if serial != 0 && !transfer.Newer(z.soa.Serial, serial) {
		return func(yield func(dnswire.RR) bool) { yield(z.soa) }, nil
	}
	return z.all(), nil
}
