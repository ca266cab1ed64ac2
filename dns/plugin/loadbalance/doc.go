// Package loadbalance is the plugin loadbalance: the order of addresses in answers.
//
// round_robin is a random order, each as likely as any other. weighted puts one address first,
// chosen by the weights of a file. prefer brings addresses of some networks to the front. Aliases
// stay in front of the addresses that they lead to, since resolvers such as glibc's want it so.
//
// This is the form for the slow path. Answers of the kubernetes plugin and of the cache that need
// no other plugin are put in order where they are made, see dns/zone and dns/cache. The package
// owns no kernel object.
package loadbalance
