// Package coordinator runs the groups of package broker/group: it owns the coordinator shards that this broker leads, and does
// what their pure machines may not: time, the catalog's writes, answers.
//
// # Map
//
// coordinator.go takes requests and follows the leases; shard.go is one shard under one lease, a goroutine that steps the
// machines, shardops.go what becomes of requests there; write.go makes one statement of what many groups changed, merge.go several changes of a group into one; load.go
// reads a shard; timers.go is the heap. shardof.go is Kafka's hash.
//
// # Shards
//
// A shard is a partition of the internal topic lease.GroupsID. Whether this broker leads it, and under which lease epoch, the
// storage engine tells ([Leases]); no lease is taken or given here. A shard lives as long as its lease (broker epoch and lease
// epoch):
//
//	loading   the lease was gained: the shard's groups are read from the catalog. Requests: COORDINATOR_LOAD_IN_PROGRESS.
//	serving   requests and timers step the machines.
//	suspended the engine does not lead at the moment (the session could not be renewed in time, or the lease is being
//	          handed over): everything that waits is answered with NOT_COORDINATOR, timers stand still. If the lease turns
//	          out to be the same afterwards, it goes on serving with what it has in memory: nobody else can have written.
//	lost      the engine holds another lease or none, or the catalog refused a write (catalog.ErrFenced): everything that
//	          waits is answered with NOT_COORDINATOR, and what was not written is forgotten.
//
// # Writes
//
// A machine changes its group in memory at once and says what has to be written. Of a shard one statement is in flight;
// meanwhile changes of all its groups gather, those of one group merge into one, and all go as the next statement. So a
// shard writes as often as the catalog answers, and each statement takes whatever there is: a thousand members committing are
// a few statements. Answers that wait for a write leave once it is durable.
//
// Statements are numbered under their lease. One whose answer was lost is made again under its number, which does nothing if it
// was applied; the next one is not made before that is settled.
//
// # When the catalog does not answer
//
// The statement is made again, with a growing pause, for as long as the lease lasts. A client that has waited for
// [Config.CommitTimeout] is answered with [ErrUnavailable]; its change stays in line. Heartbeats that tell nothing new go on
// being answered from memory, as long as the lease is trusted.
//
// Nobody is thrown out because the coordinator could not answer: group.Resumed gives the members of a group their full time
// anew
//   - when a write of theirs took longer than stallAfter; until then the group's timers stand still;
//   - when the shard was suspended and goes on;
//   - when this process stood still (SIGSTOP, a paused virtual machine): noticed by a beat that came too late, before any timer
//     is looked at;
//   - when the shard was loaded, by the machine itself.
//
// # Invariants
//
//   - A request that [Coordinator.Do] took is answered exactly once.
//   - An answer that tells of a change leaves after the change is durable; one from memory only if the lease was trusted
//     after it was made.
//   - Machines of a shard are stepped by one goroutine, which never waits for the catalog.
//   - Bounded: groups per broker, requests waiting per shard, changes and bytes per statement.
package coordinator
