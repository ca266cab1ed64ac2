package proxiertest

import (
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// evilName tries to be a rule, a table and a command.
const evilName = "x\" -j ACCEPT\nCOMMIT\n*filter\n-F\n# $(reboot)`reboot`"

// refused endpoints leave a Service without any.
var noEndpoint = Rejected

// Addresses that a Service or a slice must not have (CVE-2020-8554, CVE-2021-25736,
// CVE-2021-25737).
var hostileAddresses = []hostile{
	{name: "endpoint on loopback", opts: []option{at("127.0.0.1")}, reason: "ForbiddenAddress", slice: true, want: noEndpoint, never: "127.0.0.1"},
	{name: "endpoint that is link-local", opts: []option{at("169.254.1.1")}, reason: "ForbiddenAddress", slice: true, want: noEndpoint, never: "169.254.1.1"},
	{name: "endpoint that is multicast", opts: []option{at("224.0.0.9")}, reason: "ForbiddenAddress", slice: true, want: noEndpoint, never: "224.0.0.9"},
	{name: "endpoint that is unspecified", opts: []option{at("0.0.0.0")}, reason: "ForbiddenAddress", slice: true, want: noEndpoint},
	{name: "endpoint that is its own ClusterIP", opts: []option{edit(func(svc *corev1.Service, s *discoveryv1.EndpointSlice) {
		s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{svc.Spec.ClusterIP}}}
	})}, reason: "ForbiddenAddress", slice: true, want: noEndpoint},
	{name: "endpoint that is its own external address", opts: []option{externalIPs("203.0.113.66"), at("203.0.113.66")},
		reason: "ForbiddenAddress", slice: true, want: noEndpoint,
		flows: []Flow{{From: Outside, To: "203.0.113.66:80", Want: Rejected}}},
	{name: "endpoint that is no address", opts: []option{at("localhost")}, reason: "InvalidAddress", slice: true, want: noEndpoint},
	{name: "endpoint that is empty", opts: []option{at("")}, reason: "InvalidAddress", slice: true, want: noEndpoint},
	{name: "endpoint without addresses", opts: []option{edit(func(_ *corev1.Service, s *discoveryv1.EndpointSlice) {
		s.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{}}}
	})}, reason: "InvalidAddress", slice: true, want: noEndpoint},
	{name: "a bad endpoint among good ones", opts: []option{at("127.0.0.1"), on("b"), at("0.0.0.0")}, reason: "ForbiddenAddress", slice: true, never: "127.0.0.1"},

	{name: "external address of this node", opts: []option{externalIPs("192.168.10.1")}, reason: "ForbiddenAddress",
		flows: []Flow{{From: Outside, To: "192.168.10.1:80", Want: Rejected}, {From: client, To: "192.168.10.1:80", Want: Rejected}}},
	{name: "external address that is the API server's ClusterIP", opts: []option{externalIPs("10.96.0.1"), portTo("TCP", "", 80, 8080), portTo("TCP", "steal", 443, 8443)},
		reason: "ForbiddenAddress",
		flows:  []Flow{{From: client, To: "10.96.0.1:443", Want: Reaches("outside")}, {From: client, To: "10.96.0.1:80", Want: Untouched}}},
	{name: "external address that is another's ClusterIP", opts: []option{externalIPs("10.96.0.10")}, reason: "ForbiddenAddress",
		flows: []Flow{{From: process, To: "10.96.0.10:80", Want: Reaches("a")}}},
	{name: "external address in the range of ClusterIPs", opts: []option{externalIPs("10.96.0.200")}, reason: "ForbiddenAddress", never: "10.96.0.200",
		flows: []Flow{{From: client, To: "10.96.0.200:80", Want: Untouched}}},
	{name: "external address that is a pod's", opts: []option{externalIPs("10.244.1.13"), portTo("TCP", "", 80, 8080), portTo("TCP", "steal", 8080, 8080)},
		reason: "ForbiddenAddress", never: "10.244.1.13",
		flows: []Flow{{From: client, To: "c:8080", Want: Reaches("c").ClientKept()}}},
	{name: "external address that is the API server's", opts: []option{externalIPs("192.168.20.9"), portTo("TCP", "", 80, 8080), portTo("TCP", "steal", 6443, 8080)},
		reason: "ForbiddenAddress",
		flows:  []Flow{{From: client, To: "outside:6443", Want: Reaches("outside").ClientKept()}}},
	{name: "external address of cloud metadata", opts: []option{externalIPs("169.254.169.254")}, reason: "ForbiddenAddress", never: "169.254.169.254"},
	{name: "external address on loopback", opts: []option{externalIPs("127.0.0.1")}, reason: "ForbiddenAddress", never: "127.0.0.1"},
	{name: "external address that is multicast", opts: []option{externalIPs("224.0.0.9")}, reason: "ForbiddenAddress", never: "224.0.0.9"},
	{name: "external address that is unspecified", opts: []option{externalIPs("0.0.0.0")}, reason: "ForbiddenAddress",
		flows: []Flow{{From: Outside, To: "192.168.20.1:80", Want: Rejected}}},
	{name: "external addresses that are none", opts: []option{externalIPs("", "example.com", "203.0.113", "203.0.113.1/32")}, reason: "InvalidAddress", never: "203.0.113.1"},
	{name: "a bad external address among good ones", opts: []option{externalIPs("127.0.0.1", "203.0.113.67")}, reason: "ForbiddenAddress", never: "127.0.0.1",
		flows: []Flow{{From: Outside, To: "203.0.113.67:80", Want: Reaches("b")}}},
	{name: "external address that another Service has", opts: []option{externalIPs("203.0.113.10")}, reason: "AddressConflict",
		flows: []Flow{{From: client, To: "203.0.113.10:80", Want: Reaches("a")}}},

	{name: "load balancer address that another Service has", opts: []option{loadBalancer("198.51.100.10")}, reason: "AddressConflict"},
	{name: "load balancer address that is another's ClusterIP", opts: []option{loadBalancer("10.96.0.10")}, reason: "ForbiddenAddress"},
	{name: "load balancer address of cloud metadata", opts: []option{loadBalancer("169.254.169.254")}, reason: "ForbiddenAddress", never: "169.254.169.254"},
	{name: "load balancer address that is unspecified", opts: []option{loadBalancer("0.0.0.0")}, reason: "ForbiddenAddress",
		flows: []Flow{{From: Outside, To: "192.168.20.1:80", Want: Rejected}}},
	{name: "load balancer address that is the kubelet's", opts: []option{loadBalancer("192.168.10.1"), portTo("TCP", "", 80, 8080), portTo("TCP", "steal", 10250, 8080)},
		reason: "ForbiddenAddress", flows: []Flow{{From: Outside, To: "192.168.10.1:10250", Want: Rejected}}},
	{name: "load balancer address that is none", opts: []option{loadBalancer("lb.example.com")}, reason: "InvalidAddress"},

	{name: "ClusterIP that another Service has", opts: []option{clusterIP("10.96.0.10")}, reason: "AddressConflict", want: Untouched},
	{name: "ClusterIP on loopback", opts: []option{clusterIP("127.0.0.1")}, reason: "ForbiddenAddress", want: Untouched, never: "127.0.0.1"},
	{name: "ClusterIP that is unspecified", opts: []option{clusterIP("0.0.0.0")}, reason: "ForbiddenAddress", want: Untouched},
	{name: "ClusterIP that is multicast", opts: []option{clusterIP("224.0.0.9")}, reason: "ForbiddenAddress", want: Untouched, never: "224.0.0.9"},
	{name: "ClusterIP that is this node's", opts: []option{clusterIP("192.168.10.1")}, reason: "ForbiddenAddress", want: Untouched,
		flows: []Flow{{From: Outside, To: "192.168.10.1:80", Want: Rejected}}},
	{name: "ClusterIP that is no address", opts: []option{edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "here", []string{"here"}
	})}, reason: "InvalidAddress", want: Untouched},
}

