package hedge

import (
	"math/bits"
	"slices"
	"sync"
	"time"
)

const (
	// A class of sizes remembers so many durations, and computes its delay after every learnEvery.
	remembered, learnEvery = 128, 16
	// Before a class has seen learnEvery, its delay is the longest.
	shortestDelay, longestDelay = 20 * time.Millisecond, 2 * time.Second
	// perRequest is how many second requests a request pays for; most how many may be saved up.
	perRequest, most = 0.1, 5.0
)

// Meter knows how long requests of one kind take, by size, and how many may be doubled. The zero value is ready for use and
// saved nothing yet. Safe for concurrent use.
type Meter struct {
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

// Took remembers the duration of a request of so many bytes that succeeded.
func (m *Meter) Took(size int64, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.saved = min(m.mu.saved+perRequest, most)
	c := &m.mu.classes[classOf(size)]
	c.took[c.n%remembered] = d
	c.n++
	if c.n%learnEvery == 0 {
		sorted := m.mu.sorting[:copy(m.mu.sorting[:], c.took[:min(c.n, remembered)])]
		slices.Sort(sorted)
		c.delay = min(max(sorted[len(sorted)*95/100], shortestDelay), longestDelay)
	}
}

// Failed forgets what was saved: a server in trouble is not to be asked twice.
func (m *Meter) Failed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.saved = 0
}

// Delay is after how long a request of so many bytes is slow; ok is false while none may be doubled.
func (m *Meter) Delay(size int64) (d time.Duration, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d = m.mu.classes[classOf(size)].delay
	if d == 0 {
		d = longestDelay
	}
	return d, m.mu.saved >= 1
}

// Take pays for one second request; false: nothing is left to pay with.
func (m *Meter) Take() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.saved < 1 {
		return false
	}
	m.mu.saved--
	return true
}
