package node

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/catalog/postgres/postgrestest"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/miniotest"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/s3"
)

// troubled stands between a broker and MinIO. Each trouble strikes as many requests as it holds.
type troubled struct {
	url                         string
	slowGets, slowPuts, busy    atomic.Int64
	lostAnswers, takenKeys      atomic.Int64 // of PUTs
	delay                       atomic.Int64 // of all requests about objects, in nanoseconds
	refuseMerges, refuseDeletes atomic.Bool
}

func newTroubled(t *testing.T) *troubled {
	t.Helper()
	p := &troubled{}
	target, err := url.Parse("http://" + miniotest.Start(t))
	require.NoError(t, err)
	opts, err := s3.ParseURL("s3://" + miniotest.Bucket + "?endpoint=" + target.String())
	require.NoError(t, err)
	direct, err := s3.Open(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, direct.Close()) })
	forward := &httputil.ReverseProxy{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		object := strings.Contains(r.URL.Path, "/log/")
		if d := time.Duration(p.delay.Load()); d > 0 && object {
			select {
			case <-time.After(d):
			case <-r.Context().Done():
				return
			}
		}
		switch {
		case r.Method == http.MethodPut && object && p.lostAnswers.Load() > 0 && p.lostAnswers.Add(-1) >= 0:
			forward.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case r.Method == http.MethodPut && object && p.takenKeys.Load() > 0 && p.takenKeys.Add(-1) >= 0:
			key := strings.TrimPrefix(r.URL.Path, "/"+miniotest.Bucket+"/")
			if err := direct.Put(r.Context(), key, objstore.NewBody([]byte("of somebody else"))); err != nil {
				t.Error(err)
			}
			panic(http.ErrAbortHandler)
		case r.Method == http.MethodPut && object && p.busy.Load() > 0 && p.busy.Add(-1) >= 0:
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`<Error><Code>SlowDown</Code><Message>slow down</Message></Error>`))
			return
		case r.Method == http.MethodPut && p.refuseMerges.Load() && strings.Contains(r.URL.Path, "/segment/"),
			r.Method == http.MethodPost && p.refuseDeletes.Load():
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`<Error><Code>AccessDenied</Code><Message>no</Message></Error>`))
			return
		case r.Method == http.MethodGet && object && p.slowGets.Load() > 0 && p.slowGets.Add(-1) >= 0,
			r.Method == http.MethodPut && object && p.slowPuts.Load() > 0 && p.slowPuts.Add(-1) >= 0:
			select {
			case <-time.After(4 * time.Second):
			case <-r.Context().Done():
				return
			}
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.url = "s3://" + miniotest.Bucket + "/log?endpoint=" + server.URL
	return p
}

