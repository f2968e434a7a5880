// Package proxy stands between two processes and does to their connection what
// networks and servers do: it goes silent, resets, slows down, and loses one
// message at the worst moment.
//
//	TCP       any connection: cut silently, cut with a reset, forgotten (the
//	          server finds a reset, the client silence), delayed
//	Postgres  that, and the protocol read along: notifications swallowed,
//	          commits applied after their client was told that the connection is gone
//	HTTP      requests to an object store: answered 503, their bodies slow or
//	          truncated, stored after the client was hung up on
//
// # What a silent cut is
//
// A proxy cannot drop packets. It stops reading from both sides and answers
// nothing; connections opened meanwhile are accepted by the kernel and then
// nothing comes. That differs from a cable pulled in two ways: connecting does
// not time out, the first read does; and what was sent during the cut arrives
// when it heals, at once, where TCP would take its time to retransmit. Both make
// a cut harder on whoever trusts what arrives late, which is what is tested.
//
// # What becomes of an end
//
// An end in good order is passed on as one, a reset of the server as a reset: a client tells them apart, and franz-go gives up on
// a server that ends its first exchange in good order. Where there is no server, connections are reset, or, by ListenWhile, refused:
// franz-go looks for another coordinator only when it cannot connect to the one it had.
//
// Everything here counts how often it did what it was told to, since a fault
// that never happened proves nothing.
package proxy
