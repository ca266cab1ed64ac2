package config

import (
	"errors"
	"fmt"
	"os"

	"k8s.io/kube-proxy/config/v1alpha1"
	"sigs.k8s.io/yaml"
)

const (
	apiVersion = "kubeproxy.config.k8s.io/v1alpha1"
	kind       = "KubeProxyConfiguration"
)

// decode reads a KubeProxyConfiguration and fills in defaults. What only strict reading objects
// to, unknown and duplicate fields, is a warning, as in kube-proxy.
func decode(data []byte) (k v1alpha1.KubeProxyConfiguration, warnings []string, err error) {
	if strict := yaml.UnmarshalStrict(data, &k); strict != nil {
		k = v1alpha1.KubeProxyConfiguration{}
		if err := yaml.Unmarshal(data, &k); err != nil {
			return k, nil, err
		}
		warnings = append(warnings, "read leniently: "+strict.Error())
	}
	if k.APIVersion != apiVersion || k.Kind != kind {
		return k, nil, &FieldError{"apiVersion, kind", k.APIVersion + ", " + k.Kind, "must be " + apiVersion + ", " + kind}
	}
	setDefaults(&k)
	return k, warnings, nil
}

// Read returns the configuration in a file. It is not validated yet.
func Read(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	k, warnings, err := decode(data)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	c := Config{Kube: k, File: path, warnings: warnings}
	return c, c.setNodeName("")
}

// setNodeName decides the node's name.
func (c *Config) setNodeName(override string) error {
	name := override
	if name == "" {
		name = c.Kube.HostnameOverride
	}
	if name == "" {
		var err error
		if name, err = os.Hostname(); err != nil {
			return fmt.Errorf("host name: %w", err)
		}
	}
	c.NodeName = nodeName(name)
	return nil
}

// WriteFile writes kube-proxy's part as a KubeProxyConfiguration.
func (c *Config) WriteFile(path string) error {
	if path == "" {
		return errors.New("write configuration: no file")
	}
	out, err := yaml.Marshal(c.Kube)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := os.WriteFile(path, out, 0o644); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}
