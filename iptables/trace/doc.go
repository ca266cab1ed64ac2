// Package trace follows one packet through a ruleset, rule by rule, without a kernel. Tests use
// it to say of compiled rules what becomes of any packet, and how many rules that takes.
//
// It understands the matches and targets that Fairway writes, and reports an error for any other.
// Where the kernel would throw dice (statistic) or look at what it remembers (recent), it follows
// both ways and returns every outcome.
//
// It owns no kernel object and is no part of the program.
package trace
