// Package demo holds the manifests that "fairway demo" runs on, so that the binary needs no
// other file. They are plain manifests: "fairway proxy --manifests deploy/demo" reads them too.
package demo

import "embed"

// Manifests are the YAML files of this folder.
//
//go:embed *.yaml
var Manifests embed.FS

// Corefile is what the demo's resolvers run with.
//
//go:embed Corefile
var Corefile string
