// Package autopath is the plugin autopath: it walks the search path of a client on the server.
//
// A client with ndots:5 asks for www.example.com.prod.svc.cluster.local first. The plugin sees that
// this is below the first domain of the client's search path, tries the other domains and then the
// bare name, and answers what it finds behind a CNAME. If all are NXDOMAIN, the client gets the
// first reply and walks by itself.
//
// Each name of the walk goes through all plugins behind, acl among them, as if the client had asked
// for it. The first reply other than NXDOMAIN ends the walk, be it a failure: what comes after it
// must not be taken for what the client wanted. The package owns no kernel object.
package autopath
