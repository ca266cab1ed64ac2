package dnsbench

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
)

const (
	domain     = "cluster.local"
	namespaces = 10
	bigSize    = 200 // endpoints of the large headless Service
	setSize    = 3   // endpoints of each small one
)

// A cluster has services Services with a ClusterIP and endpoints endpoints each, sets small
// headless Services, and big.team-0, the large one.
type cluster struct{ services, endpoints, sets int }

func space(i int) string { return fmt.Sprintf("team-%d", i%namespaces) }

// clusterIP is the address of Service i, below 65,000.
func clusterIP(i int) string { return fmt.Sprintf("10.97.%d.%d", i/250, 1+i%250) }

// podIP is the address of pod n, below 15,000,000.
func podIP(n int) string { return fmt.Sprintf("10.%d.%d.%d", 128+n/62500, n/250%250, 1+n%250) }

func (c cluster) objects() []runtime.Object {
	var out []runtime.Object
	for i := range namespaces {
		out = append(out, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: space(i)}})
	}
	pod := 0
	next := func() string { pod++; return podIP(pod) }
	for i := range c.services {
		s := service(i, fmt.Sprintf("svc-%05d", i), clusterIP(i))
		out = append(out, s, endpoints(s, c.endpoints, false, next))
	}
	for i := range c.sets {
		s := service(i, fmt.Sprintf("set-%05d", i), corev1.ClusterIPNone)
		out = append(out, s, endpoints(s, setSize, true, next))
	}
	big := service(0, "big", corev1.ClusterIPNone)
	// A slice has at most 100 endpoints, as the controller makes them.
	first, second := endpoints(big, bigSize/2, false, next), endpoints(big, bigSize/2, false, next)
	second.Name += "-2"
	return append(out, big, first, second)
}

func service(i int, name, ip string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: space(i), Name: name, Labels: map[string]string{"app": name}}}
	s.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: ip, ClusterIPs: []string{ip},
		IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Selector:   map[string]string{"app": name},
		Ports:      []corev1.ServicePort{{Name: "http", Protocol: corev1.ProtocolTCP, Port: 80}},
	}
	s.Spec.Ports[0].TargetPort.IntVal = 8080
	return s
}

// endpoints makes a slice of a Service as the controller does, n endpoints at the next addresses.
func endpoints(s *corev1.Service, n int, hostnames bool, next func() string) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name + "-abcde", Labels: map[string]string{
			"app": s.Name, discoveryv1.LabelServiceName: s.Name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io",
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("http"), Port: ptr.To(int32(8080)), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		out.Labels[corev1.IsHeadlessService] = ""
	}
	for i := range n {
		e := discoveryv1.Endpoint{
			Addresses:  []string{next()},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
			NodeName:   ptr.To(fmt.Sprintf("node-%d", i%50)),
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: s.Namespace, Name: fmt.Sprintf("%s-%d", s.Name, i)},
		}
		if hostnames {
			e.Hostname = ptr.To(fmt.Sprintf("%s-%d", s.Name, i))
		}
		out.Endpoints = append(out.Endpoints, e)
	}
	return out
}

// zoneFile is what the objects come to, for servers that know no Kubernetes: A records of all
// names, and SRV records of the headless Services.
func zoneFile(objects []runtime.Object) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$ORIGIN %s.\n$TTL 30\n@ IN SOA ns.dns hostmaster 1 7200 1800 86400 30\n@ IN NS ns.dns\nns.dns IN A 10.0.0.53\n", domain)
	headless := map[string]bool{}
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Service:
			headless[o.Namespace+"/"+o.Name] = o.Spec.ClusterIP == corev1.ClusterIPNone
			if o.Spec.ClusterIP != corev1.ClusterIPNone {
				fmt.Fprintf(&b, "%s.%s.svc IN A %s\n", o.Name, o.Namespace, o.Spec.ClusterIP)
			}
		case *discoveryv1.EndpointSlice:
			name := o.Labels[discoveryv1.LabelServiceName]
			if !headless[o.Namespace+"/"+name] {
				continue
			}
			for _, e := range o.Endpoints {
				host := strings.ReplaceAll(e.Addresses[0], ".", "-")
				if e.Hostname != nil {
					host = *e.Hostname
				}
				fmt.Fprintf(&b, "%[1]s.%[2]s.svc IN A %[3]s\n%[4]s.%[1]s.%[2]s.svc IN A %[3]s\n_http._tcp.%[1]s.%[2]s.svc IN SRV 0 33 8080 %[4]s.%[1]s.%[2]s.svc\n",
					name, o.Namespace, e.Addresses[0], host)
			}
		}
	}
	return b.String()
}
