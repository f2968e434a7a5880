package crash_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/streamhouse/streamhouse/compat-tests/client"
	"github.com/streamhouse/streamhouse/compat-tests/record"
	"github.com/streamhouse/streamhouse/compat-tests/target"
)

// ledger is what one producer was told: for every record sent, by index, where
// it is. It is written by the client's promises and read after the load ended.
type ledger struct {
	generator *record.Generator
	mu        sync.Mutex
	acked     map[uint32]place
}

type place struct {
	partition int32
	offset    int64
}

// load is several idempotent producers and a reader, which go on over any
// number of crashes.
type load struct {
	topic      string
	partitions int32
	stop       chan struct{}
	producers  sync.WaitGroup
	ledgers    []*ledger
	failed     atomic.Pointer[error]
	acks       atomic.Int64
}

// inFlight bounds what one producer has not been told about, in records: at a
// crash it is what may or may not be in the log.
const inFlight = 150

// startLoad starts count producers on partitions partitions of topic.
func startLoad(t *testing.T, b *target.Broker, topic string, partitions int32, count int) *load {
	t.Helper()
	l := &load{topic: topic, partitions: partitions, stop: make(chan struct{})}
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(), kgo.SnappyCompression()}
	for i := range count {
		led := &ledger{generator: record.New(uint32(i)), acked: map[uint32]place{}}
		l.ledgers = append(l.ledgers, led)
		cl := b.Client(t, kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerBatchCompression(codecs[i%len(codecs)]), kgo.MaxBufferedRecords(inFlight),
			// A sequence the broker forgot, or an offset it took back, must fail the
			// load, not be papered over by a new producer id.
			kgo.StopProducerOnDataLossDetected(), kgo.UnknownTopicRetries(-1))
		l.producers.Go(func() { l.produce(t.Context(), cl, led, i) })
	}
	return l
}

// produce sends until stopped. Every record carries its producer in a header
// and its index in another, so that what is read can be traced to what was sent.
func (l *load) produce(ctx context.Context, cl *kgo.Client, led *ledger, producer int) {
	for index := uint32(0); ; index++ {
		select {
		case <-l.stop:
			if err := cl.Flush(ctx); err != nil {
				l.fail(err)
			}
			return
		case <-ctx.Done():
			return
		default:
		}
		cl.Produce(ctx, l.make(led, producer, index), func(r *kgo.Record, err error) {
			if err != nil {
				l.fail(fmt.Errorf("producer %d, record %d: %w", producer, index, err))
				return
			}
			led.mu.Lock()
			led.acked[index] = place{r.Partition, r.Offset}
			led.mu.Unlock()
			l.acks.Add(1)
		})
	}
}

func (l *load) make(led *ledger, producer int, index uint32) *kgo.Record {
	rec := led.generator.Record(index, record.Variant{})
	rec.Headers = append([]record.Header{
		{Key: "producer", Value: fmt.Append(nil, producer)},
		{Key: "index", Value: fmt.Append(nil, index)},
	}, rec.Headers...)
	return client.KgoRecord(&rec, int32(index)%l.partitions)
}

func (l *load) fail(err error) { l.failed.CompareAndSwap(nil, &err) }

func (l *load) requireHealthy(t *testing.T) {
	t.Helper()
	if err := l.failed.Load(); err != nil {
		require.NoError(t, *err)
	}
}

// end stops the producers once everything they sent is acknowledged.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.producers.Wait()
	l.requireHealthy(t)
}

// log is one partition as read: a checksum for every offset.
type log map[int64][sha256.Size]byte

// watcher reads the topic while it is written and while the broker dies, and
// remembers what it saw.
type watcher struct {
	cancel context.CancelFunc
	done   chan struct{}
	seen   map[int32]log
	failed error
}

