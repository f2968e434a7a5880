package node

import (
	"errors"
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/broker"
	"github.com/streamhouse/streamhouse/catalog"
	catmetered "github.com/streamhouse/streamhouse/catalog/metered"
	"github.com/streamhouse/streamhouse/kafkaproto"
	"github.com/streamhouse/streamhouse/metrics"
	"github.com/streamhouse/streamhouse/storage"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/metered"
)

// observer hands what the parts tell to metrics. Handles are resolved once per topic and partition.
type observer struct {
	m     *metrics.Metrics
	names func(id [16]byte) (string, bool) // set before anything is served

	apis sync.Map // api name -> *metrics.APIRecorder

	mu struct {
		sync.RWMutex
		byID   map[catalog.TopicPartition]*handles
		byName map[string]*topicHandles
		held   map[catalog.TopicID]int
		open   int
		cached int64
	}
}

// handles are the recorders of one partition that the engine's hooks need.
type handles struct {
	topic    *topicHandles
	producer *metrics.PartitionProducer
	agent    *metrics.PartitionAgent
}

type topicHandles struct {
	name     string
	producer *metrics.TopicProducer
	consumer *metrics.TopicConsumer
	nobody   *metrics.GroupConsumer // fetches that no group is known for
	agent    *metrics.TopicAgent

	mu         sync.Mutex
	partitions map[int32]*metrics.PartitionConsumer
}

func newObserver(m *metrics.Metrics) *observer {
	o := &observer{m: m, names: func([16]byte) (string, bool) { return "", false }}
	o.mu.byID = make(map[catalog.TopicPartition]*handles)
	o.mu.byName = make(map[string]*topicHandles)
	o.mu.held = make(map[catalog.TopicID]int)
	return o
}

func (o *observer) topic(name string) *topicHandles {
	o.mu.RLock()
	t := o.mu.byName[name]
	o.mu.RUnlock()
	if t != nil {
		return t
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if t = o.mu.byName[name]; t == nil {
		c := o.m.Consumer.Topic(name)
		t = &topicHandles{
			name: name, producer: o.m.Producer.Topic(name), consumer: c, nobody: c.Group(""), agent: o.m.Agent.Topic(name),
			partitions: make(map[int32]*metrics.PartitionConsumer),
		}
		o.mu.byName[name] = t
	}
	return t
}

func (t *topicHandles) partition(p int32) *metrics.PartitionConsumer {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.partitions[p]
	if h == nil {
		h = t.nobody.Partition(p)
		t.partitions[p] = h
	}
	return h
}

// of returns the handles of a partition; nil when its topic is gone.
func (o *observer) of(tp catalog.TopicPartition) *handles {
	o.mu.RLock()
	h := o.mu.byID[tp]
	o.mu.RUnlock()
	if h != nil {
		return h
	}
	name, ok := o.names(tp.Topic)
	if !ok {
		return nil
	}
	t := o.topic(name)
	h = &handles{topic: t, producer: t.producer.Partition(tp.Partition), agent: t.agent.Partition(tp.Partition)}
	o.mu.Lock()
	o.mu.byID[tp] = h
	o.mu.Unlock()
	return h
}

// leases moves the lease gauges to what is held, and drops all series of topics of which nothing is held any more:
// with one broker that means they were deleted.
func (o *observer) leases(held map[catalog.TopicID]int) {
	o.mu.Lock()
	before := o.mu.held
	o.mu.held = held
	o.mu.Unlock()
	for id, n := range held {
		if d := n - before[id]; d != 0 {
			if name, ok := o.names(id); ok {
				o.topic(name).agent.Leases(d)
			} else { // its name is not known yet: told again with the next change
				o.mu.Lock()
				o.mu.held[id] = before[id]
				o.mu.Unlock()
			}
		}
	}
	for id := range before {
		if _, still := held[id]; !still {
			o.drop(id)
		}
	}
}

func (o *observer) drop(id catalog.TopicID) {
	o.mu.Lock()
	var t *topicHandles
	for tp, h := range o.mu.byID {
		if tp.Topic == id {
			t = h.topic
			delete(o.mu.byID, tp)
		}
	}
	if t != nil {
		delete(o.mu.byName, t.name)
	}
	o.mu.Unlock()
	if t != nil {
		o.m.DropTopic(t.name)
	}
}

func (o *observer) engineHooks() storage.Hooks {
	return storage.Hooks{
		Appended: func(tp catalog.TopicPartition, records int) {
			if h := o.of(tp); h != nil {
				h.producer.Pending(records)
			}
		},
		Failed: func(tp catalog.TopicPartition, records int) {
			if h := o.of(tp); h != nil {
				h.producer.Pending(-records)
			}
		},
		Batch: func(tp catalog.TopicPartition, records, bytes int, waited time.Duration) {
			if h := o.of(tp); h != nil {
				h.producer.Pending(-records)
				h.topic.producer.Sent(h.producer, records, bytes)
				h.topic.producer.Batch(records, bytes)
				h.topic.producer.FlushDuration(waited)
			}
		},
		Committed: func(tp catalog.TopicPartition, records, _ int, waited time.Duration) {
			if h := o.of(tp); h != nil {
				h.agent.Written(records)
				h.topic.agent.WriteLatency(waited)
			}
		},
		Flushed: func(bytes int64, uploaded, committed time.Duration) {
			o.m.Flush.Committed(int(bytes), uploaded+committed)
		},
		Rewritten: func(kind string, objects int, bytes int64, took time.Duration) {
			o.m.Merge.Done(kind, "ok", objects, bytes, took)
		},
		Tail: func(objects int, indexBytes, cached int64) {
			o.m.Tail.Set(objects, indexBytes)
			o.mu.Lock()
			moved := cached - o.mu.cached
			o.mu.cached = cached
			o.mu.Unlock()
			o.m.TailCache.Bytes(moved)
		},
		TailRead: func(batches int) {
			for range batches {
				o.m.TailCache.Hit()
			}
		},
		CacheHit: func(blocks int) {
			for range blocks {
				o.m.BlockCache.Hit()
			}
		},
		CacheMiss: func(blocks int) {
			for range blocks {
				o.m.BlockCache.Miss()
			}
		},
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
		Leases: o.leases,
	}
}

func (o *observer) brokerObserver() broker.Observer {
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
			status := metrics.StatusOK
			if code != 0 {
				status = kafkaproto.ErrorName(code)
			}
			r.(*metrics.APIRecorder).Done(status, took)
		},
		Produced: func(topic string, _ int32, _, _ int, _ time.Duration, code int16) {
			if code != 0 {
				o.topic(topic).producer.Error(kafkaproto.ErrorName(code))
			}
		},
		ProduceRefused: func(topic string, code int16) {
			o.topic(topic).producer.Error(kafkaproto.ErrorName(code))
		},
		ProduceAnswered: func(topic string, took time.Duration) { o.topic(topic).producer.SendDuration(took) },
		Fetched: func(topic string, partition int32, records, bytes int) {
			t := o.topic(topic)
			t.nobody.Consumed(t.partition(partition), records, bytes)
		},
		FetchAnswered: func(topic string, took time.Duration) { o.topic(topic).consumer.PollDuration(took) },
	}
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
