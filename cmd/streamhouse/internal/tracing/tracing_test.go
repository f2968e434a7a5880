package tracing

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/streamhouse/streamhouse/broker"
	"github.com/streamhouse/streamhouse/internal/bubble"
	"github.com/streamhouse/streamhouse/storage/objstore"
	"github.com/streamhouse/streamhouse/storage/objstore/memory"
	"github.com/streamhouse/streamhouse/storage/objstore/objstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(tb testing.TB, at string, ratio float64) *Tracer {
	tb.Helper()
	u, err := url.Parse(at)
	require.NoError(tb, err)
	tr := New(tb.Context(), Options{Endpoint: u, Ratio: ratio, Version: "test", Logger: slog.New(slog.DiscardHandler)})
	tb.Cleanup(func() { tr.Shutdown(context.Background()) })
	return tr
}

func nowhere(tb testing.TB) string {
	tb.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	tb.Cleanup(s.Close)
	return s.URL
}

func TestStoreConformance(t *testing.T) {
	tr := start(t, nowhere(t), 1)
	objstoretest.Run(t, func() objstore.Store { return tr.Store(memory.New()) })
}

// throttled is a store whose backend asks to slow down.
type throttled struct{ objstore.Store }

func (throttled) Calm() bool { return false }

func TestAStoreTellsWhetherTheOneBehindItIsCalm(t *testing.T) {
	tr := start(t, nowhere(t), 1)
	require.True(t, objstore.Calm(tr.Store(memory.New())))
	require.False(t, objstore.Calm(tr.Store(throttled{memory.New()})))
}

func TestTheShareOfRequestsIsAsAsked(t *testing.T) {
	at := nowhere(t)
	for ratio, want := range map[float64][2]int{0: {0, 0}, 0.1: {800, 1200}, 1: {10_000, 10_000}} {
		tr := start(t, at, ratio)
		n := 0
		for range 10_000 {
			if r := tr.Begin(broker.TracedRequest{API: "Produce", Received: time.Now()}); r != nil {
				r.End(broker.TraceOutcome{})
				n++
			}
		}
		require.GreaterOrEqual(t, n, want[0])
		require.LessOrEqual(t, n, want[1])
	}
}

func TestARequestThatIsNotChosenCostsNothing(t *testing.T) {
	tr := start(t, nowhere(t), 0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if tr.Begin(broker.TracedRequest{API: "Produce"}) != nil || tr.Following(t.Context()) != nil {
			t.Fatal("it is followed")
		}
	}))
}

func TestALongPollHasSoManySpansAndNoMore(t *testing.T) {
	var bodies atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { bodies.Add(r.ContentLength) }))
	t.Cleanup(s.Close)
	tr := start(t, s.URL, 1)
	r := tr.Begin(broker.TracedRequest{API: "Fetch", Received: time.Now()}).(*request)
	store := tr.Store(memory.New())
	for range 10_000 {
		r.Phase("read")
		_ = store.GetRange(r.Context(t.Context()), "k", 0, make([]byte, 1))
	}
	require.EqualValues(t, 10_000, r.gets.Load())
	r.End(broker.TraceOutcome{})
	tr.Shutdown(t.Context())
	require.Positive(t, bodies.Load())
	require.Less(t, bodies.Load(), int64(100<<10))
}

// failing is an exporter that fails.
type failing struct{ calls int }

func (f *failing) ExportSpans(context.Context, []sdk.ReadOnlySpan) error {
	f.calls++
	return errors.New("no collector")
}

func (*failing) Shutdown(context.Context) error { return nil }

// After the end what is left of the queue is dropped: encoding it would be work that nobody waits for, after all else has ended.
func TestNothingIsSentAfterTheEnd(t *testing.T) {
	f := &failing{}
	s := newSender(f, "http://collector", slog.New(slog.DiscardHandler))
	s.abort()
	require.NoError(t, s.ExportSpans(t.Context(), make([]sdk.ReadOnlySpan, 10)))
	require.Zero(t, f.calls)
}

func TestFailuresAreSaidOnceAMinute(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f := &failing{}
		s := newSender(f, "http://collector", slog.New(slog.NewTextHandler(&out, nil)))
		defer s.abort()
		for range 180 { // three minutes
			require.NoError(t, s.ExportSpans(t.Context(), make([]sdk.ReadOnlySpan, 10)))
			<-time.After(time.Second)
		}
		require.Equal(t, 180, f.calls)
		require.Equal(t, 3, strings.Count(out.String(), "spans could not be sent"), out.String())
		require.Contains(t, out.String(), "spans=600", "all since the last line are counted")
	})
}

// More spans than the queue holds: with a queue that waits for room this would take minutes.
func TestACollectorThatHangsKeepsNobodyWaiting(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(asked) })
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		once()
		<-release
	}))
	t.Cleanup(func() {
		close(release)
		s.Close()
	})
	tr := start(t, s.URL, 1)
	began := time.Now()
	for range 5 * queueSpans {
		tr.Begin(broker.TracedRequest{API: "Fetch", Received: time.Now()}).End(broker.TraceOutcome{})
	}
	require.Less(t, time.Since(began), sendTimeout)
	<-asked
	began = time.Now()
	tr.Shutdown(t.Context())
	require.Less(t, time.Since(began), shutdownTimeout+2*time.Second)
}

// What clients, and errors, are called by is any bytes, of any length. Spans are sent hundreds at a time: one that could not
// be encoded would take all of them with it, and one of megabytes would wait in the queue for as long as the others.
func TestNamesFromOutsideAreMadeTextOfBoundedLength(t *testing.T) {
	var got []*tracepb.Span
	var bodies int
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var data tracepb.TracesData
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil {
			t.Error(err)
		}
		bodies += len(body)
		for _, rs := range data.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				got = append(got, ss.Spans...)
			}
		}
	}))
	t.Cleanup(s.Close)
	tr := start(t, s.URL, 1)
	long := strings.Repeat("ä", 1<<20)
	for _, name := range []string{"client\xff\xfe", long, "c"} {
		r := tr.Begin(broker.TracedRequest{API: "Produce", ClientID: name, Received: time.Now()})
		r.Phase("append")
		r.End(broker.TraceOutcome{Topics: 1, Topic: name, Err: errors.New(name)})
	}
	tr.Shutdown(t.Context())
	require.Len(t, got, 6)
	require.Less(t, bodies, 10<<10)
	ids, topics, statuses := []string{}, []string{}, []string{}
	for _, span := range got {
		for _, a := range span.Attributes {
			switch a.Key {
			case "messaging.client.id":
				ids = append(ids, a.Value.GetStringValue())
			case "messaging.destination.name":
				topics = append(topics, a.Value.GetStringValue())
			}
		}
		if m := span.Status.GetMessage(); m != "" {
			statuses = append(statuses, m)
		}
	}
	want := []string{"client\uFFFD", strings.Repeat("ä", maxText/2) + "…", "c"}
	require.Equal(t, want, ids)
	require.Equal(t, want, topics)
	require.Equal(t, want, statuses)
}
