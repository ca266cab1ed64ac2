// Package netlab builds small clusters out of network namespaces: two nodes, pods behind them and
// a client outside, with real packets in a real kernel.
package netlab
