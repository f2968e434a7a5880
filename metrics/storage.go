package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// SealReason says why a log object was closed to further appends.
type SealReason int

// The reasons: as large as allowed (its bytes or its index), or somebody waits and a slot is free.
const (
	SealSize SealReason = iota
	SealWaiter
)

var sealLabels = [...]string{SealSize: "size", SealWaiter: "waiter"}

// Flush records log objects on their way to being committed.
type Flush struct {
	sealed      [len(sealLabels)]prometheus.Counter
	objects     prometheus.Counter
	bytes       prometheus.Counter
	objectBytes prometheus.Observer
	seconds     prometheus.Observer
	uploads     prometheus.Gauge
	buffered    prometheus.Gauge
	retries     prometheus.Counter
}

func newFlush(b *builder) *Flush {
	f := &Flush{
		objects: b.counter("flush_objects_total", "Log objects committed."),
		bytes:   b.counter("flush_bytes_total", "Bytes of committed log objects."),
		objectBytes: b.histogram("flush_object_size_bytes",
			"Size of committed log objects.", objectBuckets),
		seconds: b.histogram("flush_duration_seconds",
			"From the seal of a log object to its commit.", secondsBuckets),
		uploads:  b.gauge("flush_uploads", "Log objects being uploaded now."),
		buffered: b.gauge("flush_buffered_bytes", "Bytes appended and not yet committed."),
		retries:  b.counter("flush_retries_total", "Uploads or commits that had to be tried again."),
	}
	sealed := b.counterVec("flush_seals_total", "Log objects sealed, by what closed them.", labelReason)
	for i, label := range sealLabels {
		f.sealed[i] = sealed.WithLabelValues(label)
	}
	return f
}

// Sealed counts one log object closed to appends.
func (f *Flush) Sealed(reason SealReason) {
	if f == nil || reason < 0 || int(reason) >= len(f.sealed) {
		return
	}
	f.sealed[reason].Inc()
}

// Committed counts one log object the manifest now names; d runs from its seal.
func (f *Flush) Committed(bytes int, d time.Duration) {
	if f == nil {
		return
	}
	f.objects.Inc()
	f.bytes.Add(float64(bytes))
	f.objectBytes.Observe(float64(bytes))
	f.seconds.Observe(d.Seconds())
}

// Uploading moves the number of uploads in flight by n.
func (f *Flush) Uploading(n int) {
	if f != nil {
		f.uploads.Add(float64(n))
	}
}

// Buffered moves the bytes appended and not yet committed by n.
func (f *Flush) Buffered(n int) {
	if f != nil {
		f.buffered.Add(float64(n))
	}
}

// Retried counts an upload or a commit that is tried again.
func (f *Flush) Retried() {
	if f != nil {
		f.retries.Inc()
	}
}

type cacheVecs struct {
	hits, misses, evictions *prometheus.CounterVec
	bytes                   *prometheus.GaugeVec
}

func newCacheVecs(b *builder) *cacheVecs {
	return &cacheVecs{
		hits:      b.counterVec("cache_hits_total", "Reads answered from the cache.", labelCache),
		misses:    b.counterVec("cache_misses_total", "Reads the cache could not answer.", labelCache),
		evictions: b.counterVec("cache_evictions_total", "Entries dropped to make room.", labelCache),
		bytes:     b.gaugeVec("cache_bytes", "Bytes held by the cache.", labelCache),
	}
}

func (v *cacheVecs) cache(name string) *Cache {
	return &Cache{
		hits:      v.hits.WithLabelValues(name),
		misses:    v.misses.WithLabelValues(name),
		evictions: v.evictions.WithLabelValues(name),
		bytes:     v.bytes.WithLabelValues(name),
	}
}

// Cache records one cache. What an entry is, is the cache's own: a batch or a log object of the tail cache, a block of
// the block cache.
type Cache struct {
	hits, misses, evictions prometheus.Counter
	bytes                   prometheus.Gauge
}

// Hit counts n reads answered from the cache.
func (c *Cache) Hit(n int) {
	if c != nil && n > 0 {
		c.hits.Add(float64(n))
	}
}

// Miss counts n reads the cache could not answer.
func (c *Cache) Miss(n int) {
	if c != nil && n > 0 {
		c.misses.Add(float64(n))
	}
}

// Evicted counts n entries dropped to make room.
func (c *Cache) Evicted(n int) {
	if c != nil && n > 0 {
		c.evictions.Add(float64(n))
	}
}

// Bytes sets the bytes held now.
func (c *Cache) Bytes(n int64) {
	if c != nil {
		c.bytes.Set(float64(n))
	}
}

// Ops records the calls of one outside service, by operation and outcome.
type Ops struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	bytes    *prometheus.CounterVec // nil where calls carry no payload

	mu struct {
		sync.Mutex
		ops map[string]*OpRecorder
	}
}

