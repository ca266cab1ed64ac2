package corefile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/coredns/caddy/caddyfile"
)

// order is the order of plugins in a chain, whatever their order in the file. It is that of
// CoreDNS without what is not supported; rewrite before acl there is the fix of CVE-2026-26017.
var order = []string{
	"root", "metadata", "cancel", "timeouts", "multisocket", "reload", "nsid", "bufsize", "bind",
	"debug", "ready", "health", "pprof", "prometheus", "errors", "log", "local", "dns64", "any",
	"chaos", "loadbalance", "rewrite", "autopath", "acl", "cache", "header", "minimal", "template",
	"transfer", "hosts", "kubernetes", "file", "loop", "forward", "whoami", "view",
}

// parsers has the parser of each plugin in order.
var parsers = map[string]parser{
	"root":        one(parseRoot),
	"metadata":    one(parseMetadata),
	"cancel":      one(parseCancel),
	"timeouts":    one(parseTimeouts),
	"multisocket": one(parseMultisocket),
	"reload":      one(parseReload),
	"nsid":        one(parseNSID),
	"bufsize":     one(parseBufsize),
	"bind":        parseBind,
	"debug":       bare(func(p Pos) *Debug { return &Debug{p} }),
	"ready":       one(parseReady),
	"health":      one(parseHealth),
	"pprof":       one(parsePprof),
	"prometheus":  one(parsePrometheus),
	"errors":      one(parseErrors),
	"log":         one(parseLog),
	"local":       one(parseLocal),
	"dns64":       one(parseDNS64),
	"any":         bare(func(p Pos) *Any { return &Any{p} }),
	"chaos":       one(parseChaos),
	"loadbalance": one(parseLoadbalance),
	"rewrite":     one(parseRewrite),
	"autopath":    one(parseAutopath),
	"acl":         one(parseACL),
	"cache":       one(parseCache),
	"header":      one(parseHeader),
	"minimal":     bare(func(p Pos) *Minimal { return &Minimal{p} }),
	"template":    one(parseTemplate),
	"transfer":    one(parseTransfer),
	"hosts":       one(parseHosts),
	"kubernetes":  one(parseKubernetes),
	"file":        one(parseFile),
	"loop":        one(parseLoop),
	"forward":     parseForward,
	"whoami":      bare(func(p Pos) *Whoami { return &Whoami{p} }),
	"view":        one(parseView),
}

// unsupported are the plugins that CoreDNS has and Fairway has not, each with what to do instead.
var unsupported = map[string]string{
	"auto":         "list the zone files with file",
	"azure":        "",
	"clouddns":     "",
	"dnssec":       "",
	"dnstap":       "use log",
	"erratic":      "it is for tests of clients",
	"etcd":         "",
	"geoip":        "",
	"grpc":         "use forward with dns:// or tls://",
	"grpc_server":  "",
	"https":        "",
	"https3":       "",
	"k8s_external": "",
	"nomad":        "",
	"on":           "",
	"proxyproto":   "",
	"quic":         "",
	"route53":      "",
	"secondary":    "",
	"shed":         "load is shed without it",
	"sign":         "",
	"tls":          "only plain DNS is served; forward has a tls option",
	"trace":        "",
	"tsig":         "",
}

// removed are directives that CoreDNS had once, with what took their place.
var removed = map[string]string{
	"proxy":      "removed in CoreDNS 1.5.0: use forward",
	"federation": "removed in CoreDNS 1.7.0: Kubernetes has no federation any more",
	"nodecache":  "not a plugin: node-cache's own settings are flags",
}

// unknown returns an error for each directive of a block that is not supported.
func unknown(file string, b caddyfile.ServerBlock) (errs []error) {
	names := slices.SortedFunc(maps.Keys(b.Tokens), func(x, y string) int {
		return cmp.Compare(b.Tokens[x][0].Line, b.Tokens[y][0].Line)
	})
	for _, name := range names {
		if parsers[name] != nil {
			continue
		}
		t := b.Tokens[name][0]
		pos := Pos{cmp.Or(t.File, file), t.Line}
		if hint, ok := unsupported[name]; ok {
			errs = append(errs, fmt.Errorf("plugin/%s: %v - Error during parsing: plugin '%s' exists in CoreDNS and is not supported%s", name, pos, name, explain(hint)))
		} else {
			errs = append(errs, fmt.Errorf("%v - Error during parsing: Unknown directive '%s'%s", pos, name, explain(removed[name])))
		}
	}
	return errs
}

func explain(hint string) string {
	if hint == "" {
		return ""
	}
	return " (" + hint + ")"
}

// Supported returns the names of the plugins that a Corefile may have, in the order of a chain.
func Supported() []string { return slices.Clone(order) }
