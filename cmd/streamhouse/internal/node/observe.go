package node

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streamhouse/streamhouse/broker"
	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
	catmetered "github.com/streamhouse/streamhouse/catalog/metered"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/kafkaproto"
	"github.com/streamhouse/streamhouse/metrics"
	"github.com/streamhouse/streamhouse/storage"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/metered"
	"github.com/streamhouse/streamhouse/storage/objstore/s3"
)

// observer hands what the parts tell to metrics. Its hooks allocate nothing once a topic's recorders are made.
type observer struct {
	m       *metrics.Metrics
	topics  atomic.Pointer[topics]
	nowhere func() *metrics.TopicProducer // errors about topics that are not known; made by the first

	nobodysCost func() *metrics.TopicCost // requests for no topic

	apis sync.Map // api name -> *metrics.APIRecorder

	counting sync.Mutex  // one countLeases at a time
	recount  atomic.Bool // leases changed since they were counted
	traffic  atomic.Bool // objects were written or bytes fetched since it was last asked
	work     atomic.Bool // folds or merges ended since it was last asked

	mu struct {
		sync.Mutex // also: one topicsRead at a time
		open       int
		caches     storage.CacheStats // as last seen
	}
}

func newObserver(m *metrics.Metrics) *observer {
	o := &observer{m: m, nowhere: sync.OnceValue(func() *metrics.TopicProducer { return m.Producer.Topic("") })}
	o.nobodysCost = sync.OnceValue(func() *metrics.TopicCost { return m.Cost.Topic("") })
	o.topics.Store(&topics{version: -1})
	return o
}

// on tells whether anything is measured (--metrics). If not, nothing is observed but what decides when to rest.
func (o *observer) on() bool { return o.m.Registry() != nil }

func (o *observer) engineHooks() storage.Hooks {
	if !o.on() {
		return storage.Hooks{
			Flushed:       func(int64, time.Duration, time.Duration) { o.traffic.Store(true) },
			Rewritten:     func(string, int, int64, time.Duration) { o.work.Store(true) },
			RewriteFailed: func(string, error, time.Duration) { o.work.Store(true) },
		}
	}
	return storage.Hooks{
		Appended: func(tp catalog.TopicPartition, records int) {
			if p := o.producerOf(o.byID(tp)); p != nil {
				p.partitions.of(tp.Partition).Pending(records)
			}
		},
		Failed: func(tp catalog.TopicPartition, records int) {
			if p := o.producerOf(o.byID(tp)); p != nil {
				p.partitions.of(tp.Partition).Pending(-records)
			}
		},
		Batch: func(tp catalog.TopicPartition, records, bytes int, waited time.Duration) {
			if p := o.producerOf(o.byID(tp)); p != nil {
				h := p.partitions.of(tp.Partition)
				h.Pending(-records)
				p.Sent(h, records, bytes)
				p.Batch(records, bytes)
				p.FlushDuration(waited)
			}
		},
		Committed: func(tp catalog.TopicPartition, records, _ int, waited time.Duration) {
			if a := o.agentOf(o.byID(tp)); a != nil {
				a.partitions.of(tp.Partition).Written(records)
				a.WriteLatency(waited)
			}
		},
		Sealed: func(full bool) {
			if full {
				o.m.Flush.Sealed(metrics.SealSize)
			} else {
				o.m.Flush.Sealed(metrics.SealWaiter)
			}
		},
		Uploading: o.m.Flush.Uploading,
		Buffered:  func(moved int64) { o.m.Flush.Buffered(int(moved)) },
		Retried:   o.m.Flush.Retried,
		Flushed: func(bytes int64, uploaded, committed time.Duration) {
			o.traffic.Store(true)
			o.m.Flush.Committed(int(bytes), uploaded+committed)
		},
		Rewritten: func(kind string, objects int, bytes int64, took time.Duration) {
			o.work.Store(true)
			o.m.Merge.Done(kind, "ok", objects, bytes, took)
		},
		RewriteFailed: func(kind string, err error, took time.Duration) {
			o.work.Store(true)
			how := "error"
			if errors.Is(err, catalog.ErrConflict) {
				how = "conflict"
			}
			o.m.Merge.Done(kind, how, 0, 0, took)
		},
		Requested: o.requested,
		Hedged:    func(won bool) { o.m.Traffic.Hedged("put", won) },
		Orphans:   o.m.Sweep.Orphans,
		Deleted: func(kind string, objects int, err error) {
			o.m.Sweep.Deleted(deleteKinds[kind], objects, err == nil)
		},
		Tail: func(objects int, indexBytes, _ int64) { // the last is in CacheStats too, and right there at any time
			o.m.Tail.Set(objects, indexBytes)
		},
		TailRead:  o.m.TailCache.Hit,
		CacheHit:  o.m.BlockCache.Hit,
		CacheMiss: o.m.BlockCache.Miss,
		Renewed: func(status string) {
			switch status {
			case "ok":
				o.m.Agent.LeaseRenewal(metrics.RenewalOK)
			case "lost":
				o.m.Agent.LeaseRenewal(metrics.RenewalLost)
			default:
				o.m.Agent.LeaseRenewal(metrics.RenewalError)
			}
		},
		Leases: func(map[catalog.TopicID]int) { o.recount.Store(true) },
	}
}

