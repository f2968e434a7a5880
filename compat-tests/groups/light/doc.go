// Package light has members of consumer groups that weigh little: each is a
// goroutine with a connection of its own, which speaks the protocol by hand, one
// request at a time. A thousand of them fit beside the broker whose speed is to be
// seen, or who is to be crowded. They read no records.
//
//	Conn      a connection: requests and their answers
//	Classic   a member of a classic group, which assigns ranges when it leads
//	Consumer  a member of a KIP-848 group, which heartbeats as Java's does
//	Board     who owns what under which generation, and since when
//
// A group's broker must be its coordinator: there is one broker, or the caller
// asks for the coordinator first.
package light
