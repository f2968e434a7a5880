// Package storage is the partition engine: it turns record batches appended to many partitions into log objects,
// commits them to the manifest, and reads them back.
//
// # A term
//
// Everything that may append belongs to one term: one broker epoch. A term has an open log object, up to
// Config.UploadSlots objects being uploaded, and one committer. Offsets are assigned when a batch enters the open
// object; sequences when an object is sealed. An offset assigned is undone in one way only: the term ends. It then
// fails everything uncommitted with ErrNotLeader, and the next term registers a new broker epoch and loads what the
// manifest says. A broker that is alone takes the leases, too; in a fleet (Config.Fleet) it holds nothing at first, and its
// lease manager sees to that.
//
// # The commit point and the crashes around it
//
//		append  → seal → PUT → Commit → apply → answer
//
//	  - before PUT: nothing exists. The client was not answered and sends again.
//	  - after PUT, before Commit: an orphan object that no manifest names. A later sweep deletes it once its broker
//	    epoch is fenced.
//	  - after Commit, before the answer: the batch is in the log. The client sends again; the producer state loaded
//	    from the manifest recognises the sequence and acknowledges the offset it has.
//
// Commit is the only commit point. Objects commit strictly in sequence order, so that an offset never commits
// before a lower one of its partition. A commit whose answer was lost is repeated; ErrSequence is then settled by
// comparing the object id of the row.
//
// # Rewrites
//
// Some things rewrite the manifest, none of them changes an offset or a record:
//
//   - hot merge: a run of small objects of the tail becomes one segment and one tail row (generation 1). Its bytes
//     come from the tail cache.
//   - fold: tail rows become packed rows, at most one per partition; bytes stay where they are. Producer snapshots
//     and leader-epoch histories are computed from the folded rows and the tail rows alone, never from what this
//     process believes.
//   - segment merge: folded objects of one generation become fewer, with longer runs per partition (generation + 1).
//   - trim: extents below the log start leave the packed rows, soon after DeleteRecords, or after a start for what an
//     earlier process left. An object that no extent refers to any more is retired in the same statement, whatever its
//     generation; a partition keeps at most one extent that lies partly below its log start.
//   - space rewrite: folded objects of at least catalog.SparseBytes of which less than half is live, also of the last
//     generation, are copied together, without what is dead. At most one at a time, of segmentBytes, in slowEvery.
//
// How often a byte is rewritten: at most maxGeneration times (4) by merges, once hot, three times folded. Space rewrites
// come on top, and never copy more than they give back: what is copied is less than half of the objects that go. So
// all of them together copy fewer bytes than were deleted.
//
// The keeper does these one at a time, in one goroutine, and gives each its turn: the tail first, also in the midst of a
// merge, then generations in turn, then the rest. Statements are kept small (hotMergeObjects, foldObjects, clipRows), since
// commits wait behind each in a catalog with one writer: about 2 ms. A fold or merge cannot be smaller than one object
// though: where that has data of thousands of partitions, it takes longer.
//
// # Several brokers
//
// With Config.Fleet the engine is one of several (docs/adr/0016-how-brokers-share-partitions.md).
//
//   - The feed of a term (feed.go) keeps the tails of all broker epochs in memory: rows by (epoch, sequence), hot merges by
//     their number, folds by how far they are. Announcements ([Engine.Heard]) make it prompt, what heartbeats say of all
//     brokers makes it certain. Extents of one partition come from several epochs, in any order between them; they are kept
//     by offset, and the high watermark is the end of what hangs together. Rows that were folded before they were read
//     are missing without a trace, so partitions that are followed are then loaded again.
//   - [Engine.ReadFollower] serves what is followed. Everything else that is answered is for leaders.
//   - Taking over ([Engine.Acquire], [Engine.Adopt]): acquire the leases, also those that were moved here; read all tails up
//     to now, then load the folded rows, replay, append.
//   - Handing over ([Engine.HandOver]): stop appends, wait for what is in flight, move the leases. A partition is open;
//     closed, while that goes on; or in doubt, when the answer of the move was lost. What is in doubt is closed, too, and
//     is opened again only when the catalog said that it is still ours. In all three it is held, and committed records are
//     read.
//   - Each broker merges and folds its own tail. A fold takes the rows whose extents continue their partitions' folded log
//     ends; the others wait for another broker's. Each waits for rows that were committed before its own, so nobody waits in a
//     circle; a hot merge keeps it so by never putting a row that continues another's behind one of its own.
//   - Who holds Config.Controller folds the tails of fenced epochs, merges segments, purges topics, and sweeps.
//
// A lease that went elsewhere without a hand-over of ours ends the term, as a fence does.
//
// # Damage
//
// What a merge cannot read as it was written is set aside, for as long as this process lives, with one warning: it stays
// in the manifest, reads of it fail with ErrCorrupt, everything else is merged without it.
//
// What a fold or a load cannot read of one partition costs that partition only: with a damaged producer snapshot it takes no
// idempotent batches (damage.go), a damaged packed row is not appended to. A snapshot of a later version is no damage.
//
// # Time
//
// Ages of tail rows and of producers are by the catalog's clock, which the engine follows through the answers to
// registrations, heartbeats and commits. The local clock only measures how long something took.
//
// Answers that depend on the end or start of the log (offsets by time, out of range) are given only if the term they
// were computed from still leads the partition, under a lease still trusted. Anything else is ErrNotLeader.
//
// In a fleet that is not enough. A broker whose attachment to the catalog is gone is fenced long before its session ends, and
// may be the last to know. So refusals (out of range, out of order, an old producer epoch) are given only once the catalog
// affirmed, asked afterwards, that the term was not fenced; and whoever tells clients where a log begins or ends calls
// [Engine.Affirm] when it has all that one answer says, and then looks whether the leader epochs are the same (ADR 16).
//
// # Locks
//
// Order: feed.turn, which calls of the catalog are made under, then Engine.mu, partition.mu, term.mu; watcher, tail-cache
// and feed.mu locks are leaves. Nothing blocks while holding a mutex.
package storage
