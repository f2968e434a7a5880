package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Type is the Prometheus type of a family.
type Type string

// The types in use.
const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
)

// Family is one metric family: what a golden file, a document or a rule may rely on.
type Family struct {
	Name   string
	Type   Type
	Labels []string
	Help   string
}

const namespace = "streamhouse"

// Buckets of the histograms: classic ones always, so that _bucket queries work.
var (
	secondsBuckets = prometheus.ExponentialBuckets(0.001, 2, 15) // 1 ms .. 16.4 s
	recordsBuckets = prometheus.ExponentialBuckets(1, 2, 15)     // 1 .. 16,384
	bytesBuckets   = prometheus.ExponentialBuckets(100, 2, 15)   // 100 B .. 1.6 MB
	objectBuckets  = prometheus.ExponentialBuckets(1024, 4, 10)  // 1 KiB .. 256 MiB
)

// builder registers families and remembers their shape.
type builder struct {
	reg      *prometheus.Registry
	families []Family // names without the namespace
}

func (b *builder) note(name string, t Type, help string, labels []string) {
	b.families = append(b.families, Family{Name: name, Type: t, Labels: labels, Help: help})
}

func (b *builder) counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	b.note(name, Counter, help, labels)
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	b.reg.MustRegister(v)
	return v
}

// Families without labels are plain metrics: a vector of one takes twice the memory.
func (b *builder) counter(name, help string) prometheus.Counter {
	b.note(name, Counter, help, nil)
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	b.reg.MustRegister(c)
	return c
}

func (b *builder) gaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	b.note(name, Gauge, help, labels)
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
	b.reg.MustRegister(v)
	return v
}

func (b *builder) gauge(name, help string) prometheus.Gauge {
	b.note(name, Gauge, help, nil)
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	b.reg.MustRegister(g)
	return g
}

func (b *builder) histogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	b.note(name, Histogram, help, labels)
	v := prometheus.NewHistogramVec(
		prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	b.reg.MustRegister(v)
	return v
}

func (b *builder) histogram(name, help string, buckets []float64) prometheus.Observer {
	b.note(name, Histogram, help, nil)
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	b.reg.MustRegister(h)
	return h
}

// observe observes a duration, with the trace that is an example of it where there is one. Only scrapes that ask for
// OpenMetrics show it.
func observe(o prometheus.Observer, d time.Duration, traceID string) {
	if e, ok := o.(prometheus.ExemplarObserver); ok && traceID != "" {
		e.ObserveWithExemplar(d.Seconds(), prometheus.Labels{exemplarTrace: traceID})
		return
	}
	o.Observe(d.Seconds())
}

// exemplarTrace is the label of exemplars, as Grafana and Prometheus know it.
const exemplarTrace = "trace_id"

// Label names.
const (
	labelTopic     = "topic"
	labelPartition = "partition"
	labelGroup     = "group_id"
	labelErrorType = "error_type"
	labelStatus    = "status"
	labelAPI       = "api"
	labelOp        = "op"
	labelKind      = "kind"
	labelCache     = "cache"
	labelReason    = "reason"
	labelType      = "type"
	labelDirection = "direction"
	labelPool      = "pool"
	labelState     = "state"
)
