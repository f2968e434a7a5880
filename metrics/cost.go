package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// CostOp is a request that a provider charges for.
type CostOp int

// The requests: what writes an object, what reads a part of one.
const (
	CostPut CostOp = iota
	CostGet
)

var costOpLabels = [...]string{CostPut: "put", CostGet: "get"}

// Cost records what of the object store's bill each topic stands for; docs/cost.md turns it into money.
//
// An object holds records of many topics, so a request is shared among them by bytes, and the counters hold fractions. What
// is done for no topic, or for one that is deleted, is counted under topic="". Bytes stored are told by the leader of each
// partition, so sums over brokers are those of the cluster.
type Cost struct {
	series *series

	requests    *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	stored      *prometheus.GaugeVec
	byteSeconds *prometheus.CounterVec
}

func newCost(b *builder, s *series) *Cost {
	c := &Cost{
		series: s,
		requests: b.counterVec("topic_store_requests_total",
			`Requests of the object store by the topic they were for, shared by bytes where several have a part; topic="" is nobody's.`,
			labelTopic, labelOp),
		bytes: b.counterVec("topic_store_bytes_total",
			"Bytes written to and read from the object store by the topic they were for.", labelTopic, labelOp),
		stored: b.gaugeVec("topic_stored_bytes",
			"Record bytes in the logs of the partitions this broker leads.", labelTopic),
		byteSeconds: b.counterVec("topic_stored_byte_seconds_total",
			"streamhouse_topic_stored_bytes, added up over time: byte-months times the seconds of a month.", labelTopic),
	}
	s.cost = c
	return c
}

// Topic returns the handle of a topic. Resolve it once and keep it; ask again after [Metrics.DropTopic].
func (c *Cost) Topic(topic string) *TopicCost {
	if c == nil {
		return nil
	}
	c.series.mu.Lock()
	defer c.series.mu.Unlock()
	ts := c.series.topicLocked(topic)
	if ts.cost == nil {
		t := &TopicCost{parent: c, series: ts, byteSeconds: c.byteSeconds.WithLabelValues(ts.label)}
		for i, op := range costOpLabels {
			t.requests[i], t.bytes[i] = c.requests.WithLabelValues(ts.label, op), c.bytes.WithLabelValues(ts.label, op)
		}
		ts.cost = t
	}
	return ts.cost
}

func (c *Cost) dropTopic(topic string) {
	for _, op := range costOpLabels {
		c.requests.DeleteLabelValues(topic, op)
		c.bytes.DeleteLabelValues(topic, op)
	}
	c.stored.DeleteLabelValues(topic)
	c.byteSeconds.DeleteLabelValues(topic)
}

// TopicCost records what one topic stands for.
type TopicCost struct {
	parent      *Cost
	series      *topicSeries
	requests    [len(costOpLabels)]prometheus.Counter
	bytes       [len(costOpLabels)]prometheus.Counter
	byteSeconds prometheus.Counter

	stored int64 // guarded by series.mu of the parent
}

// Request counts the topic's share of one request, between 0 and 1, and of its bytes.
func (t *TopicCost) Request(op CostOp, share, bytes float64) {
	if t == nil || op < 0 || int(op) >= len(t.requests) {
		return
	}
	t.requests[op].Add(share)
	t.bytes[op].Add(bytes)
}

// Stored sets how many bytes the topic has in partitions that this broker leads.
func (t *TopicCost) Stored(bytes int64) {
	if t == nil {
		return
	}
	s := t.parent.series
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case t.series.dropped:
	case t.series.label == "":
		t.parent.stored.WithLabelValues("").Add(float64(bytes - t.stored)) // shared with other topics
	default:
		t.parent.stored.WithLabelValues(t.series.label).Set(float64(bytes))
	}
	t.stored = bytes
}

// Held adds the time for which the bytes told last were there.
func (t *TopicCost) Held(d time.Duration) {
	if t == nil {
		return
	}
	t.parent.series.mu.Lock()
	bytes := t.stored
	t.parent.series.mu.Unlock()
	t.byteSeconds.Add(float64(bytes) * d.Seconds())
}

// Leave says that this broker leads no partition of the topic any more: it has nothing to tell of its size.
func (t *TopicCost) Leave() {
	if t == nil {
		return
	}
	s := t.parent.series
	s.mu.Lock()
	defer s.mu.Unlock()
	t.leaveLocked()
	if t.series.label != "" {
		t.parent.stored.DeleteLabelValues(t.series.label)
	}
}

// leaveLocked takes the topic's part out of the series that folded topics share.
func (t *TopicCost) leaveLocked() {
	if t == nil {
		return
	}
	if t.series.label == "" && t.stored != 0 {
		t.parent.stored.WithLabelValues("").Sub(float64(t.stored))
	}
	t.stored = 0
}
