package storage

import (
	"errors"
	"log/slog"
	"time"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/slab"
)

// Config is what an Engine needs. Zero sizes and durations mean the defaults named at each.
type Config struct {
	Catalog catalog.Catalog
	// Fleet is what the catalog offers to brokers that share it; nil means that this one is alone. With it the engine
	// follows the tails of all brokers, and takes and gives leases only when it is told to ([Engine.Acquire],
	// [Engine.Adopt], [Engine.HandOver]).
	Fleet catalog.Fleet
	// Controller is the lease whose holder looks after what belongs to nobody: the tails of fenced broker epochs,
	// segment merges, deleted topics, retired and orphaned objects. A broker that is alone does all of it anyway.
	Controller catalog.TopicPartition
	Store      objstore.Store
	Pool       *slab.Pool
	Logger     *slog.Logger
	Hooks      Hooks
	// Tracer follows appends that are traced; nil: none are.
	Tracer Tracer

	// Registration is what this broker says of itself; the engine fills Incarnation anew for each term.
	Registration catalog.Registration
	// PredecessorsDead: the caller has proof (the data folder's lock, which it keeps) that no other process of this
	// catalog lives. All earlier broker epochs are fenced at once, and the lease is trusted also while the session
	// cannot be renewed: nobody is there who could take it. A full disk then stops writes, not reads.
	PredecessorsDead bool
	// Process is the random id of this process in object keys.
	Process [16]byte

	// FlushInterval is the least time between two seals of objects that are not full (1 ms).
	FlushInterval time.Duration
	// FlushBytes seals an object by size (8 MiB).
	FlushBytes int
	// UploadSlots is how many objects are uploaded at a time (4).
	UploadSlots int
	// HedgeUploads has a PUT of a log object that takes longer than most get a second one beside it, under another key. For
	// stores whose servers are many; on one disk it only adds work.
	HedgeUploads bool
	// MaxUncommittedBytes bounds what is appended and not committed; beyond it Append waits (64 MiB).
	MaxUncommittedBytes int64
	// TailCacheBytes bounds the uploaded buffers kept for tail reads and hot merges (48 MiB).
	TailCacheBytes int64
	// BlockCacheBytes bounds the cache of blocks read from the store (32 MiB).
	BlockCacheBytes int64

	// MergeInterval is how often the tail is looked at for merging and folding (1 s).
	MergeInterval time.Duration
	// FoldInterval is the oldest a tail row may get before it is folded (60 s).
	FoldInterval time.Duration
	// MergeFanIn is how many folded objects of one generation are merged at a time (16).
	MergeFanIn int
	// ObjectGrace is how long objects that the manifest no longer names are kept (30 s).
	ObjectGrace time.Duration
	// ProducerExpiry forgets producers that committed nothing for so long (24 h, Kafka's producer.id.expiration.ms).
	ProducerExpiry time.Duration
	// MaxProducers bounds the producer ids remembered per partition (10,000).
	MaxProducers int
}

