package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// StatusOK is the status of a request without an error.
const StatusOK = "OK"

// RenewalStatus is the outcome of renewing a lease or a session.
type RenewalStatus int

// The outcomes: renewed, taken by another, or not known.
const (
	RenewalOK RenewalStatus = iota
	RenewalLost
	RenewalError
)

var renewalLabels = [...]string{RenewalOK: "ok", RenewalLost: "lost", RenewalError: "error"}

// Agent records what this broker is doing: connections, requests, leases, writes.
type Agent struct {
	series *series

	activePartitions *prometheus.GaugeVec
	renewals         [len(renewalLabels)]prometheus.Counter
	recordsWritten   *prometheus.CounterVec
	writeSeconds     *prometheus.HistogramVec
	connections      prometheus.Gauge
	requests         *prometheus.CounterVec
	requestSeconds   *prometheus.HistogramVec
	ready            prometheus.Gauge
	unled            prometheus.Gauge

	mu struct {
		sync.Mutex
		apis map[string]*APIRecorder
	}
}

func newAgent(b *builder, s *series) *Agent {
	a := &Agent{
		series: s,
		activePartitions: b.gaugeVec("agent_active_partitions",
			"Partition leases this broker holds now; a topic without one has no sample.", labelTopic),
		recordsWritten: b.counterVec("agent_records_written_total",
			"Records written to the object store.", labelTopic, labelPartition),
		writeSeconds: b.histogramVec("agent_write_latency_seconds",
			"Append to commit, per log object and topic.", secondsBuckets, labelTopic),
		connections: b.gauge("agent_active_connections", "Open client connections."),
		requests: b.counterVec("agent_kafka_requests_total",
			"Requests served; status is OK or the name of the first error in the answer.", labelAPI, labelStatus),
		requestSeconds: b.histogramVec("agent_kafka_request_duration_seconds",
			"Requests, from request read to answer ready.", secondsBuckets, labelAPI),
		ready: b.gauge("agent_ready", "1 when the broker serves, else 0; the same as /ready."),
		unled: b.gauge("unled_partitions", "Partitions no broker holds a lease of."),
	}
	renewals := b.counterVec("agent_lease_renewals_total", "Lease or session renewals.", labelStatus)
	for i, label := range renewalLabels {
		a.renewals[i] = renewals.WithLabelValues(label)
	}
	a.mu.apis = make(map[string]*APIRecorder)
	s.agent = a
	return a
}

// Topic returns the handle of a topic. Resolve it once and keep it; ask again after [Metrics.DropTopic].
func (a *Agent) Topic(topic string) *TopicAgent {
	if a == nil {
		return nil
	}
	a.series.mu.Lock()
	defer a.series.mu.Unlock()
	ts := a.series.topicLocked(topic)
	if ts.agent == nil {
		ts.agent = &TopicAgent{parent: a, series: ts, writeSeconds: a.writeSeconds.WithLabelValues(ts.label)}
	}
	return ts.agent
}

func (a *Agent) dropPartition(topic, partition string) {
	a.recordsWritten.DeleteLabelValues(topic, partition)
}

func (a *Agent) dropTopic(topic string) {
	a.dropPartition(topic, "")
	a.activePartitions.DeleteLabelValues(topic)
	a.writeSeconds.DeleteLabelValues(topic)
}

// LeaseRenewal counts one renewal of a lease or of the broker's session.
func (a *Agent) LeaseRenewal(status RenewalStatus) {
	if a == nil || status < 0 || int(status) >= len(a.renewals) {
		return
	}
	a.renewals[status].Inc()
}

// ConnectionOpened counts a client connection in.
func (a *Agent) ConnectionOpened() {
	if a != nil {
		a.connections.Inc()
	}
}

// ConnectionClosed counts a client connection out.
func (a *Agent) ConnectionClosed() {
	if a != nil {
		a.connections.Dec()
	}
}

// Ready sets whether the broker serves. [Server] does so before each scrape.
func (a *Agent) Ready(ready bool) {
	if a == nil {
		return
	}
	v := 0.0
	if ready {
		v = 1
	}
	a.ready.Set(v)
}

// UnledPartitions sets how many partitions no broker holds a lease of.
func (a *Agent) UnledPartitions(n int) {
	if a != nil {
		a.unled.Set(float64(n))
	}
}

// API returns the handle of a request kind, by Kafka's name for it (Produce, Fetch, ...). The names come from the
// broker's table, never from a client.
func (a *Agent) API(name string) *APIRecorder {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.mu.apis[name]
	if r == nil {
		r = &APIRecorder{
			ok:      a.requests.WithLabelValues(name, StatusOK),
			seconds: a.requestSeconds.WithLabelValues(name),
		}
		r.failed = newCounterSet(func(status string) prometheus.Counter {
			return a.requests.WithLabelValues(name, status)
		})
		a.mu.apis[name] = r
	}
	return r
}

// APIRecorder records the requests of one kind.
type APIRecorder struct {
	ok      prometheus.Counter
	failed  *counterSet
	seconds prometheus.Observer
}

// Done counts one request. status is [StatusOK] or Kafka's name of the first error in the answer; the duration runs
// from request read to answer ready.
func (r *APIRecorder) Done(status string, d time.Duration) {
	if r == nil {
		return
	}
	if status == StatusOK {
		r.ok.Inc()
	} else {
		r.failed.get(status).Inc()
	}
	r.seconds.Observe(d.Seconds())
}

// TopicAgent records leases and writes of one topic.
type TopicAgent struct {
	parent       *Agent
	series       *topicSeries
	writeSeconds prometheus.Observer

	// Both are guarded by series.mu of the parent.
	active     int
	partitions partitionHandles[PartitionAgent]
}

// Leases moves the number of leases held by n. At zero the topic's sample disappears: a broker without leases of a
// topic says nothing about it.
func (t *TopicAgent) Leases(n int) {
	if t == nil {
		return
	}
	s := t.parent.series
	s.mu.Lock()
	defer s.mu.Unlock()
	t.active += n
	if t.series.label == "" {
		t.parent.activePartitions.WithLabelValues("").Add(float64(n)) // shared with other topics
		return
	}
	if t.series.dropped {
		return
	}
	if t.active <= 0 {
		t.parent.activePartitions.DeleteLabelValues(t.series.label)
		return
	}
	t.parent.activePartitions.WithLabelValues(t.series.label).Set(float64(t.active))
}

// WriteLatency observes append to commit, once per log object in which the topic has batches.
func (t *TopicAgent) WriteLatency(d time.Duration) {
	if t != nil {
		t.writeSeconds.Observe(d.Seconds())
	}
}

// Partition returns the handle of a partition. Resolve it once and keep it.
func (t *TopicAgent) Partition(partition int32) *PartitionAgent {
	if t == nil {
		return nil
	}
	return t.partitions.of(t.parent.series, t.series, partition, "", func(label string) *PartitionAgent {
		return &PartitionAgent{written: t.parent.recordsWritten.WithLabelValues(t.series.label, label)}
	})
}

// PartitionAgent records the writes of one partition.
type PartitionAgent struct {
	written prometheus.Counter
}

// Written counts records that were written to the object store.
func (p *PartitionAgent) Written(records int) {
	if p != nil {
		p.written.Add(float64(records))
	}
}
