// Package sqlite is the embedded catalog: package catalog's contract on one SQLite file in the data folder, for a
// cluster of one broker.
//
// # The commit point
//
// A write is done when SQLite's COMMIT returned: its pages are then in the write-ahead log (file suffix -wal) and the
// log is synced (synchronous=FULL). A crash before leaves nothing of it, a crash after leaves all of it; the next
// [Open] replays the log. When syncing fails, whether the write survives is not known until the next one succeeds:
// the answer is catalog.ErrUnavailable, and callers settle it as each method's contract says. When the disk is full
// the answer is catalog.ErrNoSpace and nothing was applied.
//
// # One writer
//
// One goroutine owns the one connection that writes. It takes the writes that wait and applies them in one transaction,
// each in its own savepoint, so that a refused one leaves the others alone; all are answered after the one COMMIT, and a
// COMMIT that fails fails all of them, the refused ones too: what they were refused for may not have been stored. Since nobody else writes, a transaction that has begun has already locked every
// row there is: looking at the broker's row is the fence the contract asks for, and the contract's lock order is
// trivially kept.
//
// What the writer does, commits wait for. So a merge or a fold looks at the tail rows it takes out before it is queued, on a
// reading connection, and the writer only makes sure that none has gone since; the keys that a merge retires are one list.
//
// A context that ends while its write waits takes the write out of the queue. One that ends while the write is being
// applied gets an answer that is both catalog.ErrUnavailable and the context's error: in doubt.
//
// Reads run on a few read-only connections, each call in one snapshot. They neither wait for the writer nor delay it.
//
// Connections are used straight through the driver, without database/sql, which would cost more than the statements
// themselves; only goose, which brings the schema up to date, uses it. The schema's comments say what each table holds.
// The views v_topics, v_partitions, v_leases, v_brokers, v_tail, v_objects, v_packed_rows, v_retired, v_groups,
// v_group_members and v_group_offsets are for people with the sqlite3 shell: ids in hex, times in UTC.
//
// # Checkpoints
//
// SQLite would copy the log into the file within some unlucky commit. That is off; a goroutine with its own connection
// does it, after about 4 MiB of writes and at least every 5 seconds when there were any, in a way that waits for nobody.
// Under constant load such a checkpoint never catches up with the log's end, and only a log that is copied to its end is
// begun anew. So once the log is longer than 12 MiB the goroutine copies again what was written meanwhile, until that is
// little, and the writer copies the rest between two transactions, in less than a millisecond.
// A reader that holds a snapshot for long delays that; reads here are short.
//
// # Space
//
// Pages freed by merges and folds are used again, so the file is as large as the most it ever had to hold. A
// simulated day (200,000 commits with 500 B of index, a tail merge every 1,000, a fold into 100 partitions every
// 10,000, a segment merge every 16 folded objects) left a file of 3 MiB and a log of 15 MiB at most; see BenchmarkDay.
// On a virtual machine with two cores it ran at 1,500 to 3,000 commits per second. Opening takes 1 to 2 ms.
//
// # Waiting
//
// 60,000 commits with 300 B of index, one after the other, with a merge of each 4,096 rows and a fold of what was merged
// beside them, took 0.18 ms each in the median, most of which is the sync, 0.4 ms at the 99th and 0.9 ms at the 99.9th
// percentile, 10 ms at most, on two cores otherwise idle: see BenchmarkCommitBesideMerges. The longest waited for a merge,
// which holds the writer for about 7 ms, mostly to delete its rows. A fold of one merged object takes it 1 ms. A fold of
// 4,096 objects that were not merged takes about 30 ms, because so many rows of objects are added; a caller that minds
// folds some of them at a time.
//
// Memory is at most about 14 MiB: page caches of 4 MiB for the writer and 2 MiB for each of four readers, which start
// empty, and little beside them. Nothing is mapped.
package sqlite
