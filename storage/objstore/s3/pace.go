package s3

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// The first gate a throttling server closes, and the longest it closes by itself.
	firstGate, longestGate = 100 * time.Millisecond, 5 * time.Second
	// probeEvery is how often a call goes through the closed gate, to find out whether it need be closed.
	probeEvery = 250 * time.Millisecond
	// longestRetryAfter is how much of Retry-After is believed: MinIO says 60 s with every 503 and 429, whatever the matter,
	// and nothing of this broker is stored or read meanwhile.
	longestRetryAfter = longestGate
	// calmAfter: hedging starts again so long after the last gate opened.
	calmAfter = 10 * time.Second
)

// pacer makes all calls wait after one of them was told to slow down.
//
// Each time that goes on, the gate is closed for twice as long. A server that had trouble for three seconds would so be left
// alone for up to as long again. So one call in probeEvery need not wait, and the first that succeeds opens the gate for all.
type pacer struct {
	mu struct {
		sync.Mutex
		until  time.Time     // the gate is closed until then
		told   time.Time     // so long the server asked for itself: nobody goes through before
		closed time.Time     // when it was closed
		probe  time.Time     // when the next call may go through all the same
		window time.Duration // how long it was closed, and over how long calls are spread when it opens
		early  chan struct{} // closed when those that wait need not; nil: nobody does
	}
}

// throttled closes the gate and tells for how long. Answers to requests sent before it closed change nothing, unless
// they ask for longer; nor do those to calls that went through it.
func (p *pacer) throttled(now time.Time, retryAfter time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	retryAfter = min(retryAfter, longestRetryAfter)
	if told := now.Add(retryAfter); retryAfter > 0 && told.After(p.mu.told) {
		p.mu.told = told
	}
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
	p.mu.closed, p.mu.until, p.mu.probe = now, now.Add(wait), now.Add(probeEvery)
	return wait
}

// succeeded opens the gate, and ends the waiting of those that are spread out, if the call was sent after it was closed.
// Success of a call that was sent before says nothing.
func (p *pacer) succeeded(sent, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sent.Before(p.mu.closed) || now.Before(p.mu.told) {
		return
	}
	if now.Before(p.mu.until) {
		p.mu.until, p.mu.window = now, max(p.mu.window/2, firstGate)
	}
	if p.mu.early != nil {
		close(p.mu.early)
		p.mu.early = nil
	}
}

// remaining is how long the gate stays closed, unless it opens early.
func (p *pacer) remaining(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(p.mu.until.Sub(now), 0)
}

// pass waits until a call may start, or ctx ends.
func (p *pacer) pass(ctx context.Context) {
	due := time.Time{} // when this call may start if the gate is open then
	for {
		wait, early := p.turn(time.Now(), &due)
		if wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-early:
			// Spread out, too; but not put off by each success of the others.
			if soon := time.Now().Add(rand.N(firstGate)); soon.Before(due) {
				due = soon
			}
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// turn is how long to wait before asking again, or until early is closed; 0: the call may start.
func (p *pacer) turn(now time.Time, due *time.Time) (wait time.Duration, early <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	open := !now.Before(p.mu.until)
	if open && !now.Before(*due) {
		return 0, nil
	}
	next := p.mu.probe // also while calls are spread out: that may take as long as the gate was closed
	if next.Before(p.mu.told) {
		next = p.mu.told
	}
	if !now.Before(next) {
		p.mu.probe = now.Add(probeEvery)
		return 0, nil
	}
	if !open && due.Before(p.mu.until) {
		*due = p.mu.until.Add(rand.N(p.mu.window))
	}
	if due.Before(next) {
		next = *due
	}
	if p.mu.early == nil {
		p.mu.early = make(chan struct{})
	}
	return next.Sub(now), p.mu.early
}

// Calm implements [objstore.Calmer]: the last time that calls had to wait is long over.
func (s *Store) Calm() bool { return s.pacer.calm(time.Now()) }

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
