// Package postgres is the catalog of a fleet: package catalog's contract, and that of [catalog.Fleet], in one Postgres
// database (14 or newer) that all brokers share, on pgx.
//
// # The commit point
//
// A write is done when the server acknowledged its COMMIT, or the single statement that is a transaction by itself. With
// synchronous_commit=off that says nothing, so it is refused, and what a connection found when it was opened is pinned for
// its life. Fail-over to a standby loses nothing acknowledged only if that standby is synchronous.
//
// The commit of log objects is one statement: it updates the broker's row if that is unfenced and at the sequence before,
// and inserts one tail row per object from what the update returned. One round trip, one row per object, whatever the
// number of partitions: index and log ends are columns of that row.
//
// # The fence
//
// Everything a broker epoch does locks that epoch's row first, in a mode that FenceBroker's FOR UPDATE conflicts with, and
// goes on only if the row, looked at again after waiting, is unfenced (read committed does that for locked rows; for
// sub-selects it does not). The modes:
//
//   - Commit and Heartbeat update it, which is FOR NO KEY UPDATE: one at a time;
//   - Fold, MergeTail, Edit, SetLogStart, AcquireLeases lock it FOR KEY SHARE: beside commits and each other;
//   - ReleaseLeases and MoveLeases lock it FOR NO KEY UPDATE: after the last commit that is under way. The receiver's row
//     is locked FOR KEY SHARE, in the order of epochs;
//   - FenceBroker locks it FOR UPDATE *before* it updates it. The update alone would not conflict with FOR KEY SHARE.
//
// Writes of groups are guarded by their shard's lease instead: their one statement updates its row, which FenceBroker,
// MoveLeases and ReleaseLeases update too. See groupWrite for why that is not all.
//
// How far a tail is folded and merged is a row of its own (catalog_folds), so that a fold never holds up commits.
//
// # Lock order
//
// Counter broker_epoch or topics_version (the locks of all who register or change topics), brokers, folds, topics,
// partitions, leases, groups, tail, packed rows, objects, the clock, counter leases_version; rows of one table in key order. What
// deadlocks all the same is undone by the server and tried again here.
//
// # Answers lost
//
// Tried again here: reads; statements that were never sent; whatever the server says it undid. A write whose answer is lost
// is catalog.ErrUnavailable, and the caller settles it as the contract says; what it settles it by is durable
// (vouch). "Done" with the warning that the wait for the standby was cancelled is no answer either (durably). Time-outs: a statement's and a lock's at the server, each call's here, TCP keep-alives at both ends, and the server ends transactions whose client fell silent
// (idle_in_transaction_session_timeout). After a lost connection, a shutdown or an answer from a standby the idle
// connections are thrown away and new ones are sought on all hosts of the URL, for one that takes writes.
//
// Commits, heartbeats, fences, moves of leases and looks at those that were moved have connections of their own: no fold or
// slow reader can use them up. So have writes of groups, of which as many may be under way as there are shards.
//
// # Time
//
// The clock is the server's, corrected by one row that all brokers share (catalog_clock, SQL function catalog_now): ahead
// grows when the server's clock was set back, floor is a time that was shown before. Each process looks at the clock every
// second (the pulse) and compares it with its own monotonic clock. It finds steps ahead, restarts of the server, fail-overs
// and times when the catalog could not be reached, and then lets nothing expire for a full term: a session that could not be
// renewed is not lost for that. Whether a session expired is judged while its row is locked, with the reading that came with
// the lock.
//
// A step back is corrected by whoever finds it first. Until then, about a second, times stand still at floor.
//
// # Presence and wake-ups
//
// Attach and Listen use a connection of their own each, which must not lead through a transaction pooler
// ([Options.SessionURL]). Presence is a shared advisory lock, which ends with its connection: seen at once when a process
// dies. Announcements are NOTIFY in a transaction of its own; those that gather while one is under way are sent together.
//
// Other connections may lead through a pooler that gives out connections per transaction if it supports prepared
// statements and passes on the startup parameters (time-outs, planner settings) or is told to ignore them and they are set
// for the role.
//
// # Schema
//
// Tables are named catalog_*; the views topics, partitions, partition_leases, brokers, objects, log_tail, packed_rows,
// retired_objects, consumer_groups, consumer_group_members, consumer_offsets and consumer_lag are for people, and stay when the
// tables change. Both carry comments. Names are unqualified: they live in
// the first schema of the role's search_path.
//
// [Open] migrates: one process at a time, under an advisory lock, goose with SQL files. Migrations run while brokers of the
// version before serve, so each must leave those working (expand), and what they used goes in a later release (contract).
// Each statement of a migration waits at most two seconds for a lock, since brokers queue behind it, and is tried again.
// The counter oldest_program says which program is the oldest that a schema still serves: older ones are refused with
// [ErrNewerSchema], others may start on a newer schema, as happens in a rolling upgrade. Rules for migrations:
//
//   - add columns with constant defaults or none, never rewrite a table; CREATE INDEX CONCURRENTLY in a file without a
//     transaction; constraints NOT VALID, validated by a later statement;
//   - a migration that takes away what the previous release uses raises oldest_program;
//   - views are replaced with columns added at their end.
package postgres
