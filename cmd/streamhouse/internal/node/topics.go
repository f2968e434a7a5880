package node

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/metrics"
)

// tappedCatalog shows the observer the topics that the broker reads, before the broker acts on them.
type tappedCatalog struct {
	catalog.Catalog
	read func(set catalog.TopicSet)
}

// TopicSet implements [catalog.Topics].
func (c *tappedCatalog) TopicSet(ctx context.Context, version int64) (catalog.TopicSet, error) {
	set, err := c.Catalog.TopicSet(ctx, version)
	if err == nil && set.Version > version {
		c.read(set)
	}
	return set, err
}

// topics are the live ones. Immutable.
type topics struct {
	version int64
	byID    map[catalog.TopicID]*topic
	byName  map[string]*topic
}

// topic is one live topic and its recorders, which are made when first used: metrics remember what is made, and a topic
// that nobody uses should cost nothing.
type topic struct {
	id         catalog.TopicID
	name       string
	partitions int32

	producer atomic.Pointer[producerSeries]
	consumer atomic.Pointer[consumerSeries]
	agent    atomic.Pointer[agentSeries]
	cost     atomic.Pointer[metrics.TopicCost]

	mu struct {
		sync.Mutex
		gone   bool // no recorder may be made any more: it would bring the name back
		leases int
	}
}

type producerSeries struct {
	*metrics.TopicProducer
	partitions handles[metrics.PartitionProducer]
}

// leave ends what is told of a partition only while it is led here.
func (p *producerSeries) leave(partition int32) {
	if int(partition) < len(p.partitions.made) {
		p.partitions.made[partition].Load().Leave() // nil: nothing was told
	}
}

type consumerSeries struct {
	*metrics.TopicConsumer
	count  int32    // partitions
	groups sync.Map // group -> *groupSeries, written under the topic's lock; there may be many
}

// groupSeries are what one group reads of a topic; the group "" stands for fetches that none is known for.
type groupSeries struct {
	*metrics.GroupConsumer
	partitions handles[metrics.PartitionConsumer]
}

type agentSeries struct {
	*metrics.TopicAgent
	partitions handles[metrics.PartitionAgent]
}

// handles are the recorders of a topic's partitions. Reading one takes no lock.
type handles[P any] struct {
	made []atomic.Pointer[P]
	make func(partition int32) *P // gives the same to all who ask at once
}

func newHandles[P any](n int32, with func(partition int32) *P) handles[P] {
	return handles[P]{made: make([]atomic.Pointer[P], n), make: with}
}

func (h *handles[P]) of(partition int32) *P {
	if partition < 0 || int(partition) >= len(h.made) {
		return nil
	}
	p := h.made[partition].Load()
	if p == nil {
		p = h.make(partition)
		h.made[partition].Store(p)
	}
	return p
}

