package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Producer records the Produce path, as measured at the broker.
type Producer struct {
	series *series

	records       *prometheus.CounterVec
	bytes         *prometheus.CounterVec
	sendSeconds   *prometheus.HistogramVec
	flushSeconds  *prometheus.HistogramVec
	batchRecords  *prometheus.HistogramVec
	batchBytes    *prometheus.HistogramVec
	errors        *prometheus.CounterVec
	pendingRecord *prometheus.GaugeVec
}

func newProducer(b *builder, s *series) *Producer {
	p := &Producer{
		series: s,
		records: b.counterVec("producer_records_sent_total",
			"Records in committed batches.", labelTopic, labelPartition),
		bytes: b.counterVec("producer_bytes_sent_total",
			"Bytes of committed record batches.", labelTopic),
		sendSeconds: b.histogramVec("producer_send_duration_seconds",
			"Produce requests, from request read to answer ready.", secondsBuckets, labelTopic),
		flushSeconds: b.histogramVec("producer_batch_flush_duration_seconds",
			"A batch's wait from append to commit.", secondsBuckets, labelTopic),
		batchRecords: b.histogramVec("producer_batch_size_records",
			"Records per produced batch.", recordsBuckets, labelTopic),
		batchBytes: b.histogramVec("producer_batch_size_bytes",
			"Bytes per produced batch.", bytesBuckets, labelTopic),
		errors: b.counterVec("producer_send_errors_total",
			"Partition-level Produce errors, by Kafka's error name.", labelTopic, labelErrorType),
		pendingRecord: b.gaugeVec("producer_pending_records",
			"Records appended and not yet committed.", labelTopic, labelPartition),
	}
	s.producer = p
	return p
}

// Topic returns the handle of a topic. Resolve it once and keep it; ask again after [Metrics.DropTopic].
func (p *Producer) Topic(topic string) *TopicProducer {
	if p == nil {
		return nil
	}
	p.series.mu.Lock()
	defer p.series.mu.Unlock()
	ts := p.series.topicLocked(topic)
	if ts.producer == nil {
		t := &TopicProducer{
			parent: p, series: ts,
			bytes:        p.bytes.WithLabelValues(ts.label),
			sendSeconds:  p.sendSeconds.WithLabelValues(ts.label),
			flushSeconds: p.flushSeconds.WithLabelValues(ts.label),
			batchRecords: p.batchRecords.WithLabelValues(ts.label),
			batchBytes:   p.batchBytes.WithLabelValues(ts.label),
		}
		if ts.label == "" {
			t.folded = &foldedPending{shared: p.pendingRecord.WithLabelValues("", "")}
		}
		t.errors = newCounterSet(func(name string) prometheus.Counter {
			p.series.mu.Lock()
			defer p.series.mu.Unlock()
			if ts.dropped { // nothing may come back under the name of a deleted topic
				return prometheus.NewCounter(prometheus.CounterOpts{})
			}
			return p.errors.WithLabelValues(ts.label, name)
		})
		ts.producer = t
	}
	return ts.producer
}

func (p *Producer) dropPartition(topic, partition string) {
	p.records.DeleteLabelValues(topic, partition)
	p.pendingRecord.DeleteLabelValues(topic, partition)
}

func (p *Producer) dropTopic(topic string) {
	p.dropPartition(topic, "")
	p.bytes.DeleteLabelValues(topic)
	p.sendSeconds.DeleteLabelValues(topic)
	p.flushSeconds.DeleteLabelValues(topic)
	p.batchRecords.DeleteLabelValues(topic)
	p.batchBytes.DeleteLabelValues(topic)
	p.errors.DeletePartialMatch(prometheus.Labels{labelTopic: topic})
}

// TopicProducer records the Produce path of one topic.
type TopicProducer struct {
	parent *Producer
	series *topicSeries

	bytes        prometheus.Counter
	sendSeconds  prometheus.Observer
	flushSeconds prometheus.Observer
	batchRecords prometheus.Observer
	batchBytes   prometheus.Observer
	errors       *counterSet
	folded       *foldedPending // nil: the topic has series of its own

	partitions partitionHandles[PartitionProducer] // guarded by series.mu of the parent
}

