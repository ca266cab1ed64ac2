package deploy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairway-lb/fairway/proxier/config"
)

// manifest is deploy/fairway.yaml, read strictly.
type manifest struct {
	account   corev1.ServiceAccount
	role      rbacv1.ClusterRole
	binding   rbacv1.ClusterRoleBinding
	config    corev1.ConfigMap
	daemonSet appsv1.DaemonSet
}

func read(t *testing.T) manifest {
	t.Helper()
	text, err := os.ReadFile("fairway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	docs := bytes.Split(text, []byte("\n---\n"))
	into := []any{&m.account, &m.role, &m.binding, &m.config, &m.daemonSet}
	if len(docs) != len(into) {
		t.Fatalf("%d objects, want %d", len(docs), len(into))
	}
	for i, doc := range docs {
		if err := yaml.UnmarshalStrict(doc, into[i]); err != nil {
			t.Fatalf("object %d: %v", i, err)
		}
	}
	return m
}

// TestLeastPrivilege: the proxy gets what it needs and no more. That it is enough is shown by the
// test of that name in cmd/fairway.
func TestLeastPrivilege(t *testing.T) {
	pod := read(t).daemonSet.Spec.Template.Spec
	if pod.HostPID || pod.HostIPC || !pod.HostNetwork {
		t.Errorf("hostPID %v, hostIPC %v, hostNetwork %v", pod.HostPID, pod.HostIPC, pod.HostNetwork)
	}
	s := pod.Containers[0].SecurityContext
	if s.Privileged != nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("security context %+v, %+v", s, pod.SecurityContext)
	}
	if !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) || !slices.Equal(s.Capabilities.Add, []corev1.Capability{"NET_ADMIN", "NET_RAW"}) {
		t.Errorf("capabilities %+v", s.Capabilities)
	}
	var got []string
	for _, r := range read(t).role.Rules {
		got = append(got, strings.Join(r.APIGroups, ",")+"/"+strings.Join(r.Resources, ",")+": "+strings.Join(r.Verbs, " "))
	}
	want := []string{
		"/services: list watch", "discovery.k8s.io/endpointslices: list watch", "networking.k8s.io/servicecidrs: list watch",
		"/nodes: get list watch", ",events.k8s.io/events: create patch update",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

// TestPartsFit: names that refer to each other agree, and every path that the proxy uses is
// mounted.
func TestPartsFit(t *testing.T) {
	m := read(t)
	pod := m.daemonSet.Spec.Template
	if m.binding.RoleRef.Name != m.role.Name || m.binding.Subjects[0].Name != m.account.Name || pod.Spec.ServiceAccountName != m.account.Name {
		t.Error("role, binding and service account do not fit")
	}
	for k, v := range m.daemonSet.Spec.Selector.MatchLabels {
		if pod.Labels[k] != v {
			t.Errorf("the selector asks for %s=%s", k, v)
		}
	}
	volumes := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		volumes[v.Name] = true
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		mounted := map[string]bool{}
		for _, v := range c.VolumeMounts {
			mounted[v.MountPath] = true
			if !volumes[v.Name] {
				t.Errorf("container %s mounts %s, which is no volume", c.Name, v.Name)
			}
		}
		if !mounted["/etc/fairway"] {
			t.Errorf("container %s has no configuration", c.Name)
		}
		if c.Name == "fairway" && (!mounted["/run/fairway"] || !mounted["/run/xtables.lock"]) {
			t.Errorf("container %s lacks a place for its socket, or the lock of iptables-legacy", c.Name)
		}
	}
}

// TestCommandLine: the flags exist, and the configuration can be read without a warning.
func TestCommandLine(t *testing.T) {
	m := read(t)
	file := filepath.Join(t.TempDir(), "config.conf")
	if err := os.WriteFile(file, []byte(m.config.Data["config.conf"]), 0o644); err != nil {
		t.Fatal(err)
	}
	pod := m.daemonSet.Spec.Template.Spec
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if c.Args[0] != "proxy" {
			t.Errorf("container %s runs %v", c.Name, c.Args)
		}
		fs := pflag.NewFlagSet(c.Name, pflag.ContinueOnError)
		flags := config.AddFlags(fs)
		args := strings.Split(strings.ReplaceAll(strings.Join(c.Args[1:], "\n"), "/etc/fairway/config.conf", file), "\n")
		if err := fs.Parse(args); err != nil {
			t.Fatalf("container %s: %v", c.Name, err)
		}
		cfg, err := flags.Config([]string{config.ModeIPTables})
		if err != nil {
			t.Fatalf("container %s: %v", c.Name, err)
		}
		if w := append(cfg.Warnings(), cfg.NoEffect()...); len(w) > 0 {
			t.Errorf("container %s: %q", c.Name, w)
		}
		if cfg.InitOnly != (c.Name == "sysctls") || len(cfg.ClusterCIDRs()) != 1 {
			t.Errorf("container %s: init-only %v, cluster CIDRs %v", c.Name, cfg.InitOnly, cfg.ClusterCIDRs())
		}
	}
}
