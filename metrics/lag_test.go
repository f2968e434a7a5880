package metrics

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"
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
# HELP streamhouse_metrics_folded_group_partitions Partitions of groups without lag of their own: told as sums (seconds: the largest) under partition="", those that lag least with topic="" and group_id="", too.
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

// However many groups clients make: those that lag most are told of, and the rest is one sample.
func TestLagOfManyGroupsFolds(t *testing.T) {
	m := New(Options{MaxPartitions: 4})
	samples := []LagSample{
		{Group: "far", Topic: "a", Partition: 0, Committed: 1, Lag: 60, Seconds: 1, Position: -1},
		{Group: "far", Topic: "a", Partition: 1, Committed: 1, Lag: 40, Seconds: 2, Position: -1},
		{Group: "late", Topic: "a", Partition: 0, Committed: 2, Lag: 5, Seconds: 9, Position: -1},
		{Group: "even-a", Topic: "a", Partition: 0, Committed: 3, Lag: 5, Seconds: 8, Position: -1},
		{Group: "even-b", Topic: "a", Partition: 0, Committed: 4, Lag: 5, Seconds: 8, Position: 7},
		{Group: "even-a", Topic: "b", Partition: 0, Committed: 5, Lag: 5, Seconds: 8, Position: -1},
		{Group: "unknown", Topic: "a", Partition: 0, Committed: 6, Lag: 5, Seconds: math.NaN(), Position: -1},
		{Group: "unread", Topic: "a", Partition: 0, Committed: -1, Lag: -1, Seconds: math.NaN(), Position: 11},
	}
	m.Lag.Tell(func(yield func(LagSample)) error {
		for _, s := range samples {
			yield(s)
		}
		return nil
	})
	families := append([]string{"streamhouse_metrics_folded_group_partitions"}, lagFamilies...)
	for range 20 { // as the order in which groups come is any
		rand.Shuffle(len(samples), func(i, j int) { samples[i], samples[j] = samples[j], samples[i] })
		require.NoError(t, testutil.GatherAndCompare(m.Registry(), strings.NewReader(`
# HELP streamhouse_consumer_current_offset Highest offset fetched by the group, where known.
# TYPE streamhouse_consumer_current_offset gauge
streamhouse_consumer_current_offset{group_id="",partition="",topic=""} 18
# HELP streamhouse_consumer_lag_records High watermark minus committed offset, at least 0; no sample where nothing is committed.
# TYPE streamhouse_consumer_lag_records gauge
streamhouse_consumer_lag_records{group_id="",partition="",topic=""} 15
streamhouse_consumer_lag_records{group_id="even-a",partition="",topic="a"} 5
streamhouse_consumer_lag_records{group_id="far",partition="",topic="a"} 100
streamhouse_consumer_lag_records{group_id="late",partition="",topic="a"} 5
# HELP streamhouse_consumer_lag_seconds Age of the oldest record not yet committed past; 0 when caught up.
# TYPE streamhouse_consumer_lag_seconds gauge
streamhouse_consumer_lag_seconds{group_id="",partition="",topic=""} 8
streamhouse_consumer_lag_seconds{group_id="even-a",partition="",topic="a"} 8
streamhouse_consumer_lag_seconds{group_id="far",partition="",topic="a"} 2
streamhouse_consumer_lag_seconds{group_id="late",partition="",topic="a"} 9
# HELP streamhouse_consumer_last_committed_offset Last offset the group committed.
# TYPE streamhouse_consumer_last_committed_offset gauge
streamhouse_consumer_last_committed_offset{group_id="",partition="",topic=""} 15
streamhouse_consumer_last_committed_offset{group_id="even-a",partition="",topic="a"} 3
streamhouse_consumer_last_committed_offset{group_id="far",partition="",topic="a"} 2
streamhouse_consumer_last_committed_offset{group_id="late",partition="",topic="a"} 2
# HELP streamhouse_metrics_folded_group_partitions Partitions of groups without lag of their own: told as sums (seconds: the largest) under partition="", those that lag least with topic="" and group_id="", too.
# TYPE streamhouse_metrics_folded_group_partitions gauge
streamhouse_metrics_folded_group_partitions 8
`), families...))
	}
}

// With no place for any group by name, all are one sample; without a group there is none.
func TestLagWithoutPlacesIsOneSample(t *testing.T) {
	for _, bound := range []int{-1, 1} {
		m := New(Options{MaxPartitions: bound})
		require.NoError(t, testutil.GatherAndCompare(m.Registry(), strings.NewReader(""), lagFamilies...))
		m.Lag.Tell(func(yield func(LagSample)) error {
			yield(LagSample{Group: "g", Topic: "a", Partition: 0, Committed: 7, Lag: 3, Seconds: 1, Position: -1})
			yield(LagSample{Group: "h", Topic: "b", Partition: 0, Committed: 7, Lag: 4, Seconds: 0, Position: -1})
			return nil
		})
		require.NoError(t, testutil.GatherAndCompare(m.Registry(), strings.NewReader(`
# HELP streamhouse_consumer_lag_records High watermark minus committed offset, at least 0; no sample where nothing is committed.
# TYPE streamhouse_consumer_lag_records gauge
streamhouse_consumer_lag_records{group_id="",partition="",topic=""} 7
`), "streamhouse_consumer_lag_records"))
	}
}

// BenchmarkLagOfManyGroups is a scrape of 100,000 groups, with the bytes of its answer.
func BenchmarkLagOfManyGroups(b *testing.B) {
	m := New(Options{})
	m.Lag.Tell(func(yield func(LagSample)) error {
		for i := range 100_000 {
			yield(LagSample{
				Group: fmt.Sprint("group-", i), Topic: "orders", Partition: int32(i % 8), Committed: int64(i), Lag: int64(i * 7919 % 100_003),
				Seconds: float64(i % 60), Position: -1,
			})
		}
		return nil
	})
	h := promhttp.HandlerFor(m.Registry(), promhttp.HandlerOpts{})
	b.ReportAllocs()
	answer := 0
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		answer = w.Body.Len()
	}
	b.ReportMetric(float64(answer), "answer-bytes")
}
