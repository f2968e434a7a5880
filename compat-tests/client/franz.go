package client

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/record"
)

// Franz is franz-go, in this process.
type Franz struct{}

// Name implements Producer and Reader.
func (Franz) Name() string { return "franz-go" }

// Partitions implements Producer.
func (Franz) Partitions() int32 { return 0 }

// Produce implements Producer.
func (Franz) Produce(ctx context.Context, job Job) (Expected, error) {
	codec := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[job.Codec]
	cl, err := kgo.NewClient(kgo.SeedBrokers(job.Bootstrap), kgo.DefaultProduceTopic(job.Topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec))
	if err != nil {
		return Expected{}, fmt.Errorf("make a client: %w", err)
	}
	defer cl.Close()
	g := record.New(job.Seed)
	var failed atomic.Pointer[error]
	for i := range job.Count {
		r := g.Record(uint32(i), record.Variant{})
		cl.Produce(ctx, KgoRecord(&r, int32(i)%job.Partitions), func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return Expected{}, fmt.Errorf("flush: %w", err)
	}
	if err := failed.Load(); err != nil {
		return Expected{}, fmt.Errorf("produce: %w", *err)
	}
	return expected(job, true, func(int) record.Variant { return record.Variant{} }), nil
}

// KgoRecord turns a generated record into one to produce to partition.
func KgoRecord(r *record.Record, partition int32) *kgo.Record {
	out := &kgo.Record{Key: r.Key, Value: r.Value, Partition: partition, Timestamp: time.UnixMilli(r.Timestamp)}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return out
}

// FromKgo is the reverse of KgoRecord.
func FromKgo(r *kgo.Record) record.Record {
	out := record.Record{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp.UnixMilli()}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, record.Header{Key: h.Key, Value: h.Value})
	}
	return out
}

// Read implements Reader.
func (Franz) Read(ctx context.Context, bootstrap, topic string, ranges map[int32]Range) (record.Digests, error) {
	sums := map[int32]*record.Summer{}
	offsets := map[int32]kgo.Offset{}
	open := map[int32]Range{}
	for p, rng := range ranges {
		sums[p] = record.NewSummer()
		if rng.End > rng.Start {
			offsets[p] = kgo.NewOffset().At(rng.Start)
			open[p] = rng
		}
	}
	if len(open) == 0 {
		return digests(sums), nil
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}))
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	defer cl.Close()
	for len(open) > 0 {
		poll, cancel := context.WithTimeout(ctx, 30*time.Second)
		fetches := cl.PollFetches(poll)
		cancel()
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("fetch, with %v still to read: %w", open, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			rng, ok := open[r.Partition]
			if !ok {
				return
			}
			if r.Offset < rng.End {
				rec := FromKgo(r)
				sums[r.Partition].Add(r.Offset, &rec)
			}
			if r.Offset >= rng.End-1 {
				delete(open, r.Partition)
			}
		})
	}
	return digests(sums), nil
}
