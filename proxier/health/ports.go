package health

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/fairway-lb/fairway/proxier"
)

// Ports listens on the health check node ports of Services, on those of the node's addresses
// that accept NodePorts, and answers with the number of ready local endpoints. It is safe for
// concurrent use.
type Ports struct {
	monitor *Monitor
	locals  func() ([]netip.Addr, error)

	mu        sync.Mutex
	closed    bool
	current   *proxier.Snapshot
	listeners map[listenKey]*listener
	errs      map[listenKey]error // why wanted listeners are not there
}

type listenKey struct {
	addr    netip.AddrPort
	service proxier.NamespacedName
}

type listener struct {
	server *http.Server
	done   chan struct{} // closed when the server has ended
}

// NewPorts returns Ports that listen on nothing yet.
func NewPorts(m *Monitor) *Ports {
	return &Ports{
		monitor: m, locals: localAddresses,
		listeners: map[listenKey]*listener{}, errs: map[listenKey]error{},
	}
}

// Problems returns the ports that cannot be listened on at the moment, sorted, with the reason
// of kube-proxy's event. They are tried again all the time.
func (p *Ports) Problems() []proxier.Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []proxier.Problem
	for key, err := range p.errs {
		out = append(out, proxier.Problem{Kind: "Service", Object: key.service, Reason: "FailedToStartServiceHealthcheck",
			Message: fmt.Sprintf("load balancers get no answer from the health check node port: %v", err)})
	}
	slices.SortFunc(out, func(a, b proxier.Problem) int {
		return cmp.Or(a.Object.Compare(b.Object), cmp.Compare(a.Message, b.Message))
	})
	return out
}

// Sync makes s the snapshot that is answered from, and listens on what it asks for. It should
// be called once s has been applied, so that no load balancer sends before the node is ready.
func (p *Ports) Sync(s *proxier.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.current = s
	p.reconcile()
}

// Run tries busy ports again and follows the addresses of the node until ctx is done, then
// closes every listener.
func (p *Ports) Run(ctx context.Context) {
	tick := time.NewTicker(retryBind)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.close()
			return
		case <-tick.C:
			p.mu.Lock()
			p.reconcile()
			p.mu.Unlock()
		}
	}
}

func (p *Ports) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.reconcile()
}

// reconcile closes what is not wanted any more and opens what is missing. p.mu is held.
func (p *Ports) reconcile() {
	keys, err := p.want()
	if err != nil { // the node's addresses cannot be read now: keep what is open
		return
	}
	want := map[listenKey]bool{}
	for _, key := range keys {
		want[key] = true
	}
	for key, l := range p.listeners {
		if !want[key] || l.ended() {
			_ = l.server.Close()
			<-l.done
			delete(p.listeners, key)
		}
	}
	maps.DeleteFunc(p.errs, func(key listenKey, _ error) bool { return !want[key] })
	for _, key := range keys {
		if p.listeners[key] != nil {
			continue
		}
		l, err := open(key, p.handler(key.service))
		if err != nil {
			p.errs[key] = err
			continue
		}
		delete(p.errs, key)
		p.listeners[key] = l
	}
}

// want returns the listeners that the current snapshot asks for, by Service: should two ask
// for the same port, the same one gets it on every node.
func (p *Ports) want() ([]listenKey, error) {
	if p.current == nil || p.closed || len(p.current.HealthPorts) == 0 {
		return nil, nil
	}
	addrs, err := p.addresses(p.current.Node.NodePorts)
	if err != nil {
		return nil, err
	}
	var out []listenKey
	for _, svc := range p.current.Services {
		if svc.HealthCheckPort == 0 {
			continue
		}
		for _, a := range addrs {
			out = append(out, listenKey{netip.AddrPortFrom(a, svc.HealthCheckPort), svc.NamespacedName})
		}
	}
	return out, nil
}

// addresses returns what to listen on so that NodePorts on prefixes are covered: the
// unspecified address of a family of which all addresses count, else the local addresses.
func (p *Ports) addresses(prefixes []netip.Prefix) ([]netip.Addr, error) {
	var out []netip.Addr
	whole := map[bool]bool{} // by Is6
	for _, pre := range prefixes {
		if pre.Bits() == 0 && !whole[pre.Addr().Is6()] {
			whole[pre.Addr().Is6()] = true
			out = append(out, pre.Masked().Addr())
		}
	}
	if len(out) == len(prefixes) {
		return out, nil
	}
	locals, err := p.locals()
	if err != nil {
		return nil, err
	}
	for _, a := range locals {
		if whole[a.Is6()] || a.IsLoopback() {
			continue
		}
		for _, pre := range prefixes {
			if pre.Contains(a) {
				out = append(out, a)
				break
			}
		}
	}
	return out, nil
}

// open listens on one address and answers there with h.
func open(key listenKey, h http.Handler) (*listener, error) {
	network := "tcp4"
	if key.addr.Addr().Is6() {
		network = "tcp6"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), network, key.addr.String())
	if err != nil {
		return nil, err
	}
	out := &listener{server: newServer(h), done: make(chan struct{})}
	go func() {
		defer close(out.done)
		_ = out.server.Serve(l) // it ended by Close, or reconcile sees that it ended and opens it again
	}()
	return out, nil
}

func (l *listener) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// answer is the body of a health check, as kube-proxy words it.
type answer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

// handler answers any path and method with 200 if the Service has ready endpoints here and
// the node keeps up, else 503.
func (p *Ports) handler(name proxier.NamespacedName) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		s := p.current
		p.mu.Unlock()
		a := answer{ServiceProxyHealthy: p.monitor.Healthy()}
		a.Service.Namespace, a.Service.Name = name.Namespace, name.Name
		if svc := s.Service(name); svc != nil {
			a.LocalEndpoints = svc.LocalReady
		}
		code := http.StatusServiceUnavailable
		if a.LocalEndpoints > 0 && a.ServiceProxyHealthy {
			code = http.StatusOK
		}
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(a.LocalEndpoints))
		writeJSON(w, code, a)
	})
}

// localAddresses returns the addresses of this node's interfaces.
func localAddresses() ([]netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				ip = ip.Unmap()
				if !ip.IsLinkLocalUnicast() {
					out = append(out, ip)
				}
			}
		}
	}
	return out, nil
}
