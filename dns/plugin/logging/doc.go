// Package logging holds the plugins errors and log, and the [Sink] that their lines go through.
//
// A query never waits for a log: lines go into a bounded queue, one goroutine writes them, and what
// does not fit is dropped and counted. The formats are those of CoreDNS, so that what reads its
// lines reads these.
//
// What the rest of the resolver has to say goes through log/slog and not through here. The package
// owns no kernel object.
package logging
