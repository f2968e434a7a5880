package metrics

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCostOfATopicVanishesWithIt(t *testing.T) {
	m := New(Options{})
	c := m.Cost.Topic("a")
	c.Request(CostPut, 0.25, 100)
	c.Stored(100)
	c.Held(time.Second)
	for _, f := range []string{"requests_total", "bytes_total"} {
		require.Len(t, gather(t, m)["streamhouse_topic_store_"+f].GetMetric(), 2, f)
	}
	require.InDelta(t, 0.25, gather(t, m)["streamhouse_topic_store_requests_total"].GetMetric()[1].GetCounter().GetValue(), 0)
	m.DropTopic("a")
	c.Stored(5)
	c.Request(CostGet, 1, 1)
	c.Held(time.Second)
	for name := range gather(t, m) {
		require.NotContains(t, name, "streamhouse_topic_")
	}
}

func TestCostOfFoldedTopics(t *testing.T) {
	m := New(Options{MaxTopics: -1})
	a, b := m.Cost.Topic("a"), m.Cost.Topic("b")
	a.Request(CostPut, 0.25, 100)
	b.Request(CostPut, 0.75, 300)
	a.Stored(10)
	b.Stored(20)
	got := gather(t, m)
	require.Len(t, got["streamhouse_topic_stored_bytes"].GetMetric(), 1)
	require.InDelta(t, 30, got["streamhouse_topic_stored_bytes"].GetMetric()[0].GetGauge().GetValue(), 0)
	require.InDelta(t, 1, got["streamhouse_topic_store_requests_total"].GetMetric()[1].GetCounter().GetValue(), 1e-9)
	m.DropTopic("a")
	b.Leave()
	require.Zero(t, gather(t, m)["streamhouse_topic_stored_bytes"].GetMetric()[0].GetGauge().GetValue())
}
