package metrics

import (
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// lagFamilies are the names that Lag exports.
var lagFamilies = []string{
	"streamhouse_consumer_lag_records", "streamhouse_consumer_lag_seconds", "streamhouse_consumer_last_committed_offset",
	"streamhouse_consumer_current_offset",
}

func TestLagIsWhatTheSourceTells(t *testing.T) {
	m := New(Options{})
	require.NoError(t, testutil.GatherAndCompare(m.Registry(), strings.NewReader(""), lagFamilies...), "nothing is made up")
	samples := []LagSample{
		{Group: "g", Topic: "orders", Partition: 0, Committed: 7, Lag: 3, Seconds: 1.5, Position: 9},
		{Group: "g", Topic: "orders", Partition: 1, Committed: 7, Lag: -1, Seconds: math.NaN(), Position: -1},
	}
	m.Lag.Tell(func(yield func(LagSample)) error {
		for _, s := range samples {
			yield(s)
		}
		return nil
	})
	require.NoError(t, testutil.GatherAndCompare(m.Registry(), strings.NewReader(`
# HELP streamhouse_consumer_current_offset Highest offset fetched by the group, where known.
# TYPE streamhouse_consumer_current_offset gauge
streamhouse_consumer_current_offset{group_id="g",partition="0",topic="orders"} 9
# HELP streamhouse_consumer_lag_records High watermark minus committed offset, at least 0; no sample where nothing is committed.
# TYPE streamhouse_consumer_lag_records gauge
streamhouse_consumer_lag_records{group_id="g",partition="0",topic="orders"} 3
# HELP streamhouse_consumer_lag_seconds Age of the oldest record not yet committed past; 0 when caught up.
# TYPE streamhouse_consumer_lag_seconds gauge
streamhouse_consumer_lag_seconds{group_id="g",partition="0",topic="orders"} 1.5
# HELP streamhouse_consumer_last_committed_offset Last offset the group committed.
# TYPE streamhouse_consumer_last_committed_offset gauge
streamhouse_consumer_last_committed_offset{group_id="g",partition="0",topic="orders"} 7
streamhouse_consumer_last_committed_offset{group_id="g",partition="1",topic="orders"} 7
`), lagFamilies...))
	samples = nil
	require.NoError(t, testutil.GatherAndCompare(m.Registry(), strings.NewReader(""), lagFamilies...), "series go with their group")
}

func TestLagFolds(t *testing.T) {
	m := New(Options{MaxPartitions: 2})
	m.Lag.Tell(func(yield func(LagSample)) error {
		yield(LagSample{Group: "g", Topic: "a", Partition: 0, Committed: 7, Lag: 3, Seconds: 1, Position: -1})
		yield(LagSample{Group: "g", Topic: "a", Partition: 1, Committed: 2, Lag: 4, Seconds: 5, Position: -1})
		yield(LagSample{Group: "h", Topic: "a", Partition: 1, Committed: 1, Lag: 0, Seconds: 0, Position: -1})
		return nil
	})
	require.NoError(t, testutil.GatherAndCompare(m.Registry(), strings.NewReader(`
# HELP streamhouse_consumer_lag_records High watermark minus committed offset, at least 0; no sample where nothing is committed.
# TYPE streamhouse_consumer_lag_records gauge
streamhouse_consumer_lag_records{group_id="g",partition="",topic="a"} 7
streamhouse_consumer_lag_records{group_id="h",partition="",topic="a"} 0
# HELP streamhouse_consumer_lag_seconds Age of the oldest record not yet committed past; 0 when caught up.
# TYPE streamhouse_consumer_lag_seconds gauge
streamhouse_consumer_lag_seconds{group_id="g",partition="",topic="a"} 5
streamhouse_consumer_lag_seconds{group_id="h",partition="",topic="a"} 0
# HELP streamhouse_metrics_folded_group_partitions Partitions of groups without lag of their own, told under partition="": records summed, seconds the largest.
# TYPE streamhouse_metrics_folded_group_partitions gauge
streamhouse_metrics_folded_group_partitions 3
`), "streamhouse_consumer_lag_records", "streamhouse_consumer_lag_seconds", "streamhouse_metrics_folded_group_partitions"))
}

// A failure is counted and logged once a minute, and what is known is told all the same.
func TestLagThatFailsIsSeen(t *testing.T) {
	var lines strings.Builder
	m := New(Options{Logger: slog.New(slog.NewTextHandler(&lines, nil))})
	m.Lag.Tell(func(yield func(LagSample)) error {
		yield(LagSample{Group: "g", Topic: "a", Partition: 0, Committed: 7, Lag: 3, Seconds: 1, Position: -1})
		return errors.New("shard 3 is loading")
	})
	for range 3 {
		_, err := m.Registry().Gather()
		require.NoError(t, err)
	}
	require.EqualValues(t, 3, testutil.ToFloat64(m.Lag.errors))
	require.Equal(t, 1, strings.Count(lines.String(), "shard 3 is loading"))
	require.NoError(t, testutil.GatherAndCompare(m.Registry(), strings.NewReader(`
# HELP streamhouse_consumer_lag_records High watermark minus committed offset, at least 0; no sample where nothing is committed.
# TYPE streamhouse_consumer_lag_records gauge
streamhouse_consumer_lag_records{group_id="g",partition="0",topic="a"} 3
`), "streamhouse_consumer_lag_records"))
}