func watch(t *testing.T, b *target.Broker, topic string, partitions int32) *watcher {
	t.Helper()
	offsets := map[int32]kgo.Offset{}
	w := &watcher{done: make(chan struct{}), seen: map[int32]log{}}
	for p := range partitions {
		offsets[p] = kgo.NewOffset().At(0)
		w.seen[p] = log{}
	}
	cl := b.Client(t, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.KeepRetryableFetchErrors())
	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	go func() {
		defer close(w.done)
		next := map[int32]int64{}
		for ctx.Err() == nil {
			fetches := cl.PollFetches(ctx)
			fetches.EachRecord(func(r *kgo.Record) {
				if r.Offset != next[r.Partition] && w.failed == nil {
					w.failed = fmt.Errorf("partition %d: read offset %d, expected %d", r.Partition, r.Offset, next[r.Partition])
				}
				next[r.Partition] = r.Offset + 1
				w.seen[r.Partition][r.Offset] = sum(r)
			})
		}
	}()
	return w
}

func (w *watcher) end() {
	w.cancel()
	<-w.done
}

func sum(r *kgo.Record) [sha256.Size]byte {
	rec := client.FromKgo(r)
	b := record.AppendCanonical(nil, r.Offset, &rec)
	return sha256.Sum256(fmt.Appendf(b, "%d", rec.Timestamp))
}

// ends asks for the high watermarks.
func ends(ctx context.Context, admin *kadm.Client, topic string) (map[int32]int64, error) {
	listed, err := admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	out := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		if o.Err == nil {
			out[o.Partition] = o.Offset
		} else if err == nil {
			err = o.Err
		}
	})
	return out, err
}

// verify reads everything and compares it with what producers were told and
// what the watcher saw.
func verify(t *testing.T, b *target.Broker, l *load, w *watcher) (records int) {
	t.Helper()
	found := make([]map[uint32]place, len(l.ledgers))
	for i := range found {
		found[i] = map[uint32]place{}
	}
	last := map[[2]int32]int64{} // (producer, partition) → largest index so far
	ranges := b.Ends(t, l.topic)
	require.Len(t, ranges, int(l.partitions))
	for p, rng := range ranges {
		require.Zero(t, rng.Start, "partition %d", p)
		expected := int64(0)
		each(t, b, l.topic, p, rng.End, func(r *kgo.Record) {
			require.Equal(t, expected, r.Offset, "offsets of partition %d are not dense", p)
			expected++
			records++
			require.GreaterOrEqual(t, len(r.Headers), 2)
			var producer int
			var index uint32
			_, err := fmt.Sscan(string(r.Headers[0].Value)+" "+string(r.Headers[1].Value), &producer, &index)
			require.NoError(t, err)

			before, twice := found[producer][index]
			require.False(t, twice, "record %d of producer %d is at %v and at offset %d", index, producer, before, r.Offset)
			found[producer][index] = place{p, r.Offset}

			of := [2]int32{int32(producer), p}
			require.Greater(t, int64(index)+1, last[of], "producer %d: order on partition %d", producer, p)
			last[of] = int64(index) + 1

			sent := l.make(l.ledgers[producer], producer, index)
			sent.Offset = r.Offset
			require.Equal(t, sum(sent), sum(r), "bytes of record %d of producer %d at %d/%d", index, producer, p, r.Offset)
			if saw, ok := w.seen[p][r.Offset]; ok {
				require.Equal(t, saw, sum(r), "offset %d of partition %d changed after it was read", r.Offset, p)
			}
		})
		require.Equal(t, rng.End, expected)
		for offset := range w.seen[p] {
			require.Less(t, offset, rng.End, "partition %d: this was read before a crash", p)
		}
	}
	for i, led := range l.ledgers {
		// Equal, not subset: by now everything that was sent is acknowledged.
		require.Equal(t, len(led.acked), len(found[i]), "records of producer %d: acknowledged, and found", i)
		for index, at := range led.acked {
			got, ok := found[i][index]
			require.True(t, ok, "record %d of producer %d was acknowledged at %v and is lost", index, i, at)
			require.Equal(t, at, got, "record %d of producer %d was acknowledged elsewhere", index, i)
		}
	}
	return records
}

// each reads one partition from its start to end.
func each(t *testing.T, b *target.Broker, topic string, partition int32, end int64, do func(*kgo.Record)) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.Bootstrap), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(0)}}))
	require.NoError(t, err)
	defer cl.Close()
	for next := int64(0); next < end; {
		fetches := cl.PollFetches(t.Context())
		require.NoError(t, fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset < end {
				do(r)
			}
			next = r.Offset + 1
		})
	}
}
