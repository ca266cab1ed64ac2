// Package plugin is the contract between the parts of the slow path of the resolver: what a
// request and a reply are, how plugins are put in a row, and how zones match names.
//
// A plugin looks at a request and either answers it or hands it to the next one. The folders
// below hold one plugin each, all but kubernetes, forward, cache and loop, which have a home of
// their own. Which plugins a block has, and in which order, is for dns/corefile to say and for
// dns/server to build. The order is fixed, see coredns's plugin.cfg: the Corefile's own order has
// no meaning.
//
// The package opens no socket, reads no file and starts nothing. It owns no kernel object.
package plugin