func newOps(b *builder, prefix, what string, payload bool) *Ops {
	o := &Ops{
		requests: b.counterVec(prefix+"_requests_total",
			"Calls of the "+what+", by operation and outcome.", labelOp, labelStatus),
		seconds: b.histogramVec(prefix+"_request_duration_seconds",
			"Duration of calls of the "+what+", by operation and outcome.", secondsBuckets, labelOp, labelStatus),
	}
	if payload {
		o.bytes = b.counterVec(prefix+"_bytes_total",
			"Payload bytes moved by calls of the "+what+", by operation and outcome.", labelOp, labelStatus)
	}
	o.mu.ops = make(map[string]*OpRecorder)
	return o
}

// Op returns the handle of an operation ("put", "commit", ...). Resolve it once and keep it.
func (o *Ops) Op(name string) *OpRecorder {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.mu.ops[name]
	if r == nil {
		r = &OpRecorder{parent: o, op: name}
		r.mu.outcomes = make(map[string]*outcome)
		o.mu.ops[name] = r
	}
	return r
}

// OpRecorder records one operation of a service.
type OpRecorder struct {
	parent *Ops
	op     string

	mu struct {
		sync.RWMutex
		outcomes map[string]*outcome
	}
}

type outcome struct {
	requests prometheus.Counter
	seconds  prometheus.Observer
	bytes    prometheus.Counter
}

// Done counts one call. status is "ok" or one word for what went wrong, from a fixed vocabulary ("not_found",
// "exists", "fenced", "timeout", "error", ...); bytes is the payload moved, 0 where there is none.
func (r *OpRecorder) Done(status string, d time.Duration, bytes int64) {
	if r == nil {
		return
	}
	out := r.outcome(status)
	out.requests.Inc()
	out.seconds.Observe(d.Seconds())
	if out.bytes != nil && bytes > 0 {
		out.bytes.Add(float64(bytes))
	}
}

func (r *OpRecorder) outcome(status string) *outcome {
	r.mu.RLock()
	out := r.mu.outcomes[status]
	r.mu.RUnlock()
	if out != nil {
		return out
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if out := r.mu.outcomes[status]; out != nil {
		return out
	}
	if len(r.mu.outcomes) >= maxLabelValues {
		status = "other"
		if out := r.mu.outcomes[status]; out != nil {
			return out
		}
	}
	out = &outcome{
		requests: r.parent.requests.WithLabelValues(r.op, status),
		seconds:  r.parent.seconds.WithLabelValues(r.op, status),
	}
	if r.parent.bytes != nil {
		out.bytes = r.parent.bytes.WithLabelValues(r.op, status)
	}
	r.mu.outcomes[status] = out
	return out
}

// Tail records the unfolded part of the manifest, as this broker knows it.
type Tail struct {
	objects prometheus.Gauge
	index   prometheus.Gauge
}

func newTail(b *builder) *Tail {
	return &Tail{
		objects: b.gauge("tail_objects", "Log objects in the tail of the manifest."),
		index:   b.gauge("tail_index_bytes", "Bytes of the indexes of the tail, held in memory."),
	}
}

// Set sets the length of the tail, in objects and in bytes of their indexes.
func (t *Tail) Set(objects int, indexBytes int64) {
	if t == nil {
		return
	}
	t.objects.Set(float64(objects))
	t.index.Set(float64(indexBytes))
}

// Merge records folds and merges.
type Merge struct {
	runs    *prometheus.CounterVec
	bytes   *prometheus.CounterVec
	inputs  *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMerge(b *builder) *Merge {
	return &Merge{
		runs: b.counterVec("merge_runs_total",
			"Folds and merges, by kind and outcome.", labelKind, labelStatus),
		bytes:  b.counterVec("merge_bytes_total", "Bytes rewritten, by kind.", labelKind),
		inputs: b.counterVec("merge_objects_total", "Objects or tail rows taken in, by kind.", labelKind),
		seconds: b.histogramVec("merge_duration_seconds",
			"Duration of folds and merges, by kind.", secondsBuckets, labelKind),
	}
}

// Done counts one run. kind is "fold", "hot", ...; status "ok" or one word for what went wrong; bytes what was
// rewritten (0 for a fold), inputs how many objects or tail rows it took in.
func (m *Merge) Done(kind, status string, inputs int, bytes int64, d time.Duration) {
	if m == nil {
		return
	}
	m.runs.WithLabelValues(kind, status).Inc()
	m.seconds.WithLabelValues(kind).Observe(d.Seconds())
	if status == "ok" {
		m.inputs.WithLabelValues(kind).Add(float64(inputs))
		m.bytes.WithLabelValues(kind).Add(float64(bytes))
	}
}
