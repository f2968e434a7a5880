package metrics

import (
	"cmp"
	"container/heap"
	"log/slog"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// LagSample is where one group is in one partition.
type LagSample struct {
	Group, Topic string
	Partition    int32
	// Committed is the last committed offset, and Lag the records from it up to the high watermark; -1 when not known.
	Committed, Lag int64
	// Seconds is the age of the oldest record not yet committed past, 0 when caught up; NaN when not known.
	Seconds float64
	// Position is the highest offset fetched by the group from this broker; -1 when not known.
	Position int64
}

// Lag exports where groups are: the families consumer_lag_records, consumer_lag_seconds, consumer_last_committed_offset and
// consumer_current_offset. Their samples are made at each scrape from what a source tells, so they are as of the scrape, and
// those of a group that was deleted, or whose coordinator is another broker now, are gone with it. Of more than
// [Options.MaxPartitions] samples one is made for each group and topic, and of more than that many of these one of those that lag least.
// The method of a nil Lag does nothing.
type Lag struct {
	source atomic.Pointer[func(yield func(LagSample)) error]
	max    int
	log    *slog.Logger
	errors prometheus.Counter
	warned atomic.Int64 // when a failure was logged, in Unix seconds

	records, seconds, committed, position *prometheus.Desc
	folded                                *prometheus.Desc
}

func newLag(b *builder, o Options) *Lag {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		b.note(name, Gauge, help, labels)
		return prometheus.NewDesc(namespace+"_"+name, help, labels, nil)
	}
	labels := []string{labelTopic, labelPartition, labelGroup}
	l := &Lag{
		max: o.MaxPartitions, log: o.Logger,
		errors: b.counter("consumer_lag_errors_total",
			"Scrapes in which the lag of some groups could not be told: a shard was being loaded, or the log could not be read."),
		records: desc("consumer_lag_records",
			"High watermark minus committed offset, at least 0; no sample where nothing is committed.", labels...),
		seconds: desc("consumer_lag_seconds",
			"Age of the oldest record not yet committed past; 0 when caught up.", labels...),
		committed: desc("consumer_last_committed_offset", "Last offset the group committed.", labels...),
		position:  desc("consumer_current_offset", "Highest offset fetched by the group, where known.", labels...),
		folded: desc("metrics_folded_group_partitions",
			`Partitions of groups without lag of their own: told as sums (seconds: the largest) under partition="", `+
				`those that lag least with topic="" and group_id="", too.`),
	}
	b.reg.MustRegister(l)
	return l
}

// Tell sets the source: it is called at each scrape, possibly at the same time, and yields each partition of each group that
// is this broker's to tell of, once. What it yields is told also if it fails: that is counted, and logged once a minute.
func (l *Lag) Tell(source func(yield func(LagSample)) error) {
	if l != nil {
		l.source.Store(&source)
	}
}

// Describe implements [prometheus.Collector].
func (l *Lag) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{l.records, l.seconds, l.committed, l.position, l.folded} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (l *Lag) Collect(ch chan<- prometheus.Metric) {
	var all []LagSample
	if source := l.source.Load(); source != nil {
		if err := (*source)(func(s LagSample) { all = append(all, s) }); err != nil {
			l.failed(err)
		}
	}
	folded := 0
	if len(all) > l.max {
		folded = len(all)
		all = foldLags(all, l.max)
	}
	ch <- prometheus.MustNewConstMetric(l.folded, prometheus.GaugeValue, float64(folded))
	for i := range all {
		s := &all[i]
		partition := ""
		if s.Partition >= 0 {
			partition = strconv.Itoa(int(s.Partition))
		}
		send := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, s.Topic, partition, s.Group)
		}
		if s.Lag >= 0 {
			send(l.records, float64(s.Lag))
		}
		if !math.IsNaN(s.Seconds) {
			send(l.seconds, s.Seconds)
		}
		if s.Committed >= 0 {
			send(l.committed, float64(s.Committed))
		}
		if s.Position >= 0 {
			send(l.position, float64(s.Position))
		}
	}
}

// failed counts a scrape that could not tell everything.
func (l *Lag) failed(err error) {
	l.errors.Inc()
	now := time.Now().Unix()
	if last := l.warned.Load(); now-last >= warnEvery && l.warned.CompareAndSwap(last, now) {
		l.log.Warn("cannot tell the lag of all groups in a scrape", "error", err)
	}
}

// warnEvery is the least time between two lines about scrapes that failed, in seconds.
const warnEvery = 60

// foldLags makes one sample of each group and topic, and no more than bound: clients make as many groups as they like, so those
// that lag least share one. Offsets of several partitions make no sum that says anything, but they say whether a group moves at
// all, which alerts ask: so they are summed, too.
func foldLags(all []LagSample, bound int) []LagSample {
	type key struct{ group, topic string }
	at := make(map[key]int)
	var sums []LagSample
	for i := range all {
		s := &all[i]
		k := key{s.Group, s.Topic}
		n, ok := at[k]
		if !ok {
			n = len(sums)
			at[k] = n
			sums = append(sums, noLag(s.Group, s.Topic))
		}
		sums[n].add(s)
	}
	if len(sums) <= bound {
		return sums
	}
	own := max(bound-1, 0)
	keepLargestLags(sums, own)
	rest := noLag("", "")
	for i := range sums[own:] {
		rest.add(&sums[own+i])
	}
	return append(sums[:own], rest)
}

// keepLargestLags moves the n largest to the front, in any order. The front is a heap with the least of them as root, so that most of
// what is not among them costs one comparison: sorting all at each scrape would not.
func keepLargestLags(s []LagSample, n int) {
	if n == 0 {
		return
	}
	least := lagHeap(s[:n])
	heap.Init(&least)
	for i := n; i < len(s); i++ {
		if compareLags(&s[i], &least[0]) > 0 {
			s[i], least[0] = least[0], s[i]
			heap.Fix(&least, 0)
		}
	}
}

// compareLags compares by records, then by seconds, what is not known being least. The name decides between equals, the first being the
// larger, so that the same are told of at each scrape.
func compareLags(a, b *LagSample) int {
	return cmp.Or(cmp.Compare(a.Lag, b.Lag), cmp.Compare(a.Seconds, b.Seconds), cmp.Compare(b.Group, a.Group), cmp.Compare(b.Topic, a.Topic))
}

// lagHeap implements [heap.Interface]; its length does not change.
type lagHeap []LagSample

func (h lagHeap) Len() int           { return len(h) }
func (h lagHeap) Less(i, j int) bool { return compareLags(&h[i], &h[j]) < 0 }
func (h lagHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h lagHeap) Push(any)           { panic("a heap of fixed length") }
func (h lagHeap) Pop() any           { panic("a heap of fixed length") }

// noLag is a sum of no partition yet.
func noLag(group, topic string) LagSample {
	return LagSample{Group: group, Topic: topic, Partition: -1, Committed: -1, Lag: -1, Seconds: math.NaN(), Position: -1}
}

// add sums what is known; of seconds it takes the largest.
func (s *LagSample) add(o *LagSample) {
	add(&s.Committed, o.Committed)
	add(&s.Lag, o.Lag)
	add(&s.Position, o.Position)
	if math.IsNaN(s.Seconds) || o.Seconds > s.Seconds {
		s.Seconds = o.Seconds
	}
}

// add sums what is known: -1 is not.
func add(sum *int64, n int64) {
	if n >= 0 {
		*sum = max(*sum, 0) + n
	}
}
