package broker

import (
	"context"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/kafkaproto/recordbatch"
	"github.com/streamhouse/streamhouse/storage"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// Log is the partition engine as the broker uses it. All methods are safe for concurrent use and return the errors
// of package storage.
type Log interface {
	// Leader returns the leader epoch if this broker holds the trusted lease of tp, storage.ErrNotLeader otherwise.
	Leader(tp catalog.TopicPartition) (epoch int32, err error)
	// Affirm is nil if this broker was not fenced at some moment after the call: what it said of partitions that it still leads
	// under the same leader epoch afterwards was right then. storage.ErrNotLeader otherwise. It takes a call of the catalog.
	Affirm(ctx context.Context) error
	// Append puts one validated batch on its way. The batch is patched in place (base offset, leader epoch) and must
	// lie within frame; on success the engine has retained frame itself. It may block for back-pressure until ctx
	// ends.
	Append(ctx context.Context, tp catalog.TopicPartition, batch []byte, h recordbatch.Header, frame *slab.Buf) (storage.Pending, error)
	// Read fills r with whole batches. The caller releases r. storage.ErrOffsetOutOfRange is affirmed.
	Read(ctx context.Context, req storage.ReadRequest, r *storage.Read) error
	// Offsets returns log start, high watermark, last stable offset and leader epoch, as far as known here: like the next
	// three, what it says may be told as a leader's answer only once it is affirmed.
	Offsets(ctx context.Context, tp catalog.TopicPartition) (storage.Offsets, error)
	// OffsetForTimestamp returns the first record with a timestamp of at least ts (milliseconds).
	OffsetForTimestamp(ctx context.Context, tp catalog.TopicPartition, ts int64) (storage.TimestampOffset, error)
	// MaxTimestamp returns the record with the largest timestamp.
	MaxTimestamp(ctx context.Context, tp catalog.TopicPartition) (storage.TimestampOffset, error)
	// EndOfEpoch answers OffsetForLeaderEpoch.
	EndOfEpoch(ctx context.Context, tp catalog.TopicPartition, epoch int32) (storage.EpochEnd, error)
	// DeleteRecords moves the log start up to before (-1: the high watermark), durably.
	DeleteRecords(ctx context.Context, tp catalog.TopicPartition, before int64) (low int64, err error)
	// Producers lists the idempotent producers the partition remembers.
	Producers(ctx context.Context, tp catalog.TopicPartition) ([]storage.ProducerState, error)
	// Size is the partition's stored bytes.
	Size(ctx context.Context, tp catalog.TopicPartition) (int64, error)
	// Acquire takes the leases of partitions that were just created.
	Acquire(ctx context.Context, tps []catalog.TopicPartition) error
	// DropTopic forgets a deleted topic: waiting appends fail, watchers of its partitions are told.
	DropTopic(id catalog.TopicID)
	// NextProducerID returns a producer id never handed out before.
	NextProducerID(ctx context.Context) (int64, error)
	// NewWatcher returns a watcher of no partitions. It tells a new high watermark, last stable offset or log start,
	// and a lost lease; moves coalesce.
	NewWatcher() *storage.Watcher
}

// Follower is a Log that also serves what other brokers lead. In a cluster, Config.Log should be one: without it,
// consumers can read from leaders only.
type Follower interface {
	// ReadFollower is Read of a partition that this broker does not lead, as far as it follows it. The offsets it fills in
	// may be behind. It fails with storage.ErrNotLeader when it does not follow the partition, or has not heard for too
	// long whether there is more; with storage.ErrOffsetOutOfRange and the offsets filled in when it does not have the
	// offset, which says nothing about whether it exists. Watchers tell its progress. With MaxBytes 0 and not MinOne only
	// the offsets are asked for.
	ReadFollower(ctx context.Context, req storage.ReadRequest, r *storage.Read) error
}

var (
	_ Log      = (*storage.Engine)(nil)
	_ Follower = (*storage.Engine)(nil)
)
