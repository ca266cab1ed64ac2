// Package wire reads queries and writes replies in the format of RFC 1035, section 4, without
// allocating.
//
// Parse takes a query apart. A Builder writes a reply to it: header and question are copied from
// the query, so that the client finds its own spelling again, and every name that ends as the
// question does is a pointer into it. A packed message that is sent many times (a cache) is
// a Packed, whose Reply adapts it to a query.
//
// What comes in was written by strangers. Nothing here follows a pointer that does not go
// strictly backwards, trusts a length before comparing it with what is there, or grows with what
// a message says about itself (RFC 9267).
//
// The package knows a few record types by number and none by content. It does not sign, does not
// answer for any zone, and has no sockets. Messages that are valid and unusual are left to
// github.com/miekg/dns, which the rest of the resolver uses off the fast path; here it is only in
// tests, to compare with.
package wire
