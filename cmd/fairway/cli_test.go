package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairway-lb/fairway/proxier/netlab"
)

// TestBadFlags: a value that cannot be used is named, the exit code is 1, and nothing is
// programmed.
func TestBadFlags(t *testing.T) {
	s := newStage(t, "nft")
	before := s.rules()
	tests := map[string]string{ // arguments: what the error names
		"proxy --cluster-cidr 10.244.0.0/33":               "clusterCIDR",
		"proxy --proxy-mode nonsense":                      "mode",
		"proxy --proxy-mode ipvs":                          "mode",
		"proxy --proxy-mode ebpf":                          "mode",
		"proxy --iptables-masquerade-bit 32":               "iptables.masqueradeBit",
		"proxy --iptables-masquerade-bit 0":                "iptables.masqueradeBit",
		"proxy --iptables-sync-period 0":                   "iptables.syncPeriod",
		"proxy --healthz-bind-address nowhere:1":           "healthzBindAddress",
		"proxy --metrics-bind-address 127.0.0.1:99999":     "metricsBindAddress",
		"proxy --nodeport-addresses 1.2.3.4":               "nodePortAddresses",
		"proxy --detect-local-mode BridgeInterface":        "detectLocal.bridgeInterface",
		"proxy --logging-format xml":                       "logging",
		"proxy --iptables-variant tables":                  "variant",
		"proxy --conntrack-min -1":                         "conntrack.min",
		"proxy --oom-score-adj 5000":                       "oomScoreAdj",
		"proxy --config /nonexistent.conf":                 "/nonexistent.conf",
		"proxy --manifests /nonexistent":                   "/nonexistent",
		"proxy --manifests= --kubeconfig /nonexistent":     "/nonexistent",
		"proxy --no-such-flag":                             "--no-such-flag",
		"proxy surplus":                                    "surplus",
		"render":                                           "--manifests",
		"render --manifests /nonexistent":                  "/nonexistent",
		"render --manifests /tmp -o xml":                   "--output",
		"get cheese":                                       "cheese",
		"get frontends -o xml --admin-socket /x":           "--output",
		"get frontends --admin-socket /nonexistent/f.sock": "/nonexistent/f.sock",
		"proxy --manifests= --master=":                     "--kubeconfig",
		"proxy --external-ip-ranges 1.2":                   "--external-ip-ranges",
		"get":                                              "want frontends",
		"get frontends a b":                                "want one Service",
		"version now":                                      "version --help",
		"cleanup --all":                                    "cleanup --help",
		"nonsense":                                         "nonsense",
		"proxi":                                            "Did you mean this?\n\tproxy",
	}
	for args, named := range tests {
		t.Run(args, func(t *testing.T) {
			fields := strings.Fields(args)
			if fields[0] == "proxy" {
				fields = append([]string{"proxy", "--admin-socket", s.socket, "--manifests", s.dir}, fields[1:]...)
			}
			var out strings.Builder
			c := exec.CommandContext(within(t), os.Args[0], fields...)
			c.Stdout, c.Stderr = &out, &out
			err := s.In(netlab.Node1, c.Run)
			if c.ProcessState == nil || c.ProcessState.ExitCode() != 1 {
				t.Fatalf("%v, want exit code 1\n%s", err, &out)
			}
			if !strings.HasPrefix(out.String(), "fairway: ") || !strings.Contains(out.String(), named) {
				t.Errorf("the error does not name %q:\n%s", named, &out)
			}
			if strings.Contains(out.String(), "goroutine ") {
				t.Errorf("a panic:\n%s", &out)
			}
		})
	}
	if after := s.rules(); after != before {
		t.Errorf("rules were programmed:\n%s", after)
	}
}

