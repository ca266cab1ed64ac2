package watch

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/flowcontrol"
)

const protobuf = runtime.ContentTypeProtobuf

// ClientOptions say how to reach an API server. The zero value is for a process in a pod.
type ClientOptions struct {
	// Kubeconfig is a kubeconfig file, Master the URL of the API server, which counts before
	// the one in the file. Without both, the pod's service account is used.
	Kubeconfig, Master string
	// QPS and Burst limit requests to the API server; 0 means 5 and 10, as for kube-proxy.
	QPS   float32
	Burst int
	// ContentType is what is sent and preferred; "" means protobuf. AcceptContentTypes is what
	// is accepted; "" means ContentType, or else JSON.
	ContentType, AcceptContentTypes string
	// UserAgent names the program in the API server's logs.
	UserAgent string
}

// A Client talks to an API server about the objects of this package. It knows five API groups
// instead of all: a full clientset costs 17 MB of binary and 8 MB of resident memory.
type Client struct {
	core, discovery, networking, events, multicluster rest.Interface
}

// NewClient returns a client. It does not connect yet.
func NewClient(o ClientOptions) (*Client, error) {
	config, err := restConfig(o)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = o.QPS, o.Burst
	config.ContentType, config.AcceptContentTypes = o.ContentType, o.AcceptContentTypes
	config.UserAgent = o.UserAgent
	return NewClientFor(config)
}

func restConfig(o ClientOptions) (*rest.Config, error) {
	if o.Kubeconfig == "" && o.Master == "" {
		config, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, errors.New("no API server to follow: not in a pod, so name one with --kubeconfig FILE, or --master URL")
		}
		return config, err
	}
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: o.Kubeconfig},
		&clientcmd.ConfigOverrides{ClusterInfo: clientcmdapi.Cluster{Server: o.Master}},
	).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %q: %w", o.Kubeconfig, err)
	}
	return config, nil
}

// NewClientFor returns a client for a configuration of client-go. Its group versions and
// serializers are replaced; empty content types and limits get the defaults of ClientOptions.
func NewClientFor(config *rest.Config) (*Client, error) {
	config = rest.CopyConfig(config)
	if config.ContentType == "" {
		config.ContentType = protobuf
	}
	if config.AcceptContentTypes == "" {
		config.AcceptContentTypes = config.ContentType
		if config.ContentType != runtime.ContentTypeJSON {
			config.AcceptContentTypes += "," + runtime.ContentTypeJSON
		}
	}
	if config.UserAgent == "" {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	if config.QPS == 0 {
		config.QPS = 5
	}
	if config.Burst == 0 {
		config.Burst = 10
	}
	if config.RateLimiter == nil && config.QPS > 0 {
		config.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(config.QPS, config.Burst)
	}
	config.NegotiatedSerializer = codecs.WithoutConversion()
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	var errs []error
	group := func(gv schema.GroupVersion) rest.Interface {
		c := rest.CopyConfig(config)
		c.GroupVersion = &gv
		c.APIPath = "/apis"
		if gv.Group == "" {
			c.APIPath = "/api"
		}
		client, err := rest.RESTClientForConfigAndClient(c, httpClient)
		errs = append(errs, err)
		return client
	}
	client := &Client{
		core:       group(corev1.SchemeGroupVersion),
		discovery:  group(discoveryv1.SchemeGroupVersion),
		networking: group(networkingv1.SchemeGroupVersion),
		events:     group(eventsv1.SchemeGroupVersion),

		multicluster: group(importGroup),
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("client for %s: %w", config.Host, err)
	}
	return client, nil
}

var codecs = func() serializer.CodecFactory {
	s := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(s))
	utilruntime.Must(discoveryv1.AddToScheme(s))
	utilruntime.Must(networkingv1.AddToScheme(s))
	utilruntime.Must(eventsv1.AddToScheme(s))
	utilruntime.Must(addImports(s))
	return serializer.NewCodecFactory(s)
}()
