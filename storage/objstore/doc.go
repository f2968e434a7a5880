// Package objstore is the contract for the place where a log's bytes live: a flat space of immutable objects, put
// and read by key. It holds no I/O. Packages fs and memory implement it (and, for fleets, s3); faulty, retry, metered
// and slow wrap any implementation; all of them pass the one suite in objstoretest.
//
// # Objects
//
// An object is written once, whole, and never changed. Its key is never used for other bytes: callers choose keys
// that no other attempt, process or broker epoch chooses. What an object means is said by the catalog alone; a store
// that holds objects no manifest names is healthy, they are orphans.
//
// Between two states there is nothing: an object is absent, or it is there with all its bytes. No reader ever sees
// a part of one.
//
// # Durability
//
// A [Store.Put] that returned nil outlives the process, the machine and a power cut. So does an object that
// [Store.Head] reported: Head must not report bytes that could still be lost, because [Settle] acknowledges on its
// word.
//
// # Answers lost
//
// A Put that failed may have stored its object all the same: the answer was lost, or the caller's context ended
// first. [InDoubt] tells the errors after which that is possible. The caller never guesses; it either
//
//   - asks [Settle], which compares length and checksum under the key, or
//   - puts the same bytes under a new key and leaves the old one to be an orphan.
//
// With a remote store a Put in doubt can still arrive after Settle found nothing. That is harmless as long as the
// same key is only ever tried with the same bytes, and Delete is only called on keys for which no Put is under way.
//
// A store that retries inside (an SDK does) can receive "exists" as the answer to its own success. It must settle
// that before it answers [ErrExists].
//
// # Errors
//
// Errors wrap one of the sentinels of this package where one fits, and say what was attempted with a verb phrase.
// Any other error is the backend's and is treated as transient, see [Retriable].
//
// # Time
//
// [Info.ModTime] is the backend's clock and is for people. No decision rests on it.
package objstore