// Other fields that the API would not admit, or that are merely absurd.
var hostileFields = []hostile{
	{name: "no ClusterIP yet", opts: []option{edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
		s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.IPFamilies = "", nil, nil
	})}, want: Untouched},
	{name: "unknown type", opts: []option{edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.Type = "Anycast" })}, reason: "InvalidField"},
	{name: "unknown policies", opts: []option{nodePort(30666), edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
		policy := corev1.ServiceInternalTrafficPolicy("Nearby")
		s.Spec.InternalTrafficPolicy, s.Spec.ExternalTrafficPolicy = &policy, "Nearby"
	})}, reason: "InvalidField"},
	{name: "unknown affinity", opts: []option{edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.SessionAffinity = "Cookie" })}, reason: "InvalidField"},
	{name: "affinity for no time", opts: []option{affinity(0)}, reason: "InvalidField"},
	{name: "affinity for a negative time", opts: []option{affinity(-5)}, reason: "InvalidField"},
	{name: "affinity for sixty years", opts: []option{affinity(2_000_000_000)}, reason: "InvalidField"},
	{name: "unknown ipMode", opts: []option{loadBalancer("198.51.100.60"), ipMode("Direct")}, reason: "InvalidField", never: "198.51.100.60"},

	{name: "port 0", opts: []option{port(80), portTo("TCP", "zero", 0, 8080)}, reason: "InvalidPort"},
	{name: "negative port", opts: []option{port(80), portTo("TCP", "minus", -80, 8080)}, reason: "InvalidPort"},
	{name: "port 65616, which is 80 in 16 bits", opts: []option{portTo("TCP", "", 65616, 8080)}, reason: "InvalidPort", want: Untouched},
	{name: "no ports at all", opts: []option{edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) { s.Spec.Ports = []corev1.ServicePort{} })}, want: Untouched},
	{name: "port listed twice", opts: []option{portTo("TCP", "", 80, 8080), portTo("TCP", "", 80, 9090)}, reason: "DuplicatePort"},
	{name: "two ports of one number", opts: []option{portTo("TCP", "x", 80, 8080), portTo("TCP", "y", 80, 9090)}, reason: "DuplicatePort"},
	{name: "unknown protocol", opts: []option{portTo("ICMP", "", 80, 8080)}, reason: "InvalidProtocol", want: Untouched},
	{name: "protocol in small letters", opts: []option{portTo("tcp", "", 80, 8080)}, reason: "InvalidProtocol", want: Untouched},
	{name: "node port that another Service has", opts: []option{nodePort(30080)}, reason: "PortConflict"},
	{name: "negative node port", opts: []option{nodePort(-30080)}, reason: "InvalidPort"},
	{name: "node port 95616, which is 30080 in 16 bits", opts: []option{nodePort(95616)}, reason: "InvalidPort"},
	{name: "health check port that another Service has", opts: []option{loadBalancer("198.51.100.62"), externalLocal, healthCheckPort(32000)}, reason: "PortConflict"},
	{name: "health check port that is a node port", opts: []option{loadBalancer("198.51.100.63"), externalLocal, healthCheckPort(30080)}, reason: "PortConflict"},
	{name: "health check port 99999", opts: []option{loadBalancer("198.51.100.64"), externalLocal, healthCheckPort(99999)}, reason: "InvalidPort"},

	{name: "endpoints on port 0", opts: []option{portTo("TCP", "", 80, 0)}, want: noEndpoint, reason: "InvalidPort", slice: true},
	{name: "endpoints on port -1", opts: []option{portTo("TCP", "", 80, -1)}, want: noEndpoint, reason: "InvalidPort", slice: true},
	{name: "endpoints on port 73616, which is 8080 in 16 bits", opts: []option{portTo("TCP", "", 80, 73616)}, want: noEndpoint, reason: "InvalidPort", slice: true},
	{name: "endpoints on every port", opts: []option{port(80), edit(func(_ *corev1.Service, s *discoveryv1.EndpointSlice) { s.Ports[0].Port = nil })}, want: noEndpoint, reason: "Unsupported", slice: true},
	{name: "endpoints of an unknown protocol", opts: []option{port(80), edit(func(_ *corev1.Service, s *discoveryv1.EndpointSlice) {
		p := corev1.Protocol("QUIC")
		s.Ports[0].Protocol = &p
	})}, want: noEndpoint, reason: "InvalidProtocol", slice: true},
	{name: "slice of host names", opts: []option{at("example.com"), edit(func(_ *corev1.Service, s *discoveryv1.EndpointSlice) { s.AddressType = discoveryv1.AddressTypeFQDN })},
		want: noEndpoint, reason: "Unsupported", slice: true},
	{name: "slice of an unknown address type", opts: []option{edit(func(_ *corev1.Service, s *discoveryv1.EndpointSlice) { s.AddressType = "IPv5" })},
		want: noEndpoint, reason: "Unsupported", slice: true},
	{name: "slice without a Service", objects: onlySlice("orphan", "orphan-1", port(80), on("c")), remove: "EndpointSlice orphan-1", about: "orphan-1", reason: "NoService", slice: true},
	{name: "endpoints and slices twice", opts: []option{on("b", "b", "b")}, objects: onlySlice("web", "web-twice", port(80), on("a", "a")), remove: "EndpointSlice web-twice"},

	{name: "source ranges that are none", opts: []option{loadBalancer("198.51.100.61"), sourceRanges("everyone", "10.0.0.0/33", "")}, reason: "InvalidSourceRange", never: "198.51.100.61",
		flows: []Flow{{From: Outside, To: "198.51.100.61:80", Want: Untouched}}},
	{name: "a source range among ones that are none", opts: []option{loadBalancer("198.51.100.67"), sourceRanges("everyone", "192.168.20.10/32")}, reason: "InvalidSourceRange",
		flows: []Flow{
			{From: Outside.At("192.168.20.10"), To: "198.51.100.67:80", Want: Reaches("b")},
			{From: Outside, To: "198.51.100.67:80", Want: Dropped},
		}},

	{name: "names of 63 characters", opts: []option{edit(func(s *corev1.Service, sl *discoveryv1.EndpointSlice) {
		long := strings.Repeat("n", 63)
		s.Spec.Ports = []corev1.ServicePort{{Name: long, Protocol: "TCP", Port: 80, TargetPort: intstr.FromInt32(8080)}}
		number := int32(8080)
		sl.Ports = []discoveryv1.EndpointPort{{Name: &long, Port: &number}}
	})}, objects: service(strings.Repeat("s", 63), namespace(strings.Repeat("n", 63)), clusterIP("10.96.0.63"), on("c")),
		remove: "Service " + strings.Repeat("n", 63) + "/" + strings.Repeat("s", 63) + "\nEndpointSlice " + strings.Repeat("n", 63) + "/" + strings.Repeat("s", 63) + "-1",
		flows:  []Flow{{From: client, To: "10.96.0.63:80", Want: Reaches("c")}}},
	{name: "port name that injects a rule", opts: []option{portTo("TCP", "x\" -j ACCEPT\n-A INPUT -j DROP\n#", 80, 8080)}, reason: "InvalidName", want: Untouched},
	{name: "Service name that injects a rule", objects: onlyService(evilName, clusterIP("10.96.0.64"), port(80)), remove: "Service " + strconv.Quote(evilName),
		about: evilName, reason: "InvalidName", never: "10.96.0.64", flows: []Flow{{From: client, To: "10.96.0.64:80", Want: Untouched}}},
	{name: "namespace that injects a rule", objects: onlyService("bad", namespace(evilName), clusterIP("10.96.0.65"), port(80)), remove: "Service " + strconv.Quote(evilName+"/bad"),
		about: "bad", reason: "InvalidName", never: "10.96.0.65", flows: []Flow{{From: client, To: "10.96.0.65:80", Want: Untouched}}},
	{name: "slice name that injects a rule", objects: onlySlice("web", evilName, port(80), on("a")), remove: "EndpointSlice " + strconv.Quote(evilName)},
	{name: "annotation of a quarter of a megabyte", opts: []option{annotation("example.com/blob", strings.Repeat("x", 256<<10))}},
	{name: "unknown annotation of ours", opts: []option{annotation("fairway.dev/teleport", "yes")}, reason: "UnknownAnnotation"},
	{name: "unknown value of an annotation of ours", opts: []option{annotation("fairway.dev/balance", "the-fastest\n-j DROP")}, reason: "UnknownAnnotation"},
	{name: "hints for everybody and nobody", opts: []option{on("b"), forZones("", strings.Repeat("z", 300)), forNodes("")}},
	{name: "endpoint on a node of an odd name", opts: []option{on("b"), edit(func(_ *corev1.Service, s *discoveryv1.EndpointSlice) {
		odd := "node-1\" -j ACCEPT"
		s.Endpoints[0].NodeName = &odd
	})}},
	{name: "ExternalName with addresses", opts: []option{externalName("-- -j ACCEPT"), externalIPs("203.0.113.66")}, want: Untouched, never: "203.0.113.66"},
}

