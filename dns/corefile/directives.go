package corefile

import (
	"net/netip"
	"regexp"
	"time"
)

// The directives of serving: where, how long, and what is told about it.

// Root is the folder that relative paths of the block are taken from. The paths in the other
// directives are already joined with it.
type Root struct {
	Pos
	Path string
}

// Metadata makes metadata of other plugins available, for its zones.
type Metadata struct {
	Pos
	Zones []string
}

// Cancel bounds the time of a query.
type Cancel struct {
	Pos
	Timeout time.Duration // 5.001 s
}

// Timeouts are those of TCP connections. 0 means the server's default.
type Timeouts struct {
	Pos
	Read, Write, Idle time.Duration // 1 s to 24 h
	MaxTCPQueries     int           // on one connection; -1: unlimited, 0: default
}

// Multisocket asks for several sockets per address.
type Multisocket struct {
	Pos
	Sockets int // 1 to 1024; 0: as many as GOMAXPROCS
}

// Reload says how often the Corefile is read again.
type Reload struct {
	Pos
	Interval time.Duration // 30 s, at least 2 s
	Jitter   time.Duration // 15 s; 0 or at least 1 s, at most half of the interval
}

// NSID is the server's identity in replies.
type NSID struct {
	Pos
	Data string // the host's name unless given
}

// Bufsize limits the size of UDP replies.
type Bufsize struct {
	Pos
	Size uint16 // 1232; 512 to 4096
}

// Bind says which addresses the block listens on. The addresses of interfaces are filled in when
// the Corefile is read; Block.Binds has the sum of all bind directives.
type Bind struct {
	Pos
	Addrs []netip.Addr
}

// Debug lets panics of plugins end the process, and logs more.
type Debug struct{ Pos }

// Ready serves /ready.
type Ready struct {
	Pos
	Addr         string // host:port, ":8181"
	Continuously bool   // asks the plugins each time, not only until they are ready once
}

// Health serves /health.
type Health struct {
	Pos
	Addr     string        // host:port, ":8080"
	Lameduck time.Duration // answers go on for so long after a signal to end
}

// Pprof serves Go's profiles.
type Pprof struct {
	Pos
	Addr  string // host:port, "localhost:6053"
	Block int    // rate of the block profile; 0: none
}

// Prometheus serves /metrics.
type Prometheus struct {
	Pos
	Addr           string // host:port, "localhost:9153"
	RuntimeMetrics bool   // all metrics of the Go runtime
	TLSConfig      string // file of the exporter toolkit; "": plain HTTP
}

// Errors logs the errors of queries.
type Errors struct {
	Pos
	Stacktrace  bool
	Consolidate []Consolidate
}

// A Consolidate sums up errors of a kind: one line each Period.
type Consolidate struct {
	Period    time.Duration
	Pattern   *regexp.Regexp
	Level     string // error, warning, info, debug
	ShowFirst bool   // the first error is logged at once
}

// Log logs queries.
type Log struct {
	Pos
	Rules []LogRule
}

// A LogRule says how queries below Zone are logged.
type LogRule struct {
	Zone    string   // lower case, with the final dot
	Format  string   // {common} and {combined} are already replaced
	Classes []string // success, denial, error, all; never empty
}

// The formats of the log plugin.
const (
	CommonLogFormat   = `{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize} {duration}`
	CombinedLogFormat = CommonLogFormat + ` "{>opcode}"`
)

func (*Root) Plugin() string        { return "root" }
func (*Metadata) Plugin() string    { return "metadata" }
func (*Cancel) Plugin() string      { return "cancel" }
func (*Timeouts) Plugin() string    { return "timeouts" }
func (*Multisocket) Plugin() string { return "multisocket" }
func (*Reload) Plugin() string      { return "reload" }
func (*NSID) Plugin() string        { return "nsid" }
func (*Bufsize) Plugin() string     { return "bufsize" }
func (*Bind) Plugin() string        { return "bind" }
func (*Debug) Plugin() string       { return "debug" }
func (*Ready) Plugin() string       { return "ready" }
func (*Health) Plugin() string      { return "health" }
func (*Pprof) Plugin() string       { return "pprof" }
func (*Prometheus) Plugin() string  { return "prometheus" }
func (*Errors) Plugin() string      { return "errors" }
func (*Log) Plugin() string         { return "log" }
