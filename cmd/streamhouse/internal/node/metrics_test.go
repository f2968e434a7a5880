package node

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/metrics"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/fs"
	"github.com/streamhouse/streamhouse/storage/segment"
)

func TestProduceAndConsumeAreMeasured(t *testing.T) {
	r := begin(t, settings(t, t.TempDir()))
	_, err := r.admin.CreateTopic(t.Context(), 2, 1, nil, "t")
	require.NoError(t, err)
	require.EqualValues(t, 2, r.scrape()[`agent_active_partitions{topic="t"}`], "at once")

	const n = 100
	cl := r.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	for i := range n {
		require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Partition: int32(i % 2), Value: make([]byte, 100)}).FirstErr())
	}
	require.Len(t, r.consume("t", n), n)
	r.eventually("the last of it is counted", func(s samples) bool {
		return s[`consumer_records_consumed_total{group_id="",partition="0",topic="t"}`] >= n/2 &&
			s[`consumer_records_consumed_total{group_id="",partition="1",topic="t"}`] >= n/2 && s[`flush_duration_seconds_count`] >= n
	})
	s := r.scrape()
	for _, p := range []string{"0", "1"} {
		require.EqualValues(t, n/2, s[`producer_records_sent_total{partition="`+p+`",topic="t"}`])
		require.EqualValues(t, n/2, s[`agent_records_written_total{partition="`+p+`",topic="t"}`])
		require.Contains(t, s, `producer_pending_records{partition="`+p+`",topic="t"}`)
		require.Zero(t, s[`producer_pending_records{partition="`+p+`",topic="t"}`])
	}
	require.Greater(t, s[`producer_bytes_sent_total{topic="t"}`], float64(n*100))
	require.GreaterOrEqual(t, s[`consumer_bytes_consumed_total{group_id="",topic="t"}`], s[`producer_bytes_sent_total{topic="t"}`])
	for _, h := range []string{"producer_batch_flush_duration_seconds", "producer_batch_size_records", "producer_batch_size_bytes", "producer_send_duration_seconds", "agent_write_latency_seconds"} {
		require.EqualValues(t, n, s[h+`_count{topic="t"}`], h)
		require.Positive(t, s[h+`_sum{topic="t"}`], h)
		require.EqualValues(t, n, s[h+`_bucket{topic="t",le="+Inf"}`], h)
	}
	require.EqualValues(t, n, s[`producer_batch_size_records_sum{topic="t"}`])
	require.Positive(t, s[`consumer_poll_duration_seconds_count{topic="t"}`])
	require.EqualValues(t, n, s[`agent_kafka_requests_total{api="Produce",status="OK"}`])
	require.Positive(t, s[`agent_kafka_requests_total{api="Fetch",status="OK"}`])
	require.EqualValues(t, n, s[`agent_kafka_request_duration_seconds_count{api="Produce"}`])
	require.Positive(t, s[`agent_active_connections`])
	require.EqualValues(t, 1, s[`agent_ready`])
	require.Contains(t, s, `unled_partitions`)
	require.Zero(t, s[`unled_partitions`])
	require.EqualValues(t, n, s[`flush_objects_total`])
	require.EqualValues(t, n, s[`flush_seals_total{reason="waiter"}`])
	require.Contains(t, s, `flush_buffered_bytes`)
	require.Zero(t, s[`flush_buffered_bytes`])
	require.Zero(t, s[`flush_uploads`])
	require.GreaterOrEqual(t, s[`objstore_requests_total{op="put",status="ok"}`], float64(n))
	require.Positive(t, s[`cache_hits_total{cache="tail"}`])

	r.eventually("the session is renewed", func(s samples) bool { return s[`agent_lease_renewals_total{status="ok"}`] > 0 })
	cl.Close()
	r.admin.Close()
	r.eventually("connections are counted out", func(s samples) bool { return s[`agent_active_connections`] == 0 })
}

