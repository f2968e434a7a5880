package metrics

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"
)

// heapOf is how much the heap grows by what make returns.
func heapOf(build func() any) int64 {
	var before, after runtime.MemStats
	settle := func(s *runtime.MemStats) {
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(s)
	}
	settle(&before)
	kept := build()
	settle(&after)
	runtime.KeepAlive(kept)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// exposed is the length of what /metrics answers, uncompressed.
func exposed(t *testing.T, m *Metrics) int {
	t.Helper()
	all, err := m.Registry().Gather()
	require.NoError(t, err)
	var b bytes.Buffer
	e := expfmt.NewEncoder(&b, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range all {
		require.NoError(t, e.Encode(f))
	}
	return b.Len()
}

// TestSizes holds what the package comment says of memory and of the answer's length. Run with -v to see the figures.
func TestSizes(t *testing.T) {
	const n = 20
	fixed := heapOf(func() any {
		var all [n]*Metrics
		for i := range all {
			all[i] = New(Options{})
		}
		return &all
	}) / n
	const topics, partitions, groups = 200, 2000, 2000
	m := New(Options{})
	length := exposed(t, m)
	perTopic := heapOf(func() any {
		for i := range topics {
			name := fmt.Sprintf("topic-of-a-length-%d", i)
			m.Producer.Topic(name)
			m.Consumer.Topic(name).Group("")
			m.Agent.Topic(name).Leases(1)
			m.Cost.Topic(name).Stored(1)
		}
		return m
	}) / topics
	lengthTopic := (exposed(t, m) - length) / topics
	length0 := exposed(t, m)
	perPartition := heapOf(func() any {
		name := "topic-of-a-length-0"
		for i := range int32(partitions) {
			m.Producer.Topic(name).Partition(i).Pending(1)
			m.Consumer.Topic(name).Group("").Partition(i)
			m.Agent.Topic(name).Partition(i).Written(1)
		}
		return m
	}) / partitions
	lengthPartition := (exposed(t, m) - length0) / partitions
	length0 = exposed(t, m)
	perGroup := heapOf(func() any {
		g := m.Consumer.Topic("topic-of-a-length-0").Group("a-group")
		for i := range int32(groups) {
			g.Consumed(g.Partition(i), 1, 1)
		}
		return m
	}) / groups
	lengthGroup := (exposed(t, m) - length0) / groups
	t.Logf("fixed: %d bytes of heap, %d exposed", fixed, length)
	t.Logf("a topic: %d bytes of heap, %d exposed", perTopic, lengthTopic)
	t.Logf("a partition: %d bytes of heap, %d exposed", perPartition, lengthPartition)
	t.Logf("a group on a partition: %d bytes of heap, %d exposed", perGroup, lengthGroup)
	require.Less(t, fixed, int64(100_000))
	require.Less(t, length, 40_000)
	require.Less(t, perTopic, int64(16_000))
	require.Less(t, lengthTopic, 12_000)
	require.Less(t, perPartition, int64(3_500))
	require.Less(t, lengthPartition, 500)
	require.Less(t, perGroup, int64(1_200))
	require.Less(t, lengthGroup, 200)
}

// updates are what is recorded on the way of a record, by name.
func updates(m *Metrics) map[string]func() {
	tp := m.Producer.Topic("orders")
	pp := tp.Partition(0)
	g := m.Consumer.Topic("orders").Group("")
	pc := g.Partition(0)
	tc := m.Consumer.Topic("orders")
	ta := m.Agent.Topic("orders")
	pa := ta.Partition(0)
	api := m.Agent.API("Produce")
	op := m.Store.Op("put")
	cost := m.Cost.Topic("orders")
	few := New(Options{MaxTopics: 1})
	few.Producer.Topic("orders")
	folded := few.Producer.Topic("above").Partition(0)
	return map[string]func(){
		"Pending":       func() { pp.Pending(10) },
		"PendingFolded": func() { folded.Pending(10) },
		"Sent":          func() { tp.Sent(pp, 10, 1000) },
		"Batch":         func() { tp.Batch(10, 1000) },
		"SendDuration":  func() { tp.SendDuration(3*time.Millisecond, "") },
		"FlushDuration": func() { tp.FlushDuration(3 * time.Millisecond) },
		"Error":         func() { tp.Error("NOT_LEADER_OR_FOLLOWER") },
		"Consumed":      func() { g.Consumed(pc, 10, 1000) },
		"PollDuration":  func() { tc.PollDuration(3*time.Millisecond, "") },
		"Written":       func() { pa.Written(10) },
		"WriteLatency":  func() { ta.WriteLatency(3 * time.Millisecond) },
		"Request":       func() { api.Done(StatusOK, time.Millisecond) },
		"StoreCall":     func() { op.Done("ok", time.Millisecond, 1000) },
		"CacheHit":      func() { m.TailCache.Hit(3) },
		"Buffered":      func() { m.Flush.Buffered(1000) },
		"Committed":     func() { m.Flush.Committed(1000, time.Millisecond) },
		"Cost":          func() { cost.Request(CostPut, 0.5, 1000) },
		"Exchange":      func() { m.Traffic.Exchange("put", "", 1000, 0) },
		"Hedged":        func() { m.Traffic.Hedged("put", true) },
	}
}

func TestUpdatesDoNotAllocate(t *testing.T) {
	for name, update := range updates(New(Options{})) {
		require.Zero(t, testing.AllocsPerRun(100, update), name)
	}
	for name, update := range updates(&Metrics{}) {
		require.Zero(t, testing.AllocsPerRun(100, update), name)
	}
}

func BenchmarkUpdates(b *testing.B) {
	for name, update := range updates(New(Options{})) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				update()
			}
		})
	}
}
