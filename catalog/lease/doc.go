// Package lease lets the brokers of a cluster share its partitions: who leads what, who takes what is free, who is dead,
// and what should move. docs/adr/0016-how-brokers-share-partitions.md is the decision behind it.
//
// Each process has one [Manager]. It decides in one goroutine and does in a few others; what it knows of the cluster is a
// [View], an immutable snapshot that everybody may read. It holds no log: the storage engine does, behind [Partitions].
// Without a [catalog.Fleet] (one process owns the catalog) the same code takes all there is.
//
// # What it does
//
//   - The view follows the version of the lease set, which grows with each lease, registration, fence and draining mark.
//     It is read again when an announcement or a heartbeat tells of a larger one, and looked at each [Config.Tick].
//   - Free leases are taken by a preference that all brokers compute alike (rendezvous hashing over the brokers that should
//     hold leases), so that nobody has to assign them. Whoever comes first takes at once; what is still free after
//     [Config.Leftover] is taken by anyone. Where nobody holds any, [Config.Gather] goes by first.
//   - Leases that were moved to us are adopted; what a receiver asked of us is handed over, a few at a time.
//   - Sessions that ran out are fenced; the catalog's clock judges. A process whose attachment was seen to go, and that did
//     not come back within [Config.Confirm], is fenced without waiting for that. The own attachment is kept by a goroutine
//     that does nothing else: a manager that waits for an answer would be taken for dead.
//   - The controller, who is the holder of [ControllerLease], asks for the moves that [Plan] makes of the view.
//   - No two processes have one broker id: [AwaitID] refuses the second, and of two that began together the one that
//     registered first is told to give way.
//   - [Manager.Drain] gives everything away before the process ends.
//
// # Invariants
//
//   - Two brokers never append under the same lease epoch. A lease changes hands in the catalog only: by a fence, after
//     which nothing of the old epoch is ever applied, or by its holder, after its last commit ([Partitions.HandOver]).
//   - A view may be old. It decides whom to ask, never who may append. In particular a lease that was given away is not
//     adopted because an old view says that it is ours: only a larger lease epoch than the one given away is.
//   - A dropped attachment is evidence only for those who saw it stand during their own present attachment. After a restart
//     of the database nobody has seen anybody, so nobody is fenced for being slow to come back.
//   - The fence of a detached process may come before it learns that it is detached. So nobody says what only a leader may
//     before the catalog affirmed that it is not fenced ([catalog.Fleet.Unfenced]); the engine sees to that.
//   - An ask is obeyed by its holder or not at all; the plan of a dead controller does no harm.
//
// # Failures
//
// A catalog that does not answer stops all of this, and nothing else: leases are kept, sessions are the engine's. Every call
// has a time limit and is tried again at the next tick, with a growing pause where it is the engine that fails. Answers lost
// are settled by the next view: a lease of ours that the engine does not hold is adopted, one that the engine holds and
// that is somebody else's is handed over to that holder once more, which drops it.
//
// # Cost
//
// A view takes 12 bytes a lease, and for a moment 48 more while it is made: 1 million partitions are 12 MB that stay.
// They take a tenth of a processor at most: small ones are made as often as something is announced, large ones once a Tick. All
// observers together ask about ten times a second who is attached.
package lease
