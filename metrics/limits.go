package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Usage is what the broker holds now, and what it may hold at most.
type Usage struct {
	Connections         int
	InFlightRequests    int   // read and not answered
	RequestBytes        int64 // of request frames
	RequestBytesLimit   int64
	AnswerBytes         int64 // of Fetch answers that are being gathered or written
	AnswerBytesLimit    int64
	ConnectionsLimit    int
	BufferedBytesLimit  int64 // of flush_buffered_bytes
	PooledBytes         int64 // of buffers in use, wherever they are
	QueuedObjects       int   // closed to appends, waiting for an upload slot
	UncommittedObjects  int   // not yet committed, the open one included
	OldestAppendWaiting time.Duration
}

// Limits shows how near the broker is to its bounds. It is set before each scrape.
type Limits struct {
	inFlight                    prometheus.Gauge
	requestBytes, requestLimit  prometheus.Gauge
	answerBytes, answerLimit    prometheus.Gauge
	connectionsLimit            prometheus.Gauge
	bufferedLimit               prometheus.Gauge
	pooled                      prometheus.Gauge
	queued, uncommitted, oldest prometheus.Gauge
}

func newLimits(b *builder) *Limits {
	return &Limits{
		inFlight: b.gauge("agent_inflight_requests", "Requests read and not yet answered."),
		requestBytes: b.gauge("agent_request_memory_bytes",
			"Memory of request frames; at its limit reading from clients waits."),
		requestLimit: b.gauge("agent_request_memory_limit_bytes", "Limit of streamhouse_agent_request_memory_bytes."),
		answerBytes: b.gauge("agent_answer_memory_bytes",
			"Record bytes of Fetch answers that are being gathered or written; at its limit answers become small."),
		answerLimit:      b.gauge("agent_answer_memory_limit_bytes", "Limit of streamhouse_agent_answer_memory_bytes."),
		connectionsLimit: b.gauge("agent_active_connections_limit", "Limit of streamhouse_agent_active_connections."),
		bufferedLimit:    b.gauge("flush_buffered_limit_bytes", "Limit of streamhouse_flush_buffered_bytes, at which producers wait."),
		pooled:           b.gauge("agent_buffer_memory_bytes", "Memory of buffers in use: request frames, batches on their way, caches."),
		queued:           b.gauge("flush_queued_objects", "Log objects that are full and wait for an upload slot."),
		uncommitted:      b.gauge("flush_uncommitted_objects", "Log objects that are not committed yet, the open one included."),
		oldest: b.gauge("flush_oldest_append_age_seconds",
			"How long the oldest append that is not committed has been waiting; 0 when there is none."),
	}
}

// Set sets all gauges.
func (l *Limits) Set(u Usage) {
	if l == nil {
		return
	}
	l.inFlight.Set(float64(u.InFlightRequests))
	l.requestBytes.Set(float64(u.RequestBytes))
	l.requestLimit.Set(float64(u.RequestBytesLimit))
	l.answerBytes.Set(float64(u.AnswerBytes))
	l.answerLimit.Set(float64(u.AnswerBytesLimit))
	l.connectionsLimit.Set(float64(u.ConnectionsLimit))
	l.bufferedLimit.Set(float64(u.BufferedBytesLimit))
	l.pooled.Set(float64(u.PooledBytes))
	l.queued.Set(float64(u.QueuedObjects))
	l.uncommitted.Set(float64(u.UncommittedObjects))
	l.oldest.Set(u.OldestAppendWaiting.Seconds())
}

// PoolStats is what a pool of connections tells of itself. Waits, Waited and Cancelled count from its start.
type PoolStats struct {
	Acquired, Idle, Max int
	Waits               int64         // acquisitions that found no idle connection
	Waited              time.Duration // for those
	Cancelled           int64         // acquisitions given up
}

// Pools records the connection pools of the catalog.
type Pools struct {
	connections                *prometheus.GaugeVec
	limit                      *prometheus.GaugeVec
	waits, seconds, cancelling *prometheus.CounterVec

	mu struct {
		sync.Mutex
		last map[string]PoolStats
	}
}

func newPools(b *builder) *Pools {
	p := &Pools{
		connections: b.gaugeVec("catalog_pool_connections", "Connections to the catalog's database, by pool and whether they are in use.",
			labelPool, labelState),
		limit: b.gaugeVec("catalog_pool_connections_limit", "Most connections of a pool.", labelPool),
		waits: b.counterVec("catalog_pool_waits_total",
			"Times a statement found no idle connection, and waited for one or for a new one.", labelPool),
		seconds: b.counterVec("catalog_pool_wait_seconds_total", "Time statements waited for a connection.", labelPool),
		cancelling: b.counterVec("catalog_pool_waits_given_up_total",
			"Times a statement got no connection before its time was up.", labelPool),
	}
	p.mu.last = make(map[string]PoolStats)
	return p
}

// Set takes over what a pool tells now. Calls for one pool must be in the order of their figures.
func (p *Pools) Set(pool string, s PoolStats) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.mu.last[pool]
	p.mu.last[pool] = s
	p.connections.WithLabelValues(pool, "acquired").Set(float64(s.Acquired))
	p.connections.WithLabelValues(pool, "idle").Set(float64(s.Idle))
	p.limit.WithLabelValues(pool).Set(float64(s.Max))
	p.waits.WithLabelValues(pool).Add(float64(max(s.Waits-was.Waits, 0)))
	p.seconds.WithLabelValues(pool).Add(max(s.Waited-was.Waited, 0).Seconds())
	p.cancelling.WithLabelValues(pool).Add(float64(max(s.Cancelled-was.Cancelled, 0)))
}
