package dnsdiff

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// A changer changes the objects of a real API server at random, and knows what there is.
type changer struct {
	client *kubernetes.Clientset
	r      *rand.Rand
	n      int // of names given out
}

// change creates, changes or deletes an object. It reports whether the API server took it: some
// of what chance makes is invalid.
func (c *changer) change(ctx context.Context) (bool, error) {
	var err error
	switch op := c.r.IntN(20); {
	case op < 6:
		err = c.service(ctx)
	case op < 8:
		err = c.dropService(ctx)
	case op < 10:
		err = c.dropSlice(ctx)
	case op < 11:
		err = c.namespace(ctx)
	default:
		err = c.slice(ctx)
	}
	switch {
	case err == nil:
		return true, nil
	case apierrors.IsInvalid(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
		return false, nil
	}
	return false, err
}

// spaces are the namespaces that objects are in. They are made on the way.
var spaces = []string{"default", "prod", "svc", "10-0-0-1"}

func (c *changer) namespace(ctx context.Context) error {
	_, err := c.client.CoreV1().Namespaces().Create(ctx, namespace(c.r, pick(c.r, spaces)), metav1.CreateOptions{})
	return err
}

func noAddress(*rand.Rand, corev1.IPFamily) string { return "" }

// service creates a Service, or replaces one.
func (c *changer) service(ctx context.Context) error {
	s := Service(c.r, pick(c.r, spaces), pick(c.r, serviceNames), noAddress)
	if s.Spec.ClusterIP != corev1.ClusterIPNone {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil // the API server's to choose
	}
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		dual := corev1.IPFamilyPolicyPreferDualStack
		s.Spec.IPFamilyPolicy = &dual
		s.Spec.IPFamilies = s.Spec.IPFamilies[:1]
	}
	s.Status = corev1.ServiceStatus{}
	services := c.client.CoreV1().Services(s.Namespace)
	old, err := services.Get(ctx, s.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = services.Create(ctx, s, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	if old.Spec.Type != s.Spec.Type || (old.Spec.ClusterIP == corev1.ClusterIPNone) != (s.Spec.ClusterIP == corev1.ClusterIPNone) {
		return services.Delete(ctx, s.Name, metav1.DeleteOptions{})
	}
	old.Spec.Ports, old.Spec.ExternalName, old.Labels = s.Spec.Ports, s.Spec.ExternalName, s.Labels
	_, err = services.Update(ctx, old, metav1.UpdateOptions{})
	return err
}

func (c *changer) dropService(ctx context.Context) error {
	return c.client.CoreV1().Services(pick(c.r, spaces)).Delete(ctx, pick(c.r, serviceNames), metav1.DeleteOptions{})
}

// slice creates or replaces a slice of a Service, which need not exist.
func (c *changer) slice(ctx context.Context) error {
	ns, name := pick(c.r, spaces), pick(c.r, serviceNames)
	service, err := c.client.CoreV1().Services(ns).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		service = nil // as good as not there
	}
	s := new(Cluster).slice(c.r, ns, name, service, c.r.IntN(2))
	s.Name = fmt.Sprintf("%.40s-%s-%d", name, map[discoveryv1.AddressType]string{discoveryv1.AddressTypeIPv4: "v4", discoveryv1.AddressTypeIPv6: "v6"}[s.AddressType], c.r.IntN(2))
	all := c.client.DiscoveryV1().EndpointSlices(ns)
	if _, err = all.Update(ctx, s, metav1.UpdateOptions{}); apierrors.IsNotFound(err) {
		_, err = all.Create(ctx, s, metav1.CreateOptions{})
	}
	return err
}

func (c *changer) dropSlice(ctx context.Context) error {
	ns := pick(c.r, spaces)
	list, err := c.client.DiscoveryV1().EndpointSlices(ns).List(ctx, metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		return err
	}
	return c.client.DiscoveryV1().EndpointSlices(ns).Delete(ctx, pick(c.r, list.Items).Name, metav1.DeleteOptions{})
}

// marker makes a headless Service with an endpoint of a new name and address, which is visible
// once all that was written before it is. begin is when the endpoint was about to be written.
func (c *changer) marker(ctx context.Context) (name, address string, begin time.Time, err error) {
	c.n++
	name, address = fmt.Sprintf("marker-%d", c.n), fmt.Sprintf("10.250.%d.%d", c.n/250, 1+c.n%250)
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	s.Spec.ClusterIP = corev1.ClusterIPNone
	if _, err := c.client.CoreV1().Services("default").Create(ctx, s, metav1.CreateOptions{}); err != nil {
		return "", "", begin, err
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}}},
	}
	begin = time.Now()
	_, err = c.client.DiscoveryV1().EndpointSlices("default").Create(ctx, slice, metav1.CreateOptions{})
	return name + ".default.svc." + zone, address, begin, err
}

// cluster returns what the API server has now.
func (c *changer) cluster(ctx context.Context) (*Cluster, error) {
	out := &Cluster{}
	namespaces, err := c.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	services, err := c.client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	list, err := c.client.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range namespaces.Items {
		out.Namespaces = append(out.Namespaces, &namespaces.Items[i])
	}
	for i := range services.Items {
		out.Services = append(out.Services, &services.Items[i])
	}
	for i := range list.Items {
		out.Slices = append(out.Slices, &list.Items[i])
	}
	return out, nil
}