// once returns what at holds, making it if the topic still lives; otherwise nil.
func once[S any](t *topic, at *atomic.Pointer[S], with func(t *topic) *S) *S {
	if s := at.Load(); s != nil {
		return s
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := at.Load()
	if s == nil && !t.mu.gone {
		s = with(t)
		at.Store(s)
	}
	return s
}

// producerOf returns the recorders of the Produce path; nil when the topic is gone.
func (o *observer) producerOf(t *topic) *producerSeries {
	if t == nil {
		return nil
	}
	return once(t, &t.producer, func(t *topic) *producerSeries {
		p := o.m.Producer.Topic(t.name)
		return &producerSeries{TopicProducer: p, partitions: newHandles(t.partitions, p.Partition)}
	})
}

func (o *observer) consumerOf(t *topic) *consumerSeries {
	if t == nil {
		return nil
	}
	return once(t, &t.consumer, func(t *topic) *consumerSeries {
		return &consumerSeries{TopicConsumer: o.m.Consumer.Topic(t.name), count: t.partitions}
	})
}

// consumedBy returns the recorders of one group that reads a topic; nil when the topic is gone.
func (o *observer) consumedBy(group string, t *topic) *groupSeries {
	c := o.consumerOf(t)
	if c == nil {
		return nil
	}
	if g, ok := c.groups.Load(group); ok {
		return g.(*groupSeries)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if g, ok := c.groups.Load(group); ok {
		return g.(*groupSeries)
	}
	if t.mu.gone {
		return nil
	}
	of := c.Group(group)
	g := &groupSeries{GroupConsumer: of, partitions: newHandles(c.count, of.Partition)}
	c.groups.Store(group, g)
	return g
}

// groupGone drops the series of a group.
func (o *observer) groupGone(group string) {
	o.mu.Lock() // against topicsRead: a topic that grows now would keep the group
	defer o.mu.Unlock()
	for _, t := range o.topics.Load().byID {
		c := t.consumer.Load()
		if c == nil {
			continue
		}
		if _, ok := c.groups.Load(group); !ok {
			continue
		}
		t.mu.Lock()
		c.groups.Delete(group)
		c.DropGroup(group)
		t.mu.Unlock()
	}
}

func (o *observer) agentOf(t *topic) *agentSeries {
	if t == nil {
		return nil
	}
	return once(t, &t.agent, func(t *topic) *agentSeries {
		a := o.m.Agent.Topic(t.name)
		return &agentSeries{TopicAgent: a, partitions: newHandles(t.partitions, a.Partition)}
	})
}

func (o *observer) byID(tp catalog.TopicPartition) *topic { return o.topics.Load().byID[tp.Topic] }

func (o *observer) byName(name string) *topic { return o.topics.Load().byName[name] }

// topicsRead takes over a set of topics that the catalog answered. Answers may come out of order: older ones say nothing.
func (o *observer) topicsRead(set catalog.TopicSet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	old := o.topics.Load()
	if set.Version <= old.version {
		return
	}
	next := &topics{
		version: set.Version,
		byID:    make(map[catalog.TopicID]*topic, len(set.Topics)),
		byName:  make(map[string]*topic, len(set.Topics)),
	}
	for _, ct := range set.Topics {
		t := old.byID[ct.ID]
		if t == nil || t.partitions != ct.Partitions {
			t = grown(t, ct)
		}
		next.byID[ct.ID], next.byName[ct.Name] = t, t
	}
	for id, t := range old.byID { // before the new ones are seen: one of them may have the name
		if next.byID[id] == nil {
			o.drop(t)
		}
	}
	o.topics.Store(next)
	o.recount.Store(true)
}

// grown is a topic with another number of partitions than before. Metrics give it the same recorders as the old one,
// if there is one. What ends when it is told to (a group's series, that of what is stored, or pending) has to be known from the start.
func grown(old *topic, ct catalog.Topic) *topic {
	t := &topic{id: ct.ID, name: ct.Name, partitions: ct.Partitions}
	if old != nil {
		old.mu.Lock()
		defer old.mu.Unlock()
		t.mu.leases, old.mu.leases, old.mu.gone = old.mu.leases, 0, true
		t.cost.Store(old.cost.Load())
		if p := old.producer.Load(); p != nil {
			t.producer.Store(p.grown(ct.Partitions))
		}
		if c := old.consumer.Load(); c != nil {
			t.consumer.Store(c.grown(ct.Partitions))
		}
	}
	return t
}

// grown are the same recorders for another number of partitions.
func (p *producerSeries) grown(partitions int32) *producerSeries {
	next := &producerSeries{TopicProducer: p.TopicProducer, partitions: newHandles(partitions, p.Partition)}
	for i := range min(len(next.partitions.made), len(p.partitions.made)) {
		next.partitions.made[i].Store(p.partitions.made[i].Load())
	}
	return next
}

// grown are the same recorders for another number of partitions.
func (c *consumerSeries) grown(partitions int32) *consumerSeries {
	next := &consumerSeries{TopicConsumer: c.TopicConsumer, count: partitions}
	c.groups.Range(func(group, g any) bool {
		of := g.(*groupSeries).GroupConsumer
		next.groups.Store(group, &groupSeries{GroupConsumer: of, partitions: newHandles(partitions, of.Partition)})
		return true
	})
	return next
}

func (o *observer) drop(t *topic) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.gone = true
	if t.mu.leases != 0 {
		o.m.Agent.Topic(t.name).Leases(-t.mu.leases) // it may be in a gauge shared with others
		t.mu.leases = 0
	}
	o.m.DropTopic(t.name)
}

// countLeases sets the gauges of leases to those that are held now, and that of partitions that nobody leads. It asks for each partition instead of adding up what
// hooks tell, because two hooks may overtake each other and nobody would correct the sum.
func (o *observer) countLeases(held, led func(catalog.TopicPartition) bool) {
	o.counting.Lock()
	defer o.counting.Unlock()
	o.recount.Store(false) // before counting: what changes meanwhile asks again
	unled := 0
	for _, t := range o.topics.Load().byID {
		n := 0
		for p := range t.partitions {
			tp := catalog.TopicPartition{Topic: t.id, Partition: p}
			if held(tp) {
				n++
				continue
			}
			if !led(tp) {
				unled++
			}
			if made := t.producer.Load(); made != nil {
				made.leave(p)
			}
		}
		o.setLeases(t, n)
	}
	o.m.Agent.UnledPartitions(unled)
}

func (o *observer) setLeases(t *topic, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if moved := n - t.mu.leases; moved != 0 && !t.mu.gone {
		o.m.Agent.Topic(t.name).Leases(moved)
		t.mu.leases = n
	}
}