// Caches that are too small for what is written and read: every figure of theirs moves, and what they hold is nothing
// once they are closed.
func TestCachesAreMeasured(t *testing.T) {
	r := begin(t, settings(t, t.TempDir(), func(f *config.Flags) {
		f.TailCacheBytes, f.CacheBytes = config.MiB, config.MiB
	}))
	cl := r.client(kgo.ProducerBatchCompression(kgo.NoCompression()))
	const n = 40
	for range n {
		require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: make([]byte, 100<<10)}).FirstErr())
	}
	require.Len(t, r.consume("t", n, kgo.FetchMaxPartitionBytes(150<<10)), n) // a block is read in several steps
	s := r.scrape()
	for _, name := range []string{
		`cache_hits_total{cache="block"}`, `cache_misses_total{cache="block"}`, `cache_evictions_total{cache="block"}`, `cache_bytes{cache="block"}`,
		`cache_misses_total{cache="tail"}`, `cache_evictions_total{cache="tail"}`,
	} {
		require.Positive(t, s[name], name)
	}
	require.LessOrEqual(t, s[`cache_bytes{cache="block"}`], float64(config.MiB))
	require.LessOrEqual(t, s[`cache_bytes{cache="tail"}`], float64(config.MiB))
	r.produce("t", "small") // so that there is something in the tail, whatever was folded meanwhile
	require.Positive(t, r.scrape()[`cache_bytes{cache="tail"}`])
	require.NoError(t, r.stop())
	require.Error(t, r.Node.ready(t.Context()), "stopped")
	require.Equal(t, []float64{0, 0}, r.watch.values(t, "streamhouse_cache_bytes"))
}

// More full objects than upload slots: some wait for one.
func TestTheFlushQueueIsMeasured(t *testing.T) {
	dir := t.TempDir()
	r := begin(t, settings(t, dir, func(f *config.Flags) {
		f.Store, f.FlushBytes = "file:"+dir+"/slow?latency=1s", 64*config.KiB
	}))
	cl := r.client(kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(64<<10),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	_, err := r.admin.CreateTopic(t.Context(), 16, 1, nil, "t")
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: make([]byte, 50<<10)}).FirstErr(); err != nil {
				t.Error(err)
			}
		})
	}
	r.eventually("queued", func(s samples) bool { return s[`flush_queued_objects`] > 0 })
	wg.Wait()
	r.eventually("done", func(s samples) bool { return s[`flush_queued_objects`] == 0 && s[`flush_uncommitted_objects`] == 0 })
	s := r.scrape()
	for _, name := range []string{
		`flush_buffered_limit_bytes`, `agent_request_memory_limit_bytes`, `agent_answer_memory_limit_bytes`, `agent_active_connections_limit`,
		`agent_buffer_memory_bytes`, `go_gc_gomemlimit_bytes`, `process_start_time_seconds`,
	} {
		require.Positive(t, s[name], name)
	}
	require.EqualValues(t, 1000, s[`agent_active_connections_limit`])
	require.True(t, s.has(`agent_answer_memory_bytes`))
	require.Positive(t, s[`flush_seals_total{reason="size"}`])
}

// What earlier processes left, and what merges replaced, is deleted from the store, and counted.
func TestDeletionsAreMeasured(t *testing.T) {
	dir := t.TempDir()
	cfg := settings(t, dir, func(f *config.Flags) { f.MergeInterval, f.ObjectGrace = time.Hour, new(time.Millisecond) })
	r := begin(t, cfg)
	r.produce("t", "first")
	epoch := r.engine.Epoch()
	require.NoError(t, r.stop())
	store, err := fs.Open(cfg.Store.Path, fs.Options{})
	require.NoError(t, err)
	for i := range 3 {
		key := segment.LogKey(time.Now(), [16]byte{1}, epoch, 1000, i+1)
		require.NoError(t, store.Put(t.Context(), key, objstore.NewBody([]byte("left behind"))))
	}
	require.NoError(t, store.Close())

	r = begin(t, cfg)
	require.NoError(t, r.engine.Tidy(t.Context()))
	s := r.scrape()
	require.EqualValues(t, 3, s[`sweep_orphans_found_total`])
	require.EqualValues(t, 3, s[`sweep_objects_deleted_total{kind="orphan"}`])
	require.True(t, s.has(`sweep_objects_failed_total{kind="orphan"}`))
	require.Zero(t, s[`sweep_objects_deleted_total{kind="retired"}`])
	cl := r.client()
	for range 40 {
		require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr())
	}
	require.NoError(t, r.engine.Tidy(t.Context()))
	r.eventually("the grace is over", func(s samples) bool {
		require.NoError(t, r.engine.Tidy(t.Context()))
		return s[`sweep_objects_deleted_total{kind="retired"}`] >= 40
	})
	s = r.scrape()
	require.Positive(t, s[`merge_runs_total{kind="hot",status="ok"}`])
	require.Positive(t, s[`merge_runs_total{kind="fold",status="ok"}`])
}

