package catalog

import (
	"context"
	"time"
)

// GroupsTopic is the internal topic whose partitions are the coordinator shards of groups. Its id is the same in all clusters.
var GroupsTopic = TopicID{0x73, 0x68, 6: 0x40, 8: 0x80, 15: 2}

// Groups are consumer groups, their members and what they committed. Each group belongs to one coordinator shard, by its id
// (Kafka: the hash of the id modulo offsets.topic.num.partitions); shard n is partition n of [GroupsTopic] and is leased like
// any other. All that a coordinator writes of a shard's groups goes through WriteGroups.
type Groups interface {
	// ReadGroups returns groups with everything that belongs to them, with id > after, by id (in byte order), at most limit.
	// A shard below 0 means all. Each group is of one moment; different groups may be of different ones. A coordinator
	// loads its shard by it after it got the lease: nothing of an earlier lease is applied any more then. ErrInvalid for an
	// after that is neither empty nor what [CheckGroupID] lets pass.
	ReadGroups(ctx context.Context, shard int32, after string, limit int) ([]GroupRecord, error)
	// ReadGroup returns one group. ErrNotFound.
	ReadGroup(ctx context.Context, id string) (GroupRecord, error)
	// WriteGroups applies changes to groups of one shard, all or nothing, in one round trip. It returns the catalog's clock.
	//
	// It is guarded by the shard's lease, whose row it locks and changes: no write is applied after the lease was moved or
	// released, or its holder fenced, and what was applied before is seen by whoever reads after that. ErrFenced when the
	// shard's lease is not held by w.Holder under the epoch w.Lease, also of shards that do not exist. The holder itself may
	// be unfenced: then only this lease has gone.
	//
	// Writes under one lease are numbered 1, 2, 3 …, also those without changes. A write whose number is not the last one's
	// + 1 is ErrSequence and changes nothing, except that a repeat of the last number is a success that changes nothing: it
	// is not looked at what it would have changed. So a lost answer is settled by the same call again, and a statement
	// delayed on a dead connection can never undo a later one.
	//
	// ErrInvalid for what [GroupWrite.Check] refuses; also, once lease and number are found right, for a change that puts
	// members or offsets of a group without a row, or a row of a group that has one in another shard. A refused write takes
	// no number.
	WriteGroups(ctx context.Context, w GroupWrite) (at time.Time, err error)
}

// Bounds of what Groups keep, in bytes. Kafka has none but the 32 KiB of its strings; here ids are keys of indexes.
const (
	MaxGroupID  = 1024
	MaxMemberID = 1024
	// MaxGroupTopic is Kafka's longest topic name.
	MaxGroupTopic = 249
)

// MaxGroupTime is the latest time that Groups keep. They keep times to the microsecond: the rest is cut off.
var MaxGroupTime = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)

// GroupKind is the protocol a group speaks.
type GroupKind string

// The kinds, as Kafka's ListGroups (KIP-848) has them.
const (
	GroupClassic  GroupKind = "classic"
	GroupConsumer GroupKind = "consumer"
)

// Group is one row of a group: what people look for is in columns, the rest in State. All texts, here and below, are valid
// UTF-8 without NUL.
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
	// State is the rest, encoded by broker/group as JSON; never empty. It comes back byte for byte.
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
	Topic     string // its name at the commit
	Partition int32
	// TopicID is the id the topic had at the commit; zero when the committer did not know it.
	TopicID     TopicID
	Offset      int64  // of the next record to read; not negative
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
	Number int64 // from 1 under each lease
	// Changes are of different groups. How many there may be is for the caller to bound: a write of some thousand rows
	// takes tens of milliseconds, in which nothing else of the shard is written and its lease does not move.
	Changes []GroupChange
}

// GroupChange is what happens to one group. Fields left empty change nothing. Members and offsets that are put need a row of
// the group, from this change or an earlier one. What is not there is gone already: removing it is no error, also where it
// belongs to another shard, which is left alone.
type GroupChange struct {
	ID string
	// Delete removes the group, its members and offsets. It stands alone.
	Delete bool
	// Group, if not nil, becomes the group's row. It is of the same ID and of the write's shard.
	Group *Group
	// AllMembersGone removes all members before Members are put.
	AllMembersGone bool
	Members        []GroupMember    // put: each ID once
	MembersGone    []string         // each once, none that is put
	Offsets        []GroupOffset    // put: each partition once
	OffsetsGone    []GroupPartition // each once, none that is put
}
