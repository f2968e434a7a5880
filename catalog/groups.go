package catalog

import (
	"context"
	"time"
)

// Groups are consumer groups, their members and what they committed. Each group belongs to one coordinator shard, by its id
// (Kafka: the hash of the id modulo offsets.topic.num.partitions); a shard is a partition of the internal topic of groups and
// is leased like any other. All that a coordinator writes of a shard's groups goes through WriteGroups.
type Groups interface {
	// ReadGroups returns groups with everything that belongs to them, with id > after, by id (in byte order), at most limit.
	// A shard below 0 means all. Each group is of one moment; different groups may be of different ones. A coordinator
	// loads its shard by it after it got the lease: nothing of an earlier lease is applied any more then.
	ReadGroups(ctx context.Context, shard int32, after string, limit int) ([]GroupRecord, error)
	// ReadGroup returns one group. ErrNotFound.
	ReadGroup(ctx context.Context, id string) (GroupRecord, error)
	// WriteGroups applies changes to groups of one shard, all or nothing, in one round trip. It is guarded by the shard's
	// lease: its row is locked, so that no write is applied after the lease has moved or its holder was fenced (ErrFenced).
	// Writes under one lease are numbered 1, 2, 3 …: a write whose number is not the last one's + 1 is ErrSequence and
	// changes nothing, except that a repeat of the last number is a success that changes nothing, which settles answers
	// lost. So a statement delayed on a dead connection can never undo a later one. It returns the catalog's clock.
	// ErrInvalid for two changes of one group, an empty group id, a shard out of range, or offsets or members of a change
	// that deletes the group.
	WriteGroups(ctx context.Context, w GroupWrite) (at time.Time, err error)
}

// GroupKind is the protocol a group speaks.
type GroupKind string

// The kinds, as Kafka's ListGroups (KIP-848) has them.
const (
	GroupClassic  GroupKind = "classic"
	GroupConsumer GroupKind = "consumer"
)

// Group is one row of a group: what people look for is in columns, the rest in State.
type Group struct {
	ID           string
	Shard        int32
	Kind         GroupKind
	ProtocolType string // "consumer" for consumers; empty for groups that only commit offsets
	Protocol     string // the assignor in force, or empty
	// Phase is Kafka's name of the group state (Empty, Stable …) as of the last write: a coordinator at work knows better.
	Phase string
	// Epoch is the generation of a classic group, the group epoch of a consumer group.
	Epoch int32
	// Leader is the member id of a classic group's leader, or empty.
	Leader string
	// State is the rest, encoded by broker/group as JSON; never empty.
	State []byte
	// ChangedAt is when the group last changed its phase, by its coordinator's clock: retention of the offsets of an empty
	// group runs from it (KIP-211).
	ChangedAt time.Time
}

// GroupMember is one row of a member.
type GroupMember struct {
	ID         string
	InstanceID string // KIP-345; empty: none
	ClientID   string
	ClientHost string
	// State is the rest (subscription, time-outs, epochs, assignment), encoded by broker/group as JSON; never empty.
	State []byte
}

// GroupOffset is one committed offset.
type GroupOffset struct {
	Topic     string
	Partition int32
	// TopicID is the id the topic had at the commit; zero when the committer did not know it.
	TopicID     TopicID
	Offset      int64
	LeaderEpoch int32  // of the last consumed record; -1: not told
	Metadata    string // the client's
	CommittedAt time.Time
	// ExpiresAt is when it expires by the client's own wish (OffsetCommit versions 2 to 4); zero: by the broker's retention.
	ExpiresAt time.Time
}

// GroupPartition names a partition as offsets do: by the topic's name.
type GroupPartition struct {
	Topic     string
	Partition int32
}

// GroupRecord is a group with all that belongs to it. Members are by ID, Offsets by (Topic, Partition).
type GroupRecord struct {
	Group
	Members []GroupMember
	Offsets []GroupOffset
}

// GroupWrite is what WriteGroups applies.
type GroupWrite struct {
	Shard  int32
	Holder BrokerEpoch // of the shard's lease
	Lease  LeaseEpoch
	Number int64
	// Changes are of different groups.
	Changes []GroupChange
}

// GroupChange is what happens to one group. Fields left empty change nothing. Members and offsets need a row of the group,
// from this change or an earlier one (ErrInvalid).
type GroupChange struct {
	ID string
	// Delete removes the group, its members and offsets.
	Delete bool
	// Group, if not nil, becomes the group's row.
	Group *Group
	// AllMembersGone removes all members before Members are put.
	AllMembersGone bool
	Members        []GroupMember // put: each ID once
	MembersGone    []string      // unknown ids are ignored
	Offsets        []GroupOffset // put: each partition once
	OffsetsGone    []GroupPartition
}