// Hooks tell the caller what happens, for metrics. Nil fields are not called. They are called from the engine's own
// goroutines and must return quickly.
type Hooks struct {
	// Appended: records entered the open log object of a partition.
	Appended func(tp catalog.TopicPartition, records int)
	// Committed: a partition's extent of one log object was committed, waited after its first append.
	Committed func(tp catalog.TopicPartition, records, bytes int, waited time.Duration)
	// Failed: records that were appended will not be committed.
	Failed func(tp catalog.TopicPartition, records int)
	// Batch: one batch was committed.
	Batch func(tp catalog.TopicPartition, records, bytes int, waited time.Duration)
	// Sealed: a log object was closed to appends, because it was full or because its time had come.
	Sealed func(full bool)
	// Uploading and Buffered move the number of uploads under way and of bytes appended and not committed.
	Uploading func(moved int)
	Buffered  func(moved int64)
	// Retried: a PUT or a commit failed and is tried again.
	Retried func()
	// Hedged: a second PUT of a log object was sent because the first took long. won: its answer counted, not that of the first.
	Hedged func(won bool)
	// Flushed: one log object was uploaded and committed.
	Flushed func(bytes int64, uploaded, committed time.Duration)
	// Rewritten: a fold, hot merge or segment merge ended; kind is fold, hot or segment.
	Rewritten func(kind string, objects int, bytes int64, took time.Duration)
	// RewriteFailed: one of these did not end well. What failed is planned again. Not told when the engine ends.
	RewriteFailed func(kind string, err error, took time.Duration)
	// Orphans: a sweep found objects that the manifest never named.
	Orphans func(found int)
	// Deleted: objects were deleted from the store together, or could not be. Kind is orphan, retired or superseded: a try of
	// an upload whose other won, or what a merge wrote that was not swapped in.
	Deleted func(kind string, objects int, err error)
	// Requested: a PUT or GET (put, get) was made of the store, on behalf of a topic, or of nobody's: a zero id. Where several
	// topics share one it is told for each, with its share of the request and of the bytes; shares add up to 1. Bytes of
	// requests that failed are 0.
	Requested func(op string, topic catalog.TopicID, share, bytes float64)
	// Tail: objects and index bytes in the tail that this broker answers for (its own; all, if it is alone), and bytes in
	// the tail cache, after each change.
	Tail func(objects int, indexBytes, cachedBytes int64)
	// CacheHit and CacheMiss count reads from the block cache, by block. What else caches do: [Engine.CacheStats].
	CacheHit  func(blocks int)
	CacheMiss func(blocks int)
	// TailRead counts batches served from the tail cache.
	TailRead func(batches int)
	// Renewed: a session renewal ended with ok, lost or error.
	Renewed func(status string)
	// Heartbeat: a session renewal was answered. It tells how far the leases, the topics and all brokers have come.
	Heartbeat func(catalog.Heartbeat)
	// Epoch: a broker epoch began, and holds nothing yet if there is a fleet; 0: the last one ended.
	Epoch func(catalog.BrokerEpoch)
	// Followed: tail rows of other brokers came in, waited after they were committed by the catalog's clock, at most.
	Followed func(rows int, waited time.Duration)
	// Leases: the number of leases held changed.
	Leases func(held map[catalog.TopicID]int)
}

const (
	// maxIndexBytes seals a log object by the estimated size of its index: room for a batch of each of more than 18,000
	// partitions, so that objects and catalog rows per second do not depend on how many partitions are active.
	maxIndexBytes = 512 << 10
	// copyBelow: batches smaller than this are copied into the object's own memory, so that a frame of tiny batches
	// is not kept alive by one of them.
	copyBelow = 2 << 10
	// maxTailRows and maxTailIndex bound the tail that a restart or a take-over must load; at the bound producers
	// wait.
	maxTailRows  = 16 << 10
	maxTailIndex = 32 << 20
)

func (c *Config) setDefaults() error {
	if c.Catalog == nil || c.Store == nil || c.Logger == nil {
		return errors.New("storage: Catalog, Store and Logger must be set")
	}
	if c.Pool == nil {
		c.Pool = slab.NewPool(16 << 20)
	}
	def(&c.FlushInterval, time.Millisecond)
	def(&c.FlushBytes, 8<<20)
	def(&c.UploadSlots, 4)
	def(&c.MaxUncommittedBytes, 64<<20)
	def(&c.TailCacheBytes, 48<<20)
	def(&c.BlockCacheBytes, 32<<20)
	def(&c.MergeInterval, time.Second)
	def(&c.FoldInterval, time.Minute)
	def(&c.MergeFanIn, 16)
	def(&c.ObjectGrace, 30*time.Second)
	def(&c.ProducerExpiry, 24*time.Hour)
	def(&c.MaxProducers, 10_000)
	def(&c.Registration.TTL, 10*time.Second)
	return nil
}

func def[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}
