package node

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/catalog"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/metrics"
)

// What topics are billed for adds up to the calls of the store, also as exposed; what they have stored is told by who leads
// them, until they are deleted.
func TestTopicsAreBilled(t *testing.T) {
	r := begin(t, settings(t, t.TempDir(), func(f *config.Flags) {
		f.TailCacheBytes, f.CacheBytes, f.MergeInterval = config.MiB, config.MiB, time.Hour
	}))
	cl := r.client(kgo.ProducerBatchCompression(kgo.NoCompression()))
	for range 20 {
		require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "a", Value: make([]byte, 100<<10)},
			&kgo.Record{Topic: "b", Value: make([]byte, 50<<10)}).FirstErr())
	}
	r.consume("a", 20)
	require.NoError(t, r.engine.Tidy(t.Context()))
	s := r.scrape()
	for _, op := range []string{"put", "get"} {
		shares, bytes := 0.0, 0.0
		for _, topic := range []string{"", "a", "b"} {
			shares += s[`topic_store_requests_total{op="`+op+`",topic="`+topic+`"}`]
			bytes += s[`topic_store_bytes_total{op="`+op+`",topic="`+topic+`"}`]
		}
		made := s[`objstore_requests_total{op="`+op+`",status="ok"}`] + s[`objstore_requests_total{op="`+op+`",status="refused"}`]
		require.Positive(t, s[`topic_store_requests_total{op="`+op+`",topic="a"}`], op)
		require.InDelta(t, made, shares, 2, "the broker's own markers come before the engine is open")
		require.InDelta(t, s[`objstore_bytes_total{op="`+op+`",status="ok"}`], bytes, 100, op)
	}
	stored, err := r.engine.StoredBytes(t.Context())
	require.NoError(t, err)
	r.watch.storedSeen(stored, 0)
	r.watch.storedSeen(stored, 10*time.Second)
	s = r.scrape()
	a := s[`topic_stored_bytes{topic="a"}`]
	require.Positive(t, a)
	require.InDelta(t, a*10, s[`topic_stored_byte_seconds_total{topic="a"}`], a)
	_, err = r.admin.DeleteTopics(t.Context(), "a")
	require.NoError(t, err)
	s = r.scrape()
	require.Empty(t, s.with("topic", "a"))
	require.True(t, s.has(`topic_stored_bytes{topic="b"}`))
	r.watch.storedSeen(map[catalog.TopicID]int64{}, time.Second) // moved to another broker
	require.False(t, r.scrape().has(`topic_stored_bytes{topic="b"}`))
}

func TestWhatIsStoredIsLookedAt(t *testing.T) {
	r := begin(t, settings(t, t.TempDir()))
	r.produce("t", "v")
	r.eventually("seen", func(s samples) bool { return s[`topic_stored_bytes{topic="t"}`] > 0 })
}

// Topics above the limit share a gauge of what is stored; those that go take their part out of it.
func TestStoredBytesOfFoldedTopics(t *testing.T) {
	o := newObserver(metrics.New(metrics.Options{MaxTopics: -1}))
	a, b := catalog.TopicID{1}, catalog.TopicID{2}
	two := []catalog.Topic{{ID: a, Name: "a", Partitions: 1}, {ID: b, Name: "b", Partitions: 1}}
	o.topicsRead(catalog.TopicSet{Version: 1, Topics: two})
	o.storedSeen(map[catalog.TopicID]int64{a: 100, b: 10}, time.Second)
	o.storedSeen(map[catalog.TopicID]int64{a: 200, b: 10}, time.Second)
	require.Equal(t, []float64{210}, o.values(t, "streamhouse_topic_stored_bytes"))
	require.Equal(t, []float64{110}, o.values(t, "streamhouse_topic_stored_byte_seconds_total"))
	o.topicsRead(catalog.TopicSet{Version: 2, Topics: two[1:]})
	require.Equal(t, []float64{10}, o.values(t, "streamhouse_topic_stored_bytes"))
	o.storedSeen(nil, time.Second)
	require.Equal(t, []float64{0}, o.values(t, "streamhouse_topic_stored_bytes"))
}
