package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// TestInStep: the manifests in deploy are what the chart comes to. If not, run the command.
func TestInStep(t *testing.T) {
	files, err := render(nil)
	if err != nil {
		t.Fatal(err)
	}
	for file, template := range manifests {
		have, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		if string(have) != files[template] {
			t.Errorf("deploy/%s is not what the chart comes to: go run -C deploy/render .", file)
		}
		delete(files, template)
	}
	for template := range files {
		t.Errorf("template %s is in no manifest", template)
	}
}

// object returns the object of a kind in a rendered file, as text.
func object(t *testing.T, file, kind string) string {
	t.Helper()
	for _, doc := range strings.Split(file, "\n---\n") {
		if strings.Contains("\n"+doc, "\nkind: "+kind+"\n") {
			return doc + "\n"
		}
	}
	t.Fatalf("no %s in:\n%s", kind, file)
	return ""
}

// TestValues: every value has its effect.
func TestValues(t *testing.T) {
	const corefile = ".:53 {\n    whoami\n}\n\nexample.org:53 {\n    erratic\n}\n"
	files, err := render(map[string]any{
		"image": "registry.example/fairway:v1", "imagePullPolicy": "Always",
		"proxy": map[string]any{"clusterCIDR": "10.1.0.0/16", "mode": "nftables", "config": map[string]any{"iptables": map[string]any{"minSyncPeriod": "1s"}}, "resources": map[string]any{"limits": map[string]any{"cpu": "3"}}},
		"dns":   map[string]any{"replicas": 5, "clusterIP": "fd00::a", "corefile": corefile, "resources": map[string]any{"limits": map[string]any{"cpu": "4"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var config corev1.ConfigMap
	if err := yaml.UnmarshalStrict([]byte(object(t, files["dns.yaml"], "ConfigMap")), &config); err != nil {
		t.Fatal(err)
	}
	if got := config.Data["Corefile"]; got != corefile {
		t.Errorf("the Corefile is %q, want %q", got, corefile)
	}
	for file, want := range map[string][]string{
		"dns.yaml":   {"image: registry.example/fairway:v1", "imagePullPolicy: Always", "replicas: 5", "clusterIP: fd00::a", "cpu: \"4\""},
		"proxy.yaml": {"image: registry.example/fairway:v1", "clusterCIDR: 10.1.0.0/16", "mode: nftables", "    iptables:\n      minSyncPeriod: 1s\n", "cpu: \"3\""},
	} {
		for _, w := range want {
			if !strings.Contains(files[file], w) {
				t.Errorf("%s lacks %q:\n%s", file, w, files[file])
			}
		}
	}
	zone, err := render(map[string]any{"dns": map[string]any{"clusterDomain": "k8s.example"}})
	if err != nil {
		t.Fatal(err)
	}
	if text := zone["dns.yaml"]; strings.Count(text, "k8s.example") != 3 || strings.Contains(text, "cluster.local") {
		t.Errorf("another domain:\n%s", object(t, text, "ConfigMap"))
	}
	off, err := render(map[string]any{"proxy": map[string]any{"enabled": false}, "dns": map[string]any{"enabled": false}})
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range off {
		if strings.TrimSpace(text) != "" {
			t.Errorf("%s is not empty when it is off:\n%s", file, text)
		}
	}
}

// TestNodeMode: the proxy that answers DNS as well has the flags, the rights and the files for it.
func TestNodeMode(t *testing.T) {
	dns := map[string]any{"enabled": true}
	for _, corefile := range []string{"", ".:53 {\n    kubernetes cluster.local {\n        pods verified\n    }\n}\n"} {
		dns["corefile"] = corefile
		files, err := render(map[string]any{"proxy": map[string]any{"dns": dns}})
		if err != nil {
			t.Fatal(err)
		}
		var role rbacv1.ClusterRole
		var set appsv1.DaemonSet
		for kind, into := range map[string]any{"ClusterRole": &role, "DaemonSet": &set} {
			if err := yaml.UnmarshalStrict([]byte(object(t, files["proxy.yaml"], kind)), into); err != nil {
				t.Fatal(err)
			}
		}
		resources, args, volumes := []string{"namespaces"}, []string{"--dns-listen=$(HOST_IPS)"}, 3
		if corefile != "" {
			resources, args, volumes = append(resources, "pods"), append(args, "--dns-corefile=/etc/fairway-dns/Corefile"), 4
			if !strings.Contains(files["proxy.yaml"], "name: fairway-dns\n") || !strings.Contains(files["proxy.yaml"], "            pods verified\n") {
				t.Errorf("no Corefile:\n%s", files["proxy.yaml"])
			}
		}
		if got := role.Rules[len(role.Rules)-1]; !slices.Equal(got.Resources, resources) || !slices.Equal(got.Verbs, []string{"list", "watch"}) {
			t.Errorf("last rule %+v, want one of %q", got, resources)
		}
		c := set.Spec.Template.Spec.Containers[0]
		if got := c.Args[3:]; !slices.Equal(got, args) {
			t.Errorf("more args %q, want %q", got, args)
		}
		if got := c.Env[len(c.Env)-1]; got.Name != "HOST_IPS" || got.ValueFrom.FieldRef.FieldPath != "status.hostIPs" {
			t.Errorf("last variable %+v", got)
		}
		if got := c.SecurityContext.Capabilities.Add; !slices.Contains(got, "NET_BIND_SERVICE") {
			t.Errorf("capabilities %v", got)
		}
		if len(c.VolumeMounts) != volumes || len(set.Spec.Template.Spec.Volumes) != volumes {
			t.Errorf("mounts %+v", c.VolumeMounts)
		}
	}
}
