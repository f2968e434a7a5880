// Package members are members of consumer groups that are driven by hand, request by request, and a history of what they were
// told while their coordinator was being broken:
//
//	Classic    JoinGroup, SyncGroup, Heartbeat, OffsetCommit, LeaveGroup
//	Consumer   ConsumerGroupHeartbeat (KIP-848), OffsetCommit
//
// Real clients hide most of what a coordinator says: they join again and go on. These tell a [History] every code, epoch,
// assignment and acknowledged commit. A member can be held at a moment that real clients pass in an instant: one that was told
// of a rebalance and does not join again, a leader that does not send the assignment, an owner that does not give up what it
// is to give up.
//
// # What a history judges
//
//   - No partition has two owners: in one generation of a classic group, at any time in a consumer group. An owner of the
//     latter owns from the answer that gives it a partition until it begins to say that it gave it up.
//   - Generations and member epochs do not go back.
//   - Nobody is thrown out: UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION, FENCED_MEMBER_EPOCH and the like are contradictions, except
//     for a member id that was given out by MEMBER_ID_REQUIRED and has joined nothing yet, which Kafka forgets, too; and, while
//     members come and go ([History.Churning]), for one whose last heartbeat was not answered well: of two answers lost
//     it may be two epochs behind, and Kafka takes the epoch before the present one and no older.
//   - A request is answered with codes that Apache Kafka's clients retry by themselves, and with no others. Which those are
//     differs by request: a Heartbeat with COORDINATOR_LOAD_IN_PROGRESS ends a Java consumer, a commit with it does not.
//   - A committed offset that is read is not older than any acknowledged before it was asked for, and not beyond any sent.
//   - Committed offsets, as read by whoever watches, do not go back.
//   - While it is to be still ([History.Still]), no member has another id, epoch or assignment.
//
// Numbers to commit count up per partition, so that older and newer can be told. A member sends one commit at a time, and a
// number is never sent twice.
package members
