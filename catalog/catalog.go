package catalog

import (
	"context"
	"time"
)

// Catalog is the whole contract. All methods are safe for concurrent use, honour ctx, and may return
// ErrUnavailable, ErrNoSpace or ErrClosed besides the errors named at each. Slices and maps passed in are not
// retained or changed; those returned belong to the caller.
type Catalog interface {
	Topics
	Brokers
	Leases
	Manifest
	Groups

	// ClusterID is the cluster's id: made once, when the catalog was first migrated.
	ClusterID(ctx context.Context) (string, error)
	// AllocateIDs hands out n consecutive ids of a kind, never handed out before; an id whose answer was lost is
	// lost, which is harmless. ErrInvalid for an unknown kind, n < 1 or n > 2^32.
	AllocateIDs(ctx context.Context, kind IDKind, n int64) (first int64, err error)
	// Ping tells whether a write could be done now.
	Ping(ctx context.Context) error
	// Close releases everything. Calls under way fail with ErrClosed or finish.
	Close() error
}

// Topics are the topics and their configs.
type Topics interface {
	// TopicSet returns all live topics, ordered by name. When version equals the current version it may return
	// TopicSet{Version: version} with Topics nil: nothing changed.
	TopicSet(ctx context.Context, version int64) (TopicSet, error)
	// CreateTopic creates the topic with one partition row and one free lease (epoch -1: never held) per partition.
	// ErrInvalid for the zero id or no name; ErrTopicExists; ErrTopicCollision when another live name is equal after mapping '.' to '_'. A repeat with the
	// same spec.ID after a lost answer returns the topic.
	CreateTopic(ctx context.Context, spec TopicSpec) (Topic, error)
	// DeleteTopic makes the topic invisible at once and its name free; leases are dropped; its extents are dropped
	// by later folds and edits. ErrUnknownTopic (also on a repeat).
	DeleteTopic(ctx context.Context, id TopicID) error
	// AddPartitions grows the topic to total partitions. ErrUnknownTopic; ErrPartitionCount when total is not
	// larger, except that total == current is a success (a repeat).
	AddPartitions(ctx context.Context, id TopicID, total int32) (Topic, error)
	// SetTopicConfigs replaces the topic's configs if its version is still the given one. ErrVersionMismatch.
	SetTopicConfigs(ctx context.Context, id TopicID, version int64, configs map[string]string) (Topic, error)
	// DeletedTopics returns topics deleted and not yet purged by an Edit. It vouches for them, as Manifest.TailAt does.
	DeletedTopics(ctx context.Context) ([]TopicID, error)
}

// Brokers are registrations and fences.
type Brokers interface {
	// RegisterBroker gives the process a new broker epoch, larger than all before. It does not fence earlier epochs
	// of the same id. Repeating it with the same Incarnation returns the same epoch unless that is fenced, in which
	// case a new epoch is made. ErrInvalid for a negative TTL.
	RegisterBroker(ctx context.Context, r Registration) (Broker, error)
	// Heartbeat renews the session. ErrFenced.
	Heartbeat(ctx context.Context, epoch BrokerEpoch) (Heartbeat, error)
	// FenceBroker fences an epoch: after it returns, no statement of that epoch is ever applied, and everything it
	// committed is visible. Its leases become free. Fencing twice is a success, by which the fence is as durable as by the first. ErrUnknownBroker; ErrNotExpired for
	// FenceExpired when the catalog's clock says otherwise: less than the session's TTL has passed since its last heartbeat,
	// since the catalog was opened or since its clock was set ahead.
	FenceBroker(ctx context.Context, epoch BrokerEpoch, why FenceReason) error
	// ListBrokers returns unfenced brokers and those fenced ones whose tail is not folded yet, by epoch.
	ListBrokers(ctx context.Context) ([]Broker, error)
}

// Leases are partition leases.
type Leases interface {
	// AcquireLeases takes free leases for the broker epoch, each with its lease epoch grown by one, and returns what
	// it holds now of those asked for, each once (also those it held before, unchanged). partitions nil means all free ones. Partitions
	// that somebody else holds, or of unknown topics, are left out. ErrFenced. It vouches for all that it returns, as
	// Manifest.TailAt does: a lease that LeaseSet shows may be undone, and is acquired before anything is done under it.
	AcquireLeases(ctx context.Context, epoch BrokerEpoch, partitions []TopicPartition) ([]Lease, error)
	// ReleaseLeases gives leases up. The caller has committed its last object with data of these partitions. Leases
	// not held are ignored (a repeat). ErrFenced.
	ReleaseLeases(ctx context.Context, epoch BrokerEpoch, partitions []TopicPartition) error
	// LeaseSet returns all leases; as with TopicSet, nothing but the version when version is current.
	LeaseSet(ctx context.Context, version int64) (LeaseSet, error)
}

