package node

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/catalog"
	catfaulty "github.com/streamhouse/streamhouse/catalog/faulty"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/storage/objstore"
	storefaulty "github.com/streamhouse/streamhouse/storage/objstore/faulty"
	"github.com/streamhouse/streamhouse/storage/segment"
)

// hindered is a broker whose catalog and store do not always do what they are asked.
type hindered struct {
	*running
	catalog *catfaulty.Plan
	store   *storefaulty.Plan
}

// sharedCatalog is what catalog/faulty wants of a catalog that brokers share.
type sharedCatalog struct {
	catalog.Catalog
	catalog.Fleet
}

func beginHindered(t *testing.T, cfg config.Config, faults ...catfaulty.Fault) *hindered {
	t.Helper()
	h := &hindered{catalog: catfaulty.NewPlan(faults...), store: storefaulty.NewPlan()}
	h.running = beginOn(t, cfg, func(n *Node) {
		if n.fleet == nil {
			n.catalog = catfaulty.New(n.catalog, h.catalog)
		} else {
			c := catfaulty.New(sharedCatalog{n.catalog, n.fleet.catalog}, h.catalog)
			n.catalog, n.fleet.catalog = c, c.Fleet()
		}
		n.store = storefaulty.New(n.store, h.store)
	})
	return h
}

// refuse has the next n calls answer an error: that the catalog is not there, unless another one is given.
func (h *hindered) refuse(op catfaulty.Op, n int, err error) {
	h.catalog.Next(catfaulty.Fault{Op: op, Count: n, Kind: catfaulty.Refuse, Err: err})
}

// refuseStore is refuse, for calls of the store.
func (h *hindered) refuseStore(op storefaulty.Op, n int) {
	h.store.Next(storefaulty.Fault{Op: op, Count: n, Kind: storefaulty.Refuse})
}

// one produces a record of so many bytes.
func (h *hindered) one(cl *kgo.Client, bytes int) {
	h.t.Helper()
	require.NoError(h.t, cl.ProduceSync(h.t.Context(), &kgo.Record{Topic: "t", Value: make([]byte, bytes)}).FirstErr())
}

// flushed waits until n objects since the start are counted, and scrapes: who produced is answered before that, and a scrape does
// not see all families at one moment.
func (h *hindered) flushed(n float64) samples {
	h.t.Helper()
	h.eventually("log objects are counted", func(s samples) bool { return s[`flush_duration_seconds_count`] >= n })
	return h.scrape()
}

// What had to be tried again on its way into the log: an upload, and a commit.
func TestFlushesThatAreTriedAgainAreMeasured(t *testing.T) {
	r := beginHindered(t, settings(t, t.TempDir(), func(f *config.Flags) { f.MergeInterval = time.Hour }))
	cl := r.client()
	r.one(cl, 1)
	s := r.flushed(1)
	require.True(t, s.has(`flush_retries_total`))
	require.Zero(t, s[`flush_retries_total`])
	for range 10 {
		r.one(cl, 1)
	}
	before, s := s, r.flushed(11)
	sum := func(name string) float64 { return s[name] - before[name] }
	require.EqualValues(t, 10, sum(`flush_duration_seconds_count`))
	require.GreaterOrEqual(t, sum(`flush_duration_seconds_sum`), sum(`objstore_request_duration_seconds_sum{op="put",status="ok"}`)+
		sum(`catalog_request_duration_seconds_sum{op="commit",status="ok"}`))
	require.EqualValues(t, 10, sum(`flush_object_size_bytes_count`))
	require.Positive(t, sum(`flush_bytes_total`))
	require.Equal(t, sum(`flush_bytes_total`), sum(`flush_object_size_bytes_sum`))
	require.Equal(t, sum(`flush_bytes_total`), sum(`objstore_bytes_total{op="put",status="ok"}`))
	r.refuseStore(storefaulty.OpPut, 1)
	r.one(cl, 1)
	require.EqualValues(t, 1, r.scrape()[`flush_retries_total`])
	r.refuse(catfaulty.OpCommit, 2, nil)
	r.one(cl, 1)
	s = r.flushed(13)
	require.EqualValues(t, 3, s[`flush_retries_total`])
	require.EqualValues(t, 13, s[`flush_objects_total`])
	require.NoError(t, r.catalog.Verify())
	require.NoError(t, r.store.Verify())
}

