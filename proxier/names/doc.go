// Package names is what a name server must know of a cluster, in a compact form: Services with the
// addresses of their ready endpoints, namespaces, pods.
//
// The API's own objects are too large to keep where only names are served: an EndpointSlice of ten
// endpoints takes 1.7 kB as a Go struct of the API and 250 bytes here. [OfService], [OfSlice] and
// [OfPod] convert them; only readiness is decided here (conditions.ready alone counts,
// and nil is ready). Everything about names of the DNS, TTLs and options of the resolver is in
// dns/zone.
//
// Values never change once they are published. A [Source] hands them out; proxier/watch has the
// sources. The package starts nothing, reads nothing and owns no kernel object. What a running
// resolver holds can be seen by asking it.
package names
