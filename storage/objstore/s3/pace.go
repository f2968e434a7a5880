package s3

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// The first gate a throttling server closes, and the longest it closes by itself.
	firstGate, longestGate = 100 * time.Millisecond, 5 * time.Second
	// longestRetryAfter is how much of Retry-After is believed.
	longestRetryAfter = 30 * time.Second
	// calmAfter: hedging starts again so long after the last gate opened.
	calmAfter = 10 * time.Second
)

// pacer makes all calls wait after one of them was told to slow down.
type pacer struct {
	mu struct {
		sync.Mutex
		until  time.Time     // the gate is closed until then
		window time.Duration // how long it was closed, and over how long calls are spread when it opens
	}
}

// throttled closes the gate and tells for how long. Answers to requests sent before it closed change nothing, unless
// they ask for longer.
func (p *pacer) throttled(now time.Time, retryAfter time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	retryAfter = min(retryAfter, longestRetryAfter)
	if closed := p.mu.until.Sub(now); closed > 0 {
		if retryAfter > closed {
			p.mu.until = now.Add(retryAfter)
			return retryAfter
		}
		return closed
	}
	if now.Sub(p.mu.until) < 2*p.mu.window { // it goes on
		p.mu.window = min(2*p.mu.window, longestGate)
	} else {
		p.mu.window = firstGate
	}
	wait := max(p.mu.window, retryAfter)
	p.mu.until = now.Add(wait)
	return wait
}

// delay is how long a call waits before it may start.
func (p *pacer) delay(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if closed := p.mu.until.Sub(now); closed > 0 {
		return closed + rand.N(p.mu.window)
	}
	return 0
}

// calm tells whether the last gate is long open.
func (p *pacer) calm(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Sub(p.mu.until) > calmAfter
}

const (
	// A full budget pays for this many retries in a row; after that one in ten calls may be retried, and two a second.
	fullBudget      = 100.0
	refundOfSuccess = 0.1
	refundOfSecond  = 2.0
)

// budget bounds the retries of all calls together, so that a server in trouble is not sent a multiple of its load.
type budget struct {
	mu struct {
		sync.Mutex
		spent float64
		at    time.Time
	}
}

func (b *budget) takeAt(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if since := now.Sub(b.mu.at); since > 0 {
		b.mu.spent = max(0, b.mu.spent-refundOfSecond*since.Seconds())
		b.mu.at = now
	}
	if b.mu.spent+1 > fullBudget {
		return false
	}
	b.mu.spent++
	return true
}

func (b *budget) succeeded() {
	b.mu.Lock()
	b.mu.spent = max(0, b.mu.spent-refundOfSuccess)
	b.mu.Unlock()
}
