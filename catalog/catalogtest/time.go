package catalogtest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
)

// testClockSetBack: the catalog's clock runs on from where it was, so that sessions and graces do.
func testClockSetBack(s *suite) {
	epoch := s.register()
	first := s.commit(epoch, 1, 1)[0].CommittedAt
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Objects: []catalog.Object{{ID: 900, Key: "dead"}}}))
	_, err := s.c.Heartbeat(s.ctx(), epoch)
	s.ok(err)
	s.clock.Advance(-time.Hour)
	h, err := s.c.Heartbeat(s.ctx(), epoch)
	s.ok(err)
	require.False(s, h.Now.Before(first))
	s.clock.Advance(3 * time.Second)
	h, err = s.c.Heartbeat(s.ctx(), epoch)
	s.ok(err)
	require.True(s, first.Add(3*time.Second).Equal(h.Now), "%s after %s", h.Now, first)
	s.clock.Advance(9 * time.Second)
	s.is(s.c.FenceBroker(s.ctx(), epoch, catalog.FenceExpired), catalog.ErrNotExpired)
	s.clock.Advance(time.Second)
	s.ok(s.c.FenceBroker(s.ctx(), epoch, catalog.FenceExpired))
	batches, err := s.c.ListRetired(s.ctx(), 13*time.Second, 10)
	s.ok(err)
	require.Len(s, batches, 1)
	batches, err = s.c.ListRetired(s.ctx(), 14*time.Second, 10)
	s.ok(err)
	require.Empty(s, batches)
}

// Durable checks an implementation whose facts outlive it. open returns the catalog that lives at a place, a new folder,
// empty at first, and reads the given clock; it is closed and opened again by the suite.
func Durable(t *testing.T, open func(t *testing.T, place string, now func() time.Time) catalog.Catalog) {
	t.Helper()
	for name, run := range map[string]func(*suite, func()){
		"NothingExpiresAtOnce": testReopenedExpiry,
		"ClockAfterReopening":  testReopenedClock,
		"VersionsGoOn":         testReopenedVersions,
	} {
		t.Run(name, func(t *testing.T) {
			s := &suite{TB: t, clock: NewClock()}
			place := t.TempDir()
			s.c = open(t, place, s.clock.Now)
			t.Cleanup(func() { require.NoError(t, s.c.Close()) })
			run(s, func() {
				require.NoError(t, s.c.Close())
				s.clock.Advance(time.Hour)
				s.c = open(t, place, s.clock.Now)
			})
		})
	}
}

// testReopenedExpiry: after an hour closed a session counts as heard of, and an object as retired, at the opening.
func testReopenedExpiry(s *suite, reopen func()) {
	epoch := s.register()
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Objects: []catalog.Object{{ID: 900, Key: "dead"}}}))
	reopen()
	s.is(s.c.FenceBroker(s.ctx(), epoch, catalog.FenceExpired), catalog.ErrNotExpired)
	batches, err := s.c.ListRetired(s.ctx(), time.Minute, 10)
	s.ok(err)
	require.Empty(s, batches, "a reader may still be at it")
	require.Equal(s, []string{"dead"}, s.retiredKeys(), "no grace asked for")
	s.clock.Advance(9 * time.Second)
	s.is(s.c.FenceBroker(s.ctx(), epoch, catalog.FenceExpired), catalog.ErrNotExpired)
	s.clock.Advance(time.Second)
	s.ok(s.c.FenceBroker(s.ctx(), epoch, catalog.FenceExpired))
	s.clock.Advance(50 * time.Second)
	batches, err = s.c.ListRetired(s.ctx(), time.Minute, 10)
	s.ok(err)
	require.Len(s, batches, 1)

	other := s.register()
	reopen()
	s.ok(s.c.FenceBroker(s.ctx(), other, catalog.FenceProvenDead), "proof needs no term")
}

// testReopenedClock: the clock does not go back over a restart, and goes on from there.
func testReopenedClock(s *suite, reopen func()) {
	epoch := s.register()
	before := s.commit(epoch, 1, 1)[0].CommittedAt
	s.clock.Advance(-5 * time.Hour)
	reopen()
	s.clock.Advance(time.Second)
	after := s.commit(epoch, 2, 1)[0].CommittedAt
	require.True(s, before.Add(time.Second).Equal(after), "%s after %s", after, before)
}

// testReopenedVersions: what only grows does so over a restart.
func testReopenedVersions(s *suite, reopen func()) {
	tp := s.topic(1)[0]
	epoch := s.register()
	add := func() catalog.PackedRow {
		s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Rows: []catalog.PackedRow{packed(tp, 0, 10)}}))
		return s.rows(tp)[0]
	}
	row := add()
	s.ok(s.c.Edit(s.ctx(), epoch, catalog.Edit{Replaces: []catalog.RowRef{ref(row)}}))
	reopen()
	require.Greater(s, add().Version, row.Version)
	require.Greater(s, s.register(), epoch)
	require.EqualValues(s, 1, s.commit(epoch, 1, 1)[0].First)
}
