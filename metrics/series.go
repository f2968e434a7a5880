package metrics

import (
	"log/slog"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// series owns the book of which topic and partition has series, so that they are bounded and can be deleted exactly
// (a search by partial labels visits every series of a family, and is too slow for thousands of partitions).
type series struct {
	maxPartitions int
	maxTopics     int
	log           *slog.Logger

	foldedPartitions prometheus.Gauge
	foldedTopics     prometheus.Gauge

	producer *Producer
	consumer *Consumer
	agent    *Agent
	cost     *Cost

	mu struct {
		sync.Mutex
		topics     map[string]*topicSeries
		partitions int // places taken
		loggedP    bool
		loggedT    bool
	}
}

// topicSeries is what one topic has been given. Guarded by series.mu.
type topicSeries struct {
	label    string // the topic, or "" when folded
	dropped  bool   // DropTopic was called: no more series for handles of it
	producer *TopicProducer
	consumer *TopicConsumer
	agent    *TopicAgent
	cost     *TopicCost
	// places holds the partition label given to each partition and group: its number, or "" when folded. The group is
	// "" for producers and leases, and for consumers without one.
	places map[int32]map[string]string
}

func newSeries(b *builder, o Options) *series {
	s := &series{
		maxPartitions: o.MaxPartitions,
		maxTopics:     o.MaxTopics,
		log:           o.Logger,
		foldedPartitions: b.gauge("metrics_folded_partitions",
			`Partitions (and partition and group pairs) without series of their own, counted under partition="".`),
		foldedTopics: b.gauge("metrics_folded_topics",
			`Topics without series of their own, counted under topic="".`),
	}
	s.mu.topics = make(map[string]*topicSeries)
	return s
}

// topicLocked returns the book of a topic, opening it when needed.
func (s *series) topicLocked(topic string) *topicSeries {
	if t := s.mu.topics[topic]; t != nil {
		return t
	}
	t := &topicSeries{label: topic, places: make(map[int32]map[string]string)}
	if topic != "" && len(s.mu.topics) >= s.maxTopics {
		t.label = ""
		s.foldedTopics.Inc()
		if !s.mu.loggedT {
			s.mu.loggedT = true
			s.log.Warn("topics above the limit share metric series", "limit", s.maxTopics)
		}
	}
	s.mu.topics[topic] = t
	return t
}

// placeLocked returns the partition label to use.
func (s *series) placeLocked(t *topicSeries, partition int32, group string) string {
	groups := t.places[partition]
	if label, ok := groups[group]; ok {
		return label
	}
	if groups == nil {
		groups = make(map[string]string, 1)
		t.places[partition] = groups
	}
	label := ""
	if t.label != "" && s.mu.partitions < s.maxPartitions {
		label = strconv.Itoa(int(partition))
		s.mu.partitions++
	} else {
		s.foldLocked()
	}
	groups[group] = label
	return label
}

// foldLocked counts one without a place, and says so the first time.
func (s *series) foldLocked() {
	s.foldedPartitions.Inc()
	if !s.mu.loggedP {
		s.mu.loggedP = true
		s.log.Warn("partitions above the limit share metric series", "limit", s.maxPartitions)
	}
}

// releaseLocked gives all places of a partition back and deletes its series.
func (s *series) releaseLocked(t *topicSeries, partition int32) {
	for group, label := range t.places[partition] {
		if label == "" {
			s.foldedPartitions.Dec()
			continue
		}
		s.mu.partitions--
		if group == "" {
			s.producer.dropPartition(t.label, label)
			s.agent.dropPartition(t.label, label)
		}
		s.consumer.dropPartition(t.label, label, group)
	}
	delete(t.places, partition)
}

func (s *series) dropTopic(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.mu.topics[topic]
	if t == nil {
		return
	}
	for partition := range t.places {
		s.releaseLocked(t, partition)
	}
	delete(s.mu.topics, topic)
	t.dropped = true
	t.consumer.unfoldLocked()
	if t.label == "" && topic != "" {
		s.foldedTopics.Dec()
		t.producer.leave()
		t.cost.leaveLocked()
		return // the shared series stay: other topics are in them
	}
	s.producer.dropTopic(t.label)
	s.consumer.dropTopic(t.label, t.consumer)
	s.agent.dropTopic(t.label)
	s.cost.dropTopic(t.label)
}

// releaseGroupLocked gives the place of one group on one partition back and deletes its series.
func (s *series) releaseGroupLocked(t *topicSeries, partition int32, group string) {
	label, ok := t.places[partition][group]
	if !ok {
		return
	}
	delete(t.places[partition], group)
	if label == "" {
		s.foldedPartitions.Dec()
		return
	}
	s.mu.partitions--
	s.consumer.dropPartition(t.label, label, group)
}

// partitionHandles are the handles made for partitions of one topic. The zero value is empty. Guarded by series.mu.
type partitionHandles[H any] map[int32]*H

// of returns the handle of a partition, making it with the label of its place when needed; nil when the topic was dropped.
func (p *partitionHandles[H]) of(s *series, ts *topicSeries, partition int32, group string, with func(label string) *H) *H {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := (*p)[partition]
	if h == nil && !ts.dropped {
		if *p == nil {
			*p = make(partitionHandles[H])
		}
		h = with(s.placeLocked(ts, partition, group))
		(*p)[partition] = h
	}
	return h
}
