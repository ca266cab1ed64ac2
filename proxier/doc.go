// Package proxier is the vocabulary of Fairway and the contract between its parts.
//
// Services, EndpointSlices and the Node are watched into a store (proxier/watch); one pure
// function turns the store into an immutable [Snapshot] of what this node must do
// (proxier/resolve); a [Backend] compiles the snapshot into kernel objects and applies the
// smallest difference; dns answers from the same snapshot. A [Feed] carries the newest snapshot
// from the producer to its readers, and a [Loop] decides when the backend applies it.
//
// Every rule of Kubernetes is decided in proxier/resolve. What reaches a Backend is an address,
// who may use it, where its connections go, and whether they are masqueraded.
//
// This package imports the standard library only.
package proxier
