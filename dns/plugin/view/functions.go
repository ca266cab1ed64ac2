package view

import (
	"strconv"

	dnswire "github.com/miekg/dns"

	"github.com/fairway-lb/fairway/dns/plugin"
)

func texts(f func(r *plugin.Request) string) expr {
	return expr{kind: isText, eval: func(r *plugin.Request) value { return value{text: f(r)} }}
}

func numbers(f func(r *plugin.Request) int) expr {
	return expr{kind: isInt, eval: func(r *plugin.Request) value { return value{num: f(r)} }}
}

// functions are those of a query. Addresses are without brackets, as CoreDNS's code has them.
var functions = map[string]expr{
	"name":        texts((*plugin.Request).Name),
	"type":        texts(func(r *plugin.Request) string { return dnswire.Type(r.Type()).String() }),
	"class":       texts(func(r *plugin.Request) string { return dnswire.Class(r.Class()).String() }),
	"proto":       texts(func(r *plugin.Request) string { return r.Proto }),
	"client_ip":   texts(func(r *plugin.Request) string { return r.Client.Addr().WithZone("").Unmap().String() }),
	"server_ip":   texts(func(r *plugin.Request) string { return r.Local.Addr().WithZone("").Unmap().String() }),
	"port":        texts(func(r *plugin.Request) string { return strconv.Itoa(int(r.Client.Port())) }),
	"server_port": texts(func(r *plugin.Request) string { return strconv.Itoa(int(r.Local.Port())) }),
	"size":        numbers(func(r *plugin.Request) int { return r.Size }),
	"id":          numbers(func(r *plugin.Request) int { return int(r.Msg.Id) }),
	"opcode":      numbers(func(r *plugin.Request) int { return r.Msg.Opcode }),
	"bufsize":     numbers((*plugin.Request).Bufsize),
	"do": {kind: isBool, eval: func(r *plugin.Request) value {
		opt := r.Msg.IsEdns0()
		return value{truth: opt != nil && opt.Do()}
	}},
}
