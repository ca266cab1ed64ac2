// Package admin lets people look into a running proxy: an HTTP API on a unix socket that only
// the socket's owner may open, and a client for it. "fairway get" is its user.
//
// It answers GET /v1/frontends, /v1/services, /v1/endpoints and /v1/problems from the newest
// snapshot, as a JSON [List]. It changes nothing and never will: what a node does follows from
// the cluster alone. The types here are for people and scripts; they stay as they are while
// package proxier's may change.
//
// The package owns the socket file and a lock file beside it, which keeps two proxies from
// fighting over one node. Look at it by hand with
//
//	curl --unix-socket /run/fairway/fairway.sock http://fairway/v1/frontends
package admin
