package storage

import (
	"sync"
	"sync/atomic"
	"time"
)

// catalogClock follows the catalog's clock: times in the manifest are that clock's, and this machine's may be minutes
// off. Between two answers of the catalog, monotonic time goes on from the last one. An answer that took long makes it
// late by as much, never early. Safe for concurrent use.
type catalogClock struct {
	seen atomic.Pointer[sighting]
}

type sighting struct{ at, local time.Time }

// note takes what the catalog just answered its clock to be.
func (c *catalogClock) note(at time.Time) {
	if !at.IsZero() {
		c.seen.Store(&sighting{at: at, local: time.Now()})
	}
}

// now is the catalog's time; this machine's until the catalog was heard.
func (c *catalogClock) now() time.Time {
	s := c.seen.Load()
	if s == nil {
		return time.Now()
	}
	return s.at.Add(time.Since(s.local))
}

// warnEvery is how often one kind of repeating trouble is logged at most.
const warnEvery = 5 * time.Second

// quiet keeps trouble that repeats, many times a second and on each upload slot, from filling the log: the first is
// logged at once, then one line in warnEvery that says how many there were. Safe for concurrent use.
type quiet struct {
	mu struct {
		sync.Mutex
		kinds map[string]*muted
		said  map[string]struct{}
	}
}

// maxSaid bounds what is said once each. Who has more damage than that has read enough.
const maxSaid = 1000

type muted struct {
	last  time.Time
	count int
}

// once tells whether this is the first time for kind, of which there may be as many as there is damage.
func (q *quiet) once(kind string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.said == nil {
		q.mu.said = make(map[string]struct{})
	}
	if _, said := q.mu.said[kind]; said || len(q.mu.said) >= maxSaid {
		return false
	}
	q.mu.said[kind] = struct{}{}
	return true
}

// loud tells whether to log an instance of kind now, and how many there were since the last line, this one included.
// kinds are constants of this package, so they are few.
func (q *quiet) loud(kind string) (count int, log bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.kinds == nil {
		q.mu.kinds = make(map[string]*muted)
	}
	m := q.mu.kinds[kind]
	if m == nil {
		m = &muted{}
		q.mu.kinds[kind] = m
	}
	m.count++
	now := time.Now()
	if !m.last.IsZero() && now.Sub(m.last) < warnEvery {
		return 0, false
	}
	count, m.count, m.last = m.count, 0, now
	return count, true
}
