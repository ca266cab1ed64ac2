package corefile

import (
	"net/netip"
	"regexp"
	"time"
)

// The directives that change queries and answers, or answer by themselves.

// Local answers localhost names and their reverse zones.
type Local struct {
	Pos
	NoLocalhostPrefix bool // localhost_prefix off: localhost.<domain> is left to the next plugin
}

// DNS64 makes AAAA records from A records.
type DNS64 struct {
	Pos
	Prefix       netip.Prefix // 64:ff9b::/96; masked
	TranslateAll bool
	AllowIPv4    bool
}

// Any answers ANY queries with a HINFO.
type Any struct{ Pos }

// Chaos answers version.bind and the like of class CH.
type Chaos struct {
	Pos
	Version string   // "": the server's own
	Authors []string // sorted; nil: the server's own
}

// Loadbalance changes the order of the addresses in answers.
type Loadbalance struct {
	Pos
	Weights string         // file of the weighted policy; "": round_robin, which is a random order
	Reload  time.Duration  // of the weights; 30 s
	Prefer  []netip.Prefix // addresses in these come first
}

// Autopath walks the search path of the client on the server.
type Autopath struct {
	Pos
	Zones  []string
	Search []string // from a resolv.conf file, normalised; nil with From
	From   string   // the plugin that knows the client's path, "kubernetes"; without effect if it is not there
}

// ACL allows and forbids queries by client and type.
type ACL struct {
	Pos
	Rules []ACLRule
}

// An ACLRule is one acl directive. The first matching policy counts.
type ACLRule struct {
	Zones    []string
	Policies []ACLPolicy
}

// An ACLPolicy is one line of an acl directive.
type ACLPolicy struct {
	Action string         // allow, block, filter, drop
	Types  []uint16       // nil: all
	Nets   []netip.Prefix // masked; nil: all
}

// Cache keeps answers.
type Cache struct {
	Pos
	Zones              []string
	SuccessCap         int           // entries; 9984
	SuccessTTL         time.Duration // cap; 1 h
	SuccessMinTTL      time.Duration // 5 s
	DenialCap          int           // entries; 9984
	DenialTTL          time.Duration // cap; 30 min
	DenialMinTTL       time.Duration // 5 s
	ServfailTTL        time.Duration // 5 s; at most 5 min, 0: not kept
	Prefetch           int           // number of queries that make a name worth prefetching; 0: never
	PrefetchDuration   time.Duration // 1 min: between two queries of that number
	PrefetchPercentage int           // 10: of the TTL that is left when it begins
	StaleUpTo          time.Duration // serve_stale; 0: never
	StaleVerify        bool          // asks the source first
	StaleVerifyTimeout time.Duration // 0: as long as the query may take
	StaleTTL           time.Duration // TTL in stale answers; whole seconds
	StaleRecheck       time.Duration // how long a refresh that went wrong is not tried again
	PreferPositive     bool          // serve_stale_policy prefer_positive
	SuccessExcept      []string      // disable success: zones
	DenialExcept       []string      // disable denial: zones
	KeepTTL            bool
}

// Header sets and clears header flags.
type Header struct {
	Pos
	Query, Response []HeaderRule
}

// A HeaderRule sets or clears one flag.
type HeaderRule struct {
	Flag string // aa, ra, rd
	Set  bool
}

// Minimal leaves out what an answer need not have.
type Minimal struct{ Pos }

// Loop looks for forwarding loops.
type Loop struct {
	Pos
	Zone string // of the probe
}

// Forward sends queries to other resolvers.
type Forward struct {
	Pos
	From               string
	To                 []Upstream // 1 to 15 after files are read
	Except             []string   // zones that go to the next plugin
	ForceTCP           bool
	PreferUDP          bool
	Expire             time.Duration // of idle connections; 10 s
	MaxAge             time.Duration // of connections; 0: none
	MaxIdleConns       int           // 0: unlimited
	ReadTimeout        time.Duration // 2 s
	MaxFails           uint32        // 2; 0: never down
	MaxConnectAttempts int           // -1: twice the number of upstreams; 0: no limit
	TLS                ForwardTLS
	TLSServerName      string
	Policy             string        // random, round_robin, sequential
	HealthCheck        time.Duration // 500 ms; 0: off
	HealthNoRec        bool
	HealthDomain       string // "."
	MaxConcurrent      int    // 0: no limit
	NextRcodes         []int  // replies with these go to the next plugin
	NextOnNoData       bool
	FailfastUnhealthy  bool
	FailoverRcodes     []int // replies with these go to the next upstream
	SourceAddress      netip.Addr
	Resolver           []string // IP or IP:port of the resolvers for host names among To
}

// ForwardTLS are the files of the tls option. All paths may be empty.
type ForwardTLS struct {
	Cert, Key, CA string
}

// An Upstream is one place that Forward sends queries to: an address, or a host name whose
// addresses are looked up when the plugin is made.
type Upstream struct {
	Scheme     string // "dns" or "tls"
	Addr       netip.AddrPort
	Host       string // name to look up; "" if Addr is set
	Port       uint16 // for Host
	ServerName string // after '%' of a tls upstream
	File       string // the resolv.conf that Addr was read from; "" if it stood in the Corefile
}

// Whoami answers with the client's address.
type Whoami struct{ Pos }

// View limits the block to queries for which all expressions hold.
type View struct {
	Pos
	Name  string
	Exprs []string
}

func (*Local) Plugin() string       { return "local" }
func (*DNS64) Plugin() string       { return "dns64" }
func (*Any) Plugin() string         { return "any" }
func (*Chaos) Plugin() string       { return "chaos" }
func (*Loadbalance) Plugin() string { return "loadbalance" }
func (*Autopath) Plugin() string    { return "autopath" }
func (*ACL) Plugin() string         { return "acl" }
func (*Cache) Plugin() string       { return "cache" }
func (*Header) Plugin() string      { return "header" }
func (*Minimal) Plugin() string     { return "minimal" }
func (*Loop) Plugin() string        { return "loop" }
func (*Forward) Plugin() string     { return "forward" }
func (*Whoami) Plugin() string      { return "whoami" }
func (*View) Plugin() string        { return "view" }

// A NameMatch is a condition on a name.
type NameMatch struct {
	Kind    string         // exact, prefix, suffix, substring, regex
	Text    string         // the name or part of it, lower case; the pattern's source with regex
	Pattern *regexp.Regexp // only with regex
}
