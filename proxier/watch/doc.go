// Package watch follows the Kubernetes objects that a node's proxy needs and publishes what they
// resolve to.
//
// Two sources fill a [Store]: [Cluster] follows an API server, [Manifests] a folder of YAML or
// JSON files. [Publish] turns the Store into snapshots on a [proxier.Feed], through
// [resolve.Resolver], and gathers bursts of changes into one. [Events] tells the API server of
// problems.
//
// All of them run until their context ends and start nothing that outlives them:
//
//	store := watch.NewStore()
//	go watch.Manifests(ctx, store, watch.ManifestOptions{Dir: dir, NodeName: node})
//	go watch.Publish(ctx, store, resolve.New(options), feed, watch.PublishOptions{})
//
// The package decides nothing about traffic: it selects, trims and groups objects, and reports
// what it cannot read as problems. It is the only importer of client-go outside cmd. It owns no
// kernel objects. To see by hand what a folder of manifests comes to: fairway render --manifests
// DIR; what a running proxy could not read: fairway get problems; for how long the API server has been
// out of reach: fairway_watch_staleness_seconds, and a line of log when that begins and ends.
package watch
