package node

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/streamhouse/streamhouse/broker/group/coordinator"
	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/catalog/postgres"
	"github.com/streamhouse/streamhouse/metrics"
)

// gathered are the samples of counters, gauges and the sums of histograms, named as those of a scrape.
func gathered(t *testing.T, m *metrics.Metrics) samples {
	t.Helper()
	families, err := m.Registry().Gather()
	require.NoError(t, err)
	out := samples{}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			labels := ""
			for _, l := range s.GetLabel() {
				labels += fmt.Sprintf(",%s=%q", l.GetName(), l.GetValue())
			}
			name := strings.TrimPrefix(f.GetName(), "streamhouse_")
			if labels != "" {
				labels = "{" + labels[1:] + "}"
			}
			if h := s.GetHistogram(); h != nil {
				out[name+"_sum"+labels] = h.GetSampleSum()
				continue
			}
			out[name+labels] = s.GetCounter().GetValue() + s.GetGauge().GetValue()
		}
	}
	return out
}

// Every reason to rebalance that there is has a label of its own, also the one that no group gives today.
func TestEveryReasonToRebalanceHasItsLabel(t *testing.T) {
	m := metrics.New(metrics.Options{})
	told := newObserver(m).groupHooks().Rebalancing
	labels := map[coordinator.Why]string{
		coordinator.WhyOther: "other", coordinator.WhyMemberJoins: "member_joins", coordinator.WhyMemberLeaves: "member_leaves",
		coordinator.WhySession: "session_timeout", coordinator.WhyRebalanceTimeout: "rebalance_timeout",
		coordinator.WhySubscription: "subscription", coordinator.WhyTopics: "topics", coordinator.WhyProtocol: "protocol",
	}
	for why, label := range labels {
		for range why + 1 {
			told(catalog.GroupClassic, why)
		}
		told(catalog.GroupConsumer, why)
		s := gathered(t, m)
		require.EqualValues(t, why+1, s[fmt.Sprintf("group_coordinator_rebalances_total{reason=%q,type=%q}", label, "classic")], label)
		require.EqualValues(t, 1, s[fmt.Sprintf("group_coordinator_rebalances_total{reason=%q,type=%q}", label, "consumer")], label)
	}
	require.Len(t, labels, len(whyLabels))
}

// withPools is a catalog that says what the test wants of its connections.
type withPools struct {
	catalog.Catalog
	stats []postgres.PoolStats
}

func (w withPools) PoolStats() []postgres.PoolStats { return w.stats }

// What the pools of a catalog tell is told under its own name.
func TestPoolsAreTakenOver(t *testing.T) {
	m := metrics.New(metrics.Options{})
	newObserver(m).poolsSeen(withPools{stats: []postgres.PoolStats{
		{Name: "general", Acquired: 1, Idle: 2, Max: 3, Waits: 4, Waited: 5 * time.Second, Cancelled: 6},
		{Name: "urgent", Acquired: 10, Idle: 20, Max: 30, Waits: 40, Waited: 50 * time.Second, Cancelled: 60},
	}})
	s := gathered(t, m)
	for pool, times := range map[string]float64{"general": 1, "urgent": 10} {
		of := func(name string) float64 { return s[name+`{pool="`+pool+`"}`] / times }
		require.InDelta(t, 1, s[`catalog_pool_connections{pool="`+pool+`",state="acquired"}`]/times, 1e-9)
		require.InDelta(t, 2, s[`catalog_pool_connections{pool="`+pool+`",state="idle"}`]/times, 1e-9)
		require.InDelta(t, 3, of("catalog_pool_connections_limit"), 1e-9)
		require.InDelta(t, 4, of("catalog_pool_waits_total"), 1e-9)
		require.InDelta(t, 5, of("catalog_pool_wait_seconds_total"), 1e-9)
		require.InDelta(t, 6, of("catalog_pool_waits_given_up_total"), 1e-9)
	}
}

// What the manager of leases tells is counted under the way the leases went, and whether they did.
func TestMovesOfLeasesAreToldApart(t *testing.T) {
	m := metrics.New(metrics.Options{})
	recounts := 0
	hooks := newFleet(nil, m.Cluster, func() { recounts++ }, slog.New(slog.DiscardHandler)).hooks()
	wrong := errors.New("the log cannot be read")
	for i, hook := range []func(int, time.Duration, error){hooks.Acquired, hooks.Adopted, hooks.HandedOver} {
		hook(10*(i+1), time.Duration(i+1)*time.Second, nil)
		hook(10*(i+1)+1, time.Duration(i+1)*time.Second, wrong)
	}
	s := gathered(t, m)
	for i, kind := range []string{"acquired", "adopted", "handed_over"} {
		require.EqualValues(t, 10*(i+1), s[`cluster_lease_moves_total{kind="`+kind+`",status="ok"}`], kind)
		require.EqualValues(t, 10*(i+1)+1, s[`cluster_lease_moves_total{kind="`+kind+`",status="error"}`], kind)
		require.InDelta(t, 2*(i+1), s[`cluster_lease_move_duration_seconds_sum{kind="`+kind+`"}`], 1e-9, kind)
	}
	require.Equal(t, 6, recounts, "topics tell at once what they lead")
}