// TestUnprivileged: who may not program is told so, in one line and without a trace in the kernel.
func TestUnprivileged(t *testing.T) {
	s := newStage(t, "nft")
	before := s.rules()
	for _, args := range [][]string{append([]string{"proxy", "--admin-socket", s.socket}, s.flags()...), {"cleanup"}} {
		var out strings.Builder
		c := exec.CommandContext(within(t), "setpriv", append([]string{"--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--", os.Args[0]}, args...)...)
		c.Stdout, c.Stderr = &out, &out
		err := s.In(netlab.Node1, c.Run)
		if c.ProcessState == nil || c.ProcessState.ExitCode() != 1 || strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), "no CAP_NET_ADMIN: start it as root") {
			t.Errorf("%s: %v\n%s", args[0], err, &out)
		}
	}
	if after := s.rules(); after != before {
		t.Errorf("rules were programmed:\n%s", after)
	}
}

// TestWithoutIPTables: a machine without the tools is told where they come from.
func TestWithoutIPTables(t *testing.T) {
	s := newStage(t, "nft")
	for _, args := range [][]string{{"proxy", "--admin-socket", s.socket, "--manifests", s.dir}, {"cleanup"}} {
		var out strings.Builder
		c := exec.CommandContext(within(t), os.Args[0], args...)
		c.Stdout, c.Stderr, c.Env = &out, &out, append(os.Environ(), "PATH="+t.TempDir())
		err := s.In(netlab.Node1, c.Run)
		if c.ProcessState == nil || c.ProcessState.ExitCode() != 1 || !strings.Contains(out.String(), "apt-get install iptables") {
			t.Errorf("%s: %v\n%s", args[0], err, &out)
		}
	}
}