func (o *observer) brokerObserver() broker.Observer {
	if !o.on() {
		return broker.Observer{Served: o.served}
	}
	return broker.Observer{
		Connections: func(open int) {
			o.mu.Lock()
			moved := open - o.mu.open
			o.mu.open = open
			o.mu.Unlock()
			for ; moved > 0; moved-- {
				o.m.Agent.ConnectionOpened()
			}
			for ; moved < 0; moved++ {
				o.m.Agent.ConnectionClosed()
			}
		},
		Request: func(api string, code int16, took time.Duration) {
			r, ok := o.apis.Load(api)
			if !ok {
				r, _ = o.apis.LoadOrStore(api, o.m.Agent.API(api))
			}
			r.(*metrics.APIRecorder).Done(statusOf(code), took)
		},
		Produced: func(topic string, _ int32, _, _ int, _ time.Duration, code int16) {
			if code != 0 {
				o.produceFailed(topic, code)
			}
		},
		ProduceRefused: o.produceFailed,
		ProduceAnswered: func(topic string, took time.Duration, trace string) {
			if p := o.producerOf(o.byName(topic)); p != nil {
				p.SendDuration(took, trace)
			}
		},
		Served: o.served,
		Fetched: func(group, topic string, partition int32, records, bytes int) {
			if g := o.consumedBy(group, o.byName(topic)); g != nil {
				g.Consumed(g.partitions.of(partition), records, bytes)
			}
		},
		GroupGone:       o.groupGone,
		OffsetCommitted: func(code int16, offsets int) { o.m.Groups.Committed(statusOf(code), offsets) },
		Groups:          o.groupHooks(),
		FetchAnswered: func(topic string, took time.Duration, trace string) {
			if c := o.consumerOf(o.byName(topic)); c != nil {
				c.PollDuration(took, trace)
			}
		},
	}
}

// statusOf is the status label of a Kafka error code.
func statusOf(code int16) string {
	if code == 0 {
		return metrics.StatusOK
	}
	return kafkaproto.ErrorName(code)
}

var whyLabels = map[coordinator.Why]string{
	coordinator.WhyOther: "other", coordinator.WhyMemberJoins: "member_joins", coordinator.WhyMemberLeaves: "member_leaves",
	coordinator.WhySession: "session_timeout", coordinator.WhyRebalanceTimeout: "rebalance_timeout",
	coordinator.WhySubscription: "subscription", coordinator.WhyTopics: "topics", coordinator.WhyProtocol: "protocol",
}

func (o *observer) groupHooks() coordinator.Hooks {
	return coordinator.Hooks{
		Loaded:  func(_ int32, _ int, took time.Duration, err error) { o.m.Groups.Loaded(took, err == nil) },
		Written: o.m.Groups.Written,
		Retried: o.m.Groups.WriteRetried,
		Rebalancing: func(kind catalog.GroupKind, why coordinator.Why) {
			o.m.Groups.Rebalancing(string(kind), whyLabels[why])
		},
		Rebalanced: func(kind catalog.GroupKind, took time.Duration) { o.m.Groups.Rebalanced(string(kind), took) },
		Shards:     o.m.Groups.Shards,
	}
}

// served notes traffic.
func (o *observer) served(int) {
	if !o.traffic.Load() { // many connections answer at once: do not fight for the cache line
		o.traffic.Store(true)
	}
}

// deleteKinds are those of storage.Hooks.Deleted.
var deleteKinds = map[string]metrics.DeleteKind{
	"orphan": metrics.DeleteOrphan, "retired": metrics.DeleteRetired, "superseded": metrics.DeleteSuperseded,
}

