package client

import (
	"context"
	"path/filepath"
	"strconv"

	"github.com/streamhouse/streamhouse/compat-tests/record"
)

// Python is one of the Python clients, confluent-kafka (librdkafka as its
// authors build it) or kafka-python (pure Python).
type Python struct{ Client string }

func python() string { return filepath.Join(Installed(), "python", "bin", "python") }

// Name implements Producer and Reader.
func (c Python) Name() string { return c.Client }

// Partitions implements Producer.
func (Python) Partitions() int32 { return 0 }

// Produce implements Producer.
func (c Python) Produce(ctx context.Context, job Job) (Expected, error) {
	spec := jobSpec(job)
	spec["client"] = c.Client
	if err := script(ctx, python(), "python/produce.py", spec, nil); err != nil {
		return Expected{}, err
	}
	var variant record.Variant
	if c.Client == "kafka-python" {
		variant = record.Variant{NoNullHeaders: true, KeyOrValue: true}
	}
	return expected(job, true, func(int) record.Variant { return variant }), nil
}

// Read implements Reader.
func (c Python) Read(ctx context.Context, bootstrap, topic string, ranges map[int32]Range) (record.Digests, error) {
	wire := map[string][2]int64{}
	for p, r := range ranges {
		wire[strconv.Itoa(int(p))] = [2]int64{r.Start, r.End}
	}
	var out record.Digests
	err := script(ctx, python(), "python/read.py", map[string]any{
		"client": c.Client, "bootstrap": bootstrap, "topic": topic, "ranges": wire,
	}, &out)
	return out, err
}

// Offsets asks for the beginning and end offset of a partition and those of
// timestamps (ms); -1 where there is no record so late.
func (c Python) Offsets(ctx context.Context, bootstrap, topic string, partition int32, timestamps []int64) ([]int64, error) {
	var out []int64
	err := script(ctx, python(), "python/offsets.py", map[string]any{
		"client": c.Client, "bootstrap": bootstrap, "topic": topic, "partition": partition, "timestamps": timestamps,
	}, &out)
	return out, err
}

// Requests sends what the other methods do not: requests of administrators, of a
// group's member and of a transaction. Those that fail are in the error.
func (c Python) Requests(ctx context.Context, bootstrap, topic string) error {
	return script(ctx, python(), "python/several.py", map[string]any{"client": c.Client, "bootstrap": bootstrap, "topic": topic}, nil)
}

// KafkaJS is the Node client. It reads only in groups, so it is no Reader.
type KafkaJS struct{}

// Name implements Producer.
func (KafkaJS) Name() string { return "kafkajs" }

// Partitions implements Producer.
func (KafkaJS) Partitions() int32 { return 0 }

// Produce implements Producer.
func (KafkaJS) Produce(ctx context.Context, job Job) (Expected, error) {
	if err := script(ctx, "node", "node/produce.js", jobSpec(job), nil); err != nil {
		return Expected{}, err
	}
	return expected(job, true, func(int) record.Variant { return record.Variant{NoNullHeaders: true} }), nil
}

// Offsets is Python.Offsets, but that KafkaJS itself answers the end offset for
// a timestamp after the last record.
func (KafkaJS) Offsets(ctx context.Context, bootstrap, topic string, partition int32, timestamps []int64) ([]int64, error) {
	var out []int64
	err := script(ctx, "node", "node/offsets.js", map[string]any{
		"bootstrap": bootstrap, "topic": topic, "partition": partition, "timestamps": timestamps,
	}, &out)
	return out, err
}

// Requests is Python.Requests.
func (KafkaJS) Requests(ctx context.Context, bootstrap, topic string) error {
	return script(ctx, "node", "node/several.js", map[string]any{"bootstrap": bootstrap, "topic": topic}, nil)
}

func jobSpec(job Job) map[string]any {
	return map[string]any{
		"bootstrap": job.Bootstrap, "topic": job.Topic, "partitions": job.Partitions,
		"seed": job.Seed, "count": job.Count, "codec": job.Codec,
	}
}
