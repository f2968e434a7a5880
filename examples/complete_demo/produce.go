package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// maxMessageBytes is the topics' limit; the records of one wave that are larger are refused.
	maxMessageBytes = 64 << 10
	// tick is how often a producer looks how much is due.
	tick = 20 * time.Millisecond
	// Of a stream that has such, one of so many records is too large, and takes those down that share its batch.
	tooLargeEvery = 250
)

// stream is a topic and the load on it.
type stream struct {
	topic      string
	partitions int32
	share      float64       // of the rate
	waves      float64       // in the whole duration
	size       int           // bytes of a value
	linger     time.Duration // how long the client gathers a batch
	large      bool          // some records are larger than the broker takes
	groups     []string

	acked, refused atomic.Int64
	read           atomic.Int64 // by the steady group
}

func streams(name string) []*stream {
	return []*stream{
		{topic: name + "-orders", partitions: 6, share: 0.3, waves: 3, size: 400, linger: 5 * time.Millisecond, groups: []string{groupSteady, groupMoving}},
		{topic: name + "-clicks", partitions: 12, share: 0.6, waves: 5, size: 120, linger: 50 * time.Millisecond, groups: []string{groupSlow, groupMoving}},
		{topic: name + "-payments", partitions: 3, share: 0.1, waves: 2, size: 1_200, large: true, groups: []string{groupSteady, groupMoving}},
	}
}

func (s *stream) readBy(group string) bool { return slices.Contains(s.groups, group) }

func produceAll(ctx context.Context, o options, streams []*stream) error {
	errs := make([]error, len(streams))
	var wg sync.WaitGroup
	for i, s := range streams {
		wg.Go(func() { errs[i] = s.produce(ctx, o) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// produce sends waves of records: the rate goes up and down between nothing and twice the average.
func (s *stream) produce(ctx context.Context, o options) error {
	batch, codec := int32(maxMessageBytes/2), kgo.SnappyCompression()
	if s.large { // the broker shall refuse them, not the client
		batch, codec = 4*maxMessageBytes, kgo.NoCompression()
	}
	cl, err := kgo.NewClient(
		kgo.SeedBrokers(o.bootstrap), kgo.ClientID("producer-"+s.topic), kgo.DefaultProduceTopic(s.topic),
		kgo.ProducerLinger(s.linger), kgo.ProducerBatchMaxBytes(batch), kgo.ProducerBatchCompression(codec),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
	)
	if err != nil {
		return err
	}
	defer cl.Close()
	var failed error
	promise := func(_ *kgo.Record, err error) { // promises are called one at a time
		switch {
		case err == nil:
			s.acked.Add(1)
		case errors.Is(err, kerr.MessageTooLarge):
			s.refused.Add(1)
		case failed == nil:
			failed = err
		}
	}
	value, huge := make([]byte, s.size), make([]byte, 2*maxMessageBytes)
	began, last, due, sent := time.Now(), time.Now(), 0.0, 0
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for time.Since(began) < o.duration {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		at := time.Since(began).Seconds() / o.duration.Seconds()
		wave := 1 - math.Cos(2*math.Pi*s.waves*at)
		due += o.rate * s.share * wave * time.Since(last).Seconds()
		for last = time.Now(); due >= 1; due-- {
			sent++
			r := &kgo.Record{Key: strconv.AppendInt(nil, int64(sent), 10), Value: value}
			if s.large && sent%tooLargeEvery == 0 {
				r.Value = huge
			}
			cl.Produce(ctx, r, promise)
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return fmt.Errorf("produce to %s: %w", s.topic, err)
	}
	if failed != nil {
		return fmt.Errorf("produce to %s: %w", s.topic, failed)
	}
	return nil
}