// cachesSeen takes over what the engine's caches tell of themselves.
func (o *observer) cachesSeen(read func() storage.CacheStats) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := read() // under the lock: of two who ask at once, the later answer is taken over last
	was := &o.mu.caches
	o.m.TailCache.Bytes(now.TailBytes)
	o.m.TailCache.Miss(int(now.TailMissed - was.TailMissed))
	o.m.TailCache.Evicted(int(now.TailEvicted - was.TailEvicted))
	o.m.BlockCache.Bytes(now.BlockBytes)
	o.m.BlockCache.Evicted(int(now.BlockEvicted - was.BlockEvicted))
	*was = now
}

// produceFailed counts an error. The name may be anything a client made up.
func (o *observer) produceFailed(topic string, code int16) {
	if p := o.producerOf(o.byName(topic)); p != nil {
		p.Error(kafkaproto.ErrorName(code))
		return
	}
	o.nowhere().Error(kafkaproto.ErrorName(code))
}

// status names the outcome of a call of an outside service.
func status(err error, absent ...error) string {
	if err == nil {
		return "ok"
	}
	for _, a := range absent {
		if errors.Is(err, a) {
			return "refused"
		}
	}
	return "error"
}

func (o *observer) storeHooks() metered.Hooks {
	ops := make(map[string]*metrics.OpRecorder)
	for _, op := range metered.Ops() {
		ops[op] = o.m.Store.Op(op)
	}
	return metered.Hooks{Done: func(e metered.Event) {
		ops[e.Op].Done(status(e.Err, objstore.ErrExists, objstore.ErrNotFound), e.Duration, e.Bytes)
	}}
}

// s3Hooks are told what lies below the calls that storeHooks are told of.
func (o *observer) s3Hooks() s3.Hooks {
	if !o.on() {
		return s3.Hooks{}
	}
	return s3.Hooks{
		Request:   func(r s3.Request) { o.m.Traffic.Exchange(r.Op, r.Reason, r.Sent, r.Received) },
		Retried:   func(op, reason string, _ time.Duration) { o.m.Traffic.Retried(op, reason) },
		Hedged:    func(won bool) { o.m.Traffic.Hedged("get", won) },
		Throttled: o.m.Traffic.Throttled,
		Settled:   o.m.Traffic.Settled,
	}
}

// pooled is a catalog that has connection pools.
type pooled interface{ PoolStats() []postgres.PoolStats }

// poolsSeen takes over what the catalog's connection pools tell of themselves, if it has any.
func (o *observer) poolsSeen(cat catalog.Catalog) {
	pg, ok := cat.(pooled)
	if !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range pg.PoolStats() { // under the lock: see cachesSeen
		o.m.Pools.Set(s.Name, metrics.PoolStats{
			Acquired: s.Acquired, Idle: s.Idle, Max: s.Max, Waits: s.Waits, Waited: s.Waited, Cancelled: s.Cancelled,
		})
	}
}

// limitsSeen takes over how near engine and broker are to their bounds.
func (o *observer) limitsSeen(f storage.FlushStats, b broker.Usage, pooled int64) {
	o.m.Limits.Set(metrics.Usage{
		ConnectionsLimit: b.ConnectionsLimit, InFlightRequests: b.InFlightRequests,
		RequestBytes: b.RequestBytes, RequestBytesLimit: b.RequestBytesLimit,
		AnswerBytes: b.AnswerBytes, AnswerBytesLimit: b.AnswerBytesLimit,
		BufferedBytesLimit: f.BytesLimit, PooledBytes: pooled,
		QueuedObjects: f.Queued, UncommittedObjects: f.Uncommitted, OldestAppendWaiting: f.Oldest,
	})
}

func (o *observer) catalogHooks() catmetered.Hooks {
	var ops sync.Map
	return catmetered.Hooks{Done: func(e catmetered.Event) {
		r, ok := ops.Load(e.Op)
		if !ok {
			r, _ = ops.LoadOrStore(e.Op, o.m.Catalog.Op(e.Op))
		}
		r.(*metrics.OpRecorder).Done(status(e.Err, catalog.ErrConflict, catalog.ErrFenced, catalog.ErrSequence,
			catalog.ErrNotFound, catalog.ErrTopicExists, catalog.ErrUnknownTopic, catalog.ErrVersionMismatch), e.Duration, 0)
	}}
}
