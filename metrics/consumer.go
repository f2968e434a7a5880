package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Consumer records the Fetch path, as measured at the broker.
//
// A Fetch request names no group. Its records are attributed to the group whose member (by client id and host) owns
// the partition, where the broker knows one, and to group_id="" otherwise: see docs/attribution.md.
type Consumer struct {
	series *series

	records     *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	pollSeconds *prometheus.HistogramVec
}

func newConsumer(b *builder, s *series) *Consumer {
	c := &Consumer{
		series: s,
		records: b.counterVec("consumer_records_consumed_total",
			`Records returned by Fetch; group_id="" where the broker knows no group.`,
			labelTopic, labelPartition, labelGroup),
		bytes: b.counterVec("consumer_bytes_consumed_total",
			`Bytes returned by Fetch; group_id="" where the broker knows no group.`, labelTopic, labelGroup),
		pollSeconds: b.histogramVec("consumer_poll_duration_seconds",
			"Fetch requests, from request read to answer ready, long-poll wait included.", secondsBuckets, labelTopic),
	}
	s.consumer = c
	return c
}

// Topic returns the handle of a topic. Resolve it once and keep it; ask again after [Metrics.DropTopic].
func (c *Consumer) Topic(topic string) *TopicConsumer {
	if c == nil {
		return nil
	}
	c.series.mu.Lock()
	defer c.series.mu.Unlock()
	ts := c.series.topicLocked(topic)
	if ts.consumer == nil {
		ts.consumer = &TopicConsumer{
			parent: c, series: ts,
			pollSeconds: c.pollSeconds.WithLabelValues(ts.label),
			groups:      make(map[string]*GroupConsumer),
		}
	}
	return ts.consumer
}

func (c *Consumer) dropPartition(topic, partition, group string) {
	c.records.DeleteLabelValues(topic, partition, group)
}

func (c *Consumer) dropTopic(topic string, t *TopicConsumer) {
	c.pollSeconds.DeleteLabelValues(topic)
	if t == nil {
		return
	}
	for group := range t.groups {
		c.bytes.DeleteLabelValues(topic, group)
		c.dropPartition(topic, "", group)
	}
}

// TopicConsumer records the Fetch path of one topic.
type TopicConsumer struct {
	parent      *Consumer
	series      *topicSeries
	pollSeconds prometheus.Observer
	groups      map[string]*GroupConsumer // guarded by series.mu of the parent
}

// PollDuration observes one Fetch request for this topic, long-poll wait included. A trace id, unless it is empty,
// becomes the exemplar.
func (t *TopicConsumer) PollDuration(d time.Duration, traceID string) {
	if t != nil {
		observe(t.pollSeconds, d, traceID)
	}
}

// Group returns the handle of a group reading this topic; "" where the broker knows none. A group that comes when all places of
// partitions are taken, or that reads a topic without series of its own, shares that of "": clients can make any number of groups.
func (t *TopicConsumer) Group(group string) *GroupConsumer {
	if t == nil {
		return nil
	}
	s := t.parent.series
	s.mu.Lock()
	defer s.mu.Unlock()
	g := t.groups[group]
	switch {
	case g != nil || t.series.dropped:
	case group != "" && (t.series.label == "" || s.mu.partitions >= s.maxPartitions):
		s.foldLocked()
		g = t.groupLocked("")
		t.groups[group] = g
	default:
		g = t.groupLocked(group)
	}
	return g
}

// groupLocked returns the handle of a group with series of its own.
func (t *TopicConsumer) groupLocked(group string) *GroupConsumer {
	g := t.groups[group]
	if g == nil {
		g = &GroupConsumer{topic: t, group: group, bytes: t.parent.bytes.WithLabelValues(t.series.label, group)}
		t.groups[group] = g
	}
	return g
}

// unfoldLocked takes the groups that share series off the number of those that do: the topic is dropped.
func (t *TopicConsumer) unfoldLocked() {
	if t == nil {
		return
	}
	for name, g := range t.groups {
		if g.group != name {
			t.parent.series.foldedPartitions.Dec()
		}
	}
}

// DropGroup deletes the series of a group that is dead.
func (t *TopicConsumer) DropGroup(group string) {
	if t == nil {
		return
	}
	s := t.parent.series
	s.mu.Lock()
	defer s.mu.Unlock()
	g := t.groups[group]
	if g == nil || t.series.dropped { // its series went with the topic; what has the names now is another's
		return
	}
	delete(t.groups, group)
	if g.group != group {
		s.foldedPartitions.Dec()
		return
	}
	if t.series.label == "" {
		return // shared with other topics
	}
	t.parent.bytes.DeleteLabelValues(t.series.label, group)
	t.parent.dropPartition(t.series.label, "", group)
	if group == "" {
		return // its places are those of producers and leases; their series go with the partition
	}
	for partition := range g.partitions {
		s.releaseGroupLocked(t.series, partition, group)
	}
}

// GroupConsumer records what one group reads of one topic.
type GroupConsumer struct {
	topic      *TopicConsumer
	group      string
	bytes      prometheus.Counter
	partitions partitionHandles[PartitionConsumer] // guarded by series.mu
}

// Partition returns the handle of a partition. Resolve it once and keep it.
func (g *GroupConsumer) Partition(partition int32) *PartitionConsumer {
	if g == nil {
		return nil
	}
	c, ts := g.topic.parent, g.topic.series
	return g.partitions.of(c.series, ts, partition, g.group, func(label string) *PartitionConsumer {
		return &PartitionConsumer{records: c.records.WithLabelValues(ts.label, label, g.group)}
	})
}

// Consumed counts records and bytes returned by Fetch.
func (g *GroupConsumer) Consumed(p *PartitionConsumer, records, bytes int) {
	if g == nil {
		return
	}
	g.bytes.Add(float64(bytes))
	if p != nil {
		p.records.Add(float64(records))
	}
}

// PartitionConsumer records what one group reads of one partition.
type PartitionConsumer struct {
	records prometheus.Counter
}
