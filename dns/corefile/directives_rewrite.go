package corefile

import "regexp"

// Rewrite changes queries before the later plugins see them, and their answers on the way back.
type Rewrite struct {
	Pos
	Rules []RewriteRule
}

// A RewriteRule is one rewrite directive. Exactly one of the pointers is set.
type RewriteRule struct {
	Pos
	Continue bool // later rules are tried even if this one matched
	Name     *RewriteName
	Type     *RewriteCode
	Class    *RewriteCode
	TTL      *RewriteTTL
	Rcode    *RewriteRcode
	CNAME    *RewriteCNAME
	EDNS0    *RewriteEDNS0
}

// A RewriteName changes the name of the question. With a regex, {1} in To stands for the first
// group.
type RewriteName struct {
	Match   NameMatch
	To      string         // lower case, with the final dot
	Auto    bool           // answers get the name of the question back
	Answers []AnswerChange // further changes of answers
}

// An AnswerChange changes names in answers: owner names, or the names inside records.
type AnswerChange struct {
	Value   bool // names inside records, not owner names
	Pattern *regexp.Regexp
	To      string
}

// A RewriteCode changes the type or class of the question.
type RewriteCode struct {
	From, To uint16
}

// A RewriteTTL forces the TTL of answers for names that match into a range.
type RewriteTTL struct {
	Match    NameMatch
	Min, Max uint32
}

// A RewriteRcode changes the rcode of answers for names that match.
type RewriteRcode struct {
	Match    NameMatch
	From, To int
}

// A RewriteCNAME changes the targets of CNAME records in answers, and looks up the new target.
type RewriteCNAME struct {
	Match NameMatch
	To    string
}

// A RewriteEDNS0 changes an EDNS option of the query.
type RewriteEDNS0 struct {
	Option   string // local, nsid, subnet
	Action   string // set, replace, append, unset
	Code     uint16 // of a local option
	Data     []byte // of a local option
	Variable string // of a local option in place of Data, such as "{client_ip}"
	V4, V6   uint8  // lengths of masks of a subnet option
	Revert   bool   // the answer gets the client's option back
}

func (*Rewrite) Plugin() string { return "rewrite" }
