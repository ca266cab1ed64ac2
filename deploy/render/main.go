// Command render writes the manifests that the chart comes to with its own values, for those who
// do not use Helm: deploy/fairway.yaml (the proxy) and deploy/dns.yaml (the resolver).
//
//	go run -C deploy/render .
//
// It is a module of its own because Helm's engine brings more packages than all of Fairway. It
// reads and writes files of the repository only, and owns no kernel objects.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

// manifests are the files of deploy, and the template that each is made of.
var manifests = map[string]string{"fairway.yaml": "proxy.yaml", "dns.yaml": "dns.yaml"}

func main() {
	files, err := render(nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
	for file, template := range manifests {
		if err := os.WriteFile(filepath.Join("..", file), []byte(files[template]), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "render:", err)
			os.Exit(1)
		}
	}
}

// render returns what each template comes to with these values on top of the chart's own, by the
// template's name.
func render(values map[string]any) (map[string]string, error) {
	chart, err := loader.Load("../chart/fairway")
	if err != nil {
		return nil, fmt.Errorf("read chart: %w", err)
	}
	release := chartutil.ReleaseOptions{Name: "fairway", Namespace: "kube-system"}
	all, err := chartutil.ToRenderValues(chart, values, release, nil)
	if err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	texts, err := engine.Render(chart, all)
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	out := map[string]string{}
	for path, text := range texts {
		out[filepath.Base(path)] = text
	}
	return out, nil
}
