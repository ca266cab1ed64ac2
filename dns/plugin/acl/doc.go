// Package acl is the plugin acl: who may ask what.
//
// It stands behind rewrite and autopath and in front of the cache, so it sees the name that will be
// looked up, and a client that is shut out gets no answer that another one has caused. It also
// sees what the client really wrote: policy must hold for both names, or a rewrite would lead
// around it. This is stricter than CoreDNS, which looks at the last name alone.
//
// The address that counts is the sender's. Behind a source NAT all clients are one. The package
// owns no kernel object.
package acl
