package clock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/internal/bubble"
)

var start = time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)

// read advances the clock as Now does with a reading whose wall time and monotonic time disagree, which no time.Time
// can be made to.
func read(c *Clock, wall time.Time, elapsed time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advanceLocked(wall, elapsed)
	return c.mu.now
}

func TestSetBackItRunsOn(t *testing.T) {
	c := New(func() time.Time { return start }, time.Time{})
	require.Equal(t, start.Add(time.Second), read(c, start.Add(-time.Hour), time.Second))
	require.Equal(t, start.Add(3*time.Second), read(c, start.Add(-time.Hour+2*time.Second), 2*time.Second))
	require.Equal(t, start, c.Settled())
	require.Equal(t, start.Add(4*time.Second), read(c, start.Add(4*time.Second), time.Second), "set right again")
	require.Equal(t, start, c.Settled(), "that was no step for whoever read this clock")
}

func TestSetAheadNothingExpires(t *testing.T) {
	c := New(func() time.Time { return start }, time.Time{})
	now := read(c, start.Add(time.Hour+time.Second), time.Second)
	require.Equal(t, start.Add(time.Hour+time.Second), now, "the wall clock is followed")
	over, left := c.Expired(start, now, 10*time.Second)
	require.False(t, over)
	require.Equal(t, 10*time.Second, left, "a full term from the step on")
	now = read(c, now.Add(10*time.Second), 10*time.Second)
	over, _ = c.Expired(start, now, 10*time.Second)
	require.True(t, over)
}

func TestSlewedItIsFollowed(t *testing.T) {
	c := New(func() time.Time { return start }, time.Time{})
	wall := start
	for range 1000 {
		wall = wall.Add(time.Second + time.Millisecond)
		require.Equal(t, wall, read(c, wall, time.Second))
	}
	require.Equal(t, start, c.Settled())
}

func TestStartsAtTheLatestTimeKnown(t *testing.T) {
	now := start
	c := New(func() time.Time { return now }, start.Add(time.Hour))
	require.Equal(t, start.Add(time.Hour), c.Now())
	now = now.Add(time.Second)
	require.Equal(t, start.Add(time.Hour+time.Second), c.Now())
	over, left := c.Expired(start, c.Now(), 10*time.Second)
	require.False(t, over)
	require.Equal(t, 9*time.Second, left)
}

// TestInjected: times without a monotonic reading.
func TestInjected(t *testing.T) {
	now := start
	c := New(func() time.Time { return now }, time.Time{})
	now = now.Add(time.Hour)
	require.Equal(t, now, c.Now())
	require.Equal(t, start, c.Settled())
	now = now.Add(-2 * time.Hour)
	require.Equal(t, start.Add(time.Hour), c.Now())
	now = now.Add(time.Minute)
	require.Equal(t, start.Add(time.Hour+time.Minute), c.Now())
}

func TestReal(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := New(nil, time.Time{})
		before := c.Now()
		timer := time.NewTimer(time.Minute)
		<-timer.C
		require.Equal(t, time.Minute, c.Now().Sub(before))
		require.Equal(t, before, c.Settled())
	})
}

// TestSettle: who could not renew anything while the catalog was away gets a full term.
func TestSettle(t *testing.T) {
	now := start
	c := New(func() time.Time { return now }, time.Time{})
	now = now.Add(time.Hour)
	c.Settle()
	over, left := c.Expired(start, c.Now(), time.Minute)
	require.False(t, over)
	require.Equal(t, time.Minute, left)
	now = now.Add(time.Minute)
	over, _ = c.Expired(start, c.Now(), time.Minute)
	require.True(t, over)
}
