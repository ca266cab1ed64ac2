// Package datapath measures what connections cost through a proxy, against the same connections
// made straight to an endpoint.
//
// All subjects are up at once, each in a lab of its own, and are measured in turns of about a
// quarter of a second, in an order by chance: what disturbs the machine disturbs all of them alike, and a ratio is taken of
// two measurements that were made right after each other. Client and server are one thread each,
// bound to one processor each, with blocking calls and no runtime between them and the kernel.
// Connections end with a reset, so that no state of ended ones piles up.
//
// The package deliberately does not measure a network: everything is on one machine, so absolute
// figures say little, and ratios over the direct connection are what counts. It owns nothing but
// its stages.
package datapath
