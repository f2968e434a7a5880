package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/streamhouse/streamhouse/compat-tests/record"
)

// Sarama is IBM's Go client, in this process.
type Sarama struct{}

// Name implements Producer and Reader.
func (Sarama) Name() string { return "sarama" }

// Partitions implements Producer.
func (Sarama) Partitions() int32 { return 0 }

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version, c.ClientID = sarama.MaxVersion, "sarama"
	return c
}

// Produce implements Producer: an idempotent one, which has one request in flight.
func (Sarama) Produce(ctx context.Context, job Job) (Expected, error) {
	c := saramaConfig()
	c.Producer.Compression = map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}[job.Codec]
	c.Producer.Idempotent, c.Producer.RequiredAcks, c.Net.MaxOpenRequests = true, sarama.WaitForAll, 1
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Return.Successes = true
	p, err := sarama.NewAsyncProducer([]string{job.Bootstrap}, c)
	if err != nil {
		return Expected{}, fmt.Errorf("make a producer: %w", err)
	}
	g := record.New(job.Seed)
	sent, stop := make(chan error, 1), make(chan struct{})
	go func() {
		defer p.AsyncClose() // ends both channels once everything was answered
		for i := range job.Count {
			r := g.Record(uint32(i), record.Variant{})
			select {
			case p.Input() <- saramaMessage(&r, job.Topic, int32(i)%job.Partitions):
			case <-ctx.Done():
				sent <- ctx.Err()
				return
			case <-stop:
				sent <- nil
				return
			}
		}
		sent <- nil
	}()
	var failed error
	acknowledged := 0
	for successes, failures := p.Successes(), p.Errors(); successes != nil || failures != nil; {
		select {
		case _, ok := <-successes:
			if !ok {
				successes = nil
				continue
			}
			acknowledged++
		case err, ok := <-failures:
			if !ok {
				failures = nil
				continue
			}
			if failed == nil {
				failed = err
				close(stop)
			}
		}
	}
	if err := errors.Join(failed, <-sent); err != nil {
		return Expected{}, fmt.Errorf("produce: %w", err)
	}
	if acknowledged != job.Count {
		return Expected{}, fmt.Errorf("%d of %d records were acknowledged", acknowledged, job.Count)
	}
	return expected(job, true, func(int) record.Variant { return record.Variant{} }), nil
}

// saramaMessage turns a generated record into one to produce to partition.
func saramaMessage(r *record.Record, topic string, partition int32) *sarama.ProducerMessage {
	m := &sarama.ProducerMessage{Topic: topic, Partition: partition, Timestamp: time.UnixMilli(r.Timestamp)}
	if r.Key != nil {
		m.Key = sarama.ByteEncoder(r.Key)
	}
	if r.Value != nil {
		m.Value = sarama.ByteEncoder(r.Value)
	}
	for _, h := range r.Headers {
		m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
	}
	return m
}

// Read implements Reader.
func (Sarama) Read(ctx context.Context, bootstrap, topic string, ranges map[int32]Range) (record.Digests, error) {
	c, err := sarama.NewConsumer([]string{bootstrap}, saramaConfig())
	if err != nil {
		return nil, fmt.Errorf("make a consumer: %w", err)
	}
	defer c.Close()
	sums := map[int32]*record.Summer{}
	for p, rng := range ranges {
		sums[p] = record.NewSummer()
		if err := saramaRead(ctx, c, topic, p, rng, sums[p]); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p, err)
		}
	}
	return digests(sums), nil
}

func saramaRead(ctx context.Context, c sarama.Consumer, topic string, partition int32, rng Range, s *record.Summer) error {
	if rng.End <= rng.Start {
		return nil
	}
	pc, err := c.ConsumePartition(topic, partition, rng.Start)
	if err != nil {
		return fmt.Errorf("begin at %d: %w", rng.Start, err)
	}
	defer pc.AsyncClose()
	patience := time.NewTimer(silence)
	defer patience.Stop()
	for {
		select {
		case m := <-pc.Messages():
			patience.Reset(silence)
			if m.Offset < rng.End {
				rec := record.Record{Key: m.Key, Value: m.Value, Timestamp: m.Timestamp.UnixMilli()}
				for _, h := range m.Headers {
					rec.Headers = append(rec.Headers, record.Header{Key: string(h.Key), Value: h.Value})
				}
				s.Add(m.Offset, &rec)
			}
			if m.Offset >= rng.End-1 {
				return nil
			}
		case <-patience.C:
			return fmt.Errorf("nothing for %s after offset %d", silence, s.Next()-1)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