// Manifest is the log: tail, folded rows, objects. Writes name the broker epoch that does them and are refused with
// ErrFenced when it is fenced.
type Manifest interface {
	// Commit appends one or more log objects to the tail of epoch: entries have First == Last and consecutive
	// sequences from LastSequence + 1. All or nothing; one round trip; one row an object. It returns the catalog's
	// clock, which becomes CommittedAt of all. ErrInvalid; ErrFenced; ErrSequence. After a lost answer: repeat it; on ErrSequence
	// compare TailAt(epoch, sequence of the last entry).Object with one's own, which decides.
	Commit(ctx context.Context, epoch BrokerEpoch, entries []TailEntry) (at time.Time, err error)
	// TailAt returns the tail row that covers the sequence. It vouches for it: the row is as durable as after the answer to
	// Commit, which other reads do not promise. ErrNotFound when none does (never committed, or folded: compare with
	// BrokerTail.Folded).
	TailAt(ctx context.Context, epoch BrokerEpoch, s Sequence) (TailEntry, error)
	// BrokerTails returns every epoch that has unfolded commits or is not fenced, by epoch.
	BrokerTails(ctx context.Context) ([]BrokerTail, error)
	// ReadTail returns tail rows of the epoch with Last > after, in order, at most limit. Rows with First <= after
	// < Last exist after a hot merge. A row folded meanwhile is simply absent: the caller compares with
	// BrokerTail.Folded read after.
	ReadTail(ctx context.Context, epoch BrokerEpoch, after Sequence, limit int) ([]TailEntry, error)
	// MergeTail replaces a run of tail rows by one. ErrInvalid; ErrFenced; ErrConflict when the rows are not exactly
	// m.Replaces.
	// After a lost answer: TailAt(m.Entry.Epoch, m.Entry.Last).Object decides.
	MergeTail(ctx context.Context, epoch BrokerEpoch, m TailMerge) error
	// Fold moves tail rows to the folded level. ErrInvalid; ErrFenced; ErrConflict when After is not the current fold
	// position, a row of Replaces changed, a topic was deleted (reload the topics, plan again), a log end would become lower
	// (the high watermark never goes back), or a row of Rows does not end at its partition's LogEnd in f.Partitions. LogStart
	// in f.Partitions never lowers the stored one. After a lost answer: TailAt(f.Tail, f.Through) vouches, and if that
	// is ErrNotFound, BrokerTails tells whether Folded reached f.Through.
	Fold(ctx context.Context, epoch BrokerEpoch, f Fold) error
	// LoadPartitions returns the folded rows, one per known partition asked for, in any order.
	LoadPartitions(ctx context.Context, partitions []TopicPartition) ([]PartitionState, error)
	// SettledPartitions is LoadPartitions for who drops what lies below a log start, or belonged to a topic that is deleted: it
	// vouches, as TailAt does, for log starts and for the topics that it leaves out.
	SettledPartitions(ctx context.Context, partitions []TopicPartition) ([]PartitionState, error)
	// PackedRows returns the packed rows of a partition with End > from, by Base, at most limit. It also serves
	// deleted topics that are not purged.
	PackedRows(ctx context.Context, tp TopicPartition, from int64, limit int) ([]PackedRow, error)
	// PackedSpans is PackedRows of many partitions in one round trip: the packed rows that reach into the spans, by
	// partition, then Base, at most limit in all. It also serves deleted topics that are not purged. When limit rows
	// came there may be more: ask again from the last one's partition and End. ErrInvalid for more than MaxSpans
	// spans, and for two of one partition.
	PackedSpans(ctx context.Context, spans []Span, limit int) ([]PackedRow, error)
	// PackedPartitions returns the partitions of a topic (also deleted) that have packed rows.
	PackedPartitions(ctx context.Context, id TopicID) ([]TopicPartition, error)
	// SetLogStart moves the log start of a partition up, durably; a lower value is ignored. Returns what is in force.
	// ErrInvalid for a negative offset, ErrFenced, ErrUnknownTopic.
	SetLogStart(ctx context.Context, epoch BrokerEpoch, tp TopicPartition, offset int64) (int64, error)
	// Edit changes folded rows. ErrInvalid; ErrFenced; ErrConflict when what it was planned from changed or is gone, also
	// when it adds a row to a deleted topic: of those, rows only go. After a lost answer: an object of e.Objects found by ObjectsByID (or a
	// row of e.Replaces gone) says it was applied.
	Edit(ctx context.Context, epoch BrokerEpoch, e Edit) error
	// ObjectsByID returns the folded objects that exist among ids.
	ObjectsByID(ctx context.Context, ids []ObjectID) ([]Object, error)
	// MergeCandidates returns folded objects smaller than maxSize bytes and of a generation below maxGeneration, by
	// (generation, id), at most limit.
	MergeCandidates(ctx context.Context, maxSize int64, maxGeneration int32, limit int) ([]Object, error)
	// SparseObjects returns folded objects of at least SparseBytes bytes of which less than half is live (2 × Live <
	// Size), of any generation, with id > after, by id, at most limit.
	SparseObjects(ctx context.Context, after ObjectID, limit int) ([]Object, error)
	// FoldedObjects returns folded objects with id > after, by id, at most limit. For verify and inspect.
	FoldedObjects(ctx context.Context, after ObjectID, limit int) ([]Object, error)

	// ListRetired returns batches of retired objects whose grace has passed by the catalog's clock, oldest first, at
	// most limit batches. No grace has passed before the catalog was open for that long. It vouches for them, as TailAt does.
	ListRetired(ctx context.Context, grace time.Duration, limit int) ([]Retired, error)
	// ForgetRetired removes batches whose files are deleted. Unknown ids are ignored.
	ForgetRetired(ctx context.Context, ids []int64) error
	// KnownObjects returns which of the keys the catalog still names: in the tail, as folded objects, or retired.
	// It vouches for that, as TailAt does.
	KnownObjects(ctx context.Context, keys []string) (map[string]bool, error)
}
