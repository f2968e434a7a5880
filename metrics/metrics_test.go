package metrics

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// touchAll records once into everything that can be recorded.
func touchAll(m *Metrics, topic string) {
	tp := m.Producer.Topic(topic)
	pp := tp.Partition(3)
	pp.Pending(5)
	tp.Sent(pp, 10, 1000)
	tp.SendDuration(time.Millisecond, "")
	tp.FlushDuration(time.Millisecond)
	tp.Batch(10, 1000)
	tp.Error("NOT_LEADER_OR_FOLLOWER")
	tc := m.Consumer.Topic(topic)
	tc.PollDuration(time.Millisecond, "")
	g := tc.Group("")
	g.Consumed(g.Partition(3), 10, 1000)
	ta := m.Agent.Topic(topic)
	ta.Leases(1)
	ta.WriteLatency(time.Millisecond)
	ta.Partition(3).Written(10)
	m.Agent.LeaseRenewal(RenewalOK)
	m.Agent.ConnectionOpened()
	m.Agent.Ready(true)
	m.Groups.Tell(func(yield func(GroupCount)) {
		yield(GroupCount{Type: "classic", State: "Stable", Groups: 2, Members: 3})
	})
	m.Groups.Rebalancing("classic", "topics")
	m.Groups.Rebalanced("classic", time.Second)
	m.Groups.Committed(StatusOK, 3)
	m.Agent.UnledPartitions(0)
	m.Agent.API("Produce").Done(StatusOK, time.Millisecond)
	m.Agent.API("Produce").Done("NOT_LEADER_OR_FOLLOWER", time.Millisecond)
	m.Flush.Sealed(SealWaiter)
	m.Flush.Uploading(1)
	m.Flush.Buffered(100)
	m.Flush.Retried()
	m.Flush.Committed(1000, time.Millisecond)
	for _, c := range []*Cache{m.TailCache, m.BlockCache} {
		c.Hit(1)
		c.Miss(1)
		c.Evicted(2)
		c.Bytes(100)
	}
	m.Store.Op("put").Done("ok", time.Millisecond, 1000)
	m.Catalog.Op("commit").Done("ok", time.Millisecond, 0)
	m.Tail.Set(3, 300)
	m.Merge.Done("hot", "ok", 4, 1000, time.Millisecond)
	m.Traffic.Exchange("put", "", 1000, 10)
	m.Traffic.Hedged("get", true)
	m.Traffic.Retried("put", "throttled")
	m.Traffic.Throttled(time.Second)
	m.Traffic.Settled(true)
	m.Sweep.Orphans(1)
	m.Sweep.Deleted(DeleteOrphan, 1, true)
	m.Pools.Set("general", PoolStats{Acquired: 1, Idle: 2, Max: 4, Waits: 5, Waited: time.Second, Cancelled: 1})
	c := m.Cost.Topic(topic)
	c.Request(CostPut, 0.5, 1000)
	c.Request(CostGet, 1, 1000)
	c.Stored(1000)
	c.Held(time.Second)
	m.Limits.Set(Usage{OldestAppendWaiting: time.Second})
}

func gather(t *testing.T, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	mfs, err := m.Registry().Gather()
	require.NoError(t, err)
	out := make(map[string]*dto.MetricFamily, len(mfs))
	for _, mf := range mfs {
		out[mf.GetName()] = mf
	}
	return out
}

func TestFamiliesAreTheGoldenOnes(t *testing.T) {
	m := New(Options{})
	var b bytes.Buffer
	for _, f := range m.Families() {
		fmt.Fprintf(&b, "%s %s {%s}\n", f.Name, f.Type, strings.Join(f.Labels, ","))
	}
	const path = "testdata/families.golden"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String(), "names, types and labels are a contract; -update if the change is meant")
}