// Partition returns the handle of a partition. Resolve it once and keep it.
func (t *TopicProducer) Partition(partition int32) *PartitionProducer {
	if t == nil {
		return nil
	}
	return t.partitions.of(t.parent.series, t.series, partition, "", func(label string) *PartitionProducer {
		return &PartitionProducer{
			records: t.parent.records.WithLabelValues(t.series.label, label),
			folded:  t.folded, topic: t, label: label,
		}
	})
}

// Sent counts records and record-batch bytes that were committed.
func (t *TopicProducer) Sent(p *PartitionProducer, records, bytes int) {
	if t == nil {
		return
	}
	t.bytes.Add(float64(bytes))
	if p != nil {
		p.records.Add(float64(records))
	}
}

// SendDuration observes one Produce request for this topic, from request read to answer ready. A trace id, unless it is
// empty, becomes the exemplar.
func (t *TopicProducer) SendDuration(d time.Duration, traceID string) {
	if t != nil {
		observe(t.sendSeconds, d, traceID)
	}
}

// FlushDuration observes one batch's wait from append to commit.
func (t *TopicProducer) FlushDuration(d time.Duration) {
	if t != nil {
		t.flushSeconds.Observe(d.Seconds())
	}
}

// Batch observes the size of one batch that was accepted.
func (t *TopicProducer) Batch(records, bytes int) {
	if t == nil {
		return
	}
	t.batchRecords.Observe(float64(records))
	t.batchBytes.Observe(float64(bytes))
}

// Error counts a partition-level error by Kafka's name for it, for example NOT_LEADER_OR_FOLLOWER.
func (t *TopicProducer) Error(name string) {
	if t != nil {
		t.errors.get(name).Inc()
	}
}

// leave takes what is pending of the topic out of the series that folded topics share: it is dropped.
func (t *TopicProducer) leave() {
	if t != nil && t.folded != nil {
		t.folded.leave()
	}
}

// PartitionProducer records the Produce path of one partition.
type PartitionProducer struct {
	records prometheus.Counter
	folded  *foldedPending // of the topic; nil: it has series of its own
	topic   *TopicProducer
	label   string // "" where it shares series with other partitions of the topic

	mu struct {
		sync.Mutex
		pending prometheus.Gauge // nil: there is no sample
		sum     int
	}
}

// Pending moves the number of records appended and not yet committed: up by n at append, down when they are committed
// or discarded.
func (p *PartitionProducer) Pending(n int) {
	switch {
	case p == nil:
	case p.folded != nil:
		p.folded.add(n)
	default:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.mu.pending == nil {
			p.mu.pending = p.topic.pendingOf(p.label)
		}
		p.mu.sum += n
		p.mu.pending.Add(float64(n))
	}
}

// Leave ends the sample of what is pending: another broker leads the partition now. Records that are pending yet keep it; ask again.
func (p *PartitionProducer) Leave() {
	if p == nil || p.folded != nil || p.label == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.pending != nil && p.mu.sum == 0 {
		p.mu.pending = nil
		p.topic.forgetPending(p.label)
	}
}

// pendingOf returns the gauge of a partition. Of a topic that was dropped it is one that nobody sees: the name may be another's.
func (t *TopicProducer) pendingOf(label string) prometheus.Gauge {
	s := t.parent.series
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.series.dropped {
		return prometheus.NewGauge(prometheus.GaugeOpts{})
	}
	return t.parent.pendingRecord.WithLabelValues(t.series.label, label)
}

func (t *TopicProducer) forgetPending(label string) {
	s := t.parent.series
	s.mu.Lock()
	defer s.mu.Unlock()
	if !t.series.dropped {
		t.parent.pendingRecord.DeleteLabelValues(t.series.label, label)
	}
}

// foldedPending is one topic's part of the gauge that folded topics share. A topic that is deleted with batches in flight
// is told no more of them, or of some only: what it has put into the gauge would stay there for ever.
type foldedPending struct {
	shared prometheus.Gauge

	mu struct {
		sync.Mutex
		sum  int
		gone bool // the topic was dropped: handles that are left count nothing
	}
}

func (f *foldedPending) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.mu.gone {
		f.mu.sum += n
		f.shared.Add(float64(n))
	}
}

func (f *foldedPending) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shared.Sub(float64(f.mu.sum))
	f.mu.sum, f.mu.gone = 0, true
}
