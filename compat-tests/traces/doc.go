// Package traces has a broker send its traces to Jaeger, as docs/tracing.md says, and asks Jaeger what it got: that the spans
// and what they say are those of the page, that a share of requests is that share, that errors are errors and nothing else is,
// and that nobody notices when Jaeger hangs or is gone.
//
// Jaeger is built by scripts/jaeger, which takes minutes the first time: `make traces` does both.
package traces
