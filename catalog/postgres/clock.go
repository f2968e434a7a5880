package postgres

import (
	"sync"
	"time"

	"github.com/streamhouse/streamhouse/catalog/internal/clock"
)

const (
	// tolerance is how far the server's clock and ours may disagree about the time between two readings before that
	// counts as a step.
	tolerance = 250 * time.Millisecond
	// silentPulses is how many pulses may be missed before the catalog counts as having been away.
	silentPulses = 3
)

// timekeeper judges the readings of the catalog's clock, which is the database server's, corrected (SQL: catalog_now).
//
// It knows by this process's monotonic clock between which bounds the catalog's clock must have moved from one reading to
// the next. More means that the clock was set ahead; less, that it was set back, which the caller then corrects for
// everybody by raising catalog_clock.ahead. After a step ahead, after a restart of the server (its start time changed), and
// when the catalog could not be reached for a few pulses, the clock settles anew: nothing expires, in this process's
// judgement, for a full term from there.
type timekeeper struct {
	given *clock.Clock  // the clock of tests, which replaces all this
	quiet time.Duration // silence that counts as the catalog having been away

	mu struct {
		sync.Mutex
		now          time.Time // last reading, of the catalog's clock
		asked, heard time.Time // when it was asked for and came, with monotonic parts
		start        time.Time // of the server
		settled      time.Time
		broken       bool // a pulse failed since
	}
}

// parameter is what SQL's catalog_now gets: the time tests inject, or nil.
func (k *timekeeper) parameter() *time.Time {
	if k.given == nil {
		return nil
	}
	now := k.given.Now()
	return &now
}

// observe takes a reading. It returns the time below which the clock must not be, if the reading is below it: the
// server's clock was set back.
func (k *timekeeper) observe(now, start, asked, heard time.Time) (atLeast time.Time) {
	if k.given != nil {
		return time.Time{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.now.IsZero() { // the first one
		k.mu.now, k.mu.asked, k.mu.heard, k.mu.start, k.mu.settled = now, asked, heard, start, now
		return time.Time{}
	}
	if asked.Before(k.mu.asked) {
		return time.Time{} // overtaken
	}
	passed := now.Sub(k.mu.now)
	most := heard.Sub(k.mu.asked)
	least := asked.Sub(k.mu.heard) // negative when the two readings overlapped
	if least > 0 && passed < least-tolerance {
		atLeast = k.mu.now.Add(most) // no broker can have seen a later time
		now, passed = atLeast, most
	}
	restarted := !start.IsZero() && !start.Equal(k.mu.start)
	if passed > most+tolerance || restarted || k.mu.broken || (k.quiet > 0 && asked.Sub(k.mu.heard) > k.quiet) {
		k.mu.settled = now
	}
	if restarted {
		k.mu.start = start
	}
	k.mu.now, k.mu.asked, k.mu.heard, k.mu.broken = now, asked, heard, false
	return atLeast
}

// away notes that the catalog could not be reached.
func (k *timekeeper) away() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.broken = true
}

// settled tells since when the clock has run without a break, as far as this process can tell.
func (k *timekeeper) settled() time.Time {
	if k.given != nil {
		return k.given.Settled()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.settled
}

// expired tells whether a term that began at since is over at the time now, a reading that was observed, and what is
// left of it.
func (k *timekeeper) expired(since, now time.Time, term time.Duration) (over bool, left time.Duration) {
	if settled := k.settled(); since.Before(settled) {
		since = settled
	}
	left = term - now.Sub(since)
	return left <= 0, left
}
