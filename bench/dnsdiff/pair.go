package dnsdiff

import (
	"net/netip"
	"testing"

	"github.com/fairway-lb/fairway/bench/listwatch"
	"github.com/fairway-lb/fairway/bench/nameserver"
)

const (
	apiAddress = "127.0.0.1:8001"
	upstream   = "127.0.0.2:5300"
)

// listen is where the resolvers are asked: an address that is not of the loopback range, so that
// it is the server's own in NS records.
var listen = netip.MustParseAddrPort("10.0.0.53:53")

// A side is one of the two resolvers with its client.
type side struct {
	*nameserver.Server
	*nameserver.Client
}

// start runs a resolver of a kind in a space of its own, under a Corefile, with the objects of
// api. clients are addresses that it can be asked from.
func start(t *testing.T, kind string, api *listwatch.Server, corefile string, clients []netip.Addr) side {
	t.Helper()
	space := nameserver.TestSpace(t, append([]netip.Addr{listen.Addr()}, clients...)...)
	nameserver.TestInternet(t, upstream, space)
	l, err := space.Listen("tcp", apiAddress)
	if err != nil {
		t.Fatal(err)
	}
	url, stop := api.Start(l)
	t.Cleanup(stop)
	s := nameserver.StartTest(t, nameserver.Options{
		Kind: kind, Space: space, Addr: listen, Ready: listen.Addr().String() + ":8181",
		Corefile: nameserver.Expand(corefile, map[string]string{"API": "endpoint " + url, "UPSTREAM": upstream}),
	})
	c := nameserver.NewClient(space, listen)
	t.Cleanup(c.Close)
	return side{s, c}
}
