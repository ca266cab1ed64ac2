// Package listwatch is a small Kubernetes API server over objects in memory: as
// much of one as a service proxy and a resolver need. It lists and watches
// Services, EndpointSlices, Nodes, ServiceCIDRs, Namespaces and Pods, in JSON and
// in protobuf, with label selectors, selectors on name and namespace (Pods: on
// phase and node too), bookmarks and streamed lists (WatchList), and takes the
// events that clients post.
//
// Real client-go informers, real kube-proxy, real CoreDNS and Fairway work
// against it. It
// stands in for the real API server where that one's speed would hide what is
// measured, and where a test sets thousands of objects.
//
// It deliberately has no authentication, TLS, validation, defaulting, paging or
// writes by clients: the owner of the [Server] sets complete objects, as a real
// API server would serve them. It owns no kernel object but its listener. To
// look at it by hand: curl http://ADDR/api/v1/services.
package listwatch
