// Package tracing turns what broker, engine and store tell of followed requests into OpenTelemetry spans, and sends them to
// a collector with OTLP over HTTP. It is the one door to OpenTelemetry: the broker and the engine know interfaces of their
// own, which cost a comparison with nil while tracing is off.
//
// A [Tracer] is broker.Tracer (which requests are followed), storage.Tracer (into which log objects they went), and wraps
// the object store ([Tracer.Store]: the PUTs and GETs made for them). Kafka's requests carry no trace context, so each
// followed request is a trace of its own, and so is each log object that carries a followed Produce; links lead from one to
// the other.
//
// Requests never wait for a collector: spans go into a bounded queue, and what does not fit is dropped.
package tracing
