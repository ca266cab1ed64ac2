// Package rewrite is the plugin rewrite: it changes questions before the later plugins see them,
// and replies on the way back.
//
// Rules are tried in the order of the file, on what earlier rules made of the question; a rule ends
// the list unless it says continue. What they have to do to the reply is done in the reverse order.
// The client always gets its own question back. The query itself is never changed: later plugins
// get a copy that remembers it, which acl looks at.
//
// EDNS options that are set here go to upstreams, and never into the reply: no option of a query is
// echoed by this resolver. So "revert" has nothing to do. Metadata of other plugins has no values.
// The package owns no kernel object.
package rewrite
