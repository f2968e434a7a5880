// Package record makes the records the compatibility tests send, and reduces
// what any client read to something two clients can be compared by.
//
// # Generator
//
// A record is a pure function of (seed, index), written three times: here, in
// clients/python/gen.py and in clients/node/gen.js. The three are compared by
// digest in this package's tests, so a producer that runs in another process
// needs no input but the two numbers, and its bytes are known here exactly.
// Only 32-bit arithmetic is used, because that is what the slowest of the three
// languages does fast; payloads are cut out of a fixed pool so that a million
// records cost seconds, not minutes.
//
// About one key in 16 is null and one empty; about one value in 32 is null and
// one empty; there are 0 to 3 headers, of whose values some are null and some
// empty. Sizes run from 0 to 32 KiB, mostly near 100 B. Timestamps are in
// November 2023, in milliseconds, and not monotonic.
//
// # Clients that cannot say everything
//
// kcat and Java's console producer read lines, so they get text instead of
// bytes, and kcat cannot mix empty with null, nor vary headers within one run.
// [Variant] says what of a record is changed for them; nothing else is.
//
// # Digest
//
// [Digest] reduces one partition, read in offset order, to a count and two
// SHA-256 sums: of offset, key, value and headers (content), and of those and
// the timestamp (full). The encoding is in [AppendCanonical]; null and empty
// differ in it.
package record
