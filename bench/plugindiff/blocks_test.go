package plugindiff

import "strings"

// A block is one server block, and what is asked of it.
type block struct {
	name    string // its zone
	text    string // $NAME stands for the file NAME of files, $UPSTREAM for the resolver behind
	queries []string
	meant   map[string]string // queries whose answers differ on purpose, and why
}

// Reasons that several queries have.
const (
	noEDNS = "an extended error only for those with EDNS"
	flags  = "the flags of the A reply"
)

// files are read by both servers.
var files = map[string]string{
	"HOSTS": `192.0.2.1 a.hosts.test b.hosts.test
2001:db8::1 a.hosts.test
192.0.2.2 a.hosts.test
192.0.2.9 *.wild.hosts.test
192.0.2.10 own.wild.hosts.test
127.0.0.1 outside.example
`,
	"DB": `$TTL 3600
@	SOA	ns host 7 7200 1800 86400 3600
@	NS	ns
@	MX	10 mail
ns	A	192.0.2.1
	AAAA	2001:db8::1
mail	A	192.0.2.2
www	A	192.0.2.3
www	A	192.0.2.4
alias	CNAME	www
alias2	CNAME	alias
dead	CNAME	nowhere.below.www
out	CNAME	www.example.com.
a.deep	A	192.0.2.5
*.w	TXT	"wild"
*.w	A	192.0.2.6
*.c	CNAME	www
sub	NS	ns.sub
ns.sub	A	192.0.2.7
_s._tcp	SRV	1 2 3 www
dn	DNAME	w
round	CNAME	round2
round2	CNAME	round
`,
	"SEARCH": "nameserver 127.0.0.1\nsearch first.path.test second.path.test\n",
}

