package corefile

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// gone are options that CoreDNS had and now refuses, with what to do instead.
var gone = map[string]string{
	"upstream":     "removed in CoreDNS 1.7.0: names outside the zone go through the server's own chain without it",
	"resyncperiod": "removed in CoreDNS 1.7.0: objects are watched",
	"transfer":     "removed in CoreDNS 1.8.0: use the transfer plugin",
	"federation":   "removed in CoreDNS 1.7.0",
}

func parseKubernetes(s *stanza) (*Kubernetes, error) {
	d := &Kubernetes{TTL: 5, Pods: PodsDisabled, StartupTimeout: 5 * time.Second}
	return d, s.single(func() (err error) {
		d.Pos = s.pos()
		if d.Zones, err = s.zones(s.RemainingArgs()); err != nil {
			return err
		}
		i := slices.IndexFunc(d.Zones, func(z string) bool { return !isReverse(z) })
		if i < 0 { // in-addr.arpa alone is accepted, as in CoreDNS
			i = slices.IndexFunc(d.Zones, func(z string) bool { return !belowArpa(z) })
		}
		if i < 0 {
			return s.Err("non-reverse zone name must be used")
		}
		d.PrimaryZone = d.Zones[i]
		if err := s.eachOption(func(name string) error { return s.kubernetesOption(d, name) }); err != nil {
			return err
		}
		return s.checkKubernetes(d)
	})
}

func (s *stanza) kubernetesOption(d *Kubernetes, name string) (err error) {
	switch name {
	case "pods":
		mode, err := s.arg()
		if err != nil {
			return err
		}
		switch d.Pods = PodMode(mode); d.Pods {
		case PodsDisabled, PodsInsecure, PodsVerified:
			return nil
		}
		return s.Errf("wrong value for pods: %s,  must be one of: disabled, verified, insecure", mode)
	case "namespaces":
		args, err := s.args(1, -1)
		d.Namespaces = slices.Compact(slices.Sorted(slices.Values(append(args, d.Namespaces...))))
		return err
	case "labels":
		d.Labels, err = s.selector("label selector")
	case "namespace_labels":
		d.NamespaceLabels, err = s.selector("namespace_label selector")
	case "fallthrough":
		d.Fallthrough, err = s.fallthroughZones()
	case "ttl":
		return s.kubernetesTTL(d)
	case "ignore":
		args := s.RemainingArgs()
		if len(args) > 0 && args[0] != "empty_service" {
			return s.Errf("unable to parse ignore value: '%v'", args[0])
		}
		d.IgnoreEmpty = d.IgnoreEmpty || len(args) > 0
	case "multicluster":
		d.MulticlusterZones, err = argZones(s.RemainingArgs())
	case "startup_timeout":
		args, err := s.args(1, -1)
		if err != nil {
			return err
		}
		if d.StartupTimeout, err = time.ParseDuration(args[0]); err != nil {
			return s.Errf("failed to parse startup_timeout: %v, %s", args[0], err) // CoreDNS's words
		}
	case "endpoint_pod_names":
		return s.flag(&d.EndpointPodNames)
	case "noendpoints":
		return s.flag(&d.NoEndpoints)
	case "zonal":
		return s.flag(&d.Zonal)
	default:
		return s.kubernetesAPI(d, name)
	}
	return err
}

// kubernetesAPI reads the options that tell how to reach the API server.
func (s *stanza) kubernetesAPI(d *Kubernetes, name string) error {
	switch name {
	case "endpoint":
		args, err := s.args(1, -1)
		if err != nil {
			return err
		}
		if d.Endpoint = args[0]; len(args) > 1 {
			s.warnf("Multiple endpoints have been deprecated, only the first specified endpoint '%s' is used", args[0])
		}
	case "tls":
		args, err := s.args(3, 3)
		if err != nil {
			return err
		}
		d.ClientCert, d.ClientKey, d.CA = args[0], args[1], args[2]
	case "kubeconfig":
		args, err := s.args(1, 2)
		if err != nil {
			return err
		}
		d.Kubeconfig, d.Context = args[0], strings.Join(args[1:], "")
	case "apiserver_qps":
		text, err := s.arg()
		if err != nil {
			return err
		}
		qps, err := strconv.ParseFloat(text, 32)
		if err != nil {
			return s.Errf("invalid apiserver_qps %q: %v", text, err)
		}
		if qps < 0 || qps != qps {
			return s.Errf("apiserver_qps must be >= 0")
		}
		d.QPS = float32(qps)
	case "apiserver_burst":
		return s.natural(name, &d.Burst)
	case "apiserver_max_inflight":
		return s.natural(name, &d.MaxInflight)
	default:
		return s.Errf("unknown property '%s'%s", name, explain(gone[name]))
	}
	return nil
}

// natural reads a number that is not negative.
func (s *stanza) natural(name string, n *int) error {
	text, err := s.arg()
	if err != nil {
		return err
	}
	if *n, err = strconv.Atoi(text); err != nil {
		return s.Errf("invalid %s %q: %v", name, text, err)
	}
	if *n < 0 {
		return s.Errf("%s must be >= 0", name)
	}
	return nil
}

func (s *stanza) kubernetesTTL(d *Kubernetes) error {
	args, err := s.args(1, -1)
	if err != nil {
		return err
	}
	ttl, err := s.atoi(args[0])
	if err != nil {
		return err
	}
	if ttl < 0 || ttl > 3600 {
		return s.Errf("ttl must be in range [0, 3600]: %d", ttl)
	}
	d.TTL = uint32(ttl)
	return nil
}

// selector reads a label selector, which may be spread over several arguments.
func (s *stanza) selector(what string) (string, error) {
	args, err := s.args(1, -1)
	if err != nil {
		return "", err
	}
	text := strings.Join(args, " ")
	if _, err := metav1.ParseToLabelSelector(text); err != nil {
		return "", s.Errf("unable to parse %s value: '%v': %v", what, text, err)
	}
	return text, nil
}

// checkKubernetes looks at options that depend on each other, and at what is there to reach an
// API server.
func (s *stanza) checkKubernetes(d *Kubernetes) error {
	if d.Namespaces != nil && d.NamespaceLabels != "" {
		return s.Errf("namespaces and namespace_labels cannot both be set")
	}
	for _, z := range d.MulticlusterZones {
		if !slices.Contains(d.Zones, z) {
			return s.Errf("is not authoritative for the multicluster zone %s (authoritative zones: %v)", z, d.Zones)
		}
	}
	if d.Zonal && d.NoEndpoints {
		return s.Errf("zonal requires the endpoint cache; remove noendpoints")
	}
	if s.options.OwnObjects {
		return nil
	}
	if d.Kubeconfig != "" {
		if _, err := os.Stat(d.Kubeconfig); err != nil {
			return s.Err(err.Error())
		}
	} else if d.Endpoint == "" && (os.Getenv("KUBERNETES_SERVICE_HOST") == "" || os.Getenv("KUBERNETES_SERVICE_PORT") == "") {
		return s.Errf("unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined")
	}
	return nil
}