// What only IPv4 addresses can be: with leading zeros, which Kubernetes reads as decimal, and of
// the other family.
var hostileIPv4 = []hostile{
	{name: "endpoint with leading zeros", opts: []option{at("010.244.001.012")}, reason: "AmbiguousAddress", slice: true, never: "8.244.1.10"},
	{name: "ClusterIP with leading zeros", opts: []option{edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
		s.Spec.ClusterIPs[0] = strings.Replace(s.Spec.ClusterIP, ".96.", ".096.", 1)
		s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	})}, reason: "AmbiguousAddress"},
	{name: "external address with leading zeros", opts: []option{externalIPs("203.000.113.066")}, reason: "AmbiguousAddress",
		flows: []Flow{{From: Outside, To: "203.0.113.66:80", Want: Reaches("b")}}},
	{name: "load balancer address with leading zeros", opts: []option{loadBalancer("198.051.100.066")}, reason: "AmbiguousAddress",
		flows: []Flow{{From: Outside, To: "198.51.100.66:80", Want: Reaches("b")}}},
	{name: "source range with leading zeros", opts: []option{loadBalancer("198.51.100.69"), sourceRanges("192.168.020.010/32")}, reason: "AmbiguousAddress",
		flows: []Flow{
			{From: Outside.At("192.168.20.10"), To: "198.51.100.69:80", Want: Reaches("b")},
			{From: Outside, To: "198.51.100.69:80", Want: Dropped},
		}},
	{name: "endpoint of the other family", opts: []option{at("fd00:244:1::c")}, reason: "WrongFamily", slice: true, want: noEndpoint, never: "fd00:244:1::c"},
	{name: "endpoint that is IPv4 written as IPv6", opts: []option{at("::ffff:10.244.1.12")}, reason: "InvalidAddress", slice: true, want: noEndpoint},
	{name: "endpoint that is broadcast", opts: []option{at("255.255.255.255")}, reason: "ForbiddenAddress", slice: true, want: noEndpoint, never: "255.255.255.255"},
	{name: "endpoint with too large a number", opts: []option{at("10.244.1.256")}, reason: "InvalidAddress", slice: true, want: noEndpoint},
	{name: "external address of the other family", opts: []option{externalIPs("2001:db8:113::42")}, reason: "WrongFamily", never: "2001:db8:113::42"},
	{name: "load balancer address of the other family", opts: []option{loadBalancer("2001:db8:100::42")}, reason: "WrongFamily", never: "2001:db8:100::42"},
	{name: "external address that is IPv4 written as IPv6", opts: []option{externalIPs("::ffff:203.0.113.68")}, reason: "InvalidAddress", never: "203.0.113.68"},
	{name: "ClusterIP of a family that ipFamilies does not say", opts: []option{edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	})}, reason: "WrongFamily", want: Untouched},
	{name: "two ClusterIPs of one family", opts: []option{edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, "10.96.0.65")
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, corev1.IPv4Protocol)
	})}, reason: "WrongFamily", never: "10.96.0.65"},
	{name: "clusterIP and clusterIPs that disagree", opts: []option{edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
		s.Spec.ClusterIP = "10.96.0.65"
	})}, reason: "InvalidField", never: "10.96.0.65"},
	{name: "source ranges of the other family", opts: []option{loadBalancer("198.51.100.68"), sourceRanges("2001:db8:77::/48")},
		flows: []Flow{{From: Outside, To: "198.51.100.68:80", Want: Reaches("b")}}},
}

