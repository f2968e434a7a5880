package node

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/streamhouse/streamhouse/cmd/streamhouse/internal/config"
)

// collector is an OTLP receiver.
type collector struct {
	*httptest.Server

	mu       sync.Mutex
	resource map[string]string
	spans    []*tracepb.Span
	bad      []string
}

func collect(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		body, err := io.ReadAll(r.Body)
		var data tracepb.TracesData
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			c.bad = append(c.bad, fmt.Sprint(r.Method, r.URL, r.Header, err))
		}
		for _, rs := range data.ResourceSpans {
			c.resource = map[string]string{}
			for _, a := range rs.Resource.Attributes {
				c.resource[a.Key] = a.Value.GetStringValue()
			}
			for _, ss := range rs.ScopeSpans {
				c.spans = append(c.spans, ss.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// all returns what has come; call it when nothing more does.
func (c *collector) all(t *testing.T) []*tracepb.Span {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Empty(t, c.bad)
	return c.spans
}

func named(spans []*tracepb.Span, name string) (out []*tracepb.Span) {
	for _, s := range spans {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out
}

// parts are the names of a span's children, in the order of their beginning. Each must lie in its trace.
func parts(t *testing.T, spans []*tracepb.Span, of *tracepb.Span) (names []string) {
	t.Helper()
	in := children(spans, of)
	slices.SortStableFunc(in, func(a, b *tracepb.Span) int { return int(int64(a.StartTimeUnixNano - b.StartTimeUnixNano)) })
	for _, s := range in {
		require.Equal(t, of.TraceId, s.TraceId)
		require.GreaterOrEqual(t, s.StartTimeUnixNano, of.StartTimeUnixNano)
		names = append(names, s.Name)
	}
	return names
}

// attrs are a span's attributes as text.
func attrs(s *tracepb.Span) map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes {
		if v := a.Value.GetStringValue(); v != "" {
			out[a.Key] = v
		} else {
			out[a.Key] = fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return out
}

func traced(endpoint string, ratio float64) func(*config.Flags) {
	return func(f *config.Flags) { f.TracingEndpoint, f.TracingSample = endpoint, ratio }
}

func TestProduceAndFetchAreTraced(t *testing.T) {
	c := collect(t)
	dir := t.TempDir()
	r := begin(t, settings(t, dir, traced(c.URL, 1)))
	r.produce("orders", "a", "b")
	require.NoError(t, r.stop())

	spans := c.all(t)
	require.Equal(t, "streamhouse", c.resource["service.name"])
	require.Equal(t, "test", c.resource["service.version"])
	produced := named(spans, "Produce")
	require.Len(t, produced, 1)
	p := produced[0]
	require.Empty(t, p.ParentSpanId)
	require.Equal(t, tracepb.Span_SPAN_KIND_SERVER, p.Kind)
	require.Equal(t, []string{"append", "wait for commit", "send"}, parts(t, spans, p))
	a := attrs(p)
	require.Equal(t, "kafka", a["messaging.system"])
	require.Equal(t, "kgo", a["messaging.client.id"])
	require.Equal(t, "orders", a["messaging.destination.name"])
	require.Equal(t, "1", a["kafka.topics"])
	require.Equal(t, "1", a["kafka.partitions"])
	require.Equal(t, "1", a["streamhouse.broker.id"])
	require.NotEqual(t, "0", a["kafka.bytes"])
	require.NotEmpty(t, a["kafka.api.version"])
	require.NotContains(t, a, "error.type")

	flushes := named(spans, "flush")
	require.Len(t, flushes, 1)
	f := flushes[0]
	require.NotEqual(t, p.TraceId, f.TraceId)
	require.Equal(t, []string{"PUT", "commit"}, parts(t, spans, f))
	fa := attrs(f)
	require.Contains(t, fa["streamhouse.object.key"], "log/")
	require.Equal(t, "1", fa["streamhouse.object.partitions"])
	require.Equal(t, "1", fa["streamhouse.object.tries"])
	require.Equal(t, a["kafka.bytes"], fa["streamhouse.flush.batch_bytes"])
	require.Equal(t, fa["streamhouse.object.key"], attrs(named(spans, "PUT")[0])["streamhouse.object.key"])
	require.Equal(t, fa["streamhouse.object.bytes"], attrs(named(spans, "PUT")[0])["streamhouse.object.bytes"])
	require.Len(t, p.Links, 1)
	require.Equal(t, f.SpanId, p.Links[0].SpanId)
	require.Equal(t, f.TraceId, p.Links[0].TraceId)
	require.Len(t, f.Links, 1)
	require.Equal(t, p.SpanId, f.Links[0].SpanId)

	// Another process has nothing in its caches.
	r = begin(t, settings(t, dir, traced(c.URL, 1)))
	require.Equal(t, []string{"a", "b"}, r.consume("orders", 2))
	require.NoError(t, r.stop())
	spans = c.all(t)
	gets := 0
	for _, s := range named(spans, "Fetch") {
		names := parts(t, spans, s)
		require.Equal(t, "wait for earlier requests", names[0])
		require.Contains(t, names, "read")
		a := attrs(s)
		got := len(named(children(spans, s), "GET"))
		require.Equal(t, fmt.Sprint(got), a["streamhouse.store.gets"])
		if got > 0 {
			require.Equal(t, "orders", a["messaging.destination.name"])
			require.NotEqual(t, "0", a["kafka.bytes"])
		}
		gets += got
	}
	require.Positive(t, gets)
}

func children(spans []*tracepb.Span, of *tracepb.Span) (out []*tracepb.Span) {
	for _, s := range spans {
		if bytes.Equal(s.ParentSpanId, of.SpanId) {
			out = append(out, s)
		}
	}
	return out
}

func TestNothingIsTracedThatIsNotChosen(t *testing.T) {
	c := collect(t)
	r := begin(t, settings(t, t.TempDir(), traced(c.URL, 0)))
	r.produce("orders", "a")
	require.Equal(t, []string{"a"}, r.consume("orders", 1))
	require.NoError(t, r.stop())
	require.Empty(t, c.all(t))
}

func TestACollectorThatIsAwayHoldsNothingUp(t *testing.T) {
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-release
	}))
	t.Cleanup(func() {
		close(release)
		hangs.Close()
	})
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(broken.Close)
	gone := listening(t)
	require.NoError(t, gone.Close())
	for name, url := range map[string]string{"refuses": "http://user:secret@" + gone.Addr().String(), "hangs": hangs.URL, "fails": broken.URL} {
		t.Run(name, func(t *testing.T) {
			r := begin(t, settings(t, t.TempDir(), traced(url, 1)))
			cl := r.client()
			for i := range 200 {
				require.NoError(t, cl.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Value: fmt.Append(nil, i)}).FirstErr())
			}
			r.consume("orders", 200)
			began := time.Now()
			require.NoError(t, r.stop())
			require.Less(t, time.Since(began), 10*time.Second)
			require.Equal(t, 1, strings.Count(r.log.String(), "spans could not be sent"), r.log)
			require.NotContains(t, r.log.String(), "secret")
		})
	}
}

func TestTracedRequestsAreExemplars(t *testing.T) {
	c := collect(t)
	r := begin(t, settings(t, t.TempDir(), traced(c.URL, 1)))
	r.produce("orders", "a")
	r.consume("orders", 1)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.HTTPAddr().String()+"/metrics", http.NoBody)
	require.NoError(t, err)
	req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, r.stop())
	for family, api := range map[string]string{"producer_send_duration_seconds": "Produce", "consumer_poll_duration_seconds": "Fetch"} {
		ids := []string{}
		for _, s := range named(c.all(t), api) {
			ids = append(ids, fmt.Sprintf("%x", s.TraceId))
		}
		found := 0
		for line := range strings.Lines(string(body)) {
			_, after, ok := strings.Cut(line, ` # {trace_id="`)
			if ok && strings.HasPrefix(line, "streamhouse_"+family+`_bucket{topic="orders",`) {
				id, _, _ := strings.Cut(after, `"`)
				require.Contains(t, ids, id)
				found++
			}
		}
		require.Positive(t, found, family)
	}
	require.True(t, strings.HasSuffix(string(body), "# EOF\n"))
}
