package client

import (
	"context"
	"fmt"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"

	"github.com/streamhouse/streamhouse/compat-tests/record"
)

// silence is how long a reader waits for the next record.
const silence = 30 * time.Second

// KafkaGo is Segment's Go client, in this process.
type KafkaGo struct{}

// Name implements Producer and Reader.
func (KafkaGo) Name() string { return "kafka-go" }

// Partitions implements Producer.
func (KafkaGo) Partitions() int32 { return 0 }

// chosen is a balancer: the partition that a message is marked with.
type chosen struct{}

// Balance implements kafkago.Balancer.
func (chosen) Balance(m kafkago.Message, _ ...int) int {
	p, _ := m.WriterData.(int)
	return p
}

// Produce implements Producer: not idempotent, which this client cannot be.
func (KafkaGo) Produce(ctx context.Context, job Job) (Expected, error) {
	// Its own, since that which writers share remembers for seconds that a new topic did not exist.
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	w := &kafkago.Writer{
		Transport: transport,
		Addr:      kafkago.TCP(job.Bootstrap), Topic: job.Topic, Balancer: chosen{}, RequiredAcks: kafkago.RequireAll,
		BatchTimeout: 10 * time.Millisecond, MaxAttempts: 1, // what is sent again may be there twice
		Compression: map[string]kafkago.Compression{
			"none": compress.None, "gzip": compress.Gzip, "snappy": compress.Snappy, "lz4": compress.Lz4, "zstd": compress.Zstd,
		}[job.Codec],
	}
	defer w.Close()
	g := record.New(job.Seed)
	const batch = 1000
	for first := 0; first < job.Count; first += batch {
		var ms []kafkago.Message
		for i := first; i < min(first+batch, job.Count); i++ {
			r := g.Record(uint32(i), record.Variant{})
			m := kafkago.Message{Key: r.Key, Value: r.Value, Time: time.UnixMilli(r.Timestamp), WriterData: i % int(job.Partitions)}
			for _, h := range r.Headers {
				m.Headers = append(m.Headers, kafkago.Header{Key: h.Key, Value: h.Value})
			}
			ms = append(ms, m)
		}
		if err := w.WriteMessages(ctx, ms...); err != nil {
			return Expected{}, fmt.Errorf("produce: %w", err)
		}
	}
	return expected(job, true, func(int) record.Variant { return record.Variant{} }), nil
}

// Read implements Reader. What its Reader returns for null and for empty is the same: see Blurs.
func (KafkaGo) Read(ctx context.Context, bootstrap, topic string, ranges map[int32]Range) (record.Digests, error) {
	sums := map[int32]*record.Summer{}
	for p, rng := range ranges {
		sums[p] = record.NewSummer()
		if err := kafkaGoRead(ctx, bootstrap, topic, p, rng, sums[p]); err != nil {
			return nil, fmt.Errorf("partition %d: %w", p, err)
		}
	}
	return digests(sums), nil
}

func kafkaGoRead(ctx context.Context, bootstrap, topic string, partition int32, rng Range, s *record.Summer) error {
	if rng.End <= rng.Start {
		return nil
	}
	r := kafkago.NewReader(kafkago.ReaderConfig{
		Brokers: []string{bootstrap}, Topic: topic, Partition: int(partition), MinBytes: 1, MaxBytes: 8 << 20, MaxWait: time.Second,
	})
	defer r.Close()
	if err := r.SetOffset(rng.Start); err != nil {
		return fmt.Errorf("begin at %d: %w", rng.Start, err)
	}
	for {
		wait, cancel := context.WithTimeout(ctx, silence)
		m, err := r.ReadMessage(wait)
		cancel()
		if err != nil {
			return fmt.Errorf("after offset %d: %w", s.Next()-1, err)
		}
		if m.Offset < rng.End {
			rec := record.Record{Key: m.Key, Value: m.Value, Timestamp: m.Time.UnixMilli()}
			for _, h := range m.Headers {
				rec.Headers = append(rec.Headers, record.Header{Key: h.Key, Value: h.Value})
			}
			s.Add(m.Offset, &rec)
		}
		if m.Offset >= rng.End-1 {
			return nil
		}
	}
}
