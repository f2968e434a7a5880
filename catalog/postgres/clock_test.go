package postgres_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
)

// wallClock lets a test set the clock of a database's server.
type wallClock struct {
	t    *testing.T
	conn *pgx.Conn
}

func newWallClock(t *testing.T, url string) wallClock {
	t.Helper()
	w := wallClock{t, connect(t, url)}
	_, err := w.conn.Exec(t.Context(), `CREATE TABLE test_clock (ahead interval NOT NULL); INSERT INTO test_clock VALUES ('0');
		CREATE OR REPLACE FUNCTION catalog_wall_clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS
		$$ SELECT clock_timestamp() + ahead FROM test_clock $$`)
	require.NoError(t, err)
	return w
}

func (w wallClock) step(d time.Duration) {
	w.t.Helper()
	_, err := w.conn.Exec(w.t.Context(), "UPDATE test_clock SET ahead = ahead + $1", d)
	require.NoError(w.t, err)
}

func (w wallClock) shows() (now time.Time) {
	w.t.Helper()
	require.NoError(w.t, w.conn.QueryRow(w.t.Context(), "SELECT catalog_now(NULL)").Scan(&now))
	return now
}

// manual opens a catalog whose clock is looked at only when the test says so.
func manual(t *testing.T, url string) *postgres.Catalog {
	t.Helper()
	return open(t, postgres.Options{URL: url, PulseInterval: time.Hour})
}

// TestClockSetAhead: a server's clock that leaps expires nobody, whoever finds it, pulse or fence.
func TestClockSetAhead(t *testing.T) {
	for name, look := range map[string]func(*postgres.Catalog) error{
		"found by the pulse": func(c *postgres.Catalog) error { return c.Pulse(t.Context()) },
		"found by the fence": func(*postgres.Catalog) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			url := postgrestest.New(t)
			wall := newWallClock(t, url)
			c := manual(t, url)
			epoch := register(t, c, 1) // 2 s
			require.NoError(t, c.Edit(t.Context(), epoch, catalog.Edit{Objects: []catalog.Object{{ID: 1, Key: "dead"}}}))
			wall.step(time.Hour)
			leapt := time.Now()
			require.NoError(t, look(c))
			require.ErrorIs(t, c.FenceBroker(t.Context(), epoch, catalog.FenceExpired), catalog.ErrNotExpired)
			batches, err := c.ListRetired(t.Context(), time.Minute, 10)
			require.NoError(t, err)
			require.Empty(t, batches, "a reader may still be at it")
			eventually(t, "expiry", func() bool { return c.FenceBroker(t.Context(), epoch, catalog.FenceExpired) == nil })
			require.GreaterOrEqual(t, time.Since(leapt), 1900*time.Millisecond, "a full term")
		})
	}
}

// TestClockSetBack: the catalog's clock runs on, for all brokers, once one of them looked.
func TestClockSetBack(t *testing.T) {
	url := postgrestest.New(t)
	wall := newWallClock(t, url)
	c, other := manual(t, url), manual(t, url)
	epoch, second := register(t, c, 1), register(t, other, 2)
	at := func(c *postgres.Catalog, epoch catalog.BrokerEpoch, seq catalog.Sequence) time.Time {
		t.Helper()
		at, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{entry(epoch, seq)})
		require.NoError(t, err)
		return at
	}
	opened := time.Now()
	eventually(t, "the clock may be noted again", func() bool { return time.Since(opened) > 600*time.Millisecond })
	require.NoError(t, c.Pulse(t.Context()))
	shown := wall.shows()
	before := at(c, epoch, 1)
	wall.step(-time.Hour)
	require.False(t, at(c, epoch, 2).Before(before), "before anybody looked")
	require.WithinDuration(t, shown, at(other, second, 1), 2*time.Second, "held by what was noted last")
	require.NoError(t, c.Pulse(t.Context()))
	now := wall.shows()
	require.False(t, now.Before(before))
	require.Greater(t, wall.shows(), now, "it does not stand still")
	require.False(t, at(other, second, 2).Before(before), "for all")
	wall.step(time.Hour)
	require.NoError(t, other.Pulse(t.Context()))
	require.ErrorIs(t, other.FenceBroker(t.Context(), epoch, catalog.FenceExpired), catalog.ErrNotExpired, "set right again is set ahead")
}

// TestClockSetBackWhileClosed: it does not go back over the absence of all brokers.
func TestClockSetBackWhileClosed(t *testing.T) {
	url := postgrestest.New(t)
	wall := newWallClock(t, url)
	c := manual(t, url)
	epoch := register(t, c, 1)
	before, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{entry(epoch, 1)})
	require.NoError(t, err)
	require.NoError(t, c.Close())
	wall.step(-24 * time.Hour)
	c = manual(t, url)
	require.False(t, wall.shows().Before(before))
	after, err := c.Commit(t.Context(), epoch, []catalog.TailEntry{entry(epoch, 2)})
	require.NoError(t, err)
	require.True(t, after.After(before))
}

// TestObserverWasAway: who could not reach the catalog for a while has no say in who did not renew meanwhile.
func TestObserverWasAway(t *testing.T) {
	direct := postgrestest.New(t)
	p := newProxy(t, postgrestest.Shared(t).Addr())
	observer := open(t, postgres.Options{URL: p.url(direct, postgrestest.Shared(t)), PulseInterval: 100 * time.Millisecond})
	epoch := register(t, observer, 1) // 2 s
	p.swallow.Store(true)
	p.cut()
	began := time.Now()
	eventually(t, "the session to run out", func() bool { return time.Since(began) > 2200*time.Millisecond })
	p.swallow.Store(false)
	eventually(t, "an answer", func() bool { return observer.Ping(t.Context()) == nil })
	require.ErrorIs(t, observer.FenceBroker(t.Context(), epoch, catalog.FenceExpired), catalog.ErrNotExpired)
	eventually(t, "expiry", func() bool { return observer.FenceBroker(t.Context(), epoch, catalog.FenceExpired) == nil })
}
