// Package assignor is who in a consumer group (KIP-848) should own which partition: the server-side assignors of Apache
// Kafka 4.x, as pure functions. They know nothing of epochs or of what members really hold: the target that an assignor
// returns is what package broker/group moves members to, one heartbeat at a time.
//
// # Assignors
//
// range gives each member a contiguous range of each topic it subscribes to, members with an instance id first. Topics of
// equal partition counts and equal subscribers are so co-partitioned: a member has the same numbers of each. It keeps nothing
// of the target before.
//
// uniform balances the number of partitions of members and moves few. If all subscribe to the same topics, no member has two
// partitions more than another and the number moved is the least possible. Otherwise, no partition is with a member that
// has two more than another subscriber of its topic (but for the bound on work, see assignMixed).
//
// # Where it differs from Kafka's
//
// Who gets which partition is not part of the protocol, and need not be equal. Kafka's uniform hands out free partitions in
// runs and its extra partitions to the members that come first; ours deals them round, so that the partitions of one topic
// are spread, and gives the extra ones to those who have them already, so that fewer move. Kafka 4.x tells its assignors
// racks, but neither of them looks; our uniform prefers, among equally balanced targets of equal subscriptions, those
// where a member gets free partitions that can be read in its rack.
//
// # Invariants
//
//   - Each partition of a topic that somebody subscribes to has one owner, who subscribes to it; no other has one.
//   - Equal input gives equal output. The input is not changed, and the output shares nothing that anybody changes.
package assignor
