package corefile

import (
	"net/netip"
	"regexp"
	"time"
)

// The directives that have records of their own.

// PodMode says what names of pods get for an answer.
type PodMode string

const (
	PodsDisabled PodMode = "disabled"
	PodsInsecure PodMode = "insecure" // any address is answered
	PodsVerified PodMode = "verified" // only addresses of pods
)

// Kubernetes answers from the objects of a cluster.
type Kubernetes struct {
	Pos
	Zones             []string
	PrimaryZone       string // the first zone that is not a reverse zone
	Endpoint          string // URL of the API server; "": kubeconfig, or the environment of the pod
	ClientCert        string
	ClientKey         string
	CA                string
	Kubeconfig        string
	Context           string
	QPS               float32 // 0: client-go's default, as for the next two
	Burst             int
	MaxInflight       int
	Namespaces        []string // sorted; nil: all
	Labels            string   // label selector; "": all
	NamespaceLabels   string
	Pods              PodMode
	EndpointPodNames  bool
	TTL               uint32 // 5; 0 to 3600
	NoEndpoints       bool
	Fallthrough       []string // zones; nil: none
	IgnoreEmpty       bool     // ignore empty_service
	MulticlusterZones []string
	Zonal             bool
	StartupTimeout    time.Duration // 5 s
}

// Hosts answers from a hosts file and from lines of the Corefile.
type Hosts struct {
	Pos
	Path                   string // /etc/hosts
	Zones                  []string
	Inline                 []string // lines of a hosts file
	TTL                    uint32   // 3600; 1 to 65535
	NoReverse              bool
	Reload                 time.Duration // 5 s; 0: never
	Fallthrough            []string      // zones; nil: none
	FallthroughUnsupported bool          // types other than A, AAAA and PTR fall through too
}

// Template answers from Go templates.
type Template struct {
	Pos
	Templates []TemplateRule
}

// A TemplateRule is one template directive. The texts are Go templates; the plugin compiles them.
type TemplateRule struct {
	Pos
	Class       uint16
	Type        uint16
	Zones       []string
	Match       []*regexp.Regexp // never empty
	Answer      []string
	Additional  []string
	Authority   []string
	Rcode       int
	EDE         *ExtendedError
	Fallthrough []string // zones; nil: none
}

// An ExtendedError is an error code and text of RFC 8914.
type ExtendedError struct {
	Code   uint16
	Reason string
}

// Transfer allows zone transfers.
type Transfer struct {
	Pos
	Rules []TransferRule
}

// A TransferRule is one transfer directive.
type TransferRule struct {
	Zones  []string
	To     []string // "*" or host:port
	Source netip.Addr
}

// File answers from zone files.
type File struct {
	Pos
	Zones       []FileZone
	Fallthrough []string // zones, for all files of the block; nil: none
}

// A FileZone is one zone and the file that has its records.
type FileZone struct {
	Pos
	Zone          string
	Path          string
	Reload        time.Duration // 1 min; 0: never
	ReloadByMtime bool
}

func (*Kubernetes) Plugin() string { return "kubernetes" }
func (*Hosts) Plugin() string      { return "hosts" }
func (*Template) Plugin() string   { return "template" }
func (*Transfer) Plugin() string   { return "transfer" }
func (*File) Plugin() string       { return "file" }
