// Package group is what consumer groups do, as pure state machines: a [Group] takes an event and the time, and says what
// follows. It has no clock, no I/O, no goroutine and no lock; package broker/group/coordinator runs it: it keeps the shards
// that this broker leads, the timers, the catalog's writes and the answers.
//
// # Map
//
// machine.go has the words: events, effects, answers. group.go is one group of any kind: it sends events to the machine of its
// kind, keeps its committed offsets (offsets.go; commit.go has the requests about them) and turns one kind into the other
// (migrate.go). step.go collects what follows from one event, read.go is what people may ask. classic*.go is the classic
// protocol (JoinGroup, SyncGroup, Heartbeat, LeaveGroup; KIP-62, 134, 345, 394, 559, 800, 814), consumer*.go that of KIP-848:
// consumerheartbeat.go is what a heartbeat does, reconcile.go how a member gets to its target, subscription.go and target.go
// what members subscribe to and how targets are made, consumerclassic.go members that speak the classic protocol in such a
// group, consumerstate.go their rows; the server-side assignors are in package broker/group/assignor. state.go is how groups and members are kept in the catalog.
//
// testdata has runs of groups as scripts with what follows from each step: the place to look up what happens when.
//
// # What is durable, and when answers leave
//
// A machine changes its membership in memory at once, and says what has to be written. Three kinds of answers follow from a
// step: those that tell nothing new leave at once; those that tell of the change wait until its write is durable; those that
// tell of a change that is still being written wait for that. So no member learns of a generation, a member epoch or an
// assignment that the loss of the coordinator could take back. Committed offsets change in memory only once they are durable
// ([Written]); what OffsetFetch reads is never newer than what a crash leaves.
//
// A write is tried until it succeeds or the shard is lost. A client that waits too long is answered with a retriable error; its
// write stays in line.
//
// # Invariants
//
//   - No partition is owned by two members of one generation (classic, as the leader assigned) or, in a consumer group, by two
//     members at any time: a partition goes to its next owner after the former one has said that it gave it up, or is gone.
//   - Every partition of a subscribed topic is owned once a consumer group is stable.
//   - A committed offset that was acknowledged is never forgotten or replaced by an older commit.
//   - Generations, group epochs and member epochs only grow.
//   - Everything a client can make a group hold is bounded ([Config]).
//   - Step with equal events and times gives equal effects: nothing depends on the order of a map, random ids come from outside.
package group
