package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/streamhouse/streamhouse/storage/objstore"
)

// maxAsks bounds the spans of store requests that one request of a client, or one flush, has.
const maxAsks = 64

// store gives spans to the PUTs and GETs that are made for followed work.
type store struct {
	objstore.Store

	t *Tracer
}

// Store wraps an object store: what is asked of it under a context of followed work becomes spans of that. A GET that
// several readers wait for belongs to the one who asked first.
func (t *Tracer) Store(inner objstore.Store) objstore.Store { return &store{Store: inner, t: t} }

// Calm implements [objstore.Calmer]: it is as the wrapped store says.
func (s *store) Calm() bool { return objstore.Calm(s.Store) }

// Put implements [objstore.Store].
func (s *store) Put(ctx context.Context, key string, body objstore.Body) error {
	w := workOf(ctx)
	if w == nil {
		return s.Store.Put(ctx, key, body)
	}
	span := s.ask(w, "PUT", key, body.Size)
	err := s.Store.Put(ctx, key, body)
	end(span, err)
	return err
}

// GetRange implements [objstore.Store].
func (s *store) GetRange(ctx context.Context, key string, off int64, p []byte) error {
	w := workOf(ctx)
	if w == nil {
		return s.Store.GetRange(ctx, key, off, p)
	}
	w.gets.Add(1)
	span := s.ask(w, "GET", key, int64(len(p)), attribute.Int64("streamhouse.object.offset", off))
	err := s.Store.GetRange(ctx, key, off, p)
	end(span, err)
	return err
}

// ask begins the span of a request of the store; nil: there are too many already.
func (s *store) ask(w *work, op, key string, bytes int64, more ...attribute.KeyValue) trace.Span {
	if w.asks.Add(1) > maxAsks {
		return nil
	}
	_, span := s.t.spans.Start(w.in, op, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(append(more,
		attribute.String("streamhouse.object.key", key),
		attribute.Int64("streamhouse.object.bytes", bytes),
	)...))
	return span
}

func end(span trace.Span, err error) {
	if span == nil {
		return
	}
	if err != nil {
		failed(span, err)
	}
	span.End()
}
