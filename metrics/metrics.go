package metrics

import (
	"cmp"
	"log/slog"
	"runtime"
	"slices"
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
	Lag      *Lag      // where consumer groups are
	Groups   *GroupCoordinator
	Agent    *Agent // connections, requests, leases, writes of this broker
	Flush    *Flush // log objects from open to committed

	TailCache  *Cache // buffers that were uploaded, kept for tail readers
	BlockCache *Cache // aligned ranges read back from the store

	Store   *Ops   // calls of the object store
	Catalog *Ops   // calls of the catalog
	Tail    *Tail  // the unfolded part of the manifest
	Merge   *Merge // folds and merges

	Traffic *Traffic // requests of the object store: hedges, retries, throttles
	Sweep   *Sweep   // deletions from the object store
	Pools   *Pools   // connections to the catalog's database
	Cost    *Cost    // requests and bytes of the object store by topic
	Limits  *Limits  // how near the broker is to its bounds

	Cluster *Cluster // sharing the partitions with other brokers

	registry *prometheus.Registry
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
	return assemble(&builder{reg: prometheus.NewRegistry()}, o)
}

// assemble registers all families with b.
func assemble(b *builder, o Options) *Metrics {
	s := newSeries(b, o)
	caches := newCacheVecs(b)
	m := &Metrics{
		registry: b.reg, series: s,
		Producer: newProducer(b, s),
		Consumer: newConsumer(b, s),
		Lag:      newLag(b, o),
		Groups:   newGroupCoordinator(b),
		Agent:    newAgent(b, s),
		Flush:    newFlush(b),
		Store:    newOps(b, "objstore", "object store", true),
		Catalog:  newOps(b, "catalog", "catalog", false),
		Tail:     newTail(b),
		Merge:    newMerge(b),
		Cluster:  newCluster(b),
		Traffic:  newTraffic(b),
		Sweep:    newSweep(b),
		Pools:    newPools(b),
		Limits:   newLimits(b),
		Cost:     newCost(b, s),

		TailCache:  caches.cache("tail"),
		BlockCache: caches.cache("block"),
	}
	b.gaugeVec("build_info", "1, labelled with what was built.", "version", "go_version").
		WithLabelValues(o.Version, runtime.Version()).Set(1)
	b.reg.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
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
	return slices.Clone(families())
}

// families are for who checks or documents names. They are not kept by every Metrics: they are an eighth of what one takes.
var families = sync.OnceValue(func() []Family {
	b := &builder{reg: prometheus.NewRegistry()}
	assemble(b, Options{Logger: slog.New(slog.DiscardHandler)})
	for i := range b.families {
		b.families[i].Name = namespace + "_" + b.families[i].Name
	}
	slices.SortFunc(b.families, func(a, b Family) int { return cmp.Compare(a.Name, b.Name) })
	return b.families
})

// DropTopic deletes every series of a topic. Handles of it that are still held record into nothing visible.
func (m *Metrics) DropTopic(topic string) {
	if m == nil || m.series == nil {
		return
	}
	m.series.dropTopic(topic)
}
