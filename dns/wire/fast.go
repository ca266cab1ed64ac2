package wire

// A Fast answers queries without allocating.
type Fast interface {
	// Answer writes a whole reply to q into out and returns its length, at most limit. With ok
	// false it has no answer, and what is in out means nothing: the slow path must answer. It is
	// called by many workers at once, each with a q and an out of its own; it keeps neither.
	// out has room for at least min(limit, MinUDP) bytes, and an answer never needs more than
	// min(limit, len(out)).
	Answer(q *Query, limit int, out []byte) (n int, ok bool)
}

// Rcode returns the response code in the header of a packed reply.
func Rcode(reply []byte) int { return int(reply[3] & FlagRcode) }
