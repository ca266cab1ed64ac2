package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/fairway-lb/fairway/dns/corefile"
	"github.com/fairway-lb/fairway/dns/server"
	"github.com/fairway-lb/fairway/proxier/names"
	"github.com/fairway-lb/fairway/proxier/watch"
)

// newSource returns what connects kubernetes directives to a cluster: the folder of manifests if
// the flags name one, else the API server that the directive names.
func (f *dnsFlags) newSource(log *slog.Logger) server.NewSource {
	return func(k *corefile.Kubernetes) (names.Source, func(context.Context) error, error) {
		n, err := watch.NewNames(namesOptions(k))
		if err != nil {
			return nil, nil, err
		}
		if f.manifests != "" {
			return n, func(ctx context.Context) error {
				return watch.Manifests(ctx, n, watch.ManifestOptions{Dir: f.manifests, Names: true, Log: log})
			}, nil
		}
		config, err := restConfigOf(k, f.kubeconfig)
		if err != nil {
			return nil, nil, err
		}
		client, err := watch.NewClientFor(config)
		if err != nil {
			return nil, nil, err
		}
		return n, func(ctx context.Context) error { return watch.ClusterNames(ctx, n, client, nil, log) }, nil
	}
}

// namesOptions are what a directive needs to know of a cluster.
func namesOptions(k *corefile.Kubernetes) watch.NamesOptions {
	return watch.NamesOptions{
		Labels: k.Labels, NamespaceLabels: k.NamespaceLabels,
		PodNames: k.EndpointPodNames, Zones: k.Zonal, Pods: k.Pods == corefile.PodsVerified, Imports: len(k.MulticlusterZones) > 0,
	}
}

// restConfigOf says how to reach the API server of a directive: at its endpoint, through its
// kubeconfig or that of the flag, or as a pod.
func restConfigOf(k *corefile.Kubernetes, kubeconfig string) (*rest.Config, error) {
	config, err := bareConfig(k, kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = k.QPS, k.Burst
	config.UserAgent = "fairway-dns/" + versionString()
	return config, nil
}

func bareConfig(k *corefile.Kubernetes, kubeconfig string) (*rest.Config, error) {
	if k.Kubeconfig != "" {
		kubeconfig = k.Kubeconfig
	}
	switch {
	case kubeconfig != "" && (k.Kubeconfig != "" || k.Endpoint == ""):
		config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig},
			&clientcmd.ConfigOverrides{CurrentContext: k.Context, ClusterInfo: clientcmdapi.Cluster{Server: k.Endpoint}},
		).ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("kubeconfig %q: %w", kubeconfig, err)
		}
		return config, nil
	case k.Endpoint != "":
		return &rest.Config{Host: k.Endpoint, TLSClientConfig: rest.TLSClientConfig{CertFile: k.ClientCert, KeyFile: k.ClientKey, CAFile: k.CA}}, nil
	}
	config, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("no endpoint, no kubeconfig, and not in a pod: there is no API server to follow")
	}
	return config, err
}
