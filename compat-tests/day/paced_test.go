package day_test

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// TestPaced sends the day's records at the day's rate, for some of the day.
func TestPaced(t *testing.T) {
	length := 10 * time.Second
	if text := os.Getenv("DAY_PACED"); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		require.NoError(t, err, "DAY_PACED")
	}
	broker := target.Start(t)
	topic := broker.Topic(t, "paced", partitions, nil)
	report(t, "paced: %d records of %d bytes a second for %s by %d producers that do not linger", rate, valueSize, length, partitions)

	var sent atomic.Int64
	var failed atomic.Pointer[error]
	var running sync.WaitGroup
	began := time.Now()
	for p := range int32(partitions) {
		cl := broker.Client(t, kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
			kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.StopProducerOnDataLossDetected())
		running.Go(func() {
			sent.Add(pace(t.Context(), cl, p, length, func(err error) { failed.CompareAndSwap(nil, &err) }))
		})
	}
	done := make(chan struct{})
	go func() {
		running.Wait()
		close(done)
	}()
	step := time.NewTicker(max(length/10, time.Second))
	defer step.Stop()
	var limits bounds
	last := usage{at: began}
	for going := true; going; {
		select {
		case <-done:
			going = false
		case <-step.C:
			u := measure(t, broker)
			report(t, "%4.0f s %s | %.0f objects/s", u.at.Sub(began).Seconds(), u.row(), float64(u.puts-last.puts)/u.at.Sub(last.at).Seconds())
			limits.check(t, u)
			last = u
		}
	}
	if err := failed.Load(); err != nil {
		require.NoError(t, *err)
	}
	took := time.Since(began).Seconds()
	put := metric(t, broker, "streamhouse_flush_objects_total")
	report(t, "%d records in %.1f s: %.0f/s; %d objects put, %.0f/s", sent.Load(), took, float64(sent.Load())/took, put, float64(put)/took)
	requireQuickStart(t, broker)
	var end int64
	for _, r := range broker.Ends(t, topic) {
		require.Zero(t, r.Start)
		end += r.End
	}
	require.Equal(t, sent.Load(), end, "records acknowledged and in the log")
}

// pace sends one producer's share of length and waits for the acknowledgements.
// It returns how many records were sent. While it rests, the clock does, too.
func pace(ctx context.Context, cl *kgo.Client, partition int32, length time.Duration, fail func(error)) (sent int64) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	total := int64(length.Seconds() * rate / partitions)
	began := time.Now()
	for n := 0; sent < total && ctx.Err() == nil; n++ {
		if n%256 == 0 {
			stopped := time.Now()
			rest(ctx, os.Getenv("DAY_PAUSE_WHILE"))
			began = began.Add(time.Since(stopped))
		}
		now := <-tick.C
		for due := min(int64(now.Sub(began).Seconds()*rate/partitions), total); sent < due; sent++ {
			r := &kgo.Record{Value: value(partition, int(sent%batchRecords)), Partition: partition}
			cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
				if err != nil {
					fail(err)
				}
			})
		}
	}
	flush, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if err := cl.Flush(flush); err != nil {
		fail(err)
	}
	return sent
}
