package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
)

// Connections in use and those that wait for work are told apart, of each pool; and who waited, and who gave up.
func TestPoolsTellOfTheirConnections(t *testing.T) {
	c := open(t, postgres.Options{
		URL: postgrestest.New(t), MaxConns: 5, UrgentConns: 6, GroupConns: 3, PulseInterval: time.Hour,
	})
	stats := func() map[string]postgres.PoolStats {
		out := make(map[string]postgres.PoolStats)
		for _, s := range c.PoolStats() {
			out[s.Name] = s
		}
		return out
	}
	hold := map[string]int{"general": 4, "urgent": 2, "groups": 3} // all that groups have
	limits := map[string]int{"general": 5, "urgent": 6, "groups": 3}
	require.Len(t, stats(), len(hold))
	release := make(map[string]func())
	for name, n := range hold {
		before := stats()[name]
		var err error
		release[name], err = c.Hold(t.Context(), name, n)
		require.NoError(t, err)
		t.Cleanup(release[name]) // should the test fail: closing waits for them
		s := stats()[name]
		require.Equal(t, n, s.Acquired, name)
		require.Zero(t, s.Idle, name)
		require.Equal(t, limits[name], s.Max, name)
		require.Equal(t, int64(n-before.Idle), s.Waits-before.Waits, "those that there was no idle connection for: %s", name)
		require.Greater(t, s.Waited, before.Waited, name)
		require.Zero(t, s.Cancelled, name)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := c.Hold(impatient, "groups", 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.EqualValues(t, 1, stats()["groups"].Cancelled)
	require.Zero(t, stats()["general"].Cancelled)
	for name, n := range hold {
		release[name]()
		require.Eventually(t, func() bool {
			s := stats()[name]
			return s.Acquired == 0 && s.Idle == n
		}, 10*time.Second, time.Millisecond, name)
	}
}
