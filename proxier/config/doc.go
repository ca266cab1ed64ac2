// Package config is the configuration of the proxy: kube-proxy's, and a few fields of our own.
//
// [AddFlags] adds kube-proxy's flags and ours to a command; [Flags.Config] then gives the one
// [Config] that everything else reads, from the flags or from the KubeProxyConfiguration
// (kubeproxy.config.k8s.io/v1alpha1) that --config names. kube-proxy's part keeps the shape and
// the field names of that type, so that errors, /configz and --write-config-to speak the
// language that users know, and nothing is converted twice.
//
// Three things differ from kube-proxy, all of them told to the user: values that have no effect
// are listed by [Config.NoEffect]; flags that --config overrides are listed by [Config.Warnings];
// feature gates that are not known are listed, not refused, because they come and go with every
// release of Kubernetes.
//
// The package reads files and the host's name. It owns no kernel objects.
package config
