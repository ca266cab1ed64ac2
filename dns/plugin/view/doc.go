// Package view is the plugin view: which queries a server block is for, beside its zones.
//
// Its expressions are a part of those that CoreDNS has (expr-lang): the functions of a query and
// incidr, strings, numbers and lists, comparisons, in, matches, contains, startsWith, endsWith, and,
// or, not and parentheses. There is nothing in it that repeats or recurses, so the time for a query
// is bounded by the length of the expression. What is beyond it is an error when the Corefile is
// read, and so is what makes no sense, such as a number compared with a text.
//
// The package owns no kernel object.
package view
