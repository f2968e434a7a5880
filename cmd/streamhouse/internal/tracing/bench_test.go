package tracing

import (
	"context"
	"testing"
	"time"

	"github.com/streamhouse/streamhouse/broker"
	"github.com/streamhouse/streamhouse/storage"
)

// BenchmarkProduce is what a Produce pays that is chosen, or not: the figures of docs/tracing.md.
func BenchmarkProduce(b *testing.B) {
	for name, ratio := range map[string]float64{"chosen": 1, "not": 0} {
		b.Run(name, func(b *testing.B) {
			tr := start(b, nowhere(b), ratio)
			ctx := context.WithValue(b.Context(), workKey{}, nil) // a look-up goes through a few
			b.ReportAllocs()
			for b.Loop() {
				r := tr.Begin(broker.TracedRequest{API: "Produce", Version: 13, ClientID: "c", Received: time.Now()})
				if r == nil {
					_ = tr.Following(ctx)
					continue
				}
				r.Phase("append")
				_ = tr.Following(r.Context(ctx))
				r.Phase("wait for commit")
				r.Phase("send")
				r.End(broker.TraceOutcome{Topics: 1, Partitions: 1, Bytes: 100, Topic: "t"})
			}
		})
	}
}

// BenchmarkFlush is what a log object pays that carries one chosen Produce.
func BenchmarkFlush(b *testing.B) {
	tr := start(b, nowhere(b), 1)
	r := tr.Begin(broker.TracedRequest{API: "Produce", Received: time.Now()}).(*request)
	b.ReportAllocs()
	for b.Loop() {
		f := tr.Sealed([]any{r.work}, storage.Sealed{At: time.Now(), Bytes: 1, Batches: 1})
		f.Stored("k", 1, 1, 1)
		f.Ended(nil)
	}
	r.End(broker.TraceOutcome{})
}