// TestRender compares the whole output for the demo's manifests with a golden file, and feeds
// it to the real iptables-restore. UPDATE=1 rewrites the file.
func TestRender(t *testing.T) {
	args := []string{"render", "--manifests", "../../deploy/demo", "--hostname-override", "node-1", "--cluster-cidr", "10.244.0.0/16,fd00:244::/32"}
	out, problems, code := run(t, args...)
	if code != 0 || problems != "" {
		t.Fatalf("exit code %d, problems:\n%s", code, problems)
	}
	golden := filepath.Join("testdata", "render.golden")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out); diff != "" {
		t.Errorf("render (-want +got):\n%s", diff)
	}
	asJSON, _, code := run(t, append(args, "-o", "json")...)
	if code != 0 {
		t.Fatalf("json: exit code %d", code)
	}
	var r rendering
	if err := json.Unmarshal([]byte(asJSON), &r); err != nil {
		t.Fatal(err)
	}
	if r.Backend != "iptables" || len(r.Frontends) != demoFrontends || len(r.Problems) != 0 || r.IPTables.String() != out {
		t.Errorf("json: backend %s, %d frontends, problems %v, or other rules than the text", r.Backend, len(r.Frontends), r.Problems)
	}
	v4, v6, ok := strings.Cut(out, "# ip6tables-restore\n")
	if !ok {
		t.Fatal("no part for ip6tables-restore")
	}
	s := newStage(t, "nft")
	for program, rules := range map[string]string{"iptables-nft-restore": v4, "ip6tables-nft-restore": v6, "iptables-legacy-restore": v4, "ip6tables-legacy-restore": v6} {
		err := s.In(netlab.Node1, func() error {
			c := exec.Command(program, "--test")
			c.Stdin = strings.NewReader(rules)
			text, err := c.CombinedOutput()
			if err != nil {
				t.Errorf("%s --test: %s", program, text)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRenderProblems: what cannot be honoured goes to standard error; a file that cannot be read
// makes the exit code 1 and does not hide the rest.
func TestRenderProblems(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("good.yaml", "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.96.0.10, externalIPs: [127.0.0.1], ports: [{port: 80}]}}\n")
	out, errs, code := run(t, "render", "--manifests", dir)
	if code != 0 || !strings.Contains(out, "-d 10.96.0.10/32") || !strings.Contains(errs, "Service shop/web: ") || !strings.Contains(errs, "127.0.0.1") {
		t.Errorf("exit code %d, problems:\n%s\nrules:\n%s", code, errs, out)
	}
	write("good.yaml", "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.96.0.10, externalIPs: [203.0.113.1, 198.51.100.1], ports: [{port: 80}]}}\n")
	out, errs, code = run(t, "render", "--manifests", dir, "--external-ip-ranges", "192.0.2.0/24,203.0.113.0/24")
	if code != 0 || !strings.Contains(out, "203.0.113.1") || strings.Contains(out, "198.51.100.1") || !strings.Contains(errs, "externalIP 198.51.100.1 is outside the ranges") {
		t.Errorf("with ranges: exit code %d, problems:\n%s\nrules:\n%s", code, errs, out)
	}
	write("bad.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: bad, namespace: shop}\nspec: {ports: [{port: high}]}\n")
	out, errs, code = run(t, "render", "--manifests", dir)
	if code != 1 || !strings.Contains(out, "-d 10.96.0.10/32") || !strings.Contains(errs, "bad.yaml:4: spec.ports[0].port") {
		t.Errorf("exit code %d, errors:\n%s\nrules:\n%s", code, errs, out)
	}
}

// TestGet compares the tables that "fairway get" prints of a running proxy with a golden file.
func TestGet(t *testing.T) {
	s := newStage(t, "nft")
	s.write("trouble.yaml", "{apiVersion: v1, kind: Service, metadata: {name: trouble, namespace: shop}, spec: {clusterIP: 10.96.0.20, externalIPs: [203.0.113.10], ports: [{port: 80}]}}\n")
	s.start()
	s.eventually("frontends", "applied", func() string {
		out, _, _ := run(t, "get", "problems", "--admin-socket", s.socket)
		if strings.Contains(out, "trouble") {
			return "applied"
		}
		return out
	})
	var got strings.Builder
	for _, args := range []string{
		"frontends", "frontends web -o wide", "services", "services -o wide shop/till", "endpoints", "endpoints -o wide till",
		"problems", "frontends nobody", "frontends till -o json", "endpoints shop/prices -o yaml",
	} {
		out, errs, code := run(t, append([]string{"get", "--admin-socket", s.socket}, strings.Fields(args)...)...)
		if code != 0 || errs != "" {
			t.Errorf("get %s: exit code %d: %s", args, code, errs)
		}
		got.WriteString("$ fairway get " + args + "\n" + out + "\n")
	}
	text := regexp.MustCompile(`("?(revision|applied)"?): \d+`).ReplaceAllString(got.String(), "$1: N")
	golden := filepath.Join("testdata", "get.golden")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("get (-want +got):\n%s", diff)
	}
}

// TestKubeProxy: called as kube-proxy, the program takes its command line.
func TestKubeProxy(t *testing.T) {
	if c := command("/usr/local/bin/kube-proxy"); c.Name() != "kube-proxy" || c.Flags().Lookup("cluster-cidr") == nil {
		t.Errorf("it is %q", c.Name())
	}
	if c := command("/usr/local/bin/fairway"); c.Name() != "fairway" || len(c.Commands()) < 6 {
		t.Errorf("it is %q with %d sub-commands", c.Name(), len(c.Commands()))
	}
	link := filepath.Join(t.TempDir(), "kube-proxy")
	if err := os.Symlink(os.Args[0], link); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(link, "--version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "kube-proxy version ") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestVersion: the version is one line that begins with the program's name.
func TestVersion(t *testing.T) {
	out, _, code := run(t, "version")
	if code != 0 || !regexp.MustCompile(`^fairway \S+ go1\.\S+ linux/\S+\n$`).MatchString(out) {
		t.Errorf("exit code %d: %q", code, out)
	}
}

// TestHelp: every sub-command and flag has a sentence.
func TestHelp(t *testing.T) {
	for _, c := range command("fairway").Commands() {
		out, _, code := run(t, c.Name(), "--help")
		if code != 0 || !strings.Contains(out, "Usage:\n  fairway "+c.Name()) || c.Short == "" {
			t.Errorf("%s: exit code %d:\n%s", c.Name(), code, out)
		}
	}
}
