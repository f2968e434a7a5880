package metrics

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// tells compares the samples of families, given without help and type.
func tells(t *testing.T, m *Metrics, want string, families ...string) {
	t.Helper()
	var lines []string
	for _, family := range families {
		mf := gather(t, m)[namespace+"_"+family]
		require.NotNil(t, mf, family)
		for _, sample := range mf.GetMetric() {
			var labels []string
			for _, l := range sample.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%s", l.GetName(), l.GetValue()))
			}
			v := sample.GetGauge().GetValue() + sample.GetCounter().GetValue()
			if h := sample.GetHistogram(); h != nil {
				v = h.GetSampleSum()
			}
			lines = append(lines, strings.Join(append(append([]string{family}, labels...), fmt.Sprint(v)), " "))
		}
	}
	require.Equal(t, strings.Split(strings.TrimSpace(want), "\n"), lines)
}

// Each figure of a pool is told under its own name; what counts from the pool's start is told as it grows, also when the pool
// is a new one.
func TestPoolsAreToldByNameAndState(t *testing.T) {
	m := New(Options{})
	m.Pools.Set("general", PoolStats{Acquired: 1, Idle: 2, Max: 4, Waits: 5, Waited: 6 * time.Second, Cancelled: 7})
	m.Pools.Set("urgent", PoolStats{Acquired: 10, Idle: 20, Max: 40, Waits: 50, Waited: time.Minute, Cancelled: 70})
	m.Pools.Set("general", PoolStats{Acquired: 2, Idle: 1, Max: 4, Waits: 6, Waited: 8 * time.Second, Cancelled: 10})
	m.Pools.Set("urgent", PoolStats{Acquired: 0, Idle: 3, Max: 40})
	tells(t, m, `
catalog_pool_connections pool=general state=acquired 2
catalog_pool_connections pool=general state=idle 1
catalog_pool_connections pool=urgent state=acquired 0
catalog_pool_connections pool=urgent state=idle 3
catalog_pool_connections_limit pool=general 4
catalog_pool_connections_limit pool=urgent 40
catalog_pool_waits_total pool=general 6
catalog_pool_waits_total pool=urgent 50
catalog_pool_wait_seconds_total pool=general 8
catalog_pool_wait_seconds_total pool=urgent 60
catalog_pool_waits_given_up_total pool=general 10
catalog_pool_waits_given_up_total pool=urgent 70
`, "catalog_pool_connections", "catalog_pool_connections_limit", "catalog_pool_waits_total", "catalog_pool_wait_seconds_total",
		"catalog_pool_waits_given_up_total")
}

// A scrape that cannot tell everything is counted, each time, and logged once; what it can tell it tells.
func TestALagThatCannotBeToldIsCounted(t *testing.T) {
	var log strings.Builder
	m := New(Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	wrong := error(nil)
	m.Lag.Tell(func(yield func(LagSample)) error {
		yield(LagSample{Group: "g", Topic: "a", Partition: 0, Committed: 7, Lag: 3, Seconds: 1, Position: -1})
		return wrong
	})
	lag := func() {
		t.Helper()
		require.NoError(t, testutil.GatherAndCompare(m.Registry(), strings.NewReader(`
# HELP streamhouse_consumer_lag_records High watermark minus committed offset, at least 0; no sample where nothing is committed.
# TYPE streamhouse_consumer_lag_records gauge
streamhouse_consumer_lag_records{group_id="g",partition="0",topic="a"} 3
`), "streamhouse_consumer_lag_records"))
	}
	lag()
	require.Zero(t, testutil.ToFloat64(m.Lag.errors))
	require.Empty(t, log.String())
	wrong = errors.New("a shard is being read")
	lag()
	lag()
	require.InDelta(t, 2, testutil.ToFloat64(m.Lag.errors), 0)
	require.Equal(t, 1, strings.Count(log.String(), "a shard is being read"), log.String())
	wrong = nil
	lag()
	tells(t, m, "consumer_lag_errors_total 2", "consumer_lag_errors_total")
}

// Leases that moved and those that did not are told apart, for each way they go.
func TestMovesOfLeasesAreToldByKindAndOutcome(t *testing.T) {
	m := New(Options{})
	m.Cluster.Moved(LeaseAcquired, 1, time.Second, true)
	m.Cluster.Moved(LeaseAcquired, 2, time.Second, false)
	m.Cluster.Moved(LeaseAdopted, 3, 2*time.Second, true)
	m.Cluster.Moved(LeaseAdopted, 4, 3*time.Second, false)
	m.Cluster.Moved(LeaseHandedOver, 5, 4*time.Second, true)
	m.Cluster.Moved(LeaseHandedOver, 6, 6*time.Second, false)
	tells(t, m, `
cluster_lease_moves_total kind=acquired status=error 2
cluster_lease_moves_total kind=acquired status=ok 1
cluster_lease_moves_total kind=adopted status=error 4
cluster_lease_moves_total kind=adopted status=ok 3
cluster_lease_moves_total kind=handed_over status=error 6
cluster_lease_moves_total kind=handed_over status=ok 5
cluster_lease_move_duration_seconds kind=acquired 2
cluster_lease_move_duration_seconds kind=adopted 5
cluster_lease_move_duration_seconds kind=handed_over 10
`, "cluster_lease_moves_total", "cluster_lease_move_duration_seconds")
}

// A rewrite that failed took time, and rewrote nothing.
func TestRewritesAreToldByKindAndOutcome(t *testing.T) {
	m := New(Options{})
	for i, kind := range []string{"fold", "hot", "segment"} {
		n := i + 1
		m.Merge.Done(kind, "ok", n, int64(100*n), time.Duration(n)*time.Second)
		m.Merge.Done(kind, "error", 50, 5000, 10*time.Second)
	}
	tells(t, m, `
merge_runs_total kind=fold status=error 1
merge_runs_total kind=fold status=ok 1
merge_runs_total kind=hot status=error 1
merge_runs_total kind=hot status=ok 1
merge_runs_total kind=segment status=error 1
merge_runs_total kind=segment status=ok 1
merge_bytes_total kind=fold 100
merge_bytes_total kind=hot 200
merge_bytes_total kind=segment 300
merge_objects_total kind=fold 1
merge_objects_total kind=hot 2
merge_objects_total kind=segment 3
merge_duration_seconds kind=fold 11
merge_duration_seconds kind=hot 12
merge_duration_seconds kind=segment 13
`, "merge_runs_total", "merge_bytes_total", "merge_objects_total", "merge_duration_seconds")
}