// Folds, merges and deletions that end badly are told apart, from each other and from those that do not.
func TestRewritesThatFailAreMeasured(t *testing.T) {
	r := beginHindered(t, settings(t, t.TempDir(), func(f *config.Flags) { f.MergeInterval, f.ObjectGrace = time.Hour, new(time.Millisecond) }))
	cl := r.client(kgo.ProducerBatchCompression(kgo.NoCompression()))
	write := func() {
		t.Helper()
		for range 40 {
			r.one(cl, 100)
		}
	}
	runs := func(kind, status string) string {
		return fmt.Sprintf("merge_runs_total{kind=%q,status=%q}", kind, status)
	}
	absent := func(s samples, names ...string) {
		t.Helper()
		for _, name := range names {
			require.False(t, s.has(name), name)
		}
	}
	write()
	s := r.flushed(40)
	require.GreaterOrEqual(t, s[`tail_objects`], 40.0)
	require.Positive(t, s[`tail_index_bytes`])
	r.refuse(catfaulty.OpMergeTail, 1, catalog.ErrConflict)
	require.Error(t, r.engine.Tidy(t.Context()))
	s = r.scrape()
	require.EqualValues(t, 1, s[runs("hot", "conflict")])
	absent(s, runs("hot", "ok"), runs("hot", "error"), runs("fold", "conflict"), runs("fold", "error"))
	r.refuse(catfaulty.OpFold, 1, nil)
	require.Error(t, r.engine.Tidy(t.Context()))
	s = r.scrape()
	require.EqualValues(t, 1, s[runs("fold", "error")])
	absent(s, runs("fold", "ok"), runs("fold", "conflict"), runs("hot", "error"), `merge_objects_total{kind="fold"}`)
	require.NoError(t, r.engine.Tidy(t.Context()))
	s = r.scrape()
	require.True(t, s.has(`tail_objects`))
	require.Zero(t, s[`tail_objects`])
	require.Zero(t, s[`tail_index_bytes`])
	require.Positive(t, s[runs("fold", "ok")])
	require.Positive(t, s[`merge_objects_total{kind="fold"}`])
	require.Positive(t, s[`merge_duration_seconds_sum{kind="fold"}`])
	require.EqualValues(t, 1, s[runs("fold", "error")])

	write()
	r.refuseStore(storefaulty.OpDelete, 1)
	r.eventually("what was replaced could not be deleted", func(s samples) bool {
		_ = r.engine.Tidy(t.Context())
		return s[`sweep_objects_failed_total{kind="retired"}`] > 0
	})
	r.eventually("then it could", func(s samples) bool {
		require.NoError(t, r.engine.Tidy(t.Context()))
		return s[`sweep_objects_deleted_total{kind="retired"}`] > 0
	})
	s = r.scrape()
	require.Positive(t, s[runs("hot", "ok")])
	require.Positive(t, s[`merge_objects_total{kind="hot"}`])
	require.Positive(t, s[`merge_bytes_total{kind="hot"}`])
	require.Positive(t, s[`merge_duration_seconds_sum{kind="hot"}`])
	require.Zero(t, s[`sweep_objects_failed_total{kind="orphan"}`])
	require.Zero(t, s[`sweep_objects_failed_total{kind="superseded"}`])
	r.eventually("segments are merged", func(s samples) bool {
		write()
		require.NoError(t, r.engine.Tidy(t.Context()))
		return s[runs("segment", "ok")] > 0
	})
	s = r.scrape()
	for _, name := range []string{"merge_objects_total", "merge_bytes_total", "merge_duration_seconds_sum"} {
		require.Positive(t, s[name+`{kind="segment"}`], name)
	}
	require.NoError(t, r.catalog.Verify())
	require.NoError(t, r.store.Verify())
}

