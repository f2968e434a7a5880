package metrics

import (
	"cmp"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Defaults of [Options].
const (
	DefaultMaxPartitions = 10_000
	DefaultMaxTopics     = 2_000
)

// Options configure [New].
type Options struct {
	// MaxPartitions bounds the partitions (and, for consumers, partition and group pairs) that get series of their own.
	// Zero means [DefaultMaxPartitions]; negative means none do.
	MaxPartitions int
	// MaxTopics bounds the topics that get series of their own. Zero means [DefaultMaxTopics]; negative means none do.
	MaxTopics int
	// Version is the value of the version label of streamhouse_build_info.
	Version string
	// Logger hears of the first fold. Nil discards.
	Logger *slog.Logger
}

// Metrics is the registry and the recorders by subject. The zero value records nothing and is valid.
type Metrics struct {
	Producer *Producer // the Produce path
	Consumer *Consumer // the Fetch path
	Agent    *Agent    // connections, requests, leases, writes of this broker
	Flush    *Flush    // log objects from open to committed

	TailCache  *Cache // buffers that were uploaded, kept for tail readers
	BlockCache *Cache // aligned ranges read back from the store

	Store   *Ops   // calls of the object store
	Catalog *Ops   // calls of the catalog
	Tail    *Tail  // the unfolded part of the manifest
	Merge   *Merge // folds and merges

	registry *prometheus.Registry
	families []Family
	series   *series
}

// New registers all families, with those of the process and the Go runtime, in a registry of its own.
func New(o Options) *Metrics {
	if o.MaxPartitions == 0 {
		o.MaxPartitions = DefaultMaxPartitions
	}
	if o.MaxTopics == 0 {
		o.MaxTopics = DefaultMaxTopics
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &builder{reg: prometheus.NewRegistry()}
	s := newSeries(b, o)
	caches := newCacheVecs(b)
	m := &Metrics{
		registry: b.reg, series: s,
		Producer: newProducer(b, s),
		Consumer: newConsumer(b, s),
		Agent:    newAgent(b, s),
		Flush:    newFlush(b),
		Store:    newOps(b, "objstore", "object store", true),
		Catalog:  newOps(b, "catalog", "catalog", false),
		Tail:     newTail(b),
		Merge:    newMerge(b),

		TailCache:  caches.cache("tail"),
		BlockCache: caches.cache("block"),
	}
	registerGroupFamilies(b)
	b.gaugeVec("build_info", "1, labelled with what was built.", "version", "go_version").
		WithLabelValues(o.Version, runtime.Version()).Set(1)
	b.reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.families = b.families
	return m
}

// Registry returns what a scrape gathers, or nil for the zero Metrics. Use it to serve or to inspect, not to register
// families: their place is this package.
func (m *Metrics) Registry() *prometheus.Registry {
	if m == nil {
		return nil
	}
	return m.registry
}

// Families lists StreamHouse's own families, sorted by name.
func (m *Metrics) Families() []Family {
	if m == nil {
		return nil
	}
	out := slices.Clone(m.families)
	slices.SortFunc(out, func(a, b Family) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// DropTopic deletes every series of a topic. Handles of it that are still held record into nothing visible.
func (m *Metrics) DropTopic(topic string) {
	if m == nil || m.series == nil {
		return
	}
	m.series.dropTopic(topic)
}

// DropPartition deletes the series of one partition: its lease went elsewhere, or it is gone.
func (m *Metrics) DropPartition(topic string, partition int32) {
	if m == nil || m.series == nil {
		return
	}
	m.series.dropPartition(topic, partition)
}

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
		s.foldedPartitions.Inc()
		if !s.mu.loggedP {
			s.mu.loggedP = true
			s.log.Warn("partitions above the limit share metric series", "limit", s.maxPartitions)
		}
	}
	groups[group] = label
	return label
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
	if t.label == "" && topic != "" {
		s.foldedTopics.Dec()
		return // the shared series stay: other topics are in them
	}
	s.producer.dropTopic(t.label)
	s.consumer.dropTopic(t.label, t.consumer)
	s.agent.dropTopic(t.label)
}

func (s *series) dropPartition(topic string, partition int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.mu.topics[topic]
	if t == nil {
		return
	}
	s.releaseLocked(t, partition)
	t.producer.forget(partition)
	t.consumer.forget(partition)
	t.agent.forget(partition)
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
