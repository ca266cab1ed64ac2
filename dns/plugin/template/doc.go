// Package template is the plugin template: records written by Go templates.
//
// The templates are the administrator's and trusted; the names that they are filled with are
// anybody's. So what a template writes is bounded in size, has to be one record, and is parsed
// without $INCLUDE, which a name could otherwise spell. Names come with all special characters
// escaped.
//
// The options var and expr of newer CoreDNS are refused when the Corefile is read: there is no
// expression language on the path of a query. The package owns no kernel object.
package template