// What a broker of a fleet goes through with a store in trouble shows: second requests, repeats, waits, failed merges and
// deletions; and the pools of its catalog.
func TestAStoreInTroubleIsMeasured(t *testing.T) {
	pg, err := postgrestest.Start(postgrestest.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close()) })
	store := newTroubled(t)
	r := begin(t, settings(t, t.TempDir(), func(f *config.Flags) {
		f.Catalog, f.Store, f.AutoCreateTopics = pg.NewDatabase(t), store.url, new(true)
		f.TailCacheBytes, f.CacheBytes = config.MiB, config.MiB
		f.MergeInterval = time.Hour // the test does it
	}))
	cl := r.client(kgo.ProducerBatchCompression(kgo.NoCompression()))
	written := 0
	produce := func(n int) {
		for range n {
			written++
			require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: make([]byte, 100<<10)}).FirstErr())
		}
	}
	consume := func() { require.Len(t, r.consume("t", written, kgo.FetchMaxPartitionBytes(150<<10)), written) }
	// again makes trouble until it shows: second requests are paid for by earlier ones, and on a busy machine others, which are slow by
	// themselves, may have spent what there was.
	again := func(what, name string, trouble func()) {
		t.Helper()
		for began := time.Now(); r.scrape()[name] == 0; {
			require.Less(t, time.Since(began), 2*patience, what)
			trouble()
		}
	}
	// First, while no second request is paid for: it would help before the first one is sent again.
	store.lostAnswers.Store(1)
	produce(1)
	s := r.scrape()
	require.EqualValues(t, 1, s[`objstore_puts_settled_total{status="ours"}`])
	require.Zero(t, s[`objstore_puts_settled_total{status="foreign"}`])
	require.Zero(t, s[`objstore_requests_total{op="put",status="refused"}`])
	store.takenKeys.Store(1)
	produce(1)
	s = r.scrape()
	require.EqualValues(t, 1, s[`objstore_puts_settled_total{status="ours"}`])
	require.EqualValues(t, 1, s[`objstore_puts_settled_total{status="foreign"}`])
	require.EqualValues(t, 1, s[`objstore_requests_total{op="put",status="refused"}`])
	require.EqualValues(t, 1, s[`flush_retries_total`])

	produce(30)
	consume()
	s = r.scrape()
	for _, op := range []string{"put", "get"} {
		require.Positive(t, s[`objstore_requests_total{op="`+op+`",status="ok"}`], op)
	}
	require.GreaterOrEqual(t, s[`objstore_http_requests_total{op="put",status="ok"}`], s[`objstore_requests_total{op="put",status="ok"}`])
	require.GreaterOrEqual(t, s[`objstore_http_bytes_total{direction="sent",op="put"}`], float64(30*100<<10))
	require.GreaterOrEqual(t, s[`objstore_http_bytes_total{direction="received",op="get"}`], s[`objstore_bytes_total{op="get",status="ok"}`])
	for _, pool := range []string{"general", "urgent", "groups"} {
		require.True(t, s.has(`catalog_pool_connections{pool="`+pool+`",state="acquired"}`), pool)
		require.Positive(t, s[`catalog_pool_connections_limit{pool="`+pool+`"}`], pool)
	}
	require.Positive(t, s[`catalog_pool_connections{pool="urgent",state="idle"}`]+s[`catalog_pool_connections{pool="urgent",state="acquired"}`])
	require.Positive(t, s[`catalog_pool_waits_total{pool="urgent"}`], "the first statement found no connection")
	require.Positive(t, s[`catalog_pool_wait_seconds_total{pool="urgent"}`])

	slowPut := func() {
		produce(10)
		store.slowPuts.Store(1)
		produce(1)
	}
	again("a second PUT wins", `objstore_hedges_total{op="put",status="won"}`, slowPut)
	r.eventually("the slow one is deleted", func(s samples) bool { return s[`sweep_objects_deleted_total{kind="superseded"}`] > 0 })
	again("a second GET wins", `objstore_hedges_total{op="get",status="won"}`, func() {
		r.engine.DropBlocks()
		store.slowGets.Store(1)
		consume()
	})

	again("a second PUT loses", `objstore_hedges_total{op="put",status="lost"}`, func() {
		produce(10)
		store.delay.Store(int64(500 * time.Millisecond)) // second requests do not help
		produce(1)
		store.delay.Store(0)
	})
	again("a second GET loses", `objstore_hedges_total{op="get",status="lost"}`, func() {
		r.engine.DropBlocks()
		store.delay.Store(int64(500 * time.Millisecond))
		consume()
		store.delay.Store(0)
	})

	store.refuseMerges.Store(true)
	require.Error(t, r.engine.Tidy(t.Context()))
	store.refuseMerges.Store(false)
	s = r.scrape()
	require.Positive(t, s[`merge_runs_total{kind="hot",status="error"}`])
	require.Zero(t, s[`merge_runs_total{kind="hot",status="ok"}`])
	produce(20) // what was not merged was folded as it was
	require.NoError(t, r.engine.Tidy(t.Context()))
	require.Positive(t, r.scrape()[`merge_runs_total{kind="hot",status="ok"}`])
	store.refuseDeletes.Store(true)
	again("a deletion fails", `sweep_objects_failed_total{kind="superseded"}`, slowPut)

	// Last of the store, for no second request is sent for a while after it.
	store.busy.Store(1)
	produce(1)
	s = r.scrape()
	require.EqualValues(t, 1, s[`objstore_retries_total{op="put",reason="throttled"}`])
	require.EqualValues(t, 1, s[`objstore_http_requests_total{op="put",status="throttled"}`])
	require.EqualValues(t, 1, s[`objstore_throttles_total`])
	require.Positive(t, s[`objstore_throttled_seconds_total`])

	require.NoError(t, pg.Freeze())
	defer func() { require.NoError(t, pg.Thaw()) }()
	r.eventually("no connection was to be had", func(s samples) bool {
		given := 0.0
		for _, pool := range []string{"general", "urgent", "groups"} {
			given += s[`catalog_pool_waits_given_up_total{pool="`+pool+`"}`]
		}
		return given > 0 && s[`catalog_requests_total{op="ping",status="error"}`] > 0
	})
}
