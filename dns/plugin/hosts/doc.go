// Package hosts is the plugin hosts: names of a hosts file and of lines in the Corefile.
//
// Addresses answer A and AAAA, and turned around they answer PTR. *.example.org stands for any one
// label in front of example.org. The file is read again when it changes; one that disappears or
// cannot be read leaves the last names in force.
//
// There is no SOA, so there is no proper denial: a name without addresses in a zone of the plugin
// is SERVFAIL, as with CoreDNS, unless it falls through. The package owns no kernel object.
package hosts
