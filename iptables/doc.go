// Package iptables is the backend that programs iptables, in its nft and its legacy variant, for
// IPv4 and IPv6.
package iptables
