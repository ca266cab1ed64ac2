// Package metrics counts what the resolver answers, under the names and labels that CoreDNS has
// for it: coredns_dns_requests_total and its kin. What they say is taken from CoreDNS's code, not
// from its manual, where the two differ.
//
// Counting is on the path of every query. So each worker counts in arrays of its own, a [Stripe],
// and nothing is looked up by name; the arrays are summed when somebody asks for the page.
//
// Metrics of single plugins (cache, forward, hosts ...) are made by the plugins themselves, and
// those of the process by the Prometheus library. The package opens no socket and owns no kernel
// object.
package metrics
