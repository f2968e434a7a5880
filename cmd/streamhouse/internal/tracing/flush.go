package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/streamhouse/streamhouse/storage"
)

// maxLinks bounds the requests that a flush links to. They all link to the flush.
const maxLinks = 100

// flush is one log object that carries followed appends.
type flush struct {
	*work

	t      *Tracer
	commit trace.Span // nil until the object is stored
}

// Following implements [storage.Tracer].
func (t *Tracer) Following(ctx context.Context) any {
	if w := workOf(ctx); w != nil {
		return w
	}
	return nil // not a nil *work, which would be somebody
}

// Sealed implements [storage.Tracer].
func (t *Tracer) Sealed(followed []any, o storage.Sealed) storage.FlushTrace {
	var requests []*work
	seen := make(map[*work]bool, len(followed))
	for _, f := range followed {
		if w, ok := f.(*work); ok && !seen[w] {
			seen[w] = true
			requests = append(requests, w)
		}
	}
	links := make([]trace.Link, 0, min(len(requests), maxLinks))
	for _, w := range requests[:cap(links)] {
		links = append(links, trace.Link{SpanContext: w.span.SpanContext()})
	}
	_, span := t.spans.Start(context.Background(), "flush",
		trace.WithNewRoot(), trace.WithTimestamp(o.At), trace.WithLinks(links...),
		trace.WithAttributes(
			attribute.Int("streamhouse.broker.id", int(t.broker.Load())),
			attribute.Int("streamhouse.flush.requests", len(requests)),
			attribute.Int("streamhouse.flush.batches", o.Batches),
			attribute.Int64("streamhouse.flush.batch_bytes", o.Bytes),
		))
	for _, w := range requests {
		w.span.AddLink(trace.Link{SpanContext: span.SpanContext()})
	}
	return &flush{work: newWork(span), t: t}
}

// Context implements [storage.FlushTrace].
func (f *flush) Context(ctx context.Context) context.Context { return f.under(ctx) }

// Stored implements [storage.FlushTrace].
func (f *flush) Stored(key string, bytes int64, partitions, tries int) {
	f.span.SetAttributes(
		attribute.String("streamhouse.object.key", key),
		attribute.Int64("streamhouse.object.bytes", bytes),
		attribute.Int("streamhouse.object.partitions", partitions),
		attribute.Int("streamhouse.object.tries", tries),
	)
	_, f.commit = f.t.spans.Start(f.in, "commit")
}

// Ended implements [storage.FlushTrace].
func (f *flush) Ended(err error) {
	if err != nil {
		failed(f.span, err)
	}
	if f.commit != nil {
		f.commit.End()
	}
	f.span.End()
}
