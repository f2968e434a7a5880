package tracing

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/streamhouse/streamhouse/broker"
	"github.com/streamhouse/streamhouse/kafkaproto"
)

// maxPhases bounds the phases of one request that have spans: a long poll can be woken many times.
const maxPhases = 64

const apiProduce = "Produce"

// request is one followed request.
type request struct {
	*work

	t      *Tracer
	api    string
	id     string
	phase  trace.Span // under way; nil: none
	phases int
}

// Begin implements [broker.Tracer].
func (t *Tracer) Begin(r broker.TracedRequest) broker.Trace {
	if !t.chosen() {
		return nil
	}
	_, span := t.spans.Start(context.Background(), r.API,
		trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(r.Received),
		trace.WithAttributes(
			attribute.String("messaging.system", "kafka"),
			attribute.String("messaging.client.id", text(r.ClientID)),
			attribute.Int("kafka.api.version", int(r.Version)),
			attribute.Int("streamhouse.broker.id", int(t.broker.Load())),
		))
	return &request{work: newWork(span), t: t, api: r.API, id: span.SpanContext().TraceID().String()}
}

// ID implements [broker.Trace].
func (r *request) ID() string { return r.id }

// Context implements [broker.Trace].
func (r *request) Context(ctx context.Context) context.Context { return r.under(ctx) }

// Phase implements [broker.Trace].
func (r *request) Phase(name string) {
	if r.phases++; r.phases > maxPhases {
		return // the last one that has a span goes on until the end
	}
	r.endPhase()
	_, r.phase = r.t.spans.Start(r.in, name)
}

func (r *request) endPhase() {
	if r.phase != nil {
		r.phase.End()
		r.phase = nil
	}
}

// End implements [broker.Trace].
func (r *request) End(o broker.TraceOutcome) {
	r.endPhase()
	r.span.SetAttributes(
		attribute.Int("kafka.topics", o.Topics),
		attribute.Int("kafka.partitions", o.Partitions),
		attribute.Int("kafka.bytes", o.Bytes),
		attribute.Int64("streamhouse.store.gets", r.gets.Load()),
	)
	if o.Topic != "" {
		r.span.SetAttributes(attribute.String("messaging.destination.name", text(o.Topic)))
	}
	if r.phases > maxPhases {
		r.span.SetAttributes(attribute.Int("streamhouse.phases", r.phases))
	}
	switch {
	case o.Code != 0:
		name := kafkaproto.ErrorName(o.Code)
		r.span.SetAttributes(attribute.String("error.type", name))
		r.span.SetStatus(codes.Error, name)
	case errors.Is(o.Err, broker.ErrUnanswered) && r.api == apiProduce:
		// Its client does not know what became of its records.
		r.span.SetAttributes(attribute.String("error.type", "unanswered"))
		r.span.SetStatus(codes.Error, o.Err.Error())
	case errors.Is(o.Err, broker.ErrUnanswered):
		r.span.SetAttributes(calledOff)
	case o.Err != nil:
		failed(r.span, o.Err)
	}
	r.span.End()
}