func TestEveryFamilyHasTheSamplesAndLabelsItPromises(t *testing.T) {
	m := New(Options{Version: "test"})
	touchAll(m, "orders")
	got := gather(t, m)
	groups := []string{ // told by a source, which is tested with Lag
		"streamhouse_consumer_lag_records", "streamhouse_consumer_lag_seconds",
		"streamhouse_consumer_last_committed_offset", "streamhouse_consumer_current_offset",
	}
	for _, f := range m.Families() {
		mf := got[f.Name]
		if slices.Contains(groups, f.Name) {
			require.Nil(t, mf, "%s must have no made-up sample", f.Name)
			continue
		}
		require.NotNil(t, mf, "%s has no sample", f.Name)
		require.Equal(t, strings.ToUpper(string(f.Type)), mf.GetType().String(), f.Name)
		for _, sample := range mf.GetMetric() {
			var labels []string
			for _, l := range sample.GetLabel() {
				labels = append(labels, l.GetName())
			}
			want := slices.Clone(f.Labels)
			slices.Sort(want)
			require.Equal(t, want, labels, f.Name)
			if f.Type == Histogram {
				require.NotEmpty(t, sample.GetHistogram().GetBucket(), "%s needs classic buckets", f.Name)
			}
		}
	}
	require.Contains(t, got, "go_goroutines")
	require.Contains(t, got, "process_cpu_seconds_total")
}

func TestNamesPassTheLinter(t *testing.T) {
	m := New(Options{})
	touchAll(m, "orders")
	problems, err := testutil.GatherAndLint(m.Registry())
	require.NoError(t, err)
	require.Empty(t, problems)
	for _, f := range m.Families() {
		require.NotContains(t, f.Name, "_total_total")
		require.Equal(t, f.Type == Counter, strings.HasSuffix(f.Name, "_total"), f.Name)
		require.NotEmpty(t, f.Help, f.Name)
	}
}

func TestExpositionParses(t *testing.T) {
	m := New(Options{})
	touchAll(m, `we"ird\to`+"\npic")
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, mf := range gather(t, m) {
		require.NoError(t, enc.Encode(mf))
	}
	require.NotContains(t, b.String(), "_total_total")
	p := expfmt.NewTextParser(model.LegacyValidation)
	parsed, err := p.TextToMetricFamilies(&b)
	require.NoError(t, err)
	require.Contains(t, parsed, "streamhouse_producer_send_duration_seconds")
	require.Len(t, parsed["streamhouse_producer_send_duration_seconds"].GetMetric()[0].GetHistogram().GetBucket(), 16)
}

func TestValuesAddUp(t *testing.T) {
	m := New(Options{})
	touchAll(m, "orders")
	touchAll(m, "orders")
	tp := m.Producer.Topic("orders")
	require.InDelta(t, 20, testutil.ToFloat64(tp.Partition(3).records), 0)
	require.InDelta(t, 10, testutil.ToFloat64(tp.Partition(3).mu.pending), 0)
	require.InDelta(t, 2000, testutil.ToFloat64(tp.bytes), 0)
	require.InDelta(t, 2, testutil.ToFloat64(m.Agent.API("Produce").ok), 0)
	require.InDelta(t, 2, testutil.ToFloat64(m.Agent.connections), 0)
	require.InDelta(t, 2000, testutil.ToFloat64(m.Store.Op("put").outcome("ok").bytes), 0)
	m.Agent.ConnectionClosed()
	require.InDelta(t, 1, testutil.ToFloat64(m.Agent.connections), 0)
	require.InDelta(t, 3, testutil.ToFloat64(m.Tail.objects), 0)
}

