// Package storage is the partition engine: it turns record batches appended to many partitions into log objects,
// commits them to the manifest, and reads them back.
//
// # A term
//
// Everything that may append belongs to one term: one broker epoch. A term has an open log object, up to
// Config.UploadSlots objects being uploaded, and one committer. Offsets are assigned when a batch enters the open
// object; sequences when an object is sealed. An offset assigned is undone in one way only: the term ends. It then
// fails everything uncommitted with ErrNotLeader, and the next term registers a new broker epoch, takes the leases
// and loads what the manifest says.
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
// Three things rewrite the manifest, none of them changes an offset or a record:
//
//   - hot merge: a run of small objects of the tail becomes one segment and one tail row (generation 1). Its bytes
//     come from the tail cache.
//   - fold: tail rows become packed rows, at most one per partition; bytes stay where they are. Producer snapshots
//     and leader-epoch histories are computed from the folded rows and the tail rows alone, never from what this
//     process believes.
//   - segment merge: folded objects of one generation become fewer, with longer runs per partition (generation + 1).
//
// A byte is rewritten at most maxGeneration times (4): once hot, three times folded.
//
// # Locks
//
// Order: partition.mu, then term.mu; watcher and tail-cache locks are leaves. Nothing blocks while holding one.
package storage
