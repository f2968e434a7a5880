package catalog

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"time"
)

// TopicID is Kafka's topic id: a UUID that is never reused, so that a topic deleted and created again under the
// same name is another topic. The zero value means "no id".
type TopicID [16]byte

// String gives the id as 32 hex digits.
func (id TopicID) String() string { return hex.EncodeToString(id[:]) }

// TopicPartition names one partition for ever.
type TopicPartition struct {
	Topic     TopicID
	Partition int32
}

// String gives TOPICID/PARTITION.
func (tp TopicPartition) String() string { return fmt.Sprintf("%s/%d", tp.Topic, tp.Partition) }

// Compare orders by topic id, then partition: the order in which rows are locked.
func (tp TopicPartition) Compare(o TopicPartition) int {
	if c := cmp.Compare(string(tp.Topic[:]), string(o.Topic[:])); c != 0 {
		return c
	}
	return cmp.Compare(tp.Partition, o.Partition)
}

type (
	// BrokerID is Kafka's node id, chosen by the operator or handed out; stable across restarts.
	BrokerID int32
	// BrokerEpoch grows each time any broker registers and is unique in the cluster: the unit of fencing.
	BrokerEpoch int64
	// Sequence numbers the commits of one broker epoch: 1, 2, 3 … without holes.
	Sequence int64
	// LeaseEpoch is the epoch of a partition lease and Kafka's leader epoch. It only grows.
	LeaseEpoch int32
	// ObjectID names an object of the manifest for ever. Ids come in blocks from AllocateIDs(IDObject).
	ObjectID int64
)

// Topic is one live topic.
type Topic struct {
	ID                TopicID
	Name              string
	Partitions        int32
	ReplicationFactor int16 // as asked for at creation; durability comes from the store, so it is only remembered
	Configs           map[string]string
	Version           int64 // grows with each change of this topic
	CreatedAt         time.Time
}

// TopicSpec is what CreateTopic needs. Names and config values have been checked by the caller.
type TopicSpec struct {
	ID                TopicID // chosen by the caller (random), so that a lost answer can be settled
	Name              string
	Partitions        int32
	ReplicationFactor int16
	Configs           map[string]string
}

// TopicSet is a snapshot of all live topics.
type TopicSet struct {
	Version int64 // grows with each change of any topic; equal versions mean equal sets
	Topics  []Topic
}

// Listener is one address clients may use, by listener name.
type Listener struct {
	Name string
	Host string
	Port int32
}

// Registration is what a broker says of itself.
type Registration struct {
	ID          BrokerID
	Incarnation [16]byte // random per process; a registration repeated after a lost answer returns the same epoch
	Rack        string
	Listeners   []Listener
	TTL         time.Duration // how long after its last heartbeat the session expires
}

// Broker is one registered broker epoch.
type Broker struct {
	Registration
	Epoch         BrokerEpoch
	Fenced        bool
	RegisteredAt  time.Time
	LastHeartbeat time.Time
	LastSequence  Sequence // of the last commit; 0 = none
	Draining      bool     // should hold no leases. See [Fleet.SetDraining]
}

// FenceReason says why a broker epoch may be fenced.
type FenceReason int

// The reasons. Expired is verified against the catalog's clock inside the statement.
const (
	FenceExpired    FenceReason = iota // its session ran out
	FenceProvenDead                    // the caller has proof, e.g. it holds the data folder's lock
	FenceResigned                      // the broker fences itself
)

// Heartbeat is the catalog's answer to a session renewal.
type Heartbeat struct {
	Now           time.Time
	TopicsVersion int64
	LeasesVersion int64 // also grows when a broker registers or is fenced, or its draining mark changes
	// Tails are the positions of all brokers, as [Manifest.BrokerTails] has them, for a broker whose wake-ups were
	// lost. Catalogs that one process owns may leave them out.
	Tails []BrokerTail
}

// Lease is the right of one broker epoch to append to one partition.
type Lease struct {
	TopicPartition
	Holder BrokerEpoch // 0 = nobody
	Epoch  LeaseEpoch
	Wanted BrokerEpoch // whom the holder is asked to hand it over to; 0 = nobody. See [Fleet.AskMoves]
}

// LeaseSet is a snapshot of the leases of all partitions of all live topics.
type LeaseSet struct {
	Version int64
	Leases  []Lease
}

// TailEntry is one row of the tail.
type TailEntry struct {
	Epoch BrokerEpoch
	// First and Last are the sequences it stands for: equal for a log object as committed; a run after a hot merge.
	First, Last Sequence
	Object      ObjectID
	Key         string // object key
	Size        int64  // bytes of the object
	Checksum    uint32 // CRC-32C of the whole object
	Index       []byte // encoded by storage/segment
	// Ends are the log ends of the partitions it has data of, each once, in any order. Optional, and written only: a
	// catalog that people read (catalog/postgres) shows high watermarks from it, no method returns it, and nothing is
	// decided by it.
	Ends        []PartitionEnd
	CommittedAt time.Time
	// Merge numbers the hot merges of the epoch, 1, 2, 3 …; 0 for a row as committed. Set by the catalog.
	Merge int64
}

