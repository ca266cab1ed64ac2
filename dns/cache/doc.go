// Package cache keeps answers and gives them again: the plugin cache of a Corefile.
//
// An answer is kept as the packed message that a client gets. A hit is a copy of it with the
// client's id, flags and spelling of the question, and the TTL that is left; this needs no
// allocation, so a [Cache] is a [wire.Fast]. Everything that needs more than a copy is done on the
// slow path, where the same Cache is a [plugin.Plugin]: misses, answers that have expired and are
// still served, answers that are worth fetching anew before they expire.
//
// What is kept, how long and under which key is CoreDNS's (its version 1.15), except where
// docs/dns-differences.md says otherwise. In short: the key is name, type, class, DO and CD; an
// answer is kept only if it is an answer to the question that was asked; a denial only with an SOA.
// Answers of the plugin kubernetes are never kept. They come from memory, so that a copy could only
// be older.
//
// The number of entries is bounded, and so is the size of each. A full bucket gives up what has
// expired, then what was not asked for lately. The package opens no socket and owns no kernel
// object. To look at it: the metrics coredns_cache_*.
package cache
