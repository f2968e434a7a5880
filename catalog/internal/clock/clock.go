// Package clock is the clock of a catalog that lives in one process: the time all its rows carry and all its expiries
// are judged by.
//
// It starts at the wall clock, or at the latest time the catalog handed out before, and goes on by the monotonic time
// that passed since it was last read. So it never goes back, and it never stands still: when the wall clock is set back,
// it runs on ahead of it. When the wall clock is found ahead, it is followed; if it was set ahead by more than [tolerance]
// that was a step.
//
// After an opening and after each step nothing expires for one full term: [Clock.Expired] counts from [Clock.Settled] at
// the earliest. What nobody could renew or use while the catalog was away, or while time leapt, is not taken from anybody.
//
// Times without a monotonic reading, as tests inject them, are believed as they are while they go forward: a step ahead
// cannot be told from time that passed. A step back adds nothing, and time goes on from there.
package clock

import (
	"sync"
	"time"
)

// tolerance is how far the wall clock may be found ahead before that counts as a step: more than a clock that is
// disciplined by slewing gains between two readings.
const tolerance = 100 * time.Millisecond

// Clock is a catalog's clock. Safe for concurrent use.
type Clock struct {
	read func() time.Time

	mu struct {
		sync.Mutex
		last    time.Time // the last reading, with its monotonic part
		now     time.Time // what it stood for
		settled time.Time
	}
}

// New returns a clock that reads from read, nil meaning [time.Now], and never shows less than atLeast.
func New(read func() time.Time, atLeast time.Time) *Clock {
	if read == nil {
		read = time.Now
	}
	c := &Clock{read: read}
	c.mu.last = read()
	c.mu.now = plain(c.mu.last)
	if c.mu.now.Before(atLeast) {
		c.mu.now = plain(atLeast)
	}
	c.mu.settled = c.mu.now
	return c
}

// plain drops the monotonic part, so that two times compare by what they show.
func plain(t time.Time) time.Time { return time.Unix(0, t.UnixNano()).UTC() }

// Now reads the clock. It never goes back. The time is in UTC and has no monotonic part.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	reading := c.read()
	elapsed := reading.Sub(c.mu.last) // by the monotonic parts, if both have one
	c.mu.last = reading
	c.advanceLocked(plain(reading), elapsed)
	return c.mu.now
}

// advanceLocked moves on by elapsed, or to the wall clock where that is ahead.
func (c *Clock) advanceLocked(wall time.Time, elapsed time.Duration) {
	next := c.mu.now.Add(max(elapsed, 0))
	if ahead := wall.Sub(next); ahead > 0 {
		next = wall
		if ahead > tolerance {
			c.mu.settled = wall
		}
	}
	c.mu.now = next
}

// Settled tells since when the clock has run without a break: its making, the last step ahead, the last [Clock.Settle].
func (c *Clock) Settled() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.settled
}

// Settle begins to count anew what runs without a break: the catalog could not be reached for a while.
func (c *Clock) Settle() {
	now := c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.settled.Before(now) {
		c.mu.settled = now
	}
}

// Expired tells whether a term that began at since is over at the time now, which is a value of this clock. It never is
// before a full term has passed since the clock settled. What is left of it comes along, 0 or less when it is over.
func (c *Clock) Expired(since, now time.Time, term time.Duration) (over bool, left time.Duration) {
	if settled := c.Settled(); since.Before(settled) {
		since = settled
	}
	left = term - now.Sub(since)
	return left <= 0, left
}