// PartitionEnd is where a partition's log ends once an object is committed: the offset after its last record there.
type PartitionEnd struct {
	TopicPartition
	End int64
}

// BrokerTail tells how far one broker epoch's commits reach and how much of them is folded. Epochs whose commits
// are all folded and which are fenced may be left out by the catalog.
type BrokerTail struct {
	Epoch  BrokerEpoch
	Folded Sequence // all sequences <= Folded are in folded rows
	Last   Sequence // last committed
	Merges int64    // hot merges of it so far: [TailEntry.Merge] of the latest
}

// EpochStart is one entry of a leader-epoch history: the first offset written in that epoch.
type EpochStart struct {
	Epoch LeaseEpoch
	Start int64
}

// PartitionState is the folded row of one partition. All offsets are as of BrokerTail.Folded, except LogStart,
// which DeleteRecords and retention move at once.
type PartitionState struct {
	TopicPartition
	LogStart     int64
	LogEnd       int64
	LastStable   int64
	LeaderEpochs []EpochStart
	Producers    []byte // producer snapshot, encoded by storage; nil = none
	Bytes        int64  // bytes of the folded extents
}

// PackedRow holds consecutive extents of one partition. Rows of a partition do not overlap.
type PackedRow struct {
	TopicPartition
	Base    int64 // offset of the first record
	End     int64 // offset after the last record
	Extents []byte
	Version int64 // set by the catalog: no two rows ever had the same one at the same base; edits must name it
}

// Span is a stretch of one partition's offsets, From <= offset < To. A packed row reaches into it when its End > From
// and its Base < To.
type Span struct {
	TopicPartition
	From, To int64
}

// MaxSpans is how many spans one PackedSpans asks for at most.
const MaxSpans = 1024

// SparseBytes is the size from which SparseObjects looks at an object: what smaller ones waste is left to merges.
const SparseBytes = 1 << 20

// RowRef names one version of a packed row.
type RowRef struct {
	TopicPartition
	Base    int64
	Version int64
}

// Object is a folded object: one that packed rows refer to.
type Object struct {
	ID         ObjectID
	Key        string
	Size       int64
	Checksum   uint32
	Generation int32 // how many times its bytes have been rewritten
	Refs       int64 // extents in packed rows that point into it; at 0 it is retired
	Live       int64 // bytes those extents cover
	CreatedAt  time.Time
}

// RefDelta changes the references of a folded object.
type RefDelta struct {
	Object ObjectID
	Refs   int64
	Live   int64
}

// Fold turns the tail rows (After, Through] of one broker epoch into folded rows, in one transaction: bytes stay
// where they are.
type Fold struct {
	Tail           BrokerEpoch // whose tail
	After, Through Sequence    // After must equal the epoch's Folded; Through must end a tail row
	Objects        []Object    // the objects of those rows; one with Refs 0 is retired at once
	Replaces       []RowRef    // rows that Rows replace (an appended row replaces itself)
	Rows           []PackedRow // at most one per partition; it ends at the partition's new log end
	// Partitions are every partition of Rows, and others whose state changed. Bytes of each is how many the fold adds: edits may
	// change what is there after the fold was planned.
	Partitions []PartitionState
}

// TailMerge replaces the tail rows of a run of sequences of one broker epoch by one row, in one transaction. The
// replaced objects are retired.
type TailMerge struct {
	Replaces []ObjectID // objects of exactly the tail rows First .. Last, in order
	Entry    TailEntry
}

// Edit changes folded rows, in one transaction: merges on the folded level, retention, clean-up of dead topics.
// Objects whose references reach 0 are retired.
type Edit struct {
	Objects  []Object // new ones
	Replaces []RowRef // every row removed; ErrConflict if one is gone or has another version
	Rows     []PackedRow
	Deltas   []RefDelta // ErrConflict if an object is gone
	// BytesDelta changes PartitionState.Bytes.
	BytesDelta map[TopicPartition]int64
	// Purge removes the folded rows and leases of these deleted topics; they must have no packed rows left.
	Purge []TopicID
}

// Retired is a batch of objects the manifest no longer names. Their files may be deleted once a grace has passed
// since At, by the catalog's clock.
type Retired struct {
	ID   int64
	At   time.Time
	Keys []string
}

// IDKind is a kind of id that is handed out in blocks.
type IDKind string

// The kinds.
const (
	IDProducer IDKind = "producer" // starts at 0, as Kafka's
	IDObject   IDKind = "object"   // starts at 1
	IDBroker   IDKind = "broker"   // starts at 1001, as Kafka's generated ones: below are those that operators choose
)

// First is the first id of a kind that is handed out.
func (k IDKind) First() int64 {
	switch k {
	case IDObject:
		return 1
	case IDBroker:
		return 1001
	default:
		return 0
	}
}