var blocks = []block{
	{
		name: "hosts.test",
		text: "hosts $HOSTS hosts.test {\n192.0.2.3 in.hosts.test\n192.0.2.1 a.hosts.test\nttl 77\n}",
		queries: []string{"a.hosts.test A", "A.Hosts.test AAAA", "b.hosts.test A", "b.hosts.test AAAA", "b.hosts.test TXT", "in.hosts.test A", "none.hosts.test A",
			"x.wild.hosts.test A", "own.wild.hosts.test A", "x.y.wild.hosts.test A", "wild.hosts.test A", "hosts.test SOA", "*.wild.hosts.test A", "a.hosts.test ANY"},
		meant: map[string]string{"a.hosts.test A": "twice is once", "A.Hosts.test AAAA": "spelling"},
	},
	{
		name:    "2.0.192.in-addr.arpa",
		text:    "hosts $HOSTS {\nfallthrough\n}\nforward . $UPSTREAM",
		queries: []string{"1.2.0.192.in-addr.arpa PTR", "80.2.0.192.in-addr.arpa PTR", "9.2.0.192.in-addr.arpa PTR"},
	},
	{
		name: "file.test",
		text: "file $DB\nforward . $UPSTREAM",
		queries: []string{"file.test SOA", "file.test NS", "file.test MX", "file.test A", "www.file.test A", "WWW.file.test A", "www.file.test AAAA", "alias.file.test A",
			"alias2.file.test A", "alias2.file.test CNAME", "alias2.file.test MX", "dead.file.test A", "nothing.file.test A", "deep.file.test A", "a.deep.file.test A", "b.deep.file.test A",
			"x.w.file.test TXT", "x.y.w.file.test A", "x.w.file.test MX", "w.file.test A", "x.c.file.test A", "sub.file.test A", "x.sub.file.test A", "ns.sub.file.test A", "sub.file.test NS", "out.file.test A",
			"_s._tcp.file.test SRV", "_tcp.file.test SRV", "x.dn.file.test TXT", "dn.file.test DNAME", "dn.file.test A", "x.www.file.test A", "file.test AXFR tcp"},
		meant: map[string]string{"WWW.file.test A": "spelling", "alias2.file.test MX": "SOA of a denial"},
	},
	{
		name:    "files.test",
		text:    "file $DB {\nfallthrough\n}\nwhoami",
		queries: []string{"none.files.test A", "www.files.test A", "deep.files.test A", "x.www.files.test TXT"},
	},
	{
		name:    "xfr.test",
		text:    "file $DB\ntransfer {\nto *\n}",
		queries: []string{"xfr.test AXFR", "xfr.test IXFR", "www.xfr.test A"},
	},
	{
		name: "tmpl.test",
		text: `template IN A ip.tmpl.test {
	match (^|[.])ip-(?P<a>[0-9]*)-(?P<b>[0-9]*)[.]ip[.]tmpl[.]test[.]$
	answer "{{ .Name }} 60 IN A 10.0.{{ .Group.a }}.{{ .Group.b }}"
	fallthrough
}
template IN MX tmpl.test {
	match ^(?P<h>[^.]+)[.]mx[.]
	match ^second[.]
	answer "{{ .Name }} 60 IN MX 10 {{ index .Match 0 }}{{ .Zone }}"
	additional "{{ .Name }} 60 IN A 10.0.0.1"
	authority "{{ .Zone }} 60 IN NS ns.{{ .Zone }}"
}
template ANY ANY none.tmpl.test {
	rcode NXDOMAIN
	authority "none.tmpl.test 60 {{ .Class }} SOA a. b. (1 60 60 60 60)"
	ederror 21 "not here"
}
template IN ANY alias.tmpl.test {
	answer "{{ .Name }} 60 IN CNAME www.example.com"
}
template IN TXT text.tmpl.test {
	answer "{{ .Name }} 60 IN TXT \"{{ .Zone }} {{ .Type }} {{ .Class }} {{ .Question.Name }} {{ .Message.RecursionDesired }} {{ parseInt \"ff\" 16 8 }}\""
}
template IN HINFO fail.tmpl.test {
	rcode SERVFAIL
}
forward . $UPSTREAM`,
		queries: []string{"ip-1-2.ip.tmpl.test A", "x.IP-1-2.ip.tmpl.test A", "ip-1-256.ip.tmpl.test A", "nope.ip.tmpl.test A", "ip-1-2.ip.tmpl.test AAAA", "ip-1-2.ip.tmpl.test ANY",
			"h.mx.tmpl.test MX", "second.tmpl.test MX", "third.tmpl.test MX", "x.none.tmpl.test A", "x.none.tmpl.test TXT do", "x.none.tmpl.test A class=CH", "alias.tmpl.test A", "alias.tmpl.test TXT",
			"x.alias.tmpl.test AAAA", "Q.text.tmpl.test TXT", "x.fail.tmpl.test HINFO"},
		meant: map[string]string{"x.none.tmpl.test A": noEDNS, "x.none.tmpl.test A class=CH": noEDNS},
	},
	{
		name: "rw.test",
		text: `rewrite name exact a.rw.test www.example.com
rewrite name suffix .suf.rw.test .example.com
rewrite name suffix .sufa.rw.test .example.com answer auto
rewrite name regex (.*)[.]re[.]rw[.]test {1}.example.com
rewrite name regex (.*)[.]rea[.]rw[.]test {1}.example.com answer auto
rewrite name regex (.*)[.]ren[.]rw[.]test {1}.example.com answer name (.*)[.]example[.]com {1}.ren.rw.test
rewrite name regex (.*)[.]rev[.]rw[.]test {1}.example.com answer name (.*)[.]example[.]com {1}.rev.rw.test answer value (.*)[.]example[.]com {1}.value.test
rewrite name substring .sub.rw.test. .example.com.
rewrite continue name exact c.rw.test d.rw.test
rewrite name exact d.rw.test mail.example.com
rewrite continue ttl exact ttl.rw.test 15
rewrite continue ttl exact range.rw.test 10-20
rewrite continue rcode exact nx.rw.test NXDOMAIN NOERROR
rewrite name regex ^(nx|ttl|range)[.]rw[.]test[.]$ {1}-nobody.example.com answer auto
rewrite type MX A
rewrite name exact bad.rw.test bad..test
forward . $UPSTREAM`,
		meant: map[string]string{"A.RW.test A": "spelling"},
		queries: []string{"a.rw.test A", "a.rw.test MX", "www.suf.rw.test A", "www.sufa.rw.test A", "chain.suf.rw.test A", "chain.sufa.rw.test A", "alias.re.rw.test A", "alias.rea.rw.test A",
			"alias.ren.rw.test A", "alias.rev.rw.test A", "_sip._tcp.rev.rw.test SRV", "www.sub.rw.test A", "c.rw.test A", "d.rw.test AAAA", "ttl.rw.test A", "range.rw.test A",
			"nx.rw.test A", "A.RW.test A", "chain.rea.rw.test A", "mail.sufa.rw.test AAAA", "dangling.rea.rw.test A", "v4only.rea.rw.test AAAA"},
	},
	{
		name:    "rwc.test",
		text:    "rewrite name suffix .rwc.test .example.com answer auto\nforward . $UPSTREAM",
		queries: []string{"www.rwc.test A", "chain.rwc.test A", "nobody.rwc.test A", "x.servfail.rwc.test A", "x.refused.rwc.test A"},
	},
	{
		name:    "cname.test",
		text:    "rewrite cname exact www.example.com. mail.example.com.\nrewrite continue name suffix .cname.test .example.com answer auto\nfile $DB",
		queries: []string{"out.cname.test A", "out.cname.test AAAA", "alias.cname.test A", "www.cname.test A"},
	},
	{
		name: "acl.test",
		text: `acl block.acl.test {
	block
}
acl filter.acl.test {
	filter type A AAAA net 10.0.0.0/8 127.0.0.0/8
}
acl allow.acl.test {
	allow type A
	block
}
acl drop.acl.test {
	allow type A
	block type MX
}
template ANY ANY {
	rcode NXDOMAIN
}`,
		queries: []string{"x.block.acl.test A", "x.block.acl.test A do", "x.filter.acl.test A", "x.filter.acl.test MX", "x.allow.acl.test A", "x.allow.acl.test TXT", "x.drop.acl.test MX", "x.drop.acl.test TXT", "acl.test A",
			"xblock.acl.test A", "x.filter.acl.test AAAA buf=1232"},
		meant: map[string]string{"x.block.acl.test A": noEDNS, "x.filter.acl.test A": noEDNS, "x.allow.acl.test TXT": noEDNS, "x.drop.acl.test MX": noEDNS},
	},
	{
		name:    "path.test",
		text:    "autopath path.test $SEARCH\nfile $DB first.path.test\ntemplate IN A only.second.path.test {\nanswer \"{{ .Name }} 9 IN A 10.0.0.9\"\n}\ntemplate ANY ANY second.path.test first.path.test {\nrcode NXDOMAIN\n}\nforward . $UPSTREAM",
		queries: []string{"www.first.path.test A", "www.first.path.test MX", "only.first.path.test A", "www.example.com.first.path.test A", "nobody.example.com.first.path.test A", "only.second.path.test A", "www.example.com.second.path.test A"},
	},
	{
		name:    "small.test",
		text:    "any\nheader {\nresponse set ra aa\nresponse clear rd\n}\nminimal\nfile $DB",
		queries: []string{"small.test ANY", "small.test MX", "www.small.test A", "none.small.test A", "sub.small.test A", "www.small.test MX"},
	},
	{
		name:    "example.com",
		text:    "dns64 {\nallow_ipv4\n}\nforward . $UPSTREAM",
		queries: []string{"www.example.com AAAA", "v4only.example.com AAAA", "v6only.example.com AAAA", "v4only.example.com A", "nobody.example.com AAAA", "chain.example.com AAAA", "x.servfail.example.com AAAA", "mail.example.com AAAA", "ns1.example.com AAAA", "example.com AAAA", "example.com MX"},
		meant:   map[string]string{"v4only.example.com AAAA": flags, "ns1.example.com AAAA": flags, "example.com AAAA": flags, "x.servfail.example.com AAAA": flags},
	},
	{
		name:    "example.net",
		text:    "dns64 64:1337::/64 {\ntranslate_all\nallow_ipv4\n}\nforward . $UPSTREAM",
		queries: []string{"www.example.net AAAA"},
		meant:   map[string]string{"www.example.net AAAA": "options beside a prefix"},
	},
	{
		name:    "nsid.test",
		text:    "nsid Use The Force\nfile $DB",
		queries: []string{"www.nsid.test A opt=nsid", "none.nsid.test A opt=nsid", "www.nsid.test MX opt=cookie", "x.sub.nsid.test A opt=nsid"},
	},
	{
		name: "large.test",
		text: "bufsize 600\ntemplate IN TXT large.test {\nanswer \"{{ .Name }} 60 IN TXT " + strings.Repeat("x", 200) + "\"\nanswer \"{{ .Name }} 60 IN TXT " + strings.Repeat("y", 200) +
			"\"\nanswer \"{{ .Name }} 60 IN TXT " + strings.Repeat("z", 200) + "\"\n}",
		queries: []string{"a.large.test TXT", "b.large.test TXT buf=1232", "c.large.test TXT buf=500", "d.large.test TXT tcp", "e.large.test TXT buf=4096", "f.large.test TXT do"},
	},
	{
		name:    "class.test",
		text:    "rewrite class CH IN\ntemplate IN TXT class.test {\nanswer \"{{ .Name }} 60 IN TXT {{ .Class }}\"\n}\ntemplate HS TXT class.test {\nanswer \"{{ .Name }} 60 HS TXT {{ .Class }}\"\n}\nfile $DB",
		queries: []string{"a.class.test TXT", "a.class.test TXT class=CH", "a.class.test TXT class=HS", "www.class.test A class=CH"},
	},
	{
		name: "more.test",
		text: `rewrite stop {
	name regex (.*)\.v\.more\.test {1}.x
}
rewrite name regex ^([^.]*)\.one\.more\.test\.$ {1}.two.more.test
rewrite name prefix pre. post.
rewrite continue {
	ttl suffix more.test 5
}
rewrite rcode suffix refused.more.test REFUSED NXDOMAIN
rewrite rcode substring servfail.more SERVFAIL NOERROR
rewrite continue name substring more.test file.test answer auto
template IN A two.more.test {
	answer "{{ .Name }} 60 IN A 10.0.0.2"
}
template IN A {
	match ^post[.]
	answer "{{ .Name }} 60 IN A 10.0.0.3"
	fallthrough
}
template ANY ANY refused.more.test {
	rcode REFUSED
}
template ANY ANY servfail.more.test {
	rcode SERVFAIL
}
file $DB file.test`,
		queries: []string{"a.v.more.test A", "a.one.more.test A", "a.two.more.test A", "pre.more.test A", "x.refused.more.test A", "x.servfail.more.test A", "www.more.test A", "alias.more.test A", "_s._tcp.more.test SRV",
			"none.more.test A", "more.test SOA", "more.test NS", "more.test MX", "sub.more.test A"},
	},
	{
		name:    "fall.hosts.example",
		text:    "hosts $HOSTS fall.hosts.example {\n10.0.0.1 a.fall.hosts.example\nno_reverse\nfallthrough x.fall.hosts.example\nfallthrough_unsupported\n}\nfile $DB",
		queries: []string{"a.fall.hosts.example A", "a.fall.hosts.example TXT", "b.fall.hosts.example A", "www.x.fall.hosts.example A", "1.0.0.10.in-addr.arpa PTR"},
	},
	{
		name: "log.test",
		text: "metadata\nlog a.log.test \"L: {type} {class} {name} {proto} {size} {>do} {>bufsize} {rcode} {>rflags} {rsize} {>opcode} {/log/class} {/log/type} {remote} {local} {/no/such} {nothing}\"\n" +
			"log log.test \"L: {name} {rcode}\" {\nclass denial error\n}\nacl drop.log.test {\nblock type MX\n}\ntemplate ANY ANY failed.log.test {\nrcode REFUSED\n}\nfile $DB",
		queries: []string{"A.log.test A", "x.a.log.test TXT", "a.log.test MX tcp", "a.log.test HTTPS", "a.log.test A do", "a.log.test TYPE65400", "a.log.test A buf=4096", "a.log.test A buf=100",
			"www.log.test A", "www.log.test MX", "none.log.test A", "x.failed.log.test A", "x.drop.log.test MX", "sub.log.test A"},
		meant: map[string]string{"x.drop.log.test MX": noEDNS},
	},
	{
		name:    "view.test",
		text:    "view v {\nexpr type() in ['A', 'AAAA'] && incidr(client_ip(), '10.0.0.0/8')\nexpr name() matches '^[a-z]+\\\\.view\\\\.test\\\\.$' or not (size() > 10)\n}\nhosts {\n10.0.0.1 a.view.test\n}",
		queries: []string{"a.view.test A", "a.view.test AAAA", "a.view.test TXT", "a.b.view.test A"},
	},
	{
		name: ".",
		text: "ready 10.0.0.53:8181\nlocal\nchaos V1 someone\nwhoami",
		queries: []string{"localhost A", "Localhost AAAA", "localhost MX", "localhost SOA", "localhost NS", "x.localhost A", "localhost.example.org AAAA", "localhost.example.org TXT", "1.0.0.127.in-addr.arpa PTR", "1.0.0.127.in-addr.arpa A",
			"2.0.0.127.in-addr.arpa PTR", "127.in-addr.arpa NS", "255.in-addr.arpa A", "version.bind TXT class=CH", "authors.bind TXT class=CH", "id.server TXT class=CH", "version.server TXT class=CH", "x.whoami.example A", "x.whoami.example TXT tcp"},
	},
}
