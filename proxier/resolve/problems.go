package resolve

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/fairway-lb/fairway/proxier"
)

// The reasons of the problems that Resolve reports.
const (
	ReasonInvalidName        = "InvalidName"        // a name that the API would not admit: the object is left out
	ReasonInvalidAddress     = "InvalidAddress"     // not an address, or one written in two families (::ffff:1.2.3.4): left out
	ReasonAmbiguousAddress   = "AmbiguousAddress"   // leading zeros: read as decimal, as Kubernetes does
	ReasonWrongFamily        = "WrongFamily"        // an address of a family that its place does not have: left out
	ReasonForbiddenAddress   = "ForbiddenAddress"   // an address that must not be taken over or connected to: left out
	ReasonExternalIPDenied   = "ExternalIPDenied"   // an external IP that the configuration does not allow: left out
	ReasonAddressConflict    = "AddressConflict"    // an address and port that another Service has: left out
	ReasonPortConflict       = "PortConflict"       // a node port that another Service has: left out
	ReasonInvalidPort        = "InvalidPort"        // a port number that is none, or out of place: left out
	ReasonDuplicatePort      = "DuplicatePort"      // a port that its Service lists twice: the first counts
	ReasonInvalidProtocol    = "InvalidProtocol"    // neither TCP, UDP nor SCTP: left out
	ReasonInvalidSourceRange = "InvalidSourceRange" // not a CIDR: left out; with no other, so is the address it guards
	ReasonInvalidField       = "InvalidField"       // a value that the field does not have: the default applies
	ReasonUnknownAnnotation  = "UnknownAnnotation"  // an unknown key or value under fairway.dev/: the default applies
	ReasonUnsupported        = "Unsupported"        // a valid wish that Fairway does not fulfil
	ReasonNoService          = "NoService"          // an EndpointSlice of a Service that this node does not know
	ReasonNodePortAddresses  = "NodePortAddresses"  // node ports are open or closed where that may surprise
	ReasonPodsUnknown        = "PodsUnknown"        // pods cannot be told from outside clients as configured
)

// maxExamples bounds how many details one problem lists, and so what a hostile object can cost.
const maxExamples = 3

// A report collects the problems of objects, one for each object and reason.
type report struct {
	items []item
}

type item struct {
	proxier.Problem          // without its Message
	examples        []string // at most maxExamples
	more            int      // how many there were beyond
}

func (r *report) add(kind string, object proxier.NamespacedName, reason, format string, args ...any) {
	want := proxier.Problem{Kind: kind, Object: object, Reason: reason}
	i := slices.IndexFunc(r.items, func(it item) bool { return it.Problem == want })
	if i < 0 {
		i = len(r.items)
		r.items = append(r.items, item{Problem: want})
	}
	it := &r.items[i]
	if len(it.examples) == maxExamples {
		it.more++
		return
	}
	it.examples = append(it.examples, fmt.Sprintf(format, args...))
}

// problems returns what was collected, sorted.
func (r *report) problems() []proxier.Problem {
	if len(r.items) == 0 {
		return nil
	}
	out := make([]proxier.Problem, 0, len(r.items))
	for _, it := range r.items {
		p := it.Problem
		p.Message = strings.Join(it.examples, "; ")
		if it.more > 0 {
			p.Message += fmt.Sprintf("; and %d more", it.more)
		}
		out = append(out, p)
	}
	sortProblems(out)
	return out
}

func sortProblems(list []proxier.Problem) {
	slices.SortFunc(list, func(a, b proxier.Problem) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), a.Object.Compare(b.Object),
			cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
	})
}
