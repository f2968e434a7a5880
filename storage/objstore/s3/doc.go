// Package s3 keeps objects in a bucket of S3, or of a server that speaks its protocol.
//
// # What it needs of a server
//
// Conditional PUT (If-None-Match: *), strongly consistent reads and listings, and ListObjectsV2. [Open] asks for the
// first by putting one small object twice and refuses a server that takes both: without it two brokers could write one
// key. Checksums (x-amz-checksum-crc32c) are sent with every PUT and asked for by Head; from a server that keeps none,
// Head reads the object and computes it. docs/object-stores.md tells what each server has.
//
// # A Put
//
// One PUT with If-None-Match: * and the CRC-32C of [objstore.Body], which the server verifies; the body is read once,
// by the kernel: over plain HTTP its slices go to the socket with writev. Its payload is not part of the signature
// (x-amz-content-sha256: UNSIGNED-PAYLOAD), which spares a SHA-256 over every byte; [Options.SignedPayload] is for
// servers that insist. Over TLS nothing is lost by that. Over plain HTTP somebody on the wire could change a body; he
// could read it all anyway.
//
// An attempt whose answer is lost (timeout, reset, 5xx) may have stored the object. The next attempt sends the same
// bytes under the same key, so three things can come of it: 200 (the lost one did not arrive), 412 or 409. 412 after an
// attempt in doubt is settled by Head: our length and checksum are our own success. 412 at the first attempt is
// [objstore.ErrExists]. 409 says that another PUT of the key is under way, and is tried again.
//
// If the attempts end without certainty, the error wraps [objstore.ErrInDoubt] or is itself one after which
// [objstore.InDoubt] is true. A key is never hedged against itself: whoever wants a second try in parallel uses
// another key, as only the engine can, and cancels the slower Put, whose object, if it came to be, is an orphan.
//
// # Time
//
// An attempt ends when no byte moved for [Options.StallTimeout], in either direction, or when it took longer than that
// plus its size at [Options.MinRate]. Attempts are repeated with full jitter for [Options.RetryFor], each costing a token
// of a budget shared by the store, so that a server in trouble sees few more requests than there are calls. The SDK's
// own retries are off: two layers would multiply. Do not wrap this store in package retry, for the same reason.
//
// 503 SlowDown and 429 close a gate for all calls of the store, for as long as Retry-After says, five seconds at most, or for a time that
// doubles while they go on; calls leave it spread out. Unless Retry-After forbids it, one call in 250 ms does not wait, and
// lets all go if it succeeds. Nothing is hedged meanwhile.
//
// A GET that has not ended when 95 of 100 of its size would have is asked for again on a second connection, and
// whichever ends first is the answer; at most one GET in ten is.
//
// # Errors
//
// Errors of the SDK end here: what leaves is an [*Error] that wraps one of objstore's sentinels where one fits, or the
// caller's context error. It says which permission is missing on what, if one is.
package s3