// Orphans that cannot be deleted are found again.
func TestOrphansThatStayAreMeasured(t *testing.T) {
	dir := t.TempDir()
	cfg := settings(t, dir, func(f *config.Flags) { f.MergeInterval, f.ObjectGrace = time.Hour, new(time.Millisecond) })
	first := begin(t, cfg)
	first.produce("t", "v")
	key := segment.LogKey(time.Now(), [16]byte{1}, first.engine.Epoch(), 1000, 1)
	require.NoError(t, first.store.Put(t.Context(), key, objstore.NewBody([]byte("left behind"))))
	require.NoError(t, first.stop())

	r := beginHindered(t, cfg)
	r.refuseStore(storefaulty.OpDelete, 1)
	require.Error(t, r.engine.Tidy(t.Context()))
	s := r.scrape()
	require.EqualValues(t, 1, s[`sweep_orphans_found_total`])
	require.EqualValues(t, 1, s[`sweep_objects_failed_total{kind="orphan"}`])
	require.Zero(t, s[`sweep_objects_deleted_total{kind="orphan"}`])
	require.NoError(t, r.engine.Tidy(t.Context()))
	s = r.scrape()
	require.EqualValues(t, 2, s[`sweep_orphans_found_total`])
	require.EqualValues(t, 1, s[`sweep_objects_failed_total{kind="orphan"}`])
	require.EqualValues(t, 1, s[`sweep_objects_deleted_total{kind="orphan"}`])
}

// A broker that is alone is fenced, and finds out when it renews its session; before that the catalog does not answer.
func TestRenewalsThatFailAreMeasured(t *testing.T) {
	r := beginHindered(t, settings(t, t.TempDir()))
	r.produce("t", "v")
	s := r.scrape()
	for _, status := range []string{"lost", "error"} {
		require.Zero(t, s[`agent_lease_renewals_total{status="`+status+`"}`], status)
	}
	r.refuse(catfaulty.OpHeartbeat, 1, nil)
	r.eventually("the catalog did not answer", func(s samples) bool { return s[`agent_lease_renewals_total{status="error"}`] == 1 })
	require.NoError(t, r.Node.catalog.FenceBroker(t.Context(), r.engine.Epoch(), catalog.FenceProvenDead))
	r.eventually("the broker is told", func(s samples) bool { return s[`agent_lease_renewals_total{status="lost"}`] == 1 })
	s = r.scrape()
	require.EqualValues(t, 1, s[`agent_lease_renewals_total{status="error"}`])
	require.EqualValues(t, 1, s[`catalog_requests_total{op="heartbeat",status="refused"}`])
	require.Zero(t, s[`catalog_requests_total{op="heartbeat",status="error"}`])
	r.produce("t", "under a new epoch")
}

// A batch that was appended and is not committed in time is an error of its topic; a request that is answered with an error counts
// under its name, and took time.
func TestWhatIsAnsweredWithAnErrorIsMeasured(t *testing.T) {
	r := beginHindered(t, settings(t, t.TempDir()))
	r.produce("other", "v")
	r.produce("t", "v")
	errors := func(s samples, topic string) float64 {
		return s[`producer_send_errors_total{error_type="REQUEST_TIMED_OUT",topic="`+topic+`"}`]
	}
	require.Zero(t, errors(r.scrape(), "t"))
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	defer open()
	r.catalog.Next(catfaulty.Fault{Op: catfaulty.OpCommit, Kind: catfaulty.Slow, Gate: gate})
	cl := r.client(kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.ProduceRequestTimeout(100*time.Millisecond))
	require.ErrorIs(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("late")}).FirstErr(), kgo.ErrRecordRetries)
	s := r.scrape()
	require.EqualValues(t, 1, s[`producer_pending_records{partition="0",topic="t"}`])
	require.EqualValues(t, 1, errors(s, "t"))
	require.Zero(t, errors(s, "other"))
	open()
	require.Equal(t, []string{"v", "late"}, r.consume("t", 2), "it was no refusal")

	gone, err := r.admin.DeleteTopics(t.Context(), "never")
	require.NoError(t, err)
	require.Error(t, gone.Error())
	s = r.scrape()
	require.EqualValues(t, 1, s[`agent_kafka_requests_total{api="DeleteTopics",status="UNKNOWN_TOPIC_OR_PARTITION"}`])
	require.Zero(t, s[`agent_kafka_requests_total{api="DeleteTopics",status="OK"}`])
	require.Positive(t, s[`agent_kafka_request_duration_seconds_sum{api="DeleteTopics"}`])
}