func seriesWith(t *testing.T, m *Metrics, label, value string) []string {
	t.Helper()
	var out []string
	for name, mf := range gather(t, m) {
		for _, sample := range mf.GetMetric() {
			for _, l := range sample.GetLabel() {
				if l.GetName() == label && l.GetValue() == value {
					out = append(out, name)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestSeriesOfADroppedTopicDisappear(t *testing.T) {
	m := New(Options{})
	touchAll(m, "orders")
	touchAll(m, "other")
	stale := m.Producer.Topic("orders")
	m.Consumer.Topic("orders").Group("g1").Partition(3).records.Inc()
	m.Consumer.Topic("orders").Group("g1").Consumed(nil, 1, 1)
	require.NotEmpty(t, seriesWith(t, m, "topic", "orders"))
	m.DropTopic("orders")
	require.Empty(t, seriesWith(t, m, "topic", "orders"))
	require.NotEmpty(t, seriesWith(t, m, "topic", "other"))
	// Handles that were kept stay harmless and invisible.
	stale.Sent(stale.Partition(9), 1, 1)
	stale.Error("UNKNOWN_TOPIC_OR_PARTITION")
	m.DropTopic("orders")
	require.Empty(t, seriesWith(t, m, "topic", "orders"))
	// A topic made anew under the name starts from nothing.
	fresh := m.Producer.Topic("orders")
	require.NotSame(t, stale, fresh)
	require.InDelta(t, 0, testutil.ToFloat64(fresh.bytes), 0)
	require.Equal(t, 1, m.series.mu.partitions, "only other/3 holds a place")
}

func TestADeadGroupDisappears(t *testing.T) {
	m := New(Options{})
	tc := m.Consumer.Topic("orders")
	for _, name := range []string{"", "g1"} {
		g := tc.Group(name)
		g.Consumed(g.Partition(0), 1, 1)
	}
	tc.DropGroup("g1")
	tc.DropGroup("never")
	require.Empty(t, seriesWith(t, m, "group_id", "g1"))
	require.Equal(t, 1, m.series.mu.partitions)
}

// However many groups clients make, with places all taken or of a folded topic: they add no series, and are counted for "".
func TestGroupsAboveTheLimitFold(t *testing.T) {
	const family = "streamhouse_consumer_bytes_consumed_total"
	for _, o := range []Options{{MaxPartitions: 3}, {MaxTopics: -1}} {
		m := New(o)
		tc := m.Consumer.Topic("orders")
		for i := range 100 {
			g := tc.Group(fmt.Sprint("g", i))
			g.Consumed(g.Partition(0), 1, 10)
			g.Consumed(g.Partition(1), 1, 10)
		}
		require.Less(t, len(gather(t, m)[family].GetMetric()), 4)
		total := 0.0
		for _, mf := range gather(t, m)[family].GetMetric() {
			total += mf.GetCounter().GetValue()
		}
		require.InDelta(t, 2000, total, 0)
		require.Greater(t, testutil.ToFloat64(m.series.foldedPartitions), 97.0)
		for i := range 100 {
			tc.DropGroup(fmt.Sprint("g", i))
		}
		for i := range 100 {
			require.Empty(t, seriesWith(t, m, "group_id", fmt.Sprint("g", i)))
		}
		tc.Group("g").Consumed(nil, 1, 1)
		m.DropTopic("orders")
		require.Zero(t, testutil.ToFloat64(m.series.foldedPartitions))
		require.Zero(t, m.series.mu.partitions)
	}
}

func TestLeasesAtZeroHaveNoSample(t *testing.T) {
	m := New(Options{})
	ta := m.Agent.Topic("orders")
	ta.Leases(2)
	require.Contains(t, gather(t, m), "streamhouse_agent_active_partitions")
	ta.Leases(-2)
	require.NotContains(t, gather(t, m), "streamhouse_agent_active_partitions")
}

// What is pending is told by the broker that leads. One that leads no more may have records in flight, and may lead again; and
// nothing comes back under the name of a topic that was deleted meanwhile.
func TestPendingEndsWithTheLease(t *testing.T) {
	m := New(Options{MaxPartitions: 1})
	tp := m.Producer.Topic("orders")
	p, shared := tp.Partition(0), tp.Partition(1)
	pending := func(partition string) []string {
		t.Helper()
		var out []string
		for _, s := range seriesWith(t, m, "partition", partition) {
			if strings.Contains(s, "pending") {
				out = append(out, s)
			}
		}
		return out
	}
	p.Pending(5)
	shared.Pending(2)
	p.Leave()
	require.Len(t, pending("0"), 1, "they are in flight")
	p.Pending(-5)
	p.Leave()
	p.Leave()
	require.Empty(t, pending("0"))
	shared.Pending(-2)
	shared.Leave()
	require.Len(t, pending(""), 1, "it is other partitions', too")
	p.Pending(3)
	require.Len(t, pending("0"), 1)
	require.InDelta(t, 3, testutil.ToFloat64(m.Producer.pendingRecord.WithLabelValues("orders", "0")), 0)
	p.Pending(-3)
	p.Leave()
	m.DropTopic("orders")
	p.Pending(1)
	p.Leave()
	require.Empty(t, seriesWith(t, m, "topic", "orders"))
}

func TestPartitionsAboveTheLimitFold(t *testing.T) {
	var logged bytes.Buffer
	m := New(Options{MaxPartitions: 2, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	tp := m.Producer.Topic("orders")
	for p := range int32(5) {
		tp.Sent(tp.Partition(p), 10, 1)
		tp.Partition(p).Pending(1)
	}
	records := gather(t, m)["streamhouse_producer_records_sent_total"]
	got := map[string]float64{}
	for _, sample := range records.GetMetric() {
		got[sample.GetLabel()[0].GetValue()] = sample.GetCounter().GetValue()
	}
	require.Equal(t, map[string]float64{"0": 10, "1": 10, "": 30}, got)
	require.InDelta(t, 3, testutil.ToFloat64(m.series.foldedPartitions), 0)
	require.Equal(t, 1, strings.Count(logged.String(), "partitions above the limit"))
	m.DropTopic("orders")
	require.InDelta(t, 0, testutil.ToFloat64(m.series.foldedPartitions), 0)
	require.Zero(t, m.series.mu.partitions)
	require.Empty(t, seriesWith(t, m, "topic", "orders"))
	// Places given back are taken by the next new partitions.
	m.Producer.Topic("more").Partition(9).Pending(1)
	require.NotEmpty(t, seriesWith(t, m, "partition", "9"))
}

func TestTopicsAboveTheLimitFold(t *testing.T) {
	m := New(Options{MaxTopics: 1})
	touchAll(m, "first")
	touchAll(m, "second")
	touchAll(m, "third")
	require.Empty(t, seriesWith(t, m, "topic", "second"))
	require.InDelta(t, 2, testutil.ToFloat64(m.series.foldedTopics), 0)
	require.InDelta(t, 2000, testutil.ToFloat64(m.Producer.Topic("third").bytes), 0)
	m.DropTopic("second")
	require.InDelta(t, 1, testutil.ToFloat64(m.series.foldedTopics), 0)
	require.InDelta(t, 2000, testutil.ToFloat64(m.Producer.Topic("third").bytes), 0)
}

// pendingOfAll is what folded topics have pending together.
func pendingOfAll(m *Metrics) float64 {
	return testutil.ToFloat64(m.Producer.pendingRecord.WithLabelValues("", ""))
}

// A topic that is deleted with batches in flight takes them out of what the folded topics share, whatever becomes of them.
func TestADeletedFoldedTopicLeavesNothingPending(t *testing.T) {
	m := New(Options{MaxTopics: 1})
	m.Producer.Topic("first")
	stays := m.Producer.Topic("stays").Partition(0)
	stays.Pending(3)
	gone := m.Producer.Topic("gone")
	zero, one := gone.Partition(0), gone.Partition(1)
	zero.Pending(5)
	one.Pending(7)
	one.Pending(-1)
	require.InDelta(t, 14, pendingOfAll(m), 0)

	m.DropTopic("gone")
	require.InDelta(t, 3, pendingOfAll(m), 0, "its batches are never told of again")
	zero.Pending(-5)
	require.InDelta(t, 3, pendingOfAll(m), 0, "or discarded later")
	one.Pending(2)
	require.InDelta(t, 3, pendingOfAll(m), 0, "or appended by who has a handle yet")

	again := m.Producer.Topic("gone").Partition(0)
	again.Pending(4)
	require.InDelta(t, 7, pendingOfAll(m), 0, "a topic of the same name counts anew")
	one.Pending(-8)
	again.Pending(-4)
	stays.Pending(-3)
	require.InDelta(t, 0, pendingOfAll(m), 0)
}

// Whichever of updates and the deletion comes first.
func TestAFoldedTopicIsDeletedWhileBatchesComeAndGo(t *testing.T) {
	m := New(Options{MaxTopics: 1})
	m.Producer.Topic("first")
	m.Producer.Topic("stays").Partition(0)
	for range 50 {
		p := m.Producer.Topic("gone").Partition(0)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for range 20 {
					p.Pending(2)
					p.Pending(-1)
				}
			})
		}
		wg.Go(func() { m.DropTopic("gone") })
		wg.Wait()
		require.InDelta(t, 0, pendingOfAll(m), 0)
	}
}

func TestTheZeroMetricsAndNilRecordersDoNothing(t *testing.T) {
	touchAll(&Metrics{}, "orders")
	(&Metrics{}).DropTopic("orders")
	var none *Metrics
	none.DropTopic("orders")
	require.Nil(t, none.Registry())
	require.Empty(t, none.Families())
	m := New(Options{})
	m.Agent.LeaseRenewal(RenewalStatus(99))
	m.Flush.Sealed(SealReason(-1))
}

func TestStatusesAreBounded(t *testing.T) {
	m := New(Options{})
	api, op := m.Agent.API("Produce"), m.Store.Op("put")
	for i := range maxLabelValues + 50 {
		api.Done(fmt.Sprint("E", i), time.Millisecond)
		op.Done(fmt.Sprint("e", i), time.Millisecond, 0)
	}
	got := gather(t, m)
	require.LessOrEqual(t, len(got["streamhouse_agent_kafka_requests_total"].GetMetric()), maxLabelValues+2)
	require.LessOrEqual(t, len(got["streamhouse_objstore_requests_total"].GetMetric()), maxLabelValues+1)
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	m := New(Options{})
	tp := m.Producer.Topic("orders")
	pp := tp.Partition(0)
	g := m.Consumer.Topic("orders").Group("")
	pc := g.Partition(0)
	api := m.Agent.API("Produce")
	op := m.Store.Op("put")
	record := func() {
		pp.Pending(10)
		tp.Sent(pp, 10, 1000)
		tp.Batch(10, 1000)
		tp.SendDuration(time.Millisecond, "")
		tp.FlushDuration(time.Millisecond)
		g.Consumed(pc, 10, 1000)
		api.Done(StatusOK, time.Millisecond)
		api.Done("NOT_LEADER_OR_FOLLOWER", time.Millisecond)
		op.Done("ok", time.Millisecond, 10)
		m.TailCache.Hit(1)
		m.Flush.Committed(1000, time.Millisecond)
	}
	record()
	require.Zero(t, testing.AllocsPerRun(100, record))
}

// Groups come and go (a console consumer is a new one each time). Of one that is gone nothing is left, also where its topics share
// series; what it read of them stays in those of "".
func TestADeadGroupOfFoldedTopicsDisappears(t *testing.T) {
	m := New(Options{MaxTopics: 1})
	m.Consumer.Topic("first")
	second := m.Consumer.Topic("second")
	for i := range 100 {
		group := fmt.Sprint("console-", i)
		g := second.Group(group)
		g.Consumed(g.Partition(0), 1, 10)
		second.DropGroup(group)
	}
	require.InDelta(t, 1, testutil.ToFloat64(m.series.foldedPartitions), 0, "what all of them shared")
	require.Len(t, m.series.mu.topics["second"].places[0], 1)
	require.Len(t, gather(t, m)["streamhouse_consumer_bytes_consumed_total"].GetMetric(), 1)
	require.Len(t, gather(t, m)["streamhouse_consumer_records_consumed_total"].GetMetric(), 1)
	m.DropTopic("second")
	require.Zero(t, testutil.ToFloat64(m.series.foldedPartitions))
}

// A group's end may be told after its topic was dropped, and made anew under its name.
func TestTheEndOfAGroupDropsNothingOfATopicMadeAnew(t *testing.T) {
	m := New(Options{})
	old := m.Consumer.Topic("orders")
	old.Group("g").Consumed(old.Group("g").Partition(0), 1, 10)
	m.DropTopic("orders")
	g := m.Consumer.Topic("orders").Group("g")
	g.Consumed(g.Partition(0), 1, 10)
	old.DropGroup("g")
	require.Len(t, seriesWith(t, m, "group_id", "g"), 2)
}
