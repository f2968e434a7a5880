// Package catalog is the contract for the facts all brokers of a cluster agree on: topics and their configs,
// brokers, leases, the manifest, consumer groups, and id blocks. It holds no SQL and no I/O; catalog/sqlite, catalog/memory and
// (for fleets) catalog/postgres implement it and pass the one suite in catalog/catalogtest.
//
// # The manifest
//
// The manifest says which bytes make up each partition's log. What it does not name does not exist. It has two
// levels:
//
//   - the tail: one row per committed object, key (broker epoch, sequence), carrying the object's whole index.
//     A row may stand for a run of sequences after a hot merge ([TailEntry.First] .. [TailEntry.Last]).
//   - folded: extents packed into rows by (partition, base offset), and one row per partition with log start, log
//     end, last stable offset, leader-epoch history and producer snapshot. All folded rows are true as of one named
//     sequence per broker epoch: [BrokerTail.Folded].
//
// Indexes, packed extents and producer snapshots are opaque bytes here; package storage encodes them.
//
// # Fencing
//
// Every broker process registers and gets a broker epoch that only grows. The broker's row is the fence: each
// manifest statement first locks and updates or checks that row (epoch equal, not fenced), in the same transaction,
// and does the rest only if that succeeded. A fence updates the same row, and log ends are read only after it, so
// that a commit either happened before the fence and is seen, or is refused. A sub-select is not a guard.
//
// A lease moves in two ways only: its holder releases it by a statement that locks its own broker row, or the
// holder's whole broker epoch is fenced. The lease epoch only grows, and is Kafka's leader epoch.
//
// Writes of consumer groups ([Groups]) are guarded by the row of their shard's lease instead, which all that takes a lease
// away changes.
//
// # Answers lost
//
// Every method may fail after its effect was applied. Each one says how the caller settles that. Implementations
// never retry by guessing.
//
// # Time
//
// Every time.Time in this package is the catalog's clock. Callers' clocks decide nothing here. It never goes back and
// never stands still: set back, it runs on from where it was. After the catalog was opened, and after its clock was found
// set ahead, nothing expires for one full term: sessions count as heard of, and objects as retired, at that moment at the
// earliest. The times returned are the ones stored all the same.
//
// # Backups
//
// A catalog put back to an earlier state has forgotten what it handed out since. [Operator.Restored] moves all epochs, ids
// and versions past anything that could have been, before a broker uses it.
//
// # Arguments
//
// Arguments that are wrong whatever the catalog holds (negative offsets, a last stable offset above the log end, an empty
// span, one object or key named twice) are refused with [ErrInvalid] before anything else. The checks are functions of
// this package, the same for all implementations. A limit of 0 or less asks for nothing and gets nothing.
//
// # Object keys
//
// A key is never used again, also not after its object is gone; the caller sees to that. An object that becomes folded
// under the id or key of another folded one is refused with [ErrConflict]; keys in the tail and retired ones are not
// compared.
//
// # Lock order
//
// Within one statement rows are locked: brokers, topics, partitions, leases, tail, packed rows, objects, groups, each in key
// order.
package catalog
