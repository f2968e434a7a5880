package tracing

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	queueSpans      = 4096            // above it spans are dropped
	batchSpans      = 512             // sent at a time
	batchInterval   = 2 * time.Second // sent at the latest
	sendTimeout     = 5 * time.Second // of one batch
	shutdownTimeout = 3 * time.Second // for what is in the queue at the end
	maxText         = 1024            // bytes of what somebody else said: a client's id, a topic that may not exist, an error
)

// Options configure [New].
type Options struct {
	// Endpoint is the collector's URL, http or https. Spans are posted to /v1/traces below it.
	Endpoint *url.URL
	// Ratio is the share of requests that are followed, 0 to 1.
	Ratio float64
	// Version is that of this program.
	Version string
	// Logger hears, once a minute at most, that spans could not be sent.
	Logger *slog.Logger
}

// Tracer follows requests. It is safe for concurrent use.
type Tracer struct {
	ratio    float64
	broker   atomic.Int32
	provider *sdk.TracerProvider
	spans    trace.Tracer
	sender   *sender
}

// New starts a tracer. It does not wait for the collector, nor need one. End it with [Tracer.Shutdown].
func New(ctx context.Context, o Options) *Tracer {
	about, err := resource.New(ctx,
		resource.WithAttributes(
			attribute.String("service.name", "streamhouse"),
			attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", uuid.NewString()),
		),
		resource.WithHost(),
		resource.WithFromEnv(), // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
	)
	if err != nil { // what could be found out is there
		o.Logger.Warn("cannot describe this process in full for traces", "error", err)
	}
	post := newPoster(o.Endpoint)
	sender := newSender(otlptrace.NewUnstarted(post), post.shown, o.Logger) // UploadTraces needs no start
	provider := sdk.NewTracerProvider(
		sdk.WithResource(about),
		sdk.WithSampler(sdk.AlwaysSample()), // the choice is made in Begin, where it costs one random number
		sdk.WithBatcher(sender,
			sdk.WithMaxQueueSize(queueSpans), sdk.WithMaxExportBatchSize(batchSpans),
			sdk.WithBatchTimeout(batchInterval), sdk.WithExportTimeout(sendTimeout)),
	)
	t := &Tracer{ratio: o.Ratio, provider: provider, spans: provider.Tracer("github.com/streamhouse/streamhouse"), sender: sender}
	t.broker.Store(-1)
	return t
}

// SetBroker tells the id of this broker, for the spans from now on.
func (t *Tracer) SetBroker(id int32) { t.broker.Store(id) }

// chosen tells whether to follow one more request.
func (t *Tracer) chosen() bool { return t.ratio >= 1 || rand.Float64() < t.ratio }

// Shutdown sends what is in the queue, for a few seconds at most, and ends the tracer. Spans that end later are dropped.
func (t *Tracer) Shutdown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.sender.log.Warn("not all spans were sent before the end", "endpoint", t.sender.endpoint, "error", err)
	}
	t.sender.abort()
}

// text is what somebody else said, as an attribute can hold it. Bytes that are not UTF-8 cannot be encoded, and the whole batch
// of spans would be lost; names and errors of megabytes would lie in the queue.
func text(s string) string {
	if len(s) <= maxText {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	n := maxText
	for n > maxText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.ToValidUTF8(s[:n], "\uFFFD") + "…"
}

// work is a span under which requests of the store are made.
type work struct {
	span trace.Span
	in   context.Context // holds span, and nothing else
	gets atomic.Int64
	asks atomic.Int64 // of the store, that have spans of their own
}

func newWork(span trace.Span) *work {
	return &work{span: span, in: trace.ContextWithSpan(context.Background(), span)}
}

type workKey struct{}

// under is ctx, from which the store and the engine know for whom they work.
func (w *work) under(ctx context.Context) context.Context {
	return context.WithValue(ctx, workKey{}, w)
}

func workOf(ctx context.Context) *work {
	w, _ := ctx.Value(workKey{}).(*work)
	return w
}
