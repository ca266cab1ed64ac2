// Package file is the plugin file: zones of master files (RFC 1035).
//
// It answers as RFC 1034 (4.3.2) and 4592 have it: aliases, delegations with glue, DNAME, wildcards
// and names that exist only because of names below them. Aliases that lead out of the zone are
// followed through the whole chain of the block. A zone file is read again when its serial changes;
// a file that cannot be read leaves the old zone in force.
//
// Signed zones are not served as such: there is no proof that a name does not exist, and signatures
// come only to those who ask for RRSIG. Nobody is notified of changes. The package owns no kernel
// object.
package file
