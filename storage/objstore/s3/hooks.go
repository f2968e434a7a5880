package s3

import "time"

// Request is one HTTP exchange that ended.
type Request struct {
	// Op is put, get, head, list or delete.
	Op string
	// Hedge: it was a second GET beside a slow one.
	Hedge bool
	// Status is HTTP's; 0 if no answer came.
	Status int
	// Sent and Received are bytes of bodies.
	Sent, Received int64
	Duration       time.Duration
	// Reason is why it failed, one of Reasons; empty if it did not. An answer such as "exists", "not found" or "access
	// denied" is no failure of the exchange.
	Reason string
}

// The reasons for which an exchange failed.
const (
	ReasonThrottled   = "throttled"   // 503 SlowDown, 429
	ReasonTimeout     = "timeout"     // stalled, or slower than MinRate
	ReasonConnection  = "connection"  // refused, reset, no route, TLS
	ReasonTruncated   = "truncated"   // the body ended early
	ReasonServer      = "server"      // any other 5xx
	ReasonConflict    = "conflict"    // 409: another PUT of the key is under way
	ReasonAnswer      = "answer"      // one that cannot be understood
	ReasonCredentials = "credentials" // none to be had, or out of date
	ReasonCancelled   = "cancelled"   // by the caller, or the slower of a hedged pair
)

// Reasons are all of them, so that a metric can exist before its first failure.
func Reasons() []string {
	return []string{
		ReasonThrottled, ReasonTimeout, ReasonConnection, ReasonTruncated, ReasonServer, ReasonConflict, ReasonAnswer,
		ReasonCredentials, ReasonCancelled,
	}
}

// Hooks tell the caller what happens, for metrics. Nil fields are not called. They run on goroutines of calls and must
// be quick and safe for concurrent use.
type Hooks struct {
	// Request: an HTTP exchange ended.
	Request func(Request)
	// Retried: a call is tried again after a wait, for one of Reasons.
	Retried func(op, reason string, wait time.Duration)
	// Hedged: a second GET was sent, and whether it was the first to end.
	Hedged func(won bool)
	// Throttled: the server asked to slow down, and all calls of the store wait so long.
	Throttled func(wait time.Duration)
	// Settled: a Put in doubt was settled by Head: ours tells that the object was our own.
	Settled func(ours bool)
}

func (h Hooks) withDefaults() Hooks {
	if h.Request == nil {
		h.Request = func(Request) {}
	}
	if h.Retried == nil {
		h.Retried = func(string, string, time.Duration) {}
	}
	if h.Hedged == nil {
		h.Hedged = func(bool) {}
	}
	if h.Throttled == nil {
		h.Throttled = func(time.Duration) {}
	}
	if h.Settled == nil {
		h.Settled = func(bool) {}
	}
	return h
}
