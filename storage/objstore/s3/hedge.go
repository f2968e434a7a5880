package s3

import (
	"math/bits"
	"slices"
	"sync"
	"time"
)

// race is a GET and the second one beside it.
type race struct {
	first *attempt

	mu struct {
		sync.Mutex
		second  *attempt
		decided bool
	}

	// Written by the second before it sends its result, of which there is one if it joined.
	bytes  []byte
	result chan error
}

// join enters the second request, unless the first has ended.
func (r *race) join(second *attempt) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.decided {
		return false
	}
	r.mu.second = second
	return true
}

// decide says that the first has ended, and returns the second if there is one.
func (r *race) decide() *attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.decided = true
	return r.mu.second
}

const (
	// A class of sizes remembers so many durations, and computes its delay after every learnEvery.
	remembered, learnEvery = 128, 16
	// Before a class has seen learnEvery, its delay is the longest.
	shortestDelay, longestDelay = 20 * time.Millisecond, 2 * time.Second
	// hedgePerGet is how many hedges a GET pays for; maxHedges how many may be saved up.
	hedgePerGet, maxHedges = 0.1, 5.0
)

// hedging knows how long GETs take, by size, and how many may be doubled.
type hedging struct {
	mu struct {
		sync.Mutex
		classes [48]class
		saved   float64
		sorting [remembered]time.Duration
	}
}

type class struct {
	took  [remembered]time.Duration
	n     int // durations ever seen
	delay time.Duration
}

// classOf puts sizes within a factor of four together.
func classOf(size int64) int { return bits.Len64(uint64(size)) / 2 }

// took remembers the duration of a GET.
func (h *hedging) took(size int64, d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.saved = min(h.mu.saved+hedgePerGet, maxHedges)
	c := &h.mu.classes[classOf(size)]
	c.took[c.n%remembered] = d
	c.n++
	if c.n%learnEvery == 0 {
		sorted := h.mu.sorting[:copy(h.mu.sorting[:], c.took[:min(c.n, remembered)])]
		slices.Sort(sorted)
		c.delay = min(max(sorted[len(sorted)*95/100], shortestDelay), longestDelay)
	}
}

// delay is after how long a GET is slow; ok is false while none may be hedged.
func (h *hedging) delay(size int64) (d time.Duration, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d = h.mu.classes[classOf(size)].delay
	if d == 0 {
		d = longestDelay
	}
	return d, h.mu.saved >= 1
}

// take pays for one hedge.
func (h *hedging) take() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.saved < 1 {
		return false
	}
	h.mu.saved--
	return true
}
