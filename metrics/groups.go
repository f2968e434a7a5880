package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// GroupCount counts groups that a broker coordinates.
type GroupCount struct {
	Type    string // classic or consumer
	State   string // Kafka's name
	Groups  int
	Members int
}

// GroupCoordinator records what this broker does as coordinator of consumer groups. How many groups and members there are is asked of a
// source at each scrape, so groups that move or end are gone with it. The methods of a nil GroupCoordinator do nothing.
type GroupCoordinator struct {
	source atomic.Pointer[func(yield func(GroupCount))]

	groups, members *prometheus.Desc

	shards      prometheus.Gauge
	loads       [2]prometheus.Counter // by outcome
	loadSeconds prometheus.Observer
	rebalances  *prometheus.CounterVec
	rebalance   *prometheus.HistogramVec
	commits     *counterSet
	writeSecs   prometheus.Observer
	writeGroups prometheus.Observer
	writeOffs   prometheus.Observer
	retries     prometheus.Counter
}

func newGroupCoordinator(b *builder) *GroupCoordinator {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		b.note(name, Gauge, help, labels)
		return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
	}
	g := &GroupCoordinator{
		groups:  desc("group_coordinator_groups", "Groups that this broker coordinates, by the protocol they speak and Kafka's name of their state.", labelType, labelState),
		members: desc("group_coordinator_members", "Members of the groups that this broker coordinates.", labelType),
		shards:  b.gauge("group_coordinator_shards", "Shards of groups (partitions of __consumer_offsets) that this broker has read and coordinates."),
		loadSeconds: b.histogram("group_coordinator_load_duration_seconds",
			"Reading the groups of a shard from the catalog, its waits for others included.", secondsBuckets),
		rebalances: b.counterVec("group_coordinator_rebalances_total",
			"Rebalances that began, by the group's protocol and why.", labelType, labelReason),
		rebalance: b.histogramVec("group_coordinator_rebalance_duration_seconds",
			"From the beginning of a rebalance to a stable group.", secondsBuckets, labelType),
		writeSecs: b.histogram("group_coordinator_write_duration_seconds",
			"Writes of groups to the catalog, tries that failed included.", secondsBuckets),
		writeGroups: b.histogram("group_coordinator_write_size_groups", "Groups per write.", recordsBuckets),
		writeOffs:   b.histogram("group_coordinator_write_size_offsets", "Committed offsets per write, of writes with any.", recordsBuckets),
		retries:     b.counter("group_coordinator_write_retries_total", "Times a write of groups failed and was made again."),
	}
	loads := b.counterVec("group_coordinator_loads_total", "Shards read, and reads that failed and are tried again, by outcome.", labelStatus)
	g.loads = [2]prometheus.Counter{loads.WithLabelValues("error"), loads.WithLabelValues("ok")}
	commits := b.counterVec("group_coordinator_offset_commits_total",
		"Offsets that clients committed, one for each partition, by Kafka's error name or OK.", labelStatus)
	g.commits = newCounterSet(func(status string) prometheus.Counter { return commits.WithLabelValues(status) })
	b.reg.MustRegister(g)
	return g
}

// Tell sets the source: it is called at each scrape, possibly at the same time, and yields each type and state of groups once.
func (g *GroupCoordinator) Tell(source func(yield func(GroupCount))) {
	if g != nil {
		g.source.Store(&source)
	}
}

// Describe implements [prometheus.Collector].
func (g *GroupCoordinator) Describe(ch chan<- *prometheus.Desc) {
	ch <- g.groups
	ch <- g.members
}

// Collect implements [prometheus.Collector].
func (g *GroupCoordinator) Collect(ch chan<- prometheus.Metric) {
	source := g.source.Load()
	if source == nil {
		return
	}
	members := map[string]int{}
	(*source)(func(c GroupCount) {
		ch <- prometheus.MustNewConstMetric(g.groups, prometheus.GaugeValue, float64(c.Groups), c.Type, c.State)
		members[c.Type] += c.Members
	})
	for of, n := range members {
		ch <- prometheus.MustNewConstMetric(g.members, prometheus.GaugeValue, float64(n), of)
	}
}

// Shards sets how many shards are coordinated.
func (g *GroupCoordinator) Shards(n int) {
	if g != nil {
		g.shards.Set(float64(n))
	}
}

// Loaded records that a shard was read, or that a read failed.
func (g *GroupCoordinator) Loaded(took time.Duration, ok bool) {
	if g == nil {
		return
	}
	if !ok {
		g.loads[0].Inc()
		return
	}
	g.loads[1].Inc()
	g.loadSeconds.Observe(took.Seconds())
}

// Rebalancing counts a rebalance that begins. Types and reasons are from fixed vocabularies.
func (g *GroupCoordinator) Rebalancing(groupType, reason string) {
	if g != nil {
		g.rebalances.WithLabelValues(groupType, reason).Inc()
	}
}

// Rebalanced observes one that ended.
func (g *GroupCoordinator) Rebalanced(groupType string, took time.Duration) {
	if g != nil {
		g.rebalance.WithLabelValues(groupType).Observe(took.Seconds())
	}
}

// Committed counts offsets that were committed, or refused: status is Kafka's error name or [StatusOK].
func (g *GroupCoordinator) Committed(status string, offsets int) {
	if g != nil {
		g.commits.get(status).Add(float64(offsets))
	}
}

// Written records a write of groups that was applied.
func (g *GroupCoordinator) Written(groups, offsets int, took time.Duration) {
	if g == nil {
		return
	}
	g.writeSecs.Observe(took.Seconds())
	g.writeGroups.Observe(float64(groups))
	if offsets > 0 {
		g.writeOffs.Observe(float64(offsets))
	}
}

// WriteRetried counts a write of groups that failed and is made again.
func (g *GroupCoordinator) WriteRetried() {
	if g != nil {
		g.retries.Inc()
	}
}