// What only IPv6 addresses can be.
var hostileIPv6 = []hostile{
	{name: "endpoint that is IPv4 written as IPv6", opts: []option{at("::ffff:10.244.1.12")}, reason: "InvalidAddress", slice: true, want: noEndpoint},
	{name: "endpoint with a zone", opts: []option{at("fe80::1%eth0")}, reason: "InvalidAddress", slice: true, want: noEndpoint},
	{name: "endpoint that is link-local", opts: []option{at("fe80::1")}, reason: "ForbiddenAddress", slice: true, want: noEndpoint, never: "fe80::1"},
	{name: "endpoint of the other family", opts: []option{at("10.244.1.12")}, reason: "WrongFamily", slice: true, want: noEndpoint, never: "10.244.1.12"},
	{name: "endpoint that is not written canonically", opts: []option{at("FD00:0244:1:0::000C")}},
	{name: "ClusterIP that is IPv4 written as IPv6", opts: []option{edit(func(s *corev1.Service, _ *discoveryv1.EndpointSlice) {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "::ffff:10.96.0.66", []string{"::ffff:10.96.0.66"}
	})}, reason: "InvalidAddress", want: Untouched},
	{name: "external address of cloud metadata", opts: []option{externalIPs("fd00:ec2::254")}, reason: "ForbiddenAddress", never: "fd00:ec2::254"},
}
