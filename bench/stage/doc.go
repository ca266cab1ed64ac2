// Package stage makes what measurements need: a cluster of any number of Services, the objects
// that say so on a list/watch server, a lab of namespaces whose server pod has every endpoint's
// address, and one of the proxies to be compared at work in it.
//
// Stages do not disturb each other but by the CPU time they take, so that several can be up at
// once and be measured in turns. The package measures nothing itself. It owns the lab's
// namespaces, the proxy's process and a scratch directory, and removes them with Stage.Close or
// netlab.CloseAll. By hand, while one is up: ip netns; ip netns exec fw...-node-1 iptables-save.
package stage
