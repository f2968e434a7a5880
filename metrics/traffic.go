package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Traffic records what lies below one call of an object store: HTTP exchanges, second requests beside slow ones, repeats,
// waits that the server asked for. A store that is a local folder has none of it, but for hedged PUTs, which the engine
// sends.
type Traffic struct {
	exchanges       *prometheus.CounterVec
	bytes           *prometheus.CounterVec
	hedges          map[string][2]prometheus.Counter // by op: lost, won
	retries         *prometheus.CounterVec
	throttles       prometheus.Counter
	throttleSeconds prometheus.Counter
	settled         [2]prometheus.Counter // foreign, ours
}

func newTraffic(b *builder) *Traffic {
	t := &Traffic{
		exchanges: b.counterVec("objstore_http_requests_total",
			"HTTP exchanges with the object store, by what failed (ok: nothing). This is what a provider bills, retries and hedges included.",
			labelOp, labelStatus),
		bytes: b.counterVec("objstore_http_bytes_total",
			"Bytes of HTTP bodies, sent to or received from the object store.", labelOp, labelDirection),
		retries: b.counterVec("objstore_retries_total",
			"Exchanges with the object store that were sent again, by what had failed.", labelOp, labelReason),
		throttles: b.counter("objstore_throttles_total",
			"Times the object store asked to slow down."),
		throttleSeconds: b.counter("objstore_throttled_seconds_total",
			"Time for which calls of the object store were held back because it asked to slow down."),
		hedges: make(map[string][2]prometheus.Counter),
	}
	hedges := b.counterVec("objstore_hedges_total",
		"Second requests sent beside one that took long, by whether it was the second that helped (won) or not (lost).", labelOp, labelStatus)
	for _, op := range []string{"get", "put"} {
		t.hedges[op] = [2]prometheus.Counter{hedges.WithLabelValues(op, "lost"), hedges.WithLabelValues(op, "won")}
	}
	settled := b.counterVec("objstore_puts_settled_total",
		"PUTs whose answer was lost or said that the key exists, by whose object was found under the key.", labelStatus)
	t.settled = [2]prometheus.Counter{settled.WithLabelValues("foreign"), settled.WithLabelValues("ours")}
	return t
}

// Exchange counts one HTTP exchange that ended. failed is one word for what went wrong, from a fixed vocabulary; empty for
// nothing. sent and received are bytes of bodies.
func (t *Traffic) Exchange(op, failed string, sent, received int64) {
	if t == nil {
		return
	}
	if failed == "" {
		failed = "ok"
	}
	t.exchanges.WithLabelValues(op, failed).Inc()
	if sent > 0 {
		t.bytes.WithLabelValues(op, "sent").Add(float64(sent))
	}
	if received > 0 {
		t.bytes.WithLabelValues(op, "received").Add(float64(received))
	}
}

// Hedged counts a second request beside one that took long: op is get or put, won whether it was the first to end.
func (t *Traffic) Hedged(op string, won bool) {
	if t == nil {
		return
	}
	i := 0
	if won {
		i = 1
	}
	if c := t.hedges[op][i]; c != nil {
		c.Inc()
	}
}

// Retried counts an exchange that is sent again; reason is from a fixed vocabulary.
func (t *Traffic) Retried(op, reason string) {
	if t != nil {
		t.retries.WithLabelValues(op, reason).Inc()
	}
}

// Throttled counts that the store asked to slow down, and for how long calls wait.
func (t *Traffic) Throttled(wait time.Duration) {
	if t != nil {
		t.throttles.Inc()
		t.throttleSeconds.Add(wait.Seconds())
	}
}

// Settled counts a PUT in doubt that was settled by looking: ours tells whether the object under the key was the one put.
func (t *Traffic) Settled(ours bool) {
	if t == nil {
		return
	}
	i := 0
	if ours {
		i = 1
	}
	t.settled[i].Inc()
}
