package deploy_test

import (
	"os"
	"strings"
	"testing"
)

// stages returns the instructions of each stage of the Dockerfile by its name; "" is the last.
func stages(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	out, name := map[string][]string{}, "-"
	for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
		line = strings.Join(strings.Fields(line), " ")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if from, ok := strings.CutPrefix(line, "FROM "); ok {
			_, name, _ = strings.Cut(from, " AS ")
		}
		out[name] = append(out[name], line)
	}
	return out
}

// TestImage: the resolver's image runs as somebody who may not listen on port 53 unless the file
// says so, as kubeadm's CoreDNS addon lets its container; the proxy's must not say so, because its
// DaemonSet does not give that capability and the kernel then refuses to start it.
func TestImage(t *testing.T) {
	all := stages(t)
	has := func(stage, instruction string) bool {
		for _, line := range all[stage] {
			if strings.Contains(line, instruction) {
				return true
			}
		}
		return false
	}
	for stage, want := range map[string][]string{
		"dns":   {"USER 65532:65532", "COPY --from=bind /coredns /usr/local/bin/coredns", `ENTRYPOINT ["/usr/local/bin/coredns"]`},
		"bind":  {"setcap cap_net_bind_service=+ep /coredns"},
		"tools": {" iptables ", " ipset ", "COPY --from=build /fairway /usr/local/bin/fairway", "/usr/local/bin/kube-proxy", "/usr/local/bin/coredns"},
		"":      {"FROM tools", `ENTRYPOINT ["/usr/local/bin/fairway"]`, `CMD ["proxy"]`},
	} {
		for _, instruction := range want {
			if !has(stage, instruction) {
				t.Errorf("stage %q has no %q: %q", stage, instruction, all[stage])
			}
		}
	}
	if has("tools", "setcap") || has("", "setcap") || has("build", "setcap") {
		t.Error("the proxy's program asks for capabilities")
	}
}