// Gauges of what is under way are seen while it is, and end at zero.
func TestWhatIsUnderWayIsMeasured(t *testing.T) {
	dir := t.TempDir()
	r := begin(t, settings(t, dir, func(f *config.Flags) { f.Store = "file:" + dir + "/slow?latency=200ms" }))
	cl := r.client(kgo.DefaultProduceTopic("t"))
	under := []string{
		`producer_pending_records{partition="0",topic="t"}`, `flush_buffered_bytes`, `flush_uploads`, `agent_active_connections`,
		`flush_uncommitted_objects`, `flush_oldest_append_age_seconds`, `agent_inflight_requests`, `agent_request_memory_bytes`,
	}
	ctx, stop := context.WithCancel(t.Context())
	var producing sync.WaitGroup
	producing.Go(func() {
		for ctx.Err() == nil {
			if err := cl.ProduceSync(t.Context(), kgo.StringRecord("v")).FirstErr(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for _, name := range under {
		r.eventually(name, func(s samples) bool { return s[name] > 0 })
	}
	stop()
	producing.Wait()
	cl.Close()
	r.admin.Close()
	for _, name := range under {
		r.eventually(name+" ends", func(s samples) bool { v, ok := s[name]; return ok && v == 0 })
	}
}

func TestErrorsAreCountedByTopicAndName(t *testing.T) {
	r := begin(t, settings(t, t.TempDir()))
	_, err := r.admin.CreateTopic(t.Context(), 1, 1, map[string]*string{"max.message.bytes": new("2000")}, "small")
	require.NoError(t, err)
	cl := r.client(kgo.DisableIdempotentWrite(), kgo.ProducerBatchCompression(kgo.NoCompression()))
	require.Error(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "small", Value: make([]byte, 5000)}).FirstErr())
	for i := range 50 { // names a client makes up are not labels
		r.refused(fmt.Sprintf("made-up-%d", i))
	}
	s := r.scrape()
	require.EqualValues(t, 1, s[`producer_send_errors_total{error_type="MESSAGE_TOO_LARGE",topic="small"}`])
	require.EqualValues(t, 50, s[`producer_send_errors_total{error_type="UNKNOWN_TOPIC_OR_PARTITION",topic=""}`])
	for name := range s {
		require.NotContains(t, name, "made-up")
	}
	require.Zero(t, s["metrics_folded_topics"])
}

// refused produces to a topic that does not exist, without asking for it to be made.
func (r *running) refused(topic string) {
	r.t.Helper()
	p := kmsg.NewProduceRequestTopicPartition()
	p.Records = []byte{}
	pt := kmsg.NewProduceRequestTopic()
	pt.Topic, pt.Partitions = topic, []kmsg.ProduceRequestTopicPartition{p}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis, req.Topics = -1, 1000, []kmsg.ProduceRequestTopic{pt}
	cl := r.client(kgo.MaxVersions(versionsUpTo(0, 12)))
	defer cl.Close()
	resp, err := cl.Broker(1).Request(r.t.Context(), req)
	require.NoError(r.t, err)
	require.EqualValues(r.t, 3, resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode)
}

// A topic's series end with it, and what still arrives for it does not bring them back.
func TestSeriesOfADeletedTopicVanish(t *testing.T) {
	r := begin(t, settings(t, t.TempDir()))
	for _, name := range []string{"unused", "written", "refused", "stays"} {
		_, err := r.admin.CreateTopic(t.Context(), 3, 1, nil, name)
		require.NoError(t, err)
	}
	r.produce("written", values("v", 20)...)
	r.produce("stays", "v")
	require.Len(t, r.consume("written", 20), 20)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var polling sync.WaitGroup
	reader, err := kgo.NewClient(kgo.SeedBrokers(r.addr), kgo.ConsumeTopics("written")) // it goes on asking
	require.NoError(t, err)
	defer reader.Close()
	polling.Go(func() {
		for ctx.Err() == nil {
			reader.PollFetches(ctx)
		}
	})
	r.eventually("made", func(s samples) bool { return len(s.with("topic", "written")) > 30 })
	require.EqualValues(t, 3, r.scrape()[`agent_active_partitions{topic="unused"}`])

	_, err = r.admin.DeleteTopics(t.Context(), "unused", "written", "refused")
	require.NoError(t, err)
	r.refused("written")
	r.refused("refused")
	s := r.scrape()
	for _, name := range []string{"unused", "written", "refused"} {
		require.Empty(t, s.with("topic", name))
	}
	require.EqualValues(t, 3, s[`agent_active_partitions{topic="stays"}`])
	require.EqualValues(t, 1, s[`agent_write_latency_seconds_count{topic="stays"}`])
	stop()
	polling.Wait()

	_, err = r.admin.CreateTopic(t.Context(), 1, 1, nil, "written") // the name lives again, from zero
	require.NoError(t, err)
	r.produce("written", "one")
	s = r.scrape()
	require.EqualValues(t, 1, s[`producer_records_sent_total{partition="0",topic="written"}`])
	require.EqualValues(t, 1, s[`agent_active_partitions{topic="written"}`])
}

func TestLeasesAreCountedThroughGrowthAndANewEpoch(t *testing.T) {
	r := begin(t, settings(t, t.TempDir()))
	var wg sync.WaitGroup
	for i := range 20 { // many at once: their hooks overtake each other
		wg.Go(func() {
			_, err := r.admin.CreateTopic(t.Context(), 2, 1, nil, fmt.Sprint("t", i))
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	_, err := r.admin.CreatePartitions(t.Context(), 5, "t7")
	require.NoError(t, err)
	right := func(s samples) bool {
		for i := range 20 {
			want := 2.0
			if i == 7 {
				want = 7
			}
			if s[fmt.Sprintf(`agent_active_partitions{topic="t%d"}`, i)] != want {
				return false
			}
		}
		return s[`unled_partitions`] == 0
	}
	require.True(t, right(r.scrape()))
	cl := r.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t7", Partition: 6}).FirstErr())
	require.EqualValues(t, 1, r.scrape()[`producer_records_sent_total{partition="6",topic="t7"}`])

	brokers, err := r.Node.catalog.ListBrokers(t.Context())
	require.NoError(t, err)
	require.NoError(t, r.Node.catalog.FenceBroker(t.Context(), brokers[len(brokers)-1].Epoch, catalog.FenceProvenDead))
	require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t7", Partition: 6}).FirstErr())
	require.True(t, right(r.scrape()))
	s := r.scrape()
	require.EqualValues(t, 2, s[`producer_records_sent_total{partition="6",topic="t7"}`])
	require.Zero(t, s[`producer_pending_records{partition="6",topic="t7"}`], "what was given up is not pending")
}

func TestNothingHeldIsNoSample(t *testing.T) {
	o := newObserver(metrics.New(metrics.Options{}))
	id := catalog.TopicID{1}
	o.topicsRead(catalog.TopicSet{Version: 2, Topics: []catalog.Topic{{ID: id, Name: "a", Partitions: 4}}})
	require.True(t, o.recount.Load())
	held := int32(3)
	led := func(tp catalog.TopicPartition) bool { return tp.Partition < held }
	count := func() { o.countLeases(led, led) }
	count()
	require.Equal(t, []float64{3}, o.values(t, "streamhouse_agent_active_partitions"))
	require.Equal(t, []float64{1}, o.values(t, "streamhouse_unled_partitions"))
	held = 0
	count()
	require.Empty(t, o.values(t, "streamhouse_agent_active_partitions"))
	held = 4
	count()
	o.topicsRead(catalog.TopicSet{Version: 1}) // an answer that was overtaken
	require.Equal(t, []float64{4}, o.values(t, "streamhouse_agent_active_partitions"))
	o.topicsRead(catalog.TopicSet{Version: 3})
	require.Empty(t, o.values(t, "streamhouse_agent_active_partitions"))
}

// Topics above the limit share a series; those that go take their part out of it.
func TestLeasesOfFoldedTopics(t *testing.T) {
	o := newObserver(metrics.New(metrics.Options{MaxTopics: -1}))
	two := []catalog.Topic{{ID: catalog.TopicID{1}, Name: "a", Partitions: 4}, {ID: catalog.TopicID{2}, Name: "b", Partitions: 2}}
	all := func(catalog.TopicPartition) bool { return true }
	o.topicsRead(catalog.TopicSet{Version: 1, Topics: two})
	o.countLeases(all, all)
	require.Equal(t, []float64{6}, o.values(t, "streamhouse_agent_active_partitions"))
	two[0].Partitions = 5
	o.topicsRead(catalog.TopicSet{Version: 2, Topics: two})
	o.topicsRead(catalog.TopicSet{Version: 3, Topics: two[1:]})
	o.countLeases(all, all)
	require.Equal(t, []float64{2}, o.values(t, "streamhouse_agent_active_partitions"))
}

// A topic that got more partitions knows what has series from before: they end as those of others.
func TestSeriesOfAGrownTopicEnd(t *testing.T) {
	o := newObserver(metrics.New(metrics.Options{}))
	id := catalog.TopicID{1}
	set := func(version int64, partitions int32) catalog.TopicSet {
		return catalog.TopicSet{Version: version, Topics: []catalog.Topic{{ID: id, Name: "a", Partitions: partitions}}}
	}
	b := o.brokerObserver()
	o.topicsRead(set(1, 1))
	b.Fetched("g", "a", 0, 1, 1)
	b.Fetched("h", "a", 0, 1, 1)
	o.storedSeen(map[catalog.TopicID]int64{id: 100}, time.Second)
	h := o.engineHooks()
	h.Appended(catalog.TopicPartition{Topic: id}, 1)
	h.Failed(catalog.TopicPartition{Topic: id}, 1)
	o.topicsRead(set(2, 2))
	none := func(catalog.TopicPartition) bool { return false }
	o.countLeases(none, none)
	require.Empty(t, o.values(t, "streamhouse_producer_pending_records"), "another broker leads it now")
	b.Fetched("h", "a", 1, 2, 2)
	require.ElementsMatch(t, []float64{1, 3}, o.values(t, "streamhouse_consumer_bytes_consumed_total"))
	o.storedSeen(nil, time.Second)
	require.Empty(t, o.values(t, "streamhouse_topic_stored_bytes"), "another broker leads it now")
	b.GroupGone("g")
	b.GroupGone("h")
	require.Empty(t, o.values(t, "streamhouse_consumer_bytes_consumed_total"))
	require.Empty(t, o.values(t, "streamhouse_consumer_records_consumed_total"))
	b.Fetched("h", "a", 1, 2, 2)
	require.Equal(t, []float64{2}, o.values(t, "streamhouse_consumer_records_consumed_total"))
}

// What a new group costs does not grow with how many read the topic: clients can make any number.
func TestANewGroupAmongMany(t *testing.T) {
	o := newObserver(metrics.New(metrics.Options{}))
	o.topicsRead(catalog.TopicSet{Version: 1, Topics: []catalog.Topic{{ID: catalog.TopicID{1}, Name: "a", Partitions: 1}}})
	a := o.byName("a")
	for i := range 5000 {
		o.consumedBy(fmt.Sprint("g", i), a)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const n = 20
	for range n {
		o.consumedBy("new", a)
		o.groupGone("new")
	}
	runtime.ReadMemStats(&after)
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)/n, uint64(20_000), "bytes")
}

// Hooks that come late, or of topics nobody knows, change nothing.
func TestHooksOfUnknownTopics(t *testing.T) {
	o := newObserver(metrics.New(metrics.Options{}))
	id := catalog.TopicID{1}
	set := catalog.TopicSet{Version: 1, Topics: []catalog.Topic{{ID: id, Name: "a", Partitions: 1}}}
	o.topicsRead(set)
	late := o.byName("a") // a hook that was overtaken by the deletion
	o.topicsRead(catalog.TopicSet{Version: 2})
	require.Nil(t, o.producerOf(late))
	h, b := o.engineHooks(), o.brokerObserver()
	for _, tp := range []catalog.TopicPartition{{Topic: id}, {Topic: id, Partition: -1}, {Topic: id, Partition: 9}} {
		h.Appended(tp, 1)
		h.Batch(tp, 1, 1, time.Second)
		h.Committed(tp, 1, 1, time.Second)
		h.Failed(tp, 1)
		b.Fetched("", "a", tp.Partition, 1, 1)
		b.Fetched("g", "a", tp.Partition, 1, 1)
	}
	b.ProduceAnswered("a", time.Second, "")
	b.FetchAnswered("a", time.Second, "")
	require.Empty(t, o.values(t, "streamhouse_producer_records_sent_total"))
	require.Empty(t, o.values(t, "streamhouse_consumer_bytes_consumed_total"))
}

// values are the samples of a family.
func (o *observer) values(t *testing.T, family string) (out []float64) {
	t.Helper()
	all, err := o.m.Registry().Gather()
	require.NoError(t, err)
	for _, f := range all {
		if f.GetName() != family {
			continue
		}
		for _, m := range f.GetMetric() {
			switch {
			case m.GetGauge() != nil:
				out = append(out, m.GetGauge().GetValue())
			case m.GetCounter() != nil:
				out = append(out, m.GetCounter().GetValue())
			}
		}
	}
	return out
}

func TestNoHTTPNoMetricsServer(t *testing.T) {
	r := begin(t, settings(t, t.TempDir(), func(f *config.Flags) { f.HTTPAddr = "off" }))
	require.Nil(t, r.HTTPAddr())
	r.produce("t", "v")
}

func TestHealthAndReady(t *testing.T) {
	r := begin(t, settings(t, t.TempDir()))
	for path, want := range map[string]string{"/health": "ok", "/ready": "ready"} {
		status, body := r.get(path)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, want, strings.TrimSpace(body))
	}
}

func BenchmarkBatchHook(b *testing.B) {
	o := newObserver(metrics.New(metrics.Options{}))
	set := catalog.TopicSet{Version: 1}
	for i := range 100 {
		set.Topics = append(set.Topics, catalog.Topic{ID: catalog.TopicID{byte(i)}, Name: fmt.Sprint("t", i), Partitions: 100})
	}
	o.topicsRead(set)
	h := o.engineHooks()
	tp := catalog.TopicPartition{Topic: catalog.TopicID{42}, Partition: 7}
	b.ReportAllocs()
	for b.Loop() {
		h.Appended(tp, 10)
		h.Batch(tp, 10, 1000, time.Millisecond)
	}
}

func BenchmarkRequestedHook(b *testing.B) {
	o := newObserver(metrics.New(metrics.Options{}))
	o.topicsRead(catalog.TopicSet{Version: 1, Topics: []catalog.Topic{{ID: catalog.TopicID{1}, Name: "a", Partitions: 2}}})
	h := o.engineHooks()
	b.ReportAllocs()
	for b.Loop() {
		h.Requested("put", catalog.TopicID{1}, 0.1, 1000.5)
	}
}

func BenchmarkFetchedHook(b *testing.B) {
	o := newObserver(metrics.New(metrics.Options{}))
	o.topicsRead(catalog.TopicSet{Version: 1, Topics: []catalog.Topic{{ID: catalog.TopicID{1}, Name: "a", Partitions: 2}}})
	h := o.brokerObserver()
	b.ReportAllocs()
	for b.Loop() {
		h.Fetched("g", "a", 1, 10, 1000)
	}
}

func TestHooksAllocateNothing(t *testing.T) {
	o := newObserver(metrics.New(metrics.Options{}))
	tp := catalog.TopicPartition{Topic: catalog.TopicID{1}, Partition: 1}
	o.topicsRead(catalog.TopicSet{Version: 1, Topics: []catalog.Topic{{ID: tp.Topic, Name: "a", Partitions: 2}}})
	h, b := o.engineHooks(), o.brokerObserver()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		h.Appended(tp, 1)
		h.Batch(tp, 1, 100, time.Millisecond)
		h.Committed(tp, 1, 100, time.Millisecond)
		h.Requested("put", tp.Topic, 0.5, 100)
		h.TailRead(3)
		h.CacheHit(3)
		h.CacheMiss(3)
		b.Produced("a", 1, 1, 100, time.Millisecond, 0)
		b.ProduceAnswered("a", time.Millisecond, "")
		b.Fetched("", "a", 1, 1, 100)
		b.Fetched("g", "a", 1, 1, 100)
		b.FetchAnswered("a", time.Millisecond, "")
		b.Request("Produce", 0, time.Millisecond)
	}))
}
