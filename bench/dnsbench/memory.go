package dnsbench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	dnswire "github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/bench/nameserver"
	"github.com/fairway-lb/fairway/bench/process"
)

// A Size is one run of a subject with a large cluster.
type Size struct {
	Subject string          `json:"subject"`
	Round   int             `json:"round"`
	Ready   time.Duration   `json:"ready"`   // from the start of the process to its first answer
	Synced  int64           `json:"synced"`  // resident memory a while after, bytes
	Loaded  int64           `json:"loaded"`  // after the load
	Peak    int64           `json:"peak"`    // the most there ever was
	Changes []time.Duration `json:"changes"` // from a change of one Service to the answer that shows it
	CPU     time.Duration   `json:"cpu"`     // of the subject for one change
}

// limit bounds the wait for a change to be seen.
const limit = 30 * time.Second

// RunSize measures the subjects that know Kubernetes with a large cluster, one after the other.
func (o Options) RunSize(ctx context.Context) (sizes []Size, err error) {
	c := cluster{services: o.Services, endpoints: o.Endpoints, sets: 50}
	objects := c.objects()
	dir, err := process.TempDir("dnsbench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "mix")
	queries := ""
	for _, m := range c.mixes()[:3] {
		queries += m.Queries
	}
	if err := os.WriteFile(file, []byte(queries), 0o600); err != nil {
		return nil, err
	}
	for round := range o.Rounds {
		for _, kind := range o.Subjects {
			if kind != nameserver.Fairway && kind != nameserver.CoreDNS {
				continue
			}
			o.Progress(fmt.Sprintf("%d Services, %s", o.Services, kind))
			s, err := o.size(ctx, kind, objects, file)
			if err != nil {
				return nil, err
			}
			s.Round = round
			sizes = append(sizes, s)
		}
	}
	return sizes, nil
}

func (o Options) size(ctx context.Context, kind string, objects []runtime.Object, queries string) (out Size, err error) {
	api := listwatch.New()
	if err := api.Set(objects...); err != nil {
		return out, err
	}
	net, err := nameserver.NewInternet()
	if err != nil {
		return out, err
	}
	defer net.Close()
	begin := time.Now()
	s, err := o.start(ctx, kind, api, net, "")
	if err != nil {
		return out, err
	}
	defer s.end()
	out = Size{Subject: kind, Ready: time.Since(begin)}
	if err := sleep(ctx, o.Settle); err != nil {
		return out, err
	}
	if out.Synced, _, err = process.Memory(s.PID()); err != nil {
		return out, err
	}
	if out.Changes, out.CPU, err = o.changes(ctx, s, api); err != nil {
		return out, err
	}
	l := load{queries: queries, limit: o.Duration}
	if _, err := l.run(ctx, s.Server); err != nil {
		return out, err
	}
	out.Loaded, out.Peak, err = process.Memory(s.PID())
	return out, err
}

// changes gives one Service of many a new address, again and again, and waits for the answer.
func (o Options) changes(ctx context.Context, s *subject, api *listwatch.Server) (took []time.Duration, each time.Duration, err error) {
	client := nameserver.NewClient(s.Space, s.Addr)
	defer client.Close()
	before, err := process.CPU(s.PID())
	if err != nil {
		return nil, 0, err
	}
	asked := 0
	for i := range o.Changes {
		ip := fmt.Sprintf("10.99.%d.%d", i/250, 1+i%250)
		svc := service(7, "svc-00007", ip)
		begin := time.Now()
		if err := api.Set(svc); err != nil {
			return nil, 0, err
		}
		n, err := await(ctx, client, svc)
		if err != nil {
			return nil, 0, err
		}
		asked += n
		took = append(took, time.Since(begin))
		if err := sleep(ctx, 20*time.Millisecond); err != nil { // what goes on after the answer is part of the cost
			return nil, 0, err
		}
	}
	after, err := process.CPU(s.PID())
	if err != nil {
		return nil, 0, err
	}
	// The questions cost too; what one costs is known from as many more.
	for range asked {
		if _, err := ask(client, "svc-00007."+space(7)+".svc."+domain+"."); err != nil {
			return nil, 0, err
		}
	}
	end, err := process.CPU(s.PID())
	if err != nil {
		return nil, 0, err
	}
	return took, max(0, ((after-before)-(end-after))/time.Duration(max(1, o.Changes))), nil
}

// await asks until the Service has its address, and returns how often.
func await(ctx context.Context, c *nameserver.Client, svc *corev1.Service) (asked int, err error) {
	name := svc.Name + "." + svc.Namespace + ".svc." + domain + "."
	for deadline := time.Now().Add(limit); ; {
		asked++
		got, err := ask(c, name)
		if err != nil {
			return asked, err
		}
		if got == svc.Spec.ClusterIP {
			return asked, nil
		}
		if time.Now().After(deadline) {
			return asked, fmt.Errorf("%s has the address %s after %s, not %s", name, got, limit, svc.Spec.ClusterIP)
		}
		if err := ctx.Err(); err != nil {
			return asked, err
		}
	}
}

// ask returns the address of a name, "" if it has none.
func ask(c *nameserver.Client, name string) (string, error) {
	m, err := c.Ask(nameserver.Query{Msg: new(dnswire.Msg).SetQuestion(name, dnswire.TypeA)})
	if err != nil || len(m.Answer) == 0 {
		return "", err
	}
	a, ok := m.Answer[0].(*dnswire.A)
	if !ok {
		return "", fmt.Errorf("%s: answer %s", name, m.Answer[0])
	}
	return a.A.String(), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
