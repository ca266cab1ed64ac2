// Package zone answers for the names of a cluster: the plugin kubernetes.
//
// A [Zone] turns the Services, namespaces and pods of a [names.Source] into an index, which never
// changes once it is published and stands behind an atomic pointer. Update makes the next index
// from the last: it compares pointers to find the Services that changed, and copies only those
// parts of the tables that these are in.
//
// The index holds one entry for each Service, found by the two labels of its name in wire format.
// An entry has the packed address records of the Service's own name; everything else (SRV, names
// of endpoints, PTR) is written from the Service's slices when it is asked for. A second table
// leads from an address to the Services that have it. No work for an answer exceeds what fits into
// the reply: of many endpoints as many are written as there is room for, from a random one on.
//
// [Zone.Answer] is the fast path: it reads and writes wire format and does not allocate. As a
// plugin, the same code writes into a buffer of its own and the message is then unpacked. Only
// what needs other names, ExternalName, exists on the slow path alone.
//
// The behaviour is that of CoreDNS's plugin kubernetes and of version 1.1.0 of the Kubernetes DNS
// specification, but for what docs/dns-differences.md lists. The package knows nothing of
// Corefiles beyond its own directive, opens no socket and owns no kernel object. To see what it
// answers, ask it: dig @ADDRESS kubernetes.default.svc.cluster.local.
package zone
